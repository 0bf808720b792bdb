//! Finds the two relevant parts of a WAV file.
//!
//! `hound` could read the headers as well, but it trusts the file. It does not report a
//! truncated file before it reaches the end, and it loses its place behind a part of odd
//! length.

use std::io::{self, Read, Seek, SeekFrom};

/// The maximum length of a `fmt ` part.
const MAX_FMT: u32 = 1024;

/// The place and the format of the samples in a WAV file.
#[derive(Debug)]
pub(crate) struct Riff {
    /// The contents of the `fmt ` part.
    pub(crate) fmt: Vec<u8>,
    /// The offset of the first sample.
    pub(crate) data_at: u64,
    pub(crate) data_len: u32,
}

impl Riff {
    /// Reads the headers of a file of `len` bytes.
    ///
    /// # Errors
    ///
    /// Returns the defect of the file, to be printed after its name.
    pub(crate) fn read(file: &mut (impl Read + Seek), len: u64) -> Result<Self, String> {
        if len == 0 {
            return Err("is empty; give a WAV file".to_owned());
        }
        let mut head = [0; 12];
        match file.read_exact(&mut head) {
            Ok(()) if head.starts_with(b"RIFF") && head.ends_with(b"WAVE") => {}
            Ok(()) if head.starts_with(b"RF64") => {
                return Err(
                    "is a WAV file of the 64-bit kind (RF64); convert it to plain WAV".into(),
                );
            }
            Ok(()) => return Err(NO_WAV.to_owned()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(NO_WAV.to_owned());
            }
            Err(error) => return Err(unreadable(&error)),
        }

        let mut fmt = None;
        let mut at = 12;
        loop {
            let mut head = [0; 8];
            if at + 8 > len {
                return Err(cut_short("it ends before its samples begin"));
            }
            file.seek(SeekFrom::Start(at)).map_err(|e| unreadable(&e))?;
            file.read_exact(&mut head).map_err(|e| unreadable(&e))?;
            let [k0, k1, k2, k3, l0, l1, l2, l3] = head;
            let part = u32::from_le_bytes([l0, l1, l2, l3]);
            let body = at + 8;
            match &[k0, k1, k2, k3] {
                b"fmt " if part <= MAX_FMT && body + u64::from(part) <= len => {
                    let mut bytes = vec![0; part as usize];
                    file.read_exact(&mut bytes).map_err(|e| unreadable(&e))?;
                    fmt = Some(bytes);
                }
                b"data" => {
                    let fmt = fmt.ok_or("is damaged: its samples come before their format")?;
                    let there = len - body;
                    if u64::from(part) > there {
                        return Err(cut_short(&format!(
                            "the header promises {part} bytes of samples, and there are {there}"
                        )));
                    }
                    if part == 0 {
                        return Err("has no samples; give a recording with some".to_owned());
                    }
                    return Ok(Self {
                        fmt,
                        data_at: body,
                        data_len: part,
                    });
                }
                _ => {}
            }
            // A part of odd length is followed by a padding byte.
            at = body + u64::from(part) + u64::from(part % 2);
        }
    }

    /// Returns a minimal header for the samples.
    pub(crate) fn plain_header(&self) -> Vec<u8> {
        let fmt_len = self.fmt.len() as u32;
        let mut header = Vec::with_capacity(28 + self.fmt.len());
        header.extend(b"RIFF");
        header.extend((20 + fmt_len).saturating_add(self.data_len).to_le_bytes());
        header.extend(b"WAVEfmt ");
        header.extend(fmt_len.to_le_bytes());
        header.extend(&self.fmt);
        header.extend(b"data");
        header.extend(self.data_len.to_le_bytes());
        header
    }
}

const NO_WAV: &str = "is not a WAV file; convert it to WAV first";

fn cut_short(how: &str) -> String {
    format!("is cut short: {how}; get the whole file")
}

/// Returns the text of a read error.
pub(crate) fn unreadable(error: &io::Error) -> String {
    format!("cannot be read: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Riff, String> {
        Riff::read(&mut io::Cursor::new(bytes), bytes.len() as u64)
    }

    fn part(kind: &[u8; 4], len: u32, body: &[u8]) -> Vec<u8> {
        [kind.as_slice(), &len.to_le_bytes(), body].concat()
    }

    fn wav(parts: &[Vec<u8>]) -> Vec<u8> {
        [b"RIFF\0\0\0\0WAVE".to_vec(), parts.concat()].concat()
    }

    #[test]
    fn part_behind_odd_length_is_found() {
        let file = wav(&[
            part(b"LIST", 3, b"abc\0"),
            part(b"fmt ", 16, &[7; 16]),
            part(b"junk", 2, b"xx"),
            part(b"data", 4, b"1234"),
            part(b"tail", 2, b"xx"),
        ]);
        let riff = read(&file).expect("whole");
        assert_eq!(riff.fmt, [7; 16]);
        assert_eq!(riff.data_len, 4);
        assert_eq!(&file[riff.data_at as usize..][..4], b"1234");
    }

    #[test]
    fn each_defect_has_its_own_error() {
        let fmt = part(b"fmt ", 16, &[0; 16]);
        let cases: &[(&[u8], &str)] = &[
            (b"", "is empty"),
            (b"RIFF", "is not a WAV file"),
            (b"ID3\x04 this is an mp3 file", "is not a WAV file"),
            (b"RF64\xff\xff\xff\xffWAVEds64", "RF64"),
            (b"RIFF\0\0\0\0WAVE", "ends before its samples begin"),
            (
                &wav(&[fmt.clone(), part(b"data", 9, b"1234")]),
                "the header promises 9 bytes of samples, and there are 4",
            ),
            (
                &wav(&[fmt.clone(), part(b"data", 0, b"")]),
                "has no samples",
            ),
            (&wav(&[part(b"data", 4, b"1234")]), "before their format"),
            (
                &wav(&[part(b"fmt ", 90, &[0; 16])]),
                "ends before its samples begin",
            ),
            (
                &wav(&[fmt, part(b"LIST", u32::MAX, b"")]),
                "ends before its samples begin",
            ),
        ];
        for (bytes, expected) in cases {
            let error = read(bytes).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
    }
}
