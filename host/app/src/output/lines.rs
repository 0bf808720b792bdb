//! Prefixes lines with the name of the guest that printed them.

use std::collections::VecDeque;
use std::fmt::Write as _;

use tombolo_region::is_harmless;

/// Writes `bytes` with the guest's name before each line. Escapes control characters and invalid
/// UTF-8, by which a line could look like another guest's, or the program's. If `continues`, the
/// first bytes belong to a line that was begun before.
pub(super) fn name(bytes: &[u8], name: &str, continues: bool, out: &mut Vec<u8>) {
    for (index, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let mut text = String::with_capacity(name.len() + 3 + line.len());
        if index > 0 || !continues {
            escape(name.as_bytes(), &mut text);
            text.push_str(" | ");
        }
        let (line, end) = match line {
            [line @ .., b'\r', b'\n'] | [line @ .., b'\n'] => (line, "\n"),
            line => (line, ""),
        };
        escape(line, &mut text);
        text.push_str(end);
        out.extend_from_slice(text.as_bytes());
    }
}

fn escape(bytes: &[u8], out: &mut String) {
    let mut combines = false;
    for part in bytes.utf8_chunks() {
        for char in part.valid().chars() {
            combines = is_harmless(char, combines);
            match combines || char == '\t' {
                true => out.push(char),
                false => out.extend(char.escape_default()),
            }
        }
        for byte in part.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
}

/// Returns the length of the incomplete character at the end.
pub(super) fn cut_character(bytes: &VecDeque<u8>) -> usize {
    let tail: Vec<u8> = bytes
        .range(bytes.len().saturating_sub(3)..)
        .copied()
        .collect();
    (1..=tail.len())
        .find(|count| {
            let end = &tail[tail.len() - count..];
            // A byte that begins a character with more bytes than there are.
            end[0] >= 0xc0
                && std::str::from_utf8(end).is_err_and(|error| error.error_len().is_none())
        })
        .unwrap_or(0)
}
