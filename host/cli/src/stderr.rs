//! Writes the program's own messages to stderr.
//!
//! Much of that text is foreign: names in components, names of files, and wasmtime's messages
//! about both. Foreign text is escaped when it becomes part of a sentence, line breaks included,
//! so that it cannot forge a line. This module checks the whole text once more and escapes
//! everything that could steer a terminal. Output of guests does not pass through here.
//!
//! Stderr may be closed, full, or a pipe without a reader. Text that cannot be written is lost:
//! it neither ends the program nor changes its exit code, and the program waits for the reader
//! for a bounded time. `eprint!` would panic, or wait forever.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write};
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tombolo_app::Output;
use tombolo_app::internal::{Lane, OutputInternals as _};
use tombolo_region::{escape, is_harmless};

/// The longest wait for the reader of stderr.
const PATIENCE: Duration = Duration::from_secs(2);

/// The longest wait after one that timed out: enough for the writing thread to run, if the reader
/// reads again.
const SHORT_PATIENCE: Duration = Duration::from_millis(100);

/// Whether the last wait for the reader timed out.
static STUCK: AtomicBool = AtomicBool::new(false);

/// The program's lane to its stderr, beside the lanes of guests. `None` if its thread cannot be
/// started.
static LANE: OnceLock<Option<Lane>> = OnceLock::new();

fn lane() -> Option<&'static Lane> {
    LANE.get_or_init(|| Output::stderr().program().ok())
        .as_ref()
}

/// Starts the thread that writes to stderr, if it can be started.
pub(super) fn start() {
    lane();
}

/// Returns whether stderr is a terminal that shows colours.
pub(super) fn has_colours() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Whether text may contain colours: escape sequences that only select them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Colours {
    Allowed,
    Escaped,
}

impl Colours {
    /// Returns whether stderr shows colours.
    fn of_stderr() -> Colours {
        match has_colours() {
            true => Colours::Allowed,
            false => Colours::Escaped,
        }
    }
}

/// Writes a text to stderr. Waits until it is written, and everything that was logged before.
/// Must not be called on threads that run guests.
pub(super) fn print(text: &str) {
    let text = clean(text, Colours::of_stderr());
    match lane() {
        Some(lane) => write(lane, &text, &STUCK),
        // There is no other place to report a failure.
        None => drop(io::stderr().write_all(text.as_bytes())),
    }
}

/// Waits until everything that was logged is written.
pub(super) fn finish() {
    if let Some(Some(lane)) = LANE.get() {
        write(lane, "", &STUCK);
    }
}

fn write(lane: &Lane, text: &str, stuck: &AtomicBool) {
    let patience = match stuck.load(Ordering::Relaxed) {
        true => SHORT_PATIENCE,
        false => PATIENCE,
    };
    let written = lane.write_all_within(text.as_bytes(), patience);
    stuck.store(!written, Ordering::Relaxed);
}

/// Escapes a result for stdout, without colours.
pub(super) fn plain(text: &str) -> Cow<'_, str> {
    clean(text, Colours::Escaped)
}

/// Stderr as a writer for logged events. It never fails and never blocks. Each `write` is one
/// event, which is one line. Lines that do not fit into the queue are counted, and the count is
/// logged once there is room again.
#[derive(Debug, Default)]
pub(super) struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let event = String::from_utf8_lossy(bytes);
        let line = one_line(&event);
        let line = clean(&line, Colours::of_stderr());
        match lane() {
            Some(lane) => lane.add_or_lose(line.as_bytes()),
            None => drop(io::stderr().write_all(line.as_bytes())),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes panics print their messages by [`print`], because they may quote foreign text.
pub(super) fn install_panic_hook() {
    std::panic::set_hook(Box::new(|panic| print(&panic_message(panic))));
}

fn panic_message(panic: &PanicHookInfo<'_>) -> String {
    let thread = std::thread::current();
    let place = panic.location().map(ToString::to_string);
    let mut text = format!(
        "thread `{}` panicked at {}:\n{}\n",
        escape(thread.name().unwrap_or("<unnamed>")),
        escape(&place.unwrap_or_default()),
        escape(panic.payload_as_str().unwrap_or("(no text)")),
    );
    let backtrace = std::backtrace::Backtrace::capture();
    match backtrace.status() {
        std::backtrace::BacktraceStatus::Captured => {
            let _ = writeln!(text, "{backtrace}");
        }
        _ => text += "note: run with `RUST_BACKTRACE=1` to see where it came from\n",
    }
    text
}

/// Escapes the line breaks in an event, except for the one at its end.
fn one_line(event: &str) -> Cow<'_, str> {
    let line = event.strip_suffix('\n').unwrap_or(event);
    match line.contains('\n') {
        true => Cow::Owned(line.replace('\n', "\\n") + "\n"),
        false => Cow::Borrowed(event),
    }
}

