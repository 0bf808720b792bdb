//! Computes the host memory of a call's values, and how many bytes of them are copied.
//!
//! wasmtime bounds the values that one call lifts by *hostcall fuel*. Fuel counts the bytes of
//! values, but neither the allocator's overhead nor the vectors of names in flags and records. A
//! list of flags with short names takes about 30 times its fuel. So a guest's fuel is the rest of
//! its `host-memory`, divided by the worst ratio of memory to fuel of the types in its calls.

use wasmtime::component::Val;
use wasmtime::component::types::{ComponentFunc, Type};

use super::link::Link;
use tombolo::internal::fold_parts;
use tombolo_exchange::GuestId;

/// The bytes of a value, without those that it points to.
const VAL: u64 = size_of::<Val>() as u64;

/// The bytes of a string, without its text.
const STRING: u64 = size_of::<String>() as u64;

/// An upper bound of the ratio of memory to fuel of all types: names have at least one byte, and
/// flags at most 32 names.
const WORST: u64 = 128;

/// Returns the bytes that the allocator uses for a block of `bytes`.
fn block(bytes: u64) -> u64 {
    match bytes {
        0 => 0,
        // It adds a header, and rounds up to 16 bytes.
        bytes => bytes.saturating_add(8).next_multiple_of(16).max(32),
    }
}

/// Returns the host memory of these values in bytes.
pub(super) fn bytes(vals: &[Val]) -> u64 {
    vals.iter().map(|val| VAL + behind(val)).sum()
}

/// Returns the bytes that a value points to, at any depth.
#[inline]
fn behind(val: &Val) -> u64 {
    match val {
        Val::String(text) | Val::Enum(text) => block(text.len() as u64),
        _ => behind_parts(val),
    }
}

fn behind_parts(val: &Val) -> u64 {
    let own = match val {
        Val::List(vals) | Val::Tuple(vals) | Val::FixedLengthList(vals) => {
            block(vals.len() as u64 * VAL)
        }
        Val::Map(pairs) => block(pairs.len() as u64 * 2 * VAL),
        Val::Record(fields) => {
            let names = fields.iter().map(|(name, _)| block(name.len() as u64));
            block(fields.capacity() as u64 * (STRING + VAL)) + names.sum::<u64>()
        }
        Val::Flags(names) => {
            let each = names.iter().map(|name| block(name.len() as u64));
            block(names.capacity() as u64 * STRING) + each.sum::<u64>()
        }
        Val::Variant(name, val) => block(name.len() as u64) + boxed(val.as_deref()),
        Val::Option(val) | Val::Result(Ok(val) | Err(val)) => boxed(val.as_deref()),
        _ => 0,
    };
    fold_parts(val, own, |bytes, part| bytes + behind(part))
}

fn boxed(val: Option<&Val>) -> u64 {
    val.map_or(0, |_| block(VAL))
}

/// Returns the bytes of the strings and of the lists of plain values in these values.
pub(super) fn copied_bytes(vals: &[Val]) -> u64 {
    vals.iter().map(copied).sum()
}

fn copied(val: &Val) -> u64 {
    match val {
        Val::String(text) => text.len() as u64,
        Val::List(vals) if let Some(each) = vals.first().and_then(plain_size) => {
            vals.len() as u64 * each
        }
        _ => fold_parts(val, 0, |bytes, part| bytes + copied(part)),
    }
}

/// Returns the bytes of a number, a character or a truth value in a list.
fn plain_size(val: &Val) -> Option<u64> {
    match val {
        Val::U8(_) | Val::S8(_) | Val::Bool(_) => Some(1),
        Val::U16(_) | Val::S16(_) => Some(2),
        Val::U32(_) | Val::S32(_) | Val::Float32(_) | Val::Char(_) => Some(4),
        Val::U64(_) | Val::S64(_) | Val::Float64(_) => Some(8),
        _ => None,
    }
}

/// Returns the handles in these values, at any depth: those to resources, and the ends of streams
/// and futures.
pub(super) fn handles(vals: &[Val]) -> Vec<Val> {
    let mut handles = Vec::new();
    for val in vals {
        collect_handles(val, &mut handles);
    }
    handles
}

fn collect_handles(val: &Val, handles: &mut Vec<Val>) {
    match val {
        Val::Resource(_) | Val::Stream(_) | Val::Future(_) => handles.push(val.clone()),
        _ => fold_parts(val, (), |(), part| collect_handles(part, handles)),
    }
}

