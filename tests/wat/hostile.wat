;; The world `test:faults/hostile`, by hand: for what no compiler writes.
;;
;; The window covers 0x100000..0x140000. An act is told by its first letter.
(module
  (import "tombolo:memory/windows@0.1.0" "map"
    (func $map (param i32 i64 i64 i32 i32 i32 i32)))
  (import "tombolo:memory/regions@0.1.0" "[method]region.name"
    (func $name (param i32 i32)))
  (memory (export "memory") 64)

  (global $region (mut i32) (i32.const 0))
  ;; Where the host is to put its next list; 0 for free memory.
  (global $trap (mut i32) (i32.const 0))
  (global $free (mut i32) (i32.const 0x8000))

  ;; Segments that are copied when the code says so.
  (data $bytes "0123456789abcdef0123456789abcdef")
  (data $text (i32.const 0x100) "refused")

  (func (export "cabi_realloc")
    (param $old i32) (param $old-size i32) (param $align i32) (param $size i32)
    (result i32)
    (local $at i32)
    (if (global.get $trap)
      (then (return (global.get $trap))))
    (local.set $at
      (i32.and
        (i32.add (global.get $free) (i32.sub (local.get $align) (i32.const 1)))
        (i32.sub (i32.const 0) (local.get $align))))
    (global.set $free (i32.add (local.get $at) (local.get $size)))
    (local.get $at))

  ;; result<_, string>: at 0x200.
  (func (export "test:faults/acts#keep") (param $handle i32) (result i32)
    (global.set $region (local.get $handle))
    ;; To read, with a list of one byte; the answer to 0x300.
    (call $map (local.get $handle) (i64.const 0) (i64.const 0x40000) (i32.const 0)
      (i32.const 0x100000) (i32.const 1) (i32.const 0x300))
    (i32.store8 (i32.const 0x200) (i32.load8_u (i32.const 0x300)))
    (i32.store (i32.const 0x204) (i32.const 0x100))
    (i32.store (i32.const 0x208) (i32.const 7))
    (i32.const 0x200))

  ;; result<u64, string>: at 0x200. The answer is the byte at 0x101000.
  (func (export "test:faults/acts#act") (param $at i32) (param $length i32) (result i32)
    (local $act i32)
    (local.set $act (i32.load8_u (local.get $at)))

    ;; init
    (if (i32.eq (local.get $act) (i32.const 105))
      (then (memory.init $bytes (i32.const 0x101000) (i32.const 0) (i32.const 32))))
    ;; copy, by constant sizes up to the largest that is inlined
    (if (i32.eq (local.get $act) (i32.const 99))
      (then (memory.copy (i32.const 0x101000) (i32.const 0x100) (i32.const 128))))
    (if (i32.eq (local.get $act) (i32.const 49))
      (then (memory.copy (i32.const 0x101000) (i32.const 0x100) (i32.const 1))))
    (if (i32.eq (local.get $act) (i32.const 55))
      (then (memory.copy (i32.const 0x101000) (i32.const 0x100) (i32.const 7))))
    (if (i32.eq (local.get $act) (i32.const 54))
      (then (memory.copy (i32.const 0x101000) (i32.const 0x100) (i32.const 64))))
    ;; large copy
    (if (i32.eq (local.get $act) (i32.const 108))
      (then (memory.copy (i32.const 0x101000) (i32.const 0x100) (i32.const 0x10000))))
    ;; fill, by constant size
    (if (i32.eq (local.get $act) (i32.const 102))
      (then (memory.fill (i32.const 0x101000) (i32.const 1) (i32.const 64))))
    ;; store, of a width that straddles two pages
    (if (i32.eq (local.get $act) (i32.const 115))
      (then (i64.store (i32.const 0x101000) (i64.const 1))))
    ;; result: the host's answer goes into the window
    (if (i32.eq (local.get $act) (i32.const 114))
      (then
        (global.set $trap (i32.const 0x101000))
        (call $name (global.get $region) (i32.const 0x300))))
    ;; pointer: where the host's answer is to be told
    (if (i32.eq (local.get $act) (i32.const 112))
      (then (call $name (global.get $region) (i32.const 0x101000))))
    ;; arm: the next argument goes into the window
    (if (i32.eq (local.get $act) (i32.const 97))
      (then (global.set $trap (i32.const 0x101000))))
    ;; memory: the result is told from the window, which is read only
    (if (i32.eq (local.get $act) (i32.const 109))
      (then (return (i32.const 0x101000))))

    (i32.store8 (i32.const 0x200) (i32.const 0))
    (i64.store (i32.const 0x208) (i64.load8_u (i32.const 0x101000)))
    (i32.const 0x200)))
