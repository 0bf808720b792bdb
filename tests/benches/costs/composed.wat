;; Two components in one, as a tool that composes them makes it: the one passes a
;; list of bytes to the other, by an adapter of wasmtime's, without the host.
(component
  (component $consumer
    (core module $module
      (memory (export "memory") 2)
      ;; All lists go to the same place.
      (func (export "realloc") (param i32 i32 i32) (param $size i32) (result i32)
        (local $more i32)
        (local.set $more
          (i32.sub
            (i32.shr_u (i32.add (local.get $size) (i32.const 131071)) (i32.const 16))
            (memory.size)))
        (if (i32.gt_s (local.get $more) (i32.const 0))
          (then (drop (memory.grow (local.get $more)))))
        (i32.const 65536))
      (func (export "take") (param $at i32) (param $size i32) (param $sum i32) (result i64)
        (local $end i32) (local $total i64)
        (local.set $end (i32.add (local.get $at) (local.get $size)))
        (if (local.get $sum)
          (then
            (loop $next
              (if (i32.lt_u (local.get $at) (local.get $end))
                (then
                  (local.set $total
                    (i64.add (local.get $total) (i64.load (local.get $at))))
                  (local.set $at (i32.add (local.get $at) (i32.const 8)))
                  (br $next))))))
        (local.get $total)))
    (core instance $instance (instantiate $module))
    (func (export "take") (param "bytes" (list u8)) (param "sum" bool) (result u64)
      (canon lift (core func $instance "take")
        (memory (core memory $instance "memory")) (realloc (core func $instance "realloc")))))

  (component $producer
    (import "take" (func $take (param "bytes" (list u8)) (param "sum" bool) (result u64)))
    (core module $memory (memory (export "memory") 1))
    (core instance $memory (instantiate $memory))
    (core func $lowered (canon lower (func $take) (memory (core memory $memory "memory"))))
    (core module $module
      (import "own" "memory" (memory 1))
      (import "other" "take" (func $take (param i32 i32 i32) (result i64)))
      (func (export "run") (param $size i32) (param $use i32) (result i64)
        (local $more i32) (local $at i32)
        (local.set $more
          (i32.sub
            (i32.shr_u (i32.add (local.get $size) (i32.const 65535)) (i32.const 16))
            (memory.size)))
        (if (i32.gt_s (local.get $more) (i32.const 0))
          (then (drop (memory.grow (local.get $more)))))
        (if (local.get $use)
          (then
            (loop $next
              (if (i32.lt_u (local.get $at) (local.get $size))
                (then
                  (i64.store (local.get $at) (i64.extend_i32_u (local.get $at)))
                  (local.set $at (i32.add (local.get $at) (i32.const 8)))
                  (br $next))))))
        (call $take (i32.const 0) (local.get $size) (local.get $use))))
    (core instance $own (export "memory" (memory $memory "memory")))
    (core instance $other (export "take" (func $lowered)))
    (core instance $instance (instantiate $module
      (with "own" (instance $own))
      (with "other" (instance $other))))
    (func (export "run") (param "size" u32) (param "use" bool) (result u64)
      (canon lift (core func $instance "run"))))

  (instance $consumer (instantiate $consumer))
  (instance $producer (instantiate $producer (with "take" (func $consumer "take"))))
  (func $run (alias export $producer "run"))
  (export "run" (func $run)))
