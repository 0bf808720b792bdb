//! Restarts of guests at the end of the app.

use std::process::Output;

use super::assert_code;
use crate::program::{Running, assert_innocent_is_done, innocent, tombolo};

/// A command that drops a server's resource just before it ends.
const COMMAND: &str = r#"
(component
  (import "test:dying/things" (instance $things
    (export "thing" (type $thing (sub resource)))
    (export "make" (func (result (own $thing))))
  ))
  (alias export $things "thing" (type $thing))
  (core func $drop (canon resource.drop $thing))
  (core func $make (canon lower (func $things "make")))
  (core module $code
    (import "" "make" (func $make (result i32)))
    (import "" "drop" (func $drop (param i32)))
    (func (export "run") (result i32)
      (call $drop (call $make))
      i32.const 0)
  )
  (core instance $code (instantiate $code (with "" (instance
    (export "make" (func $make))
    (export "drop" (func $drop))
  ))))
  (func $run (result (result)) (canon lift (core func $code "run")))
  (instance $all (export "run" (func $run)))
  (export "wasi:cli/run@0.2.0" (instance $all))
)"#;

/// A server that dies a number of steps after its resource is dropped.
const SERVER: &str = r#"
(component
  (core module $dying
    (func (export "destroy") (param i32) (local $step i64)
      (loop $more
        (local.set $step (i64.add (local.get $step) (i64.const 1)))
        (br_if $more (i64.lt_u (local.get $step) (i64.const STEPS))))
      unreachable)
  )
  (core instance $dying (instantiate $dying))
  (type $thing (resource (rep i32) (dtor (core func $dying "destroy"))))
  (core func $new (canon resource.new $thing))
  (core module $code
    (import "" "new" (func $new (param i32) (result i32)))
    (func (export "make") (result i32) (call $new (i32.const 7)))
  )
  (core instance $code (instantiate $code (with "" (instance (export "new" (func $new))))))
  (func $make (result (own $thing)) (canon lift (core func $code "make")))
  (instance $things (export "thing" (type $thing)) (export "make" (func $make)))
  (export "test:dying/things" (instance $things))
)"#;

fn run(steps: u64, restart: &str) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let manifest = format!(
        "[guests.command]\ncomponent = \"command.wat\"\ncalls = [\"server\"]\n\
         [guests.server]\ncomponent = \"server.wat\"\nrestart = {restart}\n\
         [guests.innocent]\ncomponent = {:?}\n",
        innocent()
    );
    let server = SERVER.replace("STEPS", &steps.to_string());
    for (name, wat) in [("command.wat", COMMAND), ("server.wat", &server)] {
        let wasm = wat::parse_str(wat).expect("the text is a component");
        std::fs::write(directory.path().join(name), wasm).unwrap();
    }
    let file = directory.path().join("tombolo.toml");
    std::fs::write(&file, manifest).unwrap();
    let mut command = tombolo(["run", "-f"]);
    Running::start(command.arg(file)).end()
}

#[test]
fn restartable_failure_at_the_end_is_ignored() {
    // The command has ended before the server dies, or ends at that moment.
    for steps in [100_000_000, 100_000, 1000, 1, 1] {
        let output = run(steps, r#""on-failure""#);
        assert_code(&output, 0);
        assert_innocent_is_done(&output);
    }
}

#[test]
fn failure_without_a_restart_left_counts() {
    let none_left = r#"{ policy = "on-failure", max-restarts = 0 }"#;
    for restart in [r#""never""#, none_left] {
        let output = run(1, restart);
        assert_code(&output, 134);
        assert_innocent_is_done(&output);
    }
}