/// Returns the worst ratio of memory to fuel of the values that are lifted out of a guest: the
/// parameters of functions that it calls, and the results of functions that it exports.
pub(super) fn lift_ratio(links: &[Link], guest: GuestId) -> u64 {
    let ratios = links.iter().flat_map(|link| {
        let functions = link.functions.iter().map(|function| &function.ty);
        functions.map(move |function| {
            let params = match link.importer == guest {
                true => ratio_of_params(function),
                false => 1,
            };
            let results = match link.exporter == guest {
                true => ratio(function.results()),
                false => 1,
            };
            params.max(results)
        })
    });
    ratios.max().unwrap_or(1)
}

fn ratio_of_params(function: &ComponentFunc) -> u64 {
    ratio(function.params().map(|(_, ty)| ty))
}

/// Returns the worst ratio of these types. Only elements of lists count, because only they can be
/// repeated.
fn ratio(types: impl Iterator<Item = Type>) -> u64 {
    types.map(|ty| least_ratio(&ty)).max().unwrap_or(1)
}

/// Returns the least ratio by which the fuel of a type's lists pays for their memory. If one does,
/// all larger ones do.
fn least_ratio(ty: &Type) -> u64 {
    let (mut low, mut high) = (1, WORST);
    while low < high {
        let middle = low.midpoint(high);
        match fits(ty, middle) {
            true => high = middle,
            false => low = middle + 1,
        }
    }
    low
}

/// Returns whether every list in the type, of any length, takes at most `ratio` bytes of memory for
/// each unit of fuel.
fn fits(ty: &Type, ratio: u64) -> bool {
    let mut all = true;
    excess(ty, &Rate(ratio), &mut all);
    all
}

/// The bytes of memory that a unit of fuel pays for.
struct Rate(u64);

impl Rate {
    /// Returns the bytes of memory that fuel does not pay for. The result is negative if fuel pays
    /// for more.
    fn over(&self, memory: u64, fuel: u64) -> i64 {
        let paid = fuel.saturating_mul(self.0);
        i64::try_from(memory).unwrap_or(i64::MAX) - i64::try_from(paid).unwrap_or(i64::MAX)
    }

    /// Returns the same for a text of this length.
    fn text(&self, length: usize) -> i64 {
        self.over(block(length as u64), length as u64)
    }
}

/// Returns the worst excess of memory over fuel that a value of this type points to. The value
/// itself is counted where it is stored. Clears `all` if the elements of a list in the type have an
/// excess.
fn excess(ty: &Type, rate: &Rate, all: &mut bool) -> i64 {
    let mut boxed = |ty: Option<Type>| match ty {
        Some(ty) => rate
            .over(block(VAL), VAL)
            .saturating_add(excess(&ty, rate, all)),
        None => 0,
    };
    match ty {
        Type::String => rate.text(1).max(0),
        Type::Option(option) => boxed(Some(option.ty())).max(0),
        Type::Result(result) => boxed(result.ok()).max(boxed(result.err())),
        Type::Variant(variant) => variant
            .cases()
            .map(|case| rate.text(case.name.len()).saturating_add(boxed(case.ty)))
            .max()
            .unwrap_or(0),
        Type::Enum(names) => names
            .names()
            .map(|name| rate.text(name.len()))
            .max()
            .unwrap_or(0),
        Type::Flags(flags) => {
            // Each flag may be set or not. A vector grows by doubling.
            let (mut count, mut sum) = (0, 0_i64);
            for name in flags.names() {
                count += 1;
                sum = sum.saturating_add(rate.text(name.len()).max(0));
            }
            sum.saturating_add(rate.over(grown(count, STRING), 0))
        }
        Type::Record(record) => {
            let (mut count, mut sum) = (0, 0_i64);
            for field in record.fields() {
                count += 1;
                sum = sum
                    .saturating_add(rate.text(field.name.len()))
                    .saturating_add(excess(&field.ty, rate, all));
            }
            sum.saturating_add(rate.over(grown(count, STRING + VAL), count * VAL))
        }
        Type::Tuple(tuple) => {
            let (mut count, mut sum) = (0, 0_i64);
            for ty in tuple.types() {
                count += 1;
                sum = sum.saturating_add(excess(&ty, rate, all));
            }
            sum.saturating_add(rate.over(grown(count, VAL), count * VAL))
        }
        Type::List(list) => {
            elements(
                rate.over(VAL, VAL)
                    .saturating_add(excess(&list.ty(), rate, all)),
                all,
            );
            // A vector of one element has capacity for four.
            rate.over(grown(1, VAL) - VAL, 0)
        }
        Type::FixedLengthList(list) => {
            elements(
                rate.over(VAL, VAL)
                    .saturating_add(excess(&list.ty(), rate, all)),
                all,
            );
            rate.over(grown(1, VAL) - VAL, 0)
        }
        Type::Map(map) => {
            let both =
                excess(&map.key(), rate, all).saturating_add(excess(&map.value(), rate, all));
            elements(rate.over(2 * VAL, 2 * VAL).saturating_add(both), all);
            rate.over(grown(1, 2 * VAL) - 2 * VAL, 0)
        }
        _ => 0,
    }
}

