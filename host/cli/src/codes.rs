//! The exit codes, for `--help` and for the page on them.

use super::failure::{GUEST_FAILED, NOT_STARTED};

/// An exit code as it is shown, and its meaning.
struct Code(&'static str, &'static str);

const CODES: [Code; 7] = [
    Code(
        "0, or any other",
        "the exit code of the first command: the low eight bits of its code, or 1 if its `run` \
         returns an error",
    ),
    Code(
        "2",
        "nothing was started: bad usage, a mistake in the manifest or in how the guests are \
         linked, or a system that refuses what the program needs",
    ),
    Code(
        "101",
        "a bug in the program: it panicked, and named the place on stderr",
    ),
    Code(
        "134",
        "a guest failed: it trapped, or the host ended it. The failure of a guest other than \
         the first command counts only if the first command exited with 0. It does not count if \
         the guest is to be restarted (`restart`) and has not used up its `max-restarts`, even \
         if it fails while the app comes to its end",
    ),
    Code(
        "129, 130, 143, 152",
        "SIGHUP, SIGINT, SIGTERM or SIGXCPU: the app was shut down in order. Commands end at \
         once, or after their grace if one of them listens for it. Other guests end when they \
         have answered the calls that they are serving, at most two seconds later. SIGINT or \
         SIGTERM after the first signal ends the program at once. A signal that was ignored \
         when the program was started, as by `nohup`, stays ignored",
    ),
    Code(
        "131, 137, 139",
        "SIGQUIT, SIGKILL, SIGSEGV, as a shell reports them: the signal ended the process, \
         which has no code of its own. The first two come from outside; SIGSEGV is a bug",
    ),
    Code(
        "any of these",
        "also if stderr is closed or full: text that cannot be written there is lost, and does \
         not change the code. If results cannot be written to stdout, the code is 2, unless \
         their reader has closed the pipe",
    ),
];

/// Returns the codes as text for a terminal.
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
