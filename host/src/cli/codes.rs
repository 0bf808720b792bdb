//! The exit codes, for `--help` and for the page on them.

use super::failure::{GUEST_FAILED, NOT_STARTED};

/// A code, as it is written, and what it says.
struct Code(&'static str, &'static str);

const CODES: [Code; 7] = [
    Code(
        "0, or any other",
        "that of the first command: the low eight bits of what it exits with, and 1 if its \
         `run` returns an error",
    ),
    Code(
        "2",
        "nothing was started: bad usage, a mistake in the manifest or in how the guests are \
         linked, or a system that refuses what the program needs",
    ),
    Code(
        "101",
        "a bug in the program: it panicked, and said where on stderr",
    ),
    Code(
        "134",
        "a guest failed: it trapped, or was ended by the host. If it was not the first command, \
         then only where that one exited with 0, and not if the guest is one that is started \
         again (`restart`) and has not used up its `max-restarts`, also when it fails while the \
         app is coming to its end",
    ),
    Code(
        "129, 130, 143, 152",
        "SIGHUP, SIGINT, SIGTERM or SIGXCPU: the app was ended in order, commands at once, or \
         after their grace if one of them hears of it, and others when they had answered the \
         calls that they were at, a second later at most. A second SIGINT or SIGTERM ends it at \
         once. A signal that was ignored when the program was started, as by `nohup`, stays \
         ignored",
    ),
    Code(
        "131, 137, 139",
        "SIGQUIT, SIGKILL, SIGSEGV, as a shell reports them: the process was ended by the signal \
         and has no code of its own. The first two come from outside; SIGSEGV, or another one, is \
         a bug",
    ),
    Code(
        "any of these",
        "also where stderr is closed or full: what cannot be written there is lost, and changes \
         no code. Results that cannot be written to stdout are a failure, with code 2, unless \
         nobody reads them any more",
    ),
];

/// The codes as text for a terminal.
pub(super) fn help() -> String {
    let mut text = "Exit codes:".to_owned();
    for Code(code, meaning) in &CODES {
        let mut line = format!("  {code:<18}");
        for word in meaning.split(' ') {
            if line.chars().count() + word.len() >= 90 {
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
            help.lines().all(|line| line.chars().count() <= 92),
            "{help}"
        );
        assert!(
            help.contains("\n  134                a guest failed:"),
            "{help}"
        );
    }
}