/// Escapes everything that is not text, line breaks, tabs or permitted colours.
fn clean(text: &str, colours: Colours) -> Cow<'_, str> {
    // The fast path for nearly all text.
    if text.bytes().all(|byte| matches!(byte, b'\n' | b' '..=b'~')) {
        return Cow::Borrowed(text);
    }
    let mut cleaned = String::with_capacity(text.len() + 16);
    let mut combines = false;
    let mut rest = text;
    while let Some(char) = rest.chars().next() {
        if colours == Colours::Allowed
            && let Some(length) = colour(rest)
        {
            cleaned += &rest[..length];
            rest = &rest[length..];
            combines = false;
            continue;
        }
        rest = &rest[char.len_utf8()..];
        combines = is_harmless(char, combines);
        match combines || matches!(char, '\n' | '\t') {
            true => cleaned.push(char),
            false => cleaned.extend(char.escape_default()),
        }
    }
    Cow::Owned(cleaned)
}

/// Returns the length of the escape sequence at the start of the text, if it only selects a
/// style, as `ESC [ 1 ; 31 m` does.
fn colour(text: &str) -> Option<usize> {
    /// Longer than any sequence in use.
    const MOST: usize = 16;
    let parameters = text.strip_prefix("\x1b[")?;
    let end = parameters.find(|char: char| !matches!(char, '0'..='9' | ';'))?;
    (end < MOST && parameters[end..].starts_with('m')).then_some("\x1b[m".len() + end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_unchanged() {
        for text in [
            "error: cannot read `a`\n  cause: none\n",
            "guest\tend\n─────\nnaïve …\n",
        ] {
            assert_eq!(clean(text, Colours::Escaped), text);
        }
    }

    #[test]
    fn control_characters_are_escaped() {
        for (text, cleaned) in [
            ("\x1b]0;title\x07", r"\u{1b}]0;title\u{7}"),
            ("\x1b[2J\x1b[H", r"\u{1b}[2J\u{1b}[H"),
            ("a\rb\x08c", r"a\rb\u{8}c"),
            ("\u{9b}2J\u{90}q\u{9c}", r"\u{9b}2J\u{90}q\u{9c}"),
            ("\u{202e}txt.exe\u{2066}", r"\u{202e}txt.exe\u{2066}"),
            (
                "a\u{200b}b\u{2028}c\u{e0041}",
                r"a\u{200b}b\u{2028}c\u{e0041}",
            ),
        ] {
            for colours in [Colours::Allowed, Colours::Escaped] {
                assert_eq!(clean(text, colours), cleaned);
            }
        }
    }

    #[test]
    fn colours_pass_only_if_allowed() {
        let text = "\x1b[1m\x1b[38;5;9merror\x1b[0m: a\x1b[m";
        assert_eq!(clean(text, Colours::Allowed), text);
        assert!(!clean(text, Colours::Escaped).contains('\x1b'));
    }

    #[test]
    fn other_sequences_are_escaped() {
        for text in [
            "\x1b[31",
            "\x1b[31;",
            "\x1b[2J",
            "\x1b[?25l",
            "\x1b[>4;2m",
            "\x1b[1:2m",
            "\x1b[ m",
            "\x1b[\x1b[m",
            "\x1b[11111111111111111111m",
        ] {
            let cleaned = clean(text, Colours::Allowed);
            assert!(cleaned.starts_with(r"\u{1b}"), "{cleaned}");
        }
    }

    #[test]
    fn resumed_reader_gets_text_again() {
        /// A writer that takes 10 ms for each write.
        struct SlowWriter;
        impl Write for SlowWriter {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                std::thread::sleep(Duration::from_millis(10));
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let lane = Output::new(SlowWriter).program().unwrap();
        let stuck = AtomicBool::new(true);
        // The machine may be busy.
        for _ in 0..50 {
            write(&lane, "text\n", &stuck);
            if !stuck.load(Ordering::Relaxed) {
                return;
            }
        }
        panic!("no write finished in time");
    }

    #[test]
    fn event_stays_one_line() {
        assert_eq!(one_line(" WARN a\n"), " WARN a\n");
        assert_eq!(one_line(" WARN a\nerror: b\n"), " WARN a\\nerror: b\n");
        assert_eq!(one_line("a\nb"), "a\\nb\n");
    }

    /// The variable that makes the test panic, in a process of its own.
    const PANIC: &str = "TOMBOLO_TEST_PANIC";

    #[test]
    fn panic_message_is_escaped() {
        if let Some(text) = std::env::var_os(PANIC) {
            install_panic_hook();
            panic!("{}", text.to_string_lossy());
        }
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "stderr::tests::panic_message_is_escaped"])
            .arg("--nocapture")
            .env(PANIC, "a\x1b[2J\u{202e}\nerror: forged")
            .env_remove("RUST_BACKTRACE")
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(
            said.contains("\na\\u{1b}[2J\\u{202e}\\nerror: forged\n"),
            "{said}"
        );
        assert!(said.contains(" panicked at "), "{said}");
    }
}
