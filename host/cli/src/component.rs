//! Reads the files of guests, and says what is wrong with those that are none.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::failure::Failure;
use tombolo_region::escape;

/// What a file is, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Component,
    /// A component by a draft of the component model.
    OtherComponent,
    Module,
    Text,
    Other,
}

impl Kind {
    fn of(bytes: &[u8]) -> Self {
        // The magic number, a version of two bytes, and a layer of two bytes:
        // 0 for core modules, 1 for components.
        match bytes {
            [0, b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => Self::Component,
            [0, b'a', b's', b'm', _, _, 1, 0, ..] => Self::OtherComponent,
            [0, b'a', b's', b'm', _, _, 0, 0, ..] => Self::Module,
            _ if is_wat(bytes) => Self::Text,
            _ => Self::Other,
        }
    }
}

/// Whether this is WebAssembly's text format: comments, then `(component` or
/// `(module`.
fn is_wat(bytes: &[u8]) -> bool {
    let start = &bytes[..bytes.len().min(4096)];
    String::from_utf8_lossy(start)
        .lines()
        .map(str::trim_start)
        .find(|line| !line.is_empty() && !line.starts_with(";;"))
        .is_some_and(|line| line.starts_with("(component") || line.starts_with("(module"))
}

/// Reads the guests' files, of so many bytes at most, and names each guest by its
/// file.
pub(super) fn read(paths: &[PathBuf], most_bytes: u64) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let mut guests: Vec<(String, Vec<u8>)> = Vec::new();
    for (index, path) in paths.iter().enumerate() {
        let wasm = read_one(path, most_bytes).map_err(|failure| match argument(paths, index) {
            _ if path.is_dir() => failure.hint(format!(
                "`--dir {}` grants it to the first command",
                path.display()
            )),
            Some(hint) => failure.hint(hint),
            None => failure,
        })?;
        let name = unique(path, |name| guests.iter().all(|(other, _)| other != name));
        guests.push((name, wasm));
    }
    Ok(guests)
}

/// Reads the file of a guest.
pub(super) fn read_one(path: &Path, most_bytes: u64) -> Result<Vec<u8>, Failure> {
    let shown = path.display();
    let wasm = match at_most(path, most_bytes) {
        Ok(Some(wasm)) => wasm,
        Ok(None) => {
            return Err(Failure::says(format!(
                "`{shown}` has more bytes than the limit `component-bytes` allows, which is \
                 {most_bytes}"
            ))
            .hint("if you trust it, raise the limit: `--compile-limit component-bytes=...`"));
        }
        Err(error) if error.kind() == ErrorKind::IsADirectory => {
            return Err(Failure::says(format!(
                "`{shown}` is a directory, not a guest"
            )));
        }
        Err(error) => {
            return Err(Failure::new(
                Err::<(), _>(error)
                    .with_context(|| format!("cannot read `{shown}`"))
                    .unwrap_err(),
            ));
        }
    };
    match Kind::of(&wasm) {
        Kind::Component => Ok(wasm),
        Kind::OtherComponent => Err(Failure::says(format!(
            "`{shown}` is a component by another version of the component model"
        ))
        .hint("build it with current tools")),
        Kind::Module => Err(
            Failure::says(format!("`{shown}` is a core module, not a component")).hint(
                "`cargo build --target wasm32-wasip2` makes components; `wasm-tools component new` \
             makes one of a module",
            ),
        ),
        Kind::Text => Err(
            Failure::says(format!("`{shown}` is in WebAssembly's text format")).hint(format!(
                "`wasm-tools parse {shown} -o {}` makes a binary of it",
                path.with_extension("wasm").display()
            )),
        ),
        Kind::Other => Err(Failure::says(format!("`{shown}` is not a component"))),
    }
}

/// Reads a file of so many bytes at most. Some files have no end, and say that they
/// are empty.
fn at_most(path: &Path, most_bytes: u64) -> io::Result<Option<Vec<u8>>> {
    let file = fs::File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() && metadata.len() > most_bytes {
        return Ok(None);
    }
    let mut wasm = Vec::new();
    file.take(most_bytes.saturating_add(1))
        .read_to_end(&mut wasm)?;
    Ok((wasm.len() as u64 <= most_bytes).then_some(wasm))
}

/// The advice to write `--`, for what looks like an argument to a guest: it is
/// not the first file, and does not claim to be WebAssembly.
fn argument(paths: &[PathBuf], index: usize) -> Option<String> {
    let looks_like_wasm = |path: &PathBuf| {
        path.extension()
            .is_some_and(|extension| ["wasm", "wat", "wast"].map(OsStr::new).contains(&extension))
    };
    if index == 0 || looks_like_wasm(&paths[index]) {
        return None;
    }
    let show = |paths: &[PathBuf]| {
        let paths: Vec<String> = paths
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        paths.join(" ")
    };
    // From the first on that does not look like a guest, all are arguments.
    let (guests, arguments) = paths.split_at(index);
    Some(format!(
        "arguments to a guest come after `--`: `tombolo run {} -- {}`",
        show(guests),
        show(arguments)
    ))
}

