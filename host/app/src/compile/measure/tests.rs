use super::*;

fn wasm(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

#[track_caller]
fn measured(text: &str) -> Measure {
    measure(&wasm(text), &CompileLimits::default()).unwrap()
}

/// Returns the name of the limit that a component is over.
#[track_caller]
fn limit(wasm: &[u8], limits: &CompileLimits) -> &'static str {
    match measure(wasm, limits) {
        Err(MeasureError::TooLarge(error)) => error.limit,
        other => panic!("{other:?}"),
    }
}

/// Returns a component of nested levels, each of which instantiates the next one so many times.
fn levels(levels: u32, times: usize) -> String {
    let mut text = "(component (core module) (core instance (instantiate 0)))".to_owned();
    for _ in 0..levels {
        let instances = "(instance (instantiate 0))".repeat(times);
        text = format!("(component {text} {instances})");
    }
    text
}

#[test]
fn core_modules_count_once_per_instance() {
    let Measure { instance, .. } = measured(
        r#"(component
            (core module $a
                (import "" "g" (global i32))
                (global i32 (i32.const 1)) (global i32 (i32.const 2))
                (table 10 funcref) (memory 2)
                (func) (func (export "f"))
                (data "abc"))
            (core module $b (global (export "g") i32 (i32.const 0)))
            (core instance $b (instantiate $b))
            (core instance (instantiate $a (with "" (instance $b))))
            (core instance (instantiate $a (with "" (instance $b)))))"#,
    );
    assert_eq!(instance.component_instances, 1);
    assert_eq!(instance.core_instances, 3);
    let expected = Core {
        imports: 2,
        exports: 3,
        functions: 4,
        globals: 5,
        tables: 2,
        table_elements: 20,
        segments: 2,
        memories: 2,
        memory_bytes: 4 << 16,
        data_bytes: 6,
        ..Core::default()
    };
    assert_eq!(instance.core, expected);
}

#[test]
fn nested_instances_multiply() {
    let Measure { instance, .. } = measured(&levels(3, 4));
    assert_eq!(instance.component_instances, 1 + 4 + 16 + 64);
    assert_eq!(instance.core_instances, 64);
}

// rule 10
#[test]
fn small_bomb_is_over_the_limits_of_instances() {
    let bomb = wasm(&levels(10, 8));
    assert!(bomb.len() < 900, "{}", bomb.len());
    let limits = CompileLimits::default();
    assert_eq!(limit(&bomb, &limits), "component-instances");
    let limits = CompileLimits {
        component_instances: u64::MAX,
        ..limits
    };
    assert_eq!(limit(&bomb, &limits), "core-instances");
}

#[test]
fn components_passed_as_arguments_multiply() {
    // The inner component instantiates its import, and exports it.
    let Measure { instance, .. } = measured(
        r#"(component
            (component $leaf (core module) (core instance (instantiate 0)))
            (component $twice
                (import "c" (component $c))
                (instance (instantiate $c)) (instance (instantiate $c))
                (export "d" (component $c)))
            (instance $a (instantiate $twice (with "c" (component $leaf))))
            (alias export $a "d" (component $d))
            (instance (instantiate $twice (with "c" (component $d)))))"#,
    );
    assert_eq!(instance.core_instances, 4);
    assert_eq!(instance.component_instances, 7);
}

#[test]
fn modules_in_bundles_and_outer_ones_multiply() {
    let Measure { instance, .. } = measured(
        r#"(component
            (core module $m (global i32 (i32.const 1)))
            (component $inner
                (alias outer 1 $m (core module $n))
                (core instance (instantiate $n))
                (export "n" (core module $n)))
            (component $outer
                (import "i" (instance $i (export "m" (core module))))
                (alias export $i "m" (core module $m))
                (core instance (instantiate $m)) (core instance (instantiate $m)))
            (instance $a (instantiate $inner))
            (instance $bundle (export "m" (core module $m)))
            (instance (instantiate $outer (with "i" (instance $bundle)))))"#,
    );
    assert_eq!(instance.core_instances, 3);
    assert_eq!(instance.core.globals, 3);
}

