use std::path::PathBuf;

/// The text of `--help`.
pub(crate) const HELP: &str = "\
Keeps decoded images where the host may purge them, and lends them to a viewer

Usage: gallery [OPTIONS] [IMAGES]

Arguments:
  IMAGES  A directory with PNG images [default: /images]

Options:
      --make N   Make so many images first, if there is none
      --views N  Look at an image so often [default: 600]
      --seed N   Choose which, at random, from this on [default: 1]
  -h, --help     Print this
";

/// The options of the command line.
#[derive(Debug, PartialEq)]
pub(crate) struct Args {
    pub(crate) images: PathBuf,
    pub(crate) make: Option<u32>,
    pub(crate) views: usize,
    pub(crate) seed: u64,
}

pub(crate) enum Parsed {
    Run(Args),
    Help,
}

pub(crate) fn parse() -> Result<Parsed, lexopt::Error> {
    parse_from(lexopt::Parser::from_env())
}

fn parse_from(mut parser: lexopt::Parser) -> Result<Parsed, lexopt::Error> {
    use lexopt::prelude::*;

    let mut images = None;
    let mut make = None;
    let mut views = 600;
    let mut seed = 1;
    while let Some(arg) = parser.next()? {
        match arg {
            Long("make") => make = Some(parser.value()?.parse()?),
            Long("views") => views = parser.value()?.parse()?,
            Long("seed") => seed = parser.value()?.parse()?,
            Short('h') | Long("help") => return Ok(Parsed::Help),
            Value(path) if images.is_none() => images = Some(PathBuf::from(path)),
            Value(path) => return Err(format!("`{}` is one path too many", path.display()).into()),
            other => return Err(other.unexpected()),
        }
    }
    Ok(Parsed::Run(Args {
        images: images.unwrap_or_else(|| "/images".into()),
        make,
        views,
        seed,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Result<Args, String> {
        match parse_from(lexopt::Parser::from_args(line.split_whitespace())) {
            Ok(Parsed::Run(args)) => Ok(args),
            Ok(Parsed::Help) => Err("help".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn pictures_are_made_on_request_only() {
        let args = args("").expect("valid");
        assert_eq!((args.images, args.make), ("/images".into(), None));
    }

    #[test]
    fn options_are_parsed() {
        let args = args("--make 3 pictures --views 9 --seed 7").expect("valid");
        assert_eq!((args.images, args.make), ("pictures".into(), Some(3)));
        assert_eq!((args.views, args.seed), (9, 7));
    }

    #[test]
    fn error_names_the_argument() {
        assert!(args("a b").unwrap_err().contains("`b`"));
        assert!(args("--views many").unwrap_err().contains("many"));
        assert!(args("--budget 3").unwrap_err().contains("--budget"));
    }
}