/// The name for the guest of this file: the file's, without extension, and a
/// number if there is one of that name already.
fn unique(path: &Path, free: impl Fn(&str) -> bool) -> String {
    let stem = path
        .file_stem()
        .map_or_else(|| "guest".into(), OsStr::to_string_lossy);
    // It is part of much that is printed, here and by guests.
    let stem = escape(&stem).to_string();
    if free(&stem) {
        return stem;
    }
    (2..)
        .map(|number: u64| format!("{stem}-{number}"))
        .find(|name| free(name))
        .expect("there are more numbers than guests")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(files: &[(&str, &[u8])]) -> (tempfile::TempDir, Vec<PathBuf>) {
        let dir = tempfile::tempdir().unwrap();
        let paths = files
            .iter()
            .map(|(name, bytes)| {
                let path = dir.path().join(name);
                fs::write(&path, bytes).unwrap();
                path
            })
            .collect();
        (dir, paths)
    }

    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
    const MODULE: &[u8] = b"\0asm\x01\0\0\0";

    #[test]
    fn kinds_are_told_by_the_first_bytes() {
        for (bytes, kind) in [
            (COMPONENT, Kind::Component),
            (b"\0asm\x0c\0\x01\0", Kind::OtherComponent),
            (MODULE, Kind::Module),
            (b"\0asm\x0d\0\x01", Kind::Other),
            (b"\0asm", Kind::Other),
            (b"", Kind::Other),
            (b"RIFF\0\0\0\0WAVE", Kind::Other),
            (b";; mine\n\n  (component)", Kind::Text),
            (b"(module $m)", Kind::Text),
        ] {
            assert_eq!(Kind::of(bytes), kind, "{bytes:?}");
        }
    }

    #[test]
    fn guests_are_named_by_their_files_uniquely() {
        let (_dir, mut paths) = files(&[("player.wasm", COMPONENT), ("b.c.wasm", COMPONENT)]);
        paths.push(paths[0].clone());
        paths.push(paths[0].clone());
        let guests = read(&paths, 100).unwrap();
        let names: Vec<_> = guests.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["player", "b.c", "player-2", "player-3"]);
    }

    #[test]
    fn name_of_a_guest_has_no_controls() {
        let (_dir, paths) = files(&[("a\n\x1b[2J\u{202e}.wasm", COMPONENT)]);
        let guests = read(&paths, 100).unwrap();
        assert_eq!(guests[0].0, r"a\n\u{1b}[2J\u{202e}");
    }

    #[test]
    fn core_module_says_how_to_make_a_component() {
        let (_dir, paths) = files(&[("m.wasm", MODULE)]);
        let text = read(&paths, 100).unwrap_err().text();
        assert!(text.contains("is a core module, not a component"), "{text}");
        assert!(
            text.contains("cargo build --target wasm32-wasip2"),
            "{text}"
        );
        assert!(text.contains("wasm-tools component new"), "{text}");
    }

    #[test]
    fn argument_without_dashes_explains_them() {
        let (dir, mut paths) = files(&[("player.wasm", COMPONENT), ("song.wav", b"RIFF")]);
        paths.push("--loud".into());
        let text = read(&paths, 100).unwrap_err().text();
        let here = dir.path().display();
        assert_eq!(
            text,
            format!(
                "error: `{here}/song.wav` is not a component\n\
                 hint: arguments to a guest come after `--`: \
                 `tombolo run {here}/player.wasm -- {here}/song.wav --loud`\n"
            )
        );
        // Also when there is no such file: the path may be the guest's.
        paths[1] = "/music/song.wav".into();
        let text = read(&paths, 100).unwrap_err().text();
        assert!(text.contains("No such file"), "{text}");
        assert!(text.contains("-- /music/song.wav"), "{text}");
    }

    #[test]
    fn file_without_end_is_over_component_bytes() {
        let text = read(&["/dev/zero".into()], 100).unwrap_err().text();
        assert!(
            text.contains("`component-bytes` allows, which is 100\n"),
            "{text}"
        );
        let (_dir, paths) = files(&[("a.wasm", COMPONENT)]);
        let size = COMPONENT.len() as u64;
        read(&paths, size).unwrap();
        read(&paths, size - 1).unwrap_err();
    }

    #[test]
    fn missing_file_directory_and_text_are_told() {
        let (dir, paths) = files(&[("c.wat", b"(component)")]);
        let text = read(&[dir.path().join("no.wasm")], 100).unwrap_err().text();
        assert!(text.starts_with("error: cannot read `"), "{text}");
        assert!(!text.contains("hint"), "{text}");
        let text = read(&[dir.path().to_owned()], 100).unwrap_err().text();
        assert!(text.contains("is a directory"), "{text}");
        let text = read(&paths, 100).unwrap_err().text();
        assert!(text.contains("wasm-tools parse"), "{text}");
    }
}