#[test]
fn dangling_index_is_refused() {
    // (instance (instantiate 7))
    let wasm = b"\0asm\x0d\0\x01\0\x05\x04\x01\0\x07\0";
    let error = measure(wasm, &CompileLimits::default()).unwrap_err();
    assert!(
        matches!(error, MeasureError::Dangling("a component")),
        "{error}"
    );
}

// rule 9
#[test]
fn deeply_nested_types_are_refused() {
    let mut ty = vec![0x42, 0];
    for _ in 0..100_000 {
        ty.splice(0..0, [0x42, 1, 1]);
    }
    let section = [&[1][..], &ty].concat();
    let mut wasm = b"\0asm\x0d\0\x01\0\x07".to_vec();
    let mut size = section.len();
    while size > 0x7f {
        wasm.push((size & 0x7f) as u8 | 0x80);
        size >>= 7;
    }
    wasm.push(size as u8);
    wasm.extend(section);
    assert_eq!(limit(&wasm, &CompileLimits::default()), "nesting");
}

/// Returns a component with instances, each of which exports the one before.
fn chain(instances: usize) -> Vec<u8> {
    let mut text = "(component (instance)".to_owned();
    for index in 1..instances {
        text += &format!(r#"(instance (export "a" (instance {})))"#, index - 1);
    }
    wasm(&(text + ")"))
}

#[test]
fn instances_that_export_each_other_nest() {
    let limits = CompileLimits::default();
    measure(&chain(32), &limits).unwrap();
    assert_eq!(limit(&chain(33), &limits), "nesting");
    // A recursive drop of these would overflow the stack.
    assert_eq!(limit(&chain(200_000), &limits), "nesting");
}

#[test]
fn instances_nest_by_imports_and_exports() {
    let wrap = |times: usize| {
        let mut text = r#"(component
            (component $wrap
                (import "i" (instance $i))
                (instance $j (export "a" (instance $i)))
                (export "b" (instance $j)))
            (instance)"#
            .to_owned();
        for index in 0..times {
            text += &format!(r#"(instance (instantiate $wrap (with "i" (instance {index}))))"#);
        }
        wasm(&(text + ")"))
    };
    let limits = CompileLimits::default();
    // Each instantiation adds two: the bundle, and the instance that exports it.
    measure(&wrap(15), &limits).unwrap();
    assert_eq!(limit(&wrap(16), &limits), "nesting");
}

#[test]
fn module_with_a_section_twice_is_refused() {
    // A type, a function, its export and its body, and then repeated sections.
    let module = |repeated: &[u8]| {
        let mut module = b"\0asm\x01\0\0\0".to_vec();
        module.extend([1, 4, 1, 0x60, 0, 0]);
        module.extend([3, 2, 1, 0]);
        module.extend(b"\x07\x05\x01\x01f\0\0");
        module.extend([10, 4, 1, 2, 0, 0x0b]);
        module.extend(repeated);
        let mut wasm = b"\0asm\x0d\0\x01\0\x01".to_vec();
        wasm.push(module.len() as u8);
        wasm.extend(module);
        wasm
    };
    let limits = CompileLimits::default();
    // Custom sections may be repeated, and each module has its own sections.
    measure(&module(&[0, 2, 1, b'a', 0, 2, 1, b'a']), &limits).unwrap();
    measured("(component (core module (func)) (core module (func)))");
    // The skeleton is made before validation, and would write repeated sections of functions
    // and exports in full.
    for section in [&[3, 1, 0][..], &[7, 1, 0], &[10, 1, 0]] {
        let error = measure(&module(section), &limits).unwrap_err();
        assert!(
            matches!(&error, MeasureError::Malformed(error) if error.message() == "section out of order"),
            "{error}"
        );
    }
}

#[test]
fn all_declarations_of_types_count() {
    let Measure { types, .. } = measured(
        r#"(component
            (import "a" (instance
                (type $t (record (field "x" u32)))
                (export "t" (type $u (eq $t)))
                (export "f" (func (param "t" $u)))
                (export "r" (type (sub resource)))
                (export "i" (instance (export "g" (func))))))
            (core type (module (import "a" "b" (func)) (export "c" (func))))
            (type (list u8)))"#,
    );
    assert!((10..=20).contains(&types), "{types}");
}

/// Checks that a function has exactly this number of values.
#[track_caller]
fn assert_values(body: &str, values: u64) {
    let text = format!(
        "(module (type $t (func (result i32 i32 i32)))
            (func (param i32 i32) (local i32 i32 i32) {body}))"
    );
    let exact = CompileLimits {
        function_values: values,
        ..CompileLimits::default()
    };
    measure(&wasm(&text), &exact).unwrap();
    let less = CompileLimits {
        function_values: values - 1,
        ..exact
    };
    assert_eq!(limit(&wasm(&text), &less), "function-values");
}

