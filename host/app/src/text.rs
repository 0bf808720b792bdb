//! Escapes foreign text for our own messages: names from components, and wasmtime's messages that
//! quote them.
//!
//! Backtraces are split into lines before they are escaped, if no name in them contains a line
//! break.

use std::fmt;

use wasmtime::{FrameInfo, WasmBacktrace};

use tombolo_region::escape;

/// The beginning of the cause that wasmtime adds if wasm ran: a backtrace.
const BACKTRACE: &str = "error while executing at wasm backtrace:";

/// Returns an error of wasmtime on one line, with its causes, without the backtrace, and escaped.
/// Wasmtime quotes names from components unchanged.
pub(crate) fn line(error: &wasmtime::Error) -> String {
    let mut parts: Vec<String> = error
        .chain()
        .map(ToString::to_string)
        .filter(|text| !text.starts_with(BACKTRACE))
        .map(|text| escape(&text).to_string())
        .collect();
    parts.dedup();
    parts.join(": ")
}

/// Returns the causes of an error of wasmtime, escaped. Line breaks occur only between the lines
/// of the backtrace.
pub(crate) fn causes(error: &wasmtime::Error) -> Vec<String> {
    let backtrace = error.downcast_ref::<WasmBacktrace>();
    error
        .chain()
        .map(|cause| {
            let text = cause.to_string();
            match backtrace {
                Some(backtrace) if text.starts_with(BACKTRACE) => Frames(backtrace).to_string(),
                _ => escape(&text).to_string(),
            }
        })
        .collect()
}

/// A backtrace to display, with names that the component chose.
struct Frames<'a>(&'a WasmBacktrace);

impl fmt::Display for Frames<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.frames().iter().all(is_of_one_line) {
            // Wasmtime demangles names, which adds no line breaks.
            for (index, line) in self.0.to_string().lines().enumerate() {
                let end = if index > 0 { "\n" } else { "" };
                write!(f, "{end}{}", escape(line))?;
            }
            return Ok(());
        }
        f.write_str(BACKTRACE)?;
        for (index, frame) in self.0.frames().iter().enumerate() {
            let module = frame.module().name().unwrap_or("<unknown>");
            write!(f, "\n  {index:>3}: ")?;
            if let Some(offset) = frame.module_offset() {
                write!(f, "{offset:#8x} - ")?;
            }
            write!(f, "{}!", escape(module))?;
            match frame.func_name() {
                Some(name) => write!(f, "{}", escape(name))?,
                None => write!(f, "<wasm function {}>", frame.func_index())?,
            }
        }
        Ok(())
    }
}

/// Returns whether no displayed name of a frame contains a line break.
fn is_of_one_line(frame: &FrameInfo) -> bool {
    let symbols = frame.symbols().iter();
    let names = symbols.flat_map(|symbol| [symbol.name(), symbol.file()]);
    names
        .chain([frame.func_name(), frame.module().name()])
        .flatten()
        .all(|name| !name.contains(['\n', '\r']))
}
