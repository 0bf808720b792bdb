;; Traps whenever it is called.
(component
  (core module $m
    (memory (export "memory") 1)
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)
    (func (export "f") (result i32) unreachable))
  (core instance $i (instantiate $m))
  (func $f (result (result (error string)))
    (canon lift (core func $i "f") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
  (instance $b (export "f" (func $f)))
  (export "test:start/callee" (instance $b)))
