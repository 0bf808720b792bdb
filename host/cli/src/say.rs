//! Writes to the program's own standard streams: the one place where text meets a terminal.
//!
//! Much of that text is foreign: names in components, names of files, and wasmtime's messages
//! about both. It is escaped when it becomes part of a sentence, line breaks included, so that
//! it cannot forge a line of the program's. Here everything is checked once more, and nothing
//! that could steer a terminal gets through. Output of guests does not come this way.
//!
//! Stderr may be closed, full, or a pipe without a reader. Text that cannot be written is
//! lost. It neither ends the program nor changes its exit code, and the program waits for
//! its reader for a bounded time only. The standard library's `eprint!` panics, or waits
//! forever.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::panic::PanicHookInfo;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tombolo_app::Output;
use tombolo_app::internal::Lane;
use tombolo_region::{escape, is_harmless};

/// The time that the program waits if nobody reads its standard error.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long it waits for a reader that was waited for in vain before: long enough for the
/// thread that writes to have its turn, if the reader reads again.
const SHORT_PATIENCE: Duration = Duration::from_millis(100);

/// Whether the reader of standard error was waited for in vain the last time.
static STUCK: AtomicBool = AtomicBool::new(false);

/// The program's lane to its standard error, beside those of guests. It holds `None` if no
/// thread can be started.
static LANE: OnceLock<Option<Lane>> = OnceLock::new();

fn lane() -> Option<&'static Lane> {
    LANE.get_or_init(|| Output::stderr().program().ok())
        .as_ref()
}

/// Starts the thread that writes to stderr, if it can be started.
pub(super) fn start() {
    lane();
}

/// Whether text may have colours: escape sequences that select them and do nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Colours {
    Allowed,
    Escaped,
}

impl Colours {
    /// Those of stderr.
    fn of_stderr() -> Colours {
        match super::fancy() {
            true => Colours::Allowed,
            false => Colours::Escaped,
        }
    }
}

/// Writes a text to stderr, and waits until it is written, also what was logged before. Not
/// for the threads on which guests run.
pub(super) fn say(text: &str) {
    let text = clean(text, Colours::of_stderr());
    match lane() {
        Some(lane) => write(lane, &text, &STUCK),
        // There is nowhere else to say it.
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

/// Makes a result fit for stdout, which has no colours.
pub(super) fn plain(text: &str) -> Cow<'_, str> {
    clean(text, Colours::Escaped)
}

/// Stderr as a writer for logged events, which never fails and never blocks. Each `write` is
/// one event, which is one line. Lines that there is no room for are counted, and the count
/// is logged when there is room again.
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

/// Makes panics print their messages by [`say`] from now on, because they may quote anything.
pub(super) fn panics() {
    std::panic::set_hook(Box::new(|panic| say(&panicked(panic))));
}

fn panicked(panic: &PanicHookInfo<'_>) -> String {
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

/// Escapes the line breaks in an event, but for the one at its end.
fn one_line(event: &str) -> Cow<'_, str> {
    let line = event.strip_suffix('\n').unwrap_or(event);
    match line.contains('\n') {
        true => Cow::Owned(line.replace('\n', "\\n") + "\n"),
        false => Cow::Borrowed(event),
    }
}

/// Escapes all that is no text, and leaves line breaks, tabs and, where they are allowed,
/// colours.
fn clean(text: &str, colours: Colours) -> Cow<'_, str> {
    // Nearly all text is like this.
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

/// Returns how long the escape sequence is that the text begins with, if all it does is
/// to select how what follows looks, as in `ESC [ 1 ; 31 m`.
fn colour(text: &str) -> Option<usize> {
    /// Longer than any that is used.
    const MOST: usize = 16;
    let parameters = text.strip_prefix("\x1b[")?;
    let end = parameters.find(|char: char| !matches!(char, '0'..='9' | ';'))?;
    (end < MOST && parameters[end..].starts_with('m')).then_some("\x1b[m".len() + end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_our_own_stays() {
        for text in [
            "error: cannot read `a`\n  cause: none\n",
            "guest\tend\n─────\nnaïve …\n",
        ] {
            assert_eq!(clean(text, Colours::Escaped), text);
        }
    }

    #[test]
    fn what_steers_a_terminal_is_escaped() {
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
    fn colours_pass_only_where_they_are_allowed() {
        let text = "\x1b[1m\x1b[38;5;9merror\x1b[0m: a\x1b[m";
        assert_eq!(clean(text, Colours::Allowed), text);
        assert!(!clean(text, Colours::Escaped).contains('\x1b'));
    }

    #[test]
    fn other_sequences_are_no_colours() {
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
    fn reader_that_reads_again_is_waited_for_again() {
        /// Needs a moment for each write.
        struct Slow;
        impl Write for Slow {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                std::thread::sleep(Duration::from_millis(10));
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let lane = Output::new(Slow).program().unwrap();
        let stuck = AtomicBool::new(true);
        // The machine may be busy.
        for _ in 0..50 {
            write(&lane, "text\n", &stuck);
            if !stuck.load(Ordering::Relaxed) {
                return;
            }
        }
        panic!("nothing is ever written in time");
    }

    #[test]
    fn event_is_one_line() {
        assert_eq!(one_line(" WARN a\n"), " WARN a\n");
        assert_eq!(one_line(" WARN a\nerror: b\n"), " WARN a\\nerror: b\n");
        assert_eq!(one_line("a\nb"), "a\\nb\n");
    }

    /// The variable that makes this test panic, in a process of its own.
    const PANIC: &str = "TOMBOLO_TEST_PANIC";

    #[test]
    fn panic_makes_no_line_of_what_it_quotes() {
        if let Some(text) = std::env::var_os(PANIC) {
            panics();
            panic!("{}", text.to_string_lossy());
        }
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "cli::say::tests::panic_makes_no_line_of_what_it_quotes",
            ])
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
