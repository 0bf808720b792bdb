//! Reads the components of guests, and explains files that are not components.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::failure::CommandFailure;
use tombolo_region::escape;

/// The kind of a file, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileKind {
    Component,
    /// A component of another version of the component model.
    OtherComponent,
    Module,
    Text,
    Other,
}

impl FileKind {
    fn of(bytes: &[u8]) -> Self {
        // The magic number, a version of two bytes, and a layer of two bytes: 0 for core
        // modules, 1 for components.
        match bytes {
            [0, b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => Self::Component,
            [0, b'a', b's', b'm', _, _, 1, 0, ..] => Self::OtherComponent,
            [0, b'a', b's', b'm', _, _, 0, 0, ..] => Self::Module,
            _ if is_wat(bytes) => Self::Text,
            _ => Self::Other,
        }
    }
}

/// Returns whether this is WebAssembly's text format: comments, then `(component` or `(module`.
fn is_wat(bytes: &[u8]) -> bool {
    let start = &bytes[..bytes.len().min(4096)];
    String::from_utf8_lossy(start)
        .lines()
        .map(str::trim_start)
        .find(|line| !line.is_empty() && !line.starts_with(";;"))
        .is_some_and(|line| line.starts_with("(component") || line.starts_with("(module"))
}

/// Reads components of at most `max_bytes`, and names each guest after its file.
pub(super) fn read(
    paths: &[PathBuf],
    max_bytes: u64,
) -> Result<Vec<(String, Vec<u8>)>, CommandFailure> {
    let mut guests: Vec<(String, Vec<u8>)> = Vec::new();
    for (index, path) in paths.iter().enumerate() {
        let wasm =
            read_one(path, max_bytes).map_err(|failure| match dashes_hint(paths, index) {
                _ if path.is_dir() => failure.hint(format!(
                    "to grant it to the first command, write `--dir {}`",
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

/// Reads a component.
pub(super) fn read_one(path: &Path, max_bytes: u64) -> Result<Vec<u8>, CommandFailure> {
    let shown = path.display();
    let wasm = match read_at_most(path, max_bytes) {
        Ok(Some(wasm)) => wasm,
        Ok(None) => {
            return Err(CommandFailure::msg(format!(
                "`{shown}` exceeds the limit `component-bytes`, which is {max_bytes}"
            ))
            .hint("if you trust it, raise the limit: `--compile-limit component-bytes=SIZE`"));
        }
        Err(error) if error.kind() == ErrorKind::IsADirectory => {
            return Err(CommandFailure::msg(format!(
                "`{shown}` is a directory, not a component"
            )));
        }
        Err(error) => {
            return Err(CommandFailure::new(
                Err::<(), _>(error)
                    .with_context(|| format!("cannot read `{shown}`"))
                    .unwrap_err(),
            ));
        }
    };
    match FileKind::of(&wasm) {
        FileKind::Component => Ok(wasm),
        FileKind::OtherComponent => Err(CommandFailure::msg(format!(
            "`{shown}` is a component of another version of the component model"
        ))
        .hint("build it with current tools")),
        FileKind::Module => Err(CommandFailure::msg(format!(
            "`{shown}` is a core module, not a component"
        ))
        .hint(
            "build it with `cargo build --target wasm32-wasip2`, or convert it with \
                 `wasm-tools component new`",
        )),
        FileKind::Text => Err(CommandFailure::msg(format!(
            "`{shown}` is in WebAssembly's text format"
        ))
        .hint(format!(
            "convert it with `wasm-tools parse {shown} -o {}`",
            path.with_extension("wasm").display()
        ))),
        FileKind::Other => Err(CommandFailure::msg(format!("`{shown}` is not a component"))),
    }
}

/// Reads a file, or returns `None` if it has more than `max_bytes`. The metadata alone does not
/// tell: some files claim to be empty and have no end.
fn read_at_most(path: &Path, max_bytes: u64) -> io::Result<Option<Vec<u8>>> {
    let file = fs::File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() && metadata.len() > max_bytes {
        return Ok(None);
    }
    let mut wasm = Vec::new();
    file.take(max_bytes.saturating_add(1))
        .read_to_end(&mut wasm)?;
    Ok((wasm.len() as u64 <= max_bytes).then_some(wasm))
}

/// Returns the hint to write `--`, if a path looks like a guest's argument: it is not the first
/// one, and its extension is not one of WebAssembly.
fn dashes_hint(paths: &[PathBuf], index: usize) -> Option<String> {
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
    // From the first path that does not look like a component, all are arguments.
    let (guests, arguments) = paths.split_at(index);
    Some(format!(
        "write the arguments of a guest after `--`: `tombolo run {} -- {}`",
        show(guests),
        show(arguments)
    ))
}

/// Returns the guest's name: that of the file without extension, with a number if it is taken.
fn unique(path: &Path, free: impl Fn(&str) -> bool) -> String {
    let stem = path
        .file_stem()
        .map_or_else(|| "guest".into(), OsStr::to_string_lossy);
    // The name is part of many messages, here and in guests.
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
    fn first_bytes_determine_the_kind() {
        for (bytes, kind) in [
            (COMPONENT, FileKind::Component),
            (b"\0asm\x0c\0\x01\0", FileKind::OtherComponent),
            (MODULE, FileKind::Module),
            (b"\0asm\x0d\0\x01", FileKind::Other),
            (b"\0asm", FileKind::Other),
            (b"", FileKind::Other),
            (b"RIFF\0\0\0\0WAVE", FileKind::Other),
            (b";; mine\n\n  (component)", FileKind::Text),
            (b"(module $m)", FileKind::Text),
        ] {
            assert_eq!(FileKind::of(bytes), kind, "{bytes:?}");
        }
    }

    #[test]
    fn guests_get_unique_names_of_files() {
        let (_dir, mut paths) = files(&[("player.wasm", COMPONENT), ("b.c.wasm", COMPONENT)]);
        paths.push(paths[0].clone());
        paths.push(paths[0].clone());
        let guests = read(&paths, 100).unwrap();
        let names: Vec<_> = guests.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["player", "b.c", "player-2", "player-3"]);
    }

    #[test]
    fn name_of_guest_is_escaped() {
        let (_dir, paths) = files(&[("a\n\x1b[2J\u{202e}.wasm", COMPONENT)]);
        let guests = read(&paths, 100).unwrap();
        assert_eq!(guests[0].0, r"a\n\u{1b}[2J\u{202e}");
    }

    #[test]
    fn core_module_gets_conversion_hint() {
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
    fn argument_without_dashes_gets_hint() {
        let (dir, mut paths) = files(&[("player.wasm", COMPONENT), ("song.wav", b"RIFF")]);
        paths.push("--loud".into());
        let text = read(&paths, 100).unwrap_err().text();
        let here = dir.path().display();
        assert_eq!(
            text,
            format!(
                "error: `{here}/song.wav` is not a component\n\
                 hint: write the arguments of a guest after `--`: \
                 `tombolo run {here}/player.wasm -- {here}/song.wav --loud`\n"
            )
        );
        // The same if there is no such file, because the path may be one in the guest.
        paths[1] = "/music/song.wav".into();
        let text = read(&paths, 100).unwrap_err().text();
        assert!(text.contains("No such file"), "{text}");
        assert!(text.contains("-- /music/song.wav"), "{text}");
    }

    #[test]
    fn endless_file_exceeds_component_bytes() {
        let text = read(&["/dev/zero".into()], 100).unwrap_err().text();
        assert!(
            text.contains("exceeds the limit `component-bytes`, which is 100\n"),
            "{text}"
        );
        let (_dir, paths) = files(&[("a.wasm", COMPONENT)]);
        let size = COMPONENT.len() as u64;
        read(&paths, size).unwrap();
        read(&paths, size - 1).unwrap_err();
    }

    #[test]
    fn other_files_are_named_for_what_they_are() {
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
