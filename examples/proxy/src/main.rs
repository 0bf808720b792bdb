//! The program: runs the proxy of the library.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Parser;
use proxy::{Proxy, Settings, engine, serve};
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

/// Serve HTTP by two guests: a handler, and a filter that it lends bodies to.
#[derive(Parser)]
struct Args {
    /// Listen on this address.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Run this component for each request.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "target/wasm32-wasip2/release/handler.wasm"
    )]
    handler: PathBuf,
    /// Link the handler to this component.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "target/wasm32-wasip2/release/filter.wasm"
    )]
    filter: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::Level::WARN.into())
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let (handler, filter) = (read(&args.handler)?, read(&args.filter)?);
    let proxy = Proxy::new(&engine()?, &handler, &filter, Settings::default())
        .context("cannot use the guests")?;
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    println!("listening on http://{}", listener.local_addr()?);
    serve(listener, proxy).await;
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| {
        format!(
            "cannot read {} (`cargo build --release --target wasm32-wasip2 -p proxy-guests` builds \
             it)",
            path.display()
        )
    })
}
