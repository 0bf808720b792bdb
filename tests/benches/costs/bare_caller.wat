;; Calls what it imports, so many times.
(component
  (import "it" (type $it (sub resource)))
  (import "nothing" (func $nothing))
  (import "lend" (func $lend (param "it" (borrow $it))))
  (core func $nothing_ (canon lower (func $nothing)))
  (core func $lend_ (canon lower (func $lend)))
  (core func $drop (canon resource.drop $it))
  (core module $m
    (import "" "nothing" (func $nothing))
    (import "" "lend" (func $lend (param i32)))
    (import "" "drop" (func $drop (param i32)))
    (func (export "nothings") (param i32)
      (loop
        (call $nothing)
        (br_if 0 (local.tee 0 (i32.sub (local.get 0) (i32.const 1))))))
    (func (export "lends") (param i32 i32)
      (loop
        (call $lend (local.get 0))
        (br_if 0 (local.tee 1 (i32.sub (local.get 1) (i32.const 1)))))
      (call $drop (local.get 0))))
  (core instance $i (instantiate $m (with "" (instance
    (export "nothing" (func $nothing_))
    (export "lend" (func $lend_))
    (export "drop" (func $drop))))))
  (func (export "nothings") (param "times" u32) (canon lift (core func $i "nothings")))
  (func (export "lends") (param "it" (own $it)) (param "times" u32)
    (canon lift (core func $i "lends"))))
