//! The lines at which problems of components and links are shown.

use super::*;
use tombolo_app::{
    Difference, Findings, LinkError, LinkErrors, LinkWarning, NearestExport, StartError,
};

const APP: &str = r#"[guests.front]
component = "front.wasm"
calls = ["other"]
[guests.back]
component = "back.wasm"
[guests.other]
component = "other.wasm"
"#;

/// Checks how errors are shown for that app, if all components can be read.
#[track_caller]
fn shows(errors: Vec<StartError>, expected: &str) {
    let mut findings = Findings::default();
    findings.errors = errors;
    assert_eq!(shown(APP, &findings), expected);
}

fn shown(text: &str, findings: &Findings) -> String {
    let dir = tempfile::tempdir().unwrap();
    for name in ["front", "back", "other"] {
        let path = dir.path().join(format!("{name}.wasm"));
        std::fs::write(path, b"\0asm\x0d\0\x01\0").unwrap();
    }
    let path = dir.path().join(NAME);
    std::fs::write(&path, text).unwrap();
    let mut described = open(&path, u64::MAX).unwrap();
    described.add_findings(findings);
    let here = format!("{}/", dir.path().display());
    described.render(false).replace(&here, "")
}

fn link(error: LinkError) -> Vec<StartError> {
    vec![StartError::Link(LinkErrors::new(vec![error]).unwrap())]
}

fn no_command() -> StartError {
    StartError::NoCommand { near: Vec::new() }
}

#[test]
fn missing_exporter() {
    shows(
        link(LinkError::Missing {
            guest: "front".into(),
            import: "a:b/c@1.0.0".into(),
            near: None,
        }),
        r#"error: `front` imports `a:b/c@1.0.0`, which no other guest exports
 --> tombolo.toml:2:14
  |
2 | component = "front.wasm"
  |              ^^^^^^^^^^ no guest exports its import
  |
  = hint: add a guest that exports `a:b/c@1.0.0`, and name it in `calls` of `front`

1 error
"#,
    );
}

#[test]
fn exporter_of_another_version() {
    shows(
        link(LinkError::Missing {
            guest: "back".into(),
            import: "a:b/c@1.0.0".into(),
            near: Some(NearestExport::Version {
                guest: "other".into(),
                export: "a:b/c@2.0.0".into(),
            }),
        }),
        r#"error: `back` imports `a:b/c@1.0.0`, which no other guest exports; `other` exports `a:b/c@2.0.0`, an incompatible version
 --> tombolo.toml:5:14
  |
5 | component = "back.wasm"
  |              ^^^^^^^^^ this guest
  |
  = hint: build `back` and the guest that serves it against the same WIT

1 error
"#,
    );
}

#[test]
fn forbidden_call() {
    shows(
        link(LinkError::Forbidden {
            guest: "front".into(),
            import: "a:b/c@1.0.0".into(),
            exporters: vec!["back".into()],
        }),
        r#"error: `front` imports `a:b/c@1.0.0`, but is not allowed to call `back`, which exports it
 --> tombolo.toml:2:14
  |
2 | component = "front.wasm"
  |              ^^^^^^^^^^ may not call the exporter
  |
  = hint: write `calls = ["other", "back"]`

1 error
"#,
    );
}

#[test]
fn several_callable_exporters() {
    shows(
        link(LinkError::Ambiguous {
            guest: "front".into(),
            import: "a:b/c@1.0.0".into(),
            exporters: vec!["back".into(), "other".into()],
        }),
        r#"error: `front` imports `a:b/c@1.0.0`, which several guests export: `back`, `other`
 --> tombolo.toml:2:14
  |
2 | component = "front.wasm"
  |              ^^^^^^^^^^ several guests export its import
  |
  = hint: name only one of them in `calls`

1 error
"#,
    );
}

#[test]
fn different_types() {
    let mut difference = Difference::default();
    difference.at = "param a".into();
    difference.imported = "u8".into();
    difference.exported = "u16".into();
    shows(
        link(LinkError::Mismatch {
            importer: "front".into(),
            import: "a:b/c@1.0.0".into(),
            function: "f".into(),
            exporter: "other".into(),
            imported: "func(a: u8)".into(),
            exported: "func(a: u16)".into(),
            difference,
        }),
        r#"error: `front` and `other` have different types for function `f` of `a:b/c@1.0.0`
 --> tombolo.toml:2:14
  |
2 | component = "front.wasm"
  |              ^^^^^^^^^^ this guest
  |
  = note: `front` imports func(a: u8)
  = note: `other` exports func(a: u16)
  = note: they first differ at param a: u8 vs u16
  = hint: build `front` and `other` against the same WIT

1 error
"#,
    );
}

#[test]
fn invalid_component() {
    shows(
        vec![StartError::Compile {
            guest: "other".into(),
            source: wasmtime::Error::msg("it is broken"),
        }],
        r#"error: cannot compile guest `other`
 --> tombolo.toml:7:14
  |
7 | component = "other.wasm"
  |              ^^^^^^^^^^ this guest
  |
  = note: it is broken

1 error
"#,
    );
}

#[test]
fn problems_come_in_the_order_of_lines() {
    let broken = StartError::Compile {
        guest: "other".into(),
        source: wasmtime::Error::msg("it is broken"),
    };
    let mut warning = LinkWarning::default();
    warning.importer = "front".into();
    warning.exporter = "other".into();
    warning.function = "a:b/c.f".into();
    let mut findings = Findings::default();
    findings.errors = vec![no_command(), broken];
    findings.warnings = vec![warning];
    let said = shown(APP, &findings);
    let titles: Vec<&str> = said
        .lines()
        .filter(|line| {
            ["error:", "warning:"]
                .iter()
                .any(|level| line.starts_with(level))
        })
        .map(|line| line.split('`').next().unwrap().trim())
        .collect();
    assert_eq!(
        titles,
        [
            "warning:",
            "error: cannot compile guest",
            "error: none of the guests exports"
        ]
    );
    assert!(said.ends_with("\n2 errors, 1 warning\n"), "{said}");
}

#[test]
fn consequences_of_unread_components_are_omitted() {
    let mut errors = link(LinkError::Missing {
        guest: "front".into(),
        import: "a:b/c@1.0.0".into(),
        near: None,
    });
    errors.push(no_command());
    let mut findings = Findings::default();
    findings.errors = errors;
    let said = shown(&APP.replace("other.wasm", "no.wasm"), &findings);
    assert!(said.starts_with("error: cannot read `no.wasm`"), "{said}");
    assert!(said.ends_with("\n1 error\n"), "{said}");
}