#[test]
fn values_are_long_lived_locals_times_blocks() {
    let long = "(drop (local.get 0)) (drop (local.get 1))";
    // The function itself is a block.
    assert_values(&format!("{long} (block (block (loop)))"), 2 * 4);
    assert_values(&format!("{long} (if (i32.const 1) (then) (else))"), 2 * 3);
    // Written in a loop, and read in its next iteration.
    assert_values(
        "(loop (local.set 2 (i32.add (local.get 2) (i32.const 1))))",
        2,
    );
}

#[test]
fn temporaries_within_a_block_do_not_count() {
    let temporary = "(local.set 2 (i32.const 1)) (drop (local.get 2))";
    assert_values(
        &format!("(block {temporary}) (loop {temporary}) (drop (local.get 0))"),
        3,
    );
}

#[test]
fn branches_and_calls_carry_values() {
    // A block with three results; two branches and the end carry them.
    assert_values(
        "(block (type $t) (br 0 (i32.const 1) (i32.const 2) (i32.const 3)) (br 0))
         drop drop drop",
        3 + 3 * 3,
    );
    assert_values("(call 0 (i32.const 1) (i32.const 2))", 2);
}

#[test]
fn only_asynchronous_components_need_concurrency() {
    for text in [
        "(component)",
        // The name alone is nothing.
        r#"(component (import "a:b/async" (func)))"#,
        r#"(component (import "wasi:random/random@0.2.0" (instance)))"#,
        r#"(component
            (core module $m (func (export "f")))
            (core instance $m (instantiate $m))
            (type $r (resource (rep i32)))
            (core func (canon resource.new $r))
            (core func (canon resource.rep $r))
            (core func (canon resource.drop $r))
            (func (export "f") (canon lift (core func $m "f"))))"#,
    ] {
        assert!(!measured(text).concurrent, "{text}");
    }
    for text in [
        r#"(component (import "f" (func async)))"#,
        r#"(component (import "a:b/c" (instance (export "f" (func async)))))"#,
        r#"(component (type (component (import "f" (func (param "s" (stream u8)))))))"#,
        r#"(component (import "f" (func (result (option (future))))))"#,
        r#"(component (component (type (instance (type (stream))))))"#,
        r#"(component (core func (canon task.cancel)))"#,
        r#"(component (core func (canon waitable-set.new)))"#,
        r#"(component (import "wasi:random/random@0.3.0" (instance)))"#,
        r#"(component
            (core module $m
                (func (export "f") (result i32) unreachable)
                (func (export "g") (param i32 i32 i32) (result i32) unreachable))
            (core instance $m (instantiate $m))
            (func (export "f") async
                (canon lift (core func $m "f") async (callback (core func $m "g")))))"#,
    ] {
        assert!(measured(text).concurrent, "{text}");
    }
}
