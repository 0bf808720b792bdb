//! Decodes images into regions that it unpins, so that the host may purge them. A viewer
//! looks at the images.

mod args;
mod cache;
mod image;
mod make;
mod order;
mod report;

use std::process::ExitCode;

use args::{Args, Parsed};
use cache::Cache;
use order::Order;
use report::Report;

mod bindings {
    // Generated code, which calls the ABI of the component model.
    #![allow(unsafe_code, missing_docs, unreachable_pub)]

    wit_bindgen::generate!({
        path: "../wit",
        world: "gallery",
        with: { "tombolo:memory/regions@0.1.0": tombolo_guest::regions },
    });
}

fn main() -> ExitCode {
    let args = match args::parse() {
        Ok(Parsed::Run(args)) => args,
        Ok(Parsed::Help) => {
            print!("{}", args::HELP);
            return ExitCode::SUCCESS;
        }
        Err(error) => return fail(&format!("{error}; `--help` shows what there is")),
    };
    match run(&args) {
        Ok(report) => {
            print!("{report}");
            ExitCode::SUCCESS
        }
        Err(message) => fail(&message),
    }
}

fn fail(message: &str) -> ExitCode {
    eprintln!("gallery: {message}");
    ExitCode::FAILURE
}

fn run(args: &Args) -> Result<Report, String> {
    let mut files = image::list(&args.images)?;
    if let (true, Some(count)) = (files.is_empty(), args.make) {
        make::pictures(&args.images, count)?;
        files = image::list(&args.images)?;
    }
    if files.is_empty() {
        return Err(format!(
            "{}: there is no PNG image; put some there, or have some made with `--make 48`",
            args.images.display()
        ));
    }

    let mut cache = Cache::fill(files)?;
    let filled = cache.decoded();
    let mut report = Report::new(&cache);
    for number in Order::new(cache.len(), args.seed).take(args.views) {
        let seen = cache.view(number)?;
        report.note(&seen);
    }
    report.decoded_again = cache.decoded() - filled;
    Ok(report)
}
