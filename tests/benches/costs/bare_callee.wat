;; Does nothing, with and without a handle.
(component
  (import "it" (type $it (sub resource)))
  (core func $drop (canon resource.drop $it))
  (core module $m
    (import "" "drop" (func $drop (param i32)))
    (func (export "nothing"))
    (func (export "lend") (param i32) (call $drop (local.get 0))))
  (core instance $i (instantiate $m (with "" (instance (export "drop" (func $drop))))))
  (func (export "nothing") (canon lift (core func $i "nothing")))
  (func (export "lend") (param "it" (borrow $it)) (canon lift (core func $i "lend"))))
