//! The exit codes, for `--help` and `docs/exit-codes.md`.

use super::failure::{GUEST_FAILED, NOT_STARTED};

/// An exit code and its meaning.
struct Code(&'static str, &'static str);

const CODES: [Code; 7] = [
    Code(
        "0, or any other",
        "the exit code of the first command: 0 if its `run` succeeds, 1 if it returns an error, \
         or the code that it passes to `wasi:cli/exit`. Programs in Rust pass 0 or 1 only",
    ),
    Code(
        "2",
        "nothing was started: bad usage, a mistake in the manifest or in how guests are linked, \
         or a system that refuses what the program needs",
    ),
    Code(
        "101",
        "a bug in the program: it panicked, and printed the location on stderr",
    ),
    Code(
        "134",
        "a guest failed: it trapped, or the host terminated it. A failure of a guest other than the \
         first command counts only if the first command exits with 0. It does not count if \
         `restart` still permits a restart, even if the guest fails during shutdown",
    ),
    Code(
        "129, 130, 143, 152",
        "SIGHUP, SIGINT, SIGTERM or SIGXCPU: the app was shut down in order. Commands end at \
         once, or have at most `stop-timeout` if one of them listens for the shutdown. Other \
         guests first finish the calls that they serve, for two seconds at most. SIGINT or \
         SIGTERM after the first signal ends the program at once. A signal that was ignored when \
         the program started, as by `nohup`, stays ignored",
    ),
    Code(
        "131, 137, 139",
        "SIGQUIT, SIGKILL or SIGSEGV ended the process, as a shell reports it. The first two come \
         from outside; SIGSEGV is a bug",
    ),
    Code(
        "any of these",
        "the code is the same if stderr is closed or full; text that cannot be written there is \
         lost. If results cannot be written to stdout, the code is 2, unless their reader has \
         closed the pipe",
    ),
];

/// Returns the exit codes as text of at most 79 columns.
pub(super) fn help() -> String {
    let mut text = "Exit codes:".to_owned();
    for Code(code, meaning) in &CODES {
        let mut line = format!("  {code:<18}");
        for word in meaning.split(' ') {
            if line.chars().count() + word.len() >= 79 {
                text += &format!("\n{line}");
                line = " ".repeat(20);
            }
            line += &format!(" {word}");
        }
        text += &format!("\n{line}");
    }
    text
}

const _: () = assert!(NOT_STARTED == 2 && GUEST_FAILED == 134);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_has_every_code() {
        let page = include_str!("../../../docs/exit-codes.md");
        let mut rows = "| code | meaning |\n|---|---|\n".to_owned();
        for Code(code, meaning) in &CODES {
            rows += &format!("| {code} | {meaning} |\n");
        }
        assert!(
            page.contains(&rows),
            "docs/exit-codes.md should have:\n\n{rows}"
        );
    }

    #[test]
    fn help_fits_a_terminal() {
        let help = help();
        assert!(
            help.lines().all(|line| line.chars().count() <= 79),
            "{help}"
        );
        assert!(
            help.contains("\n  134                a guest failed:"),
            "{help}"
        );
    }
}
