use std::path::PathBuf;

/// The text of `--help`.
pub(crate) const HELP: &str = "\
Lends a recording to an audio server and writes what comes back

Usage: player [OPTIONS] [INPUT] [OUTPUT]
       player [OPTIONS] --render [OUTPUT]

Arguments:
  INPUT   A WAV file; without one, a minute of music is rendered
  OUTPUT  Where to write the processed samples; without it, nowhere

Options:
      --render         Render the music, so that the only argument is OUTPUT
  -o, --output OUTPUT  The same as the argument
      --gain DB        Make it louder by so much, or softer [default: 6]
      --max-bytes N    Refuse recordings with more bytes of samples [default: 268435456]
  -h, --help           Print this
";

/// The options of the command line.
#[derive(Debug, PartialEq)]
pub(crate) struct Args {
    /// The recording. Without it, the music is rendered.
    pub(crate) input: Option<PathBuf>,
    pub(crate) output: Option<PathBuf>,
    /// The gain in dB.
    pub(crate) gain: f32,
    pub(crate) max_bytes: u64,
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

    let mut paths = Vec::new();
    let mut output = None;
    let mut render = false;
    let mut gain = 6.0;
    let mut max_bytes = 256 << 20;
    while let Some(arg) = parser.next()? {
        match arg {
            Long("render") => render = true,
            Short('o') | Long("output") => output = Some(parser.value()?.into()),
            Long("gain") => gain = parser.value()?.parse()?,
            Long("max-bytes") => max_bytes = parser.value()?.parse()?,
            Short('h') | Long("help") => return Ok(Parsed::Help),
            Value(path) => paths.push(PathBuf::from(path)),
            other => return Err(other.unexpected()),
        }
    }
    let mut paths = paths.into_iter();
    let input = if render { None } else { paths.next() };
    if output.is_none() {
        output = paths.next();
    }
    if let Some(path) = paths.next() {
        return Err(format!("`{}` is one path too many", path.display()).into());
    }
    Ok(Parsed::Run(Args {
        input,
        output,
        gain,
        max_bytes,
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
    fn single_path_is_the_input() {
        let args = args("/music/in.wav").expect("valid");
        assert_eq!(args.input, Some("/music/in.wav".into()));
        assert_eq!(args.output, None);
    }

    #[test]
    fn single_path_with_render_is_the_output() {
        let args = args("--gain -3.5 --render out.wav").expect("valid");
        assert_eq!(args.input, None);
        assert_eq!(args.output, Some("out.wav".into()));
        assert_eq!(args.gain, -3.5);
    }

    #[test]
    fn output_option_names_the_output() {
        let args = args("in.wav --output out.wav").expect("valid");
        assert_eq!(args.input, Some("in.wav".into()));
        assert_eq!(args.output, Some("out.wav".into()));
    }

    #[test]
    fn error_names_the_argument() {
        assert!(args("a b -o c").unwrap_err().contains("`b`"));
        assert!(args("a b c").unwrap_err().contains("`c`"));
        assert!(args("--render a b").unwrap_err().contains("`b`"));
        assert!(args("--gain loud").unwrap_err().contains("loud"));
        assert!(args("--volume 3").unwrap_err().contains("--volume"));
    }
}
