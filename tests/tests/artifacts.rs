//! The guests exist and are components.

use tombolo_tests::artifacts;
use wasmtime::component::Component;
use wasmtime::error::Context;
use wasmtime::{Config, Engine, Result};

tombolo_tests::guests!(artifacts);

/// Returns the names of the exports of the component at `path`.
fn exports(path: &str) -> Result<Vec<String>> {
    let engine = Engine::new(&Config::new())?;
    let component = Component::from_file(&engine, path).with_context(|| path.to_owned())?;
    let exports = component.component_type();
    Ok(exports
        .exports(&engine)
        .map(|(name, _)| name.to_owned())
        .collect())
}

#[test]
fn every_guest_is_a_component() -> Result<()> {
    // The magic, version 13 and layer 1. A core module has version 1 and layer 0.
    const PREAMBLE: &[u8] = b"\0asm\x0d\0\x01\0";
    for path in [
        guests::ARTIFACTS_COMMAND,
        guests::ARTIFACTS_EXPORTER,
        artifacts::MUSIC_PLAYER,
        artifacts::MUSIC_AUDIOSERVER,
        artifacts::EMBED_PLUGIN,
    ] {
        let bytes = std::fs::read(path).with_context(|| path.to_owned())?;
        assert_eq!(&bytes[..PREAMBLE.len()], PREAMBLE, "{path}");
    }
    Ok(())
}

#[test]
fn program_exports_run() -> Result<()> {
    let exports = exports(guests::ARTIFACTS_COMMAND)?;
    assert!(
        exports.iter().any(|name| name.starts_with("wasi:cli/run@")),
        "{exports:?}"
    );
    Ok(())
}

#[test]
fn program_exports_its_interfaces_beside_run() -> Result<()> {
    let exports = exports(guests::ARTIFACTS_EXPORTER)?;
    assert!(
        exports.iter().any(|name| name.starts_with("wasi:cli/run@")),
        "{exports:?}"
    );
    assert!(
        exports.iter().any(|name| name == "test:artifacts/adder"),
        "{exports:?}"
    );
    Ok(())
}