fn elements(excess: i64, all: &mut bool) {
    *all &= excess <= 0;
}

/// Returns the bytes of a vector that grew to `count` elements one by one.
fn grown(count: u64, each: u64) -> u64 {
    match count {
        0 => 0,
        count => block(count.next_power_of_two().max(4) * each),
    }
}

#[cfg(test)]
mod tests {
    use crate::test_engine::engine;
    use wasmtime::component::Component;
    use wasmtime::component::types::ComponentItem;

    use super::*;

    /// Returns the ratio of a function that takes `ty`.
    fn ratio_of(types: &str, ty: &str) -> u64 {
        ratio_of_params(&function_of(types, ty))
    }

    /// Returns a function that takes `ty`.
    fn function_of(types: &str, ty: &str) -> ComponentFunc {
        let engine = engine();
        let text = format!(
            "(component (type $i (instance {types} (export \"f\" (func (param \"a\" {ty})))))
               (import \"i\" (instance (type $i))))"
        );
        let component = Component::new(&engine, text_to_wasm(&text)).unwrap();
        let ty = component.component_type();
        let (_, item) = ty.imports(&engine).next().unwrap();
        let ComponentItem::ComponentInstance(instance) = item.ty else {
            panic!("it imports an instance")
        };
        let function = instance
            .exports(&engine)
            .find_map(|(_, item)| match item.ty {
                ComponentItem::ComponentFunc(function) => Some(function),
                _ => None,
            });
        function.expect("it exports a function")
    }

    fn text_to_wasm(text: &str) -> Vec<u8> {
        wat::parse_str(text).expect("good text")
    }

    #[test]
    fn larger_ratios_than_the_least_suffice() {
        let names: String = ('a'..='z').map(|name| format!("\"{name}\" ")).collect();
        let types = format!("(type $t (flags {names})) (export \"t\" (type $e (eq $t)))");
        for ty in [
            "(list $e)",
            "(list string)",
            "(list (tuple u8 $e))",
            "(list (list u8))",
        ] {
            let function = function_of(&types, ty);
            let ty = function.params().next().expect("it has a parameter").1;
            let least = least_ratio(&ty);
            for ratio in 1..WORST {
                assert_eq!(fits(&ty, ratio), ratio >= least, "{ratio} for {ty:?}");
            }
        }
    }

    #[test]
    fn list_of_numbers_takes_its_fuel() {
        assert_eq!(ratio_of("", "(list u8)"), 1);
    }

    #[test]
    fn list_of_strings_takes_twice_its_fuel() {
        assert_eq!(ratio_of("", "(list string)"), 2);
    }

    // rule 10
    #[test]
    fn flags_with_short_names_exceed_their_fuel() {
        let names: String = ('a'..='z').map(|name| format!("\"{name}\" ")).collect();
        let types = format!("(type $t (flags {names})) (export \"t\" (type $e (eq $t)))");
        assert!(ratio_of(&types, "(list $e)") > 20);
        // A single value does not count.
        assert_eq!(ratio_of(&types, "$e"), 1);
    }

    #[test]
    fn copied_bytes_are_those_of_texts_and_plain_lists() {
        let numbers = Val::List(vec![Val::U32(0); 3]);
        let texts = Val::List(vec![Val::String("ab".into()), Val::String("c".into())]);
        let record = Val::Record(vec![
            ("numbers".into(), numbers),
            ("texts".into(), texts),
            ("number".into(), Val::U64(0)),
            ("case".into(), Val::Enum("case".into())),
        ]);
        let some = Val::Option(Some(Box::new(record)));
        assert_eq!(copied_bytes(&[some, Val::List(Vec::new())]), 3 * 4 + 3);
    }

    #[test]
    fn memory_includes_all_parts_of_values() {
        let text = Val::String("x".repeat(1000));
        let list = Val::List(vec![Val::U8(0); 1000]);
        let record = Val::Record(vec![("a".into(), text), ("b".into(), list)]);
        let least = 1000 + 1000 * VAL;
        let is = bytes(&[Val::Option(Some(Box::new(record)))]);
        assert!((least..least + 1000).contains(&is), "{is}");
    }
}
