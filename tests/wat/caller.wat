;; Calls another guest, twice, while it is instantiated itself.
(component
  (import "test:start/callee" (instance $b
    (export "f" (func (result (result (error string)))))))
  (core module $memory
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024))
  (core instance $mi (instantiate $memory))
  (core func $f
    (canon lower (func $b "f") (memory (core memory $mi "memory")) (realloc (core func $mi "realloc"))))
  (core module $m
    (import "" "f" (func $f (param i32)))
    (func $start i32.const 0 call $f i32.const 0 call $f)
    (start $start))
  (core instance (instantiate $m (with "" (instance (export "f" (func $f)))))))
