//! Escaping of foreign text in messages.

use std::fmt::{self, Write as _};

/// Foreign text that is displayed so that it changes nothing around it.
///
/// Characters that Unicode does not call printable are escaped, as in `\u{202e}`: controls,
/// line breaks, tags, all spaces but the plain one, and format characters such as those that
/// change the direction of writing. Printable characters that are invisible are escaped too.
/// Backslashes stay, so escaping twice is the same as escaping once.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut combines = false;
        for char in self.0.chars() {
            combines = is_harmless(char, combines);
            match combines {
                true => f.write_char(char)?,
                false => write!(f, "{}", char.escape_default())?,
            }
        }
        Ok(())
    }
}

/// Escapes foreign text, for example a name or a message of another library. Allocates nothing.
#[must_use]
pub fn escape(text: &str) -> Escaped<'_> {
    Escaped(text)
}

/// Returns whether a character can be displayed unescaped. A mark, such as an accent, can only
/// if there is a character that it `combines` with.
#[must_use]
pub fn is_harmless(char: char, combines: bool) -> bool {
    match char {
        ' '..='~' => true,
        _ if is_invisible(char) => false,
        // The standard library escapes unprintable characters, and marks.
        _ if char.escape_debug().len() == 1 => true,
        _ => combines && is_mark(char),
    }
}

/// Returns whether the standard library escapes this character only if there is no character
/// before it.
fn is_mark(char: char) -> bool {
    let mut buffer = [b'a'; 5];
    let length = 1 + char.encode_utf8(&mut buffer[1..]).len();
    std::str::from_utf8(&buffer[..length])
        .is_ok_and(|text| text.escape_debug().nth(1) == Some(char))
}

/// Returns whether a character is printable by its category, and yet invisible. These are the
/// characters with the property `Default_Ignorable_Code_Point`, except format characters, and
/// the Braille pattern without dots.
fn is_invisible(char: char) -> bool {
    matches!(
        char,
        '\u{34f}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{2800}'
            | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}'
            | '\u{ffa0}'
            | '\u{e0000}'..='\u{e0fff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(text: &str) -> String {
        Escaped(text).to_string()
    }

    #[test]
    fn printable_text_is_unchanged() {
        for text in [
            "plain text, `quotes' and \"more\", a\\b",
            "naïve Zürich 東京 ελληνικά עברית हिन्दी",
            "e\u{301}",
            "👍─│…",
            "",
        ] {
            assert_eq!(escaped(text), text);
        }
    }

    #[test]
    fn controls_and_odd_spaces_are_escaped() {
        for (text, shown) in [
            ("a\x1b[2Jb", r"a\u{1b}[2Jb"),
            ("a\nb\r\tc\0\x07\x7f", r"a\nb\r\tc\u{0}\u{7}\u{7f}"),
            ("\u{85}\u{9b}31m", r"\u{85}\u{9b}31m"),
            ("\u{2028}\u{2029}", r"\u{2028}\u{2029}"),
            ("\u{a0}\u{3000}", r"\u{a0}\u{3000}"),
            ("\u{e000}\u{10ffff}", r"\u{e000}\u{10ffff}"),
        ] {
            assert_eq!(escaped(text), shown);
        }
    }

    #[test]
    fn format_characters_and_tags_are_escaped() {
        let bidi = ('\u{202a}'..='\u{202e}').chain('\u{2066}'..='\u{2069}');
        let zero_width = ('\u{200b}'..='\u{200f}').chain('\u{2060}'..='\u{2064}');
        let tags = '\u{e0000}'..='\u{e007f}';
        let others = ['\u{61c}', '\u{ad}', '\u{feff}', '\u{180e}', '\u{fff9}'];
        for char in bidi.chain(zero_width).chain(tags).chain(others) {
            let text = format!("a{char}b");
            assert_eq!(escaped(&text), format!("a{}b", char.escape_unicode()));
        }
    }

    #[test]
    fn invisible_characters_are_escaped() {
        for char in ['\u{3164}', '\u{34f}', '\u{fe0f}', '\u{e0100}', '\u{2800}'] {
            let text = format!("a{char}b");
            assert_eq!(escaped(&text), format!("a{}b", char.escape_unicode()));
        }
    }

    #[test]
    fn mark_without_a_base_is_escaped() {
        assert_eq!(escaped("\u{301}a"), r"\u{301}a");
        assert_eq!(escaped("\n\u{301}"), r"\n\u{301}");
        assert_eq!(escaped("a\u{301}\u{302}"), "a\u{301}\u{302}");
    }

    #[test]
    fn escaping_twice_equals_escaping_once() {
        let once = escaped("\x1b\u{202e}\\n\n");
        assert_eq!(escaped(&once), once);
    }
}
