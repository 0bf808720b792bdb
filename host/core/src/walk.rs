//! The parts of values, by which all walks over values go on.
//!
//! Each call walks over its arguments and results: to find handles, to charge their memory, and
//! to count the bytes that are copied. Nothing is allocated.

use std::convert::Infallible;

use wasmtime::component::{ResourceAny, Val};

/// Defines a function that folds the parts of a value, which it can change or not.
macro_rules! define_fold {
    ($(#[$doc:meta])* $name:ident, $iter:ident $(, $mutable:tt)?) => {
        $(#[$doc])*
        #[inline]
        pub fn $name<B, E>(
            val: &$($mutable)? Val,
            init: B,
            mut fold: impl FnMut(B, &$($mutable)? Val) -> Result<B, E>,
        ) -> Result<B, E> {
            let mut fold = |folded, part: &$($mutable)? Val| match is_scalar(part) {
                true => Ok(folded),
                false => fold(folded, part),
            };
            match val {
                Val::List(vals) | Val::Tuple(vals) | Val::FixedLengthList(vals) => {
                    vals.$iter().try_fold(init, fold)
                }
                Val::Map(pairs) => pairs.$iter().try_fold(init, |folded, (key, val)| {
                    let folded = fold(folded, key)?;
                    fold(folded, val)
                }),
                Val::Record(fields) => {
                    fields.$iter().try_fold(init, |folded, (_, val)| fold(folded, val))
                }
                Val::Variant(_, Some(val))
                | Val::Option(Some(val))
                | Val::Result(Ok(Some(val)) | Err(Some(val))) => fold(init, val),
                _ => Ok(init),
            }
        }
    };
}

define_fold!(
    /// Folds the values that are directly in a value, in order, except for numbers, characters
    /// and truth values. Those have no parts and no handles, and long lists consist of them.
    ///
    /// # Errors
    ///
    /// The first error of `fold`.
    try_fold_parts, iter
);

define_fold!(
    /// Folds, as [`try_fold_parts`] does, values that `fold` may change.
    ///
    /// # Errors
    ///
    /// The first error of `fold`.
    try_fold_parts_mut, iter_mut, mut
);

/// Folds as `try_fold_parts` does, with a function that does not fail.
#[inline]
pub fn fold_parts<B>(val: &Val, init: B, mut fold: impl FnMut(B, &Val) -> B) -> B {
    let Ok(folded) = try_fold_parts::<B, Infallible>(val, init, |all, part| Ok(fold(all, part)));
    folded
}

/// Calls `visit` for each handle to a resource in a value, at any depth.
///
/// # Errors
///
/// The first error of `visit`.
pub fn each_resource(
    val: &mut Val,
    visit: &mut impl FnMut(&mut ResourceAny) -> wasmtime::Result<()>,
) -> wasmtime::Result<()> {
    match val {
        Val::Resource(any) => visit(any),
        Val::List(vals) if is_plain(vals) => Ok(()),
        _ => try_fold_parts_mut(val, (), |(), part| each_resource(part, visit)),
    }
}

/// Calls `visit` for each handle to a resource, stream, future and error context in a value, at
/// any depth.
///
/// # Errors
///
/// The first error of `visit`.
pub fn each_handle<E>(
    val: &mut Val,
    visit: &mut impl FnMut(&mut Val) -> Result<(), E>,
) -> Result<(), E> {
    match val {
        Val::Resource(_) | Val::Future(_) | Val::Stream(_) | Val::ErrorContext(_) => visit(val),
        Val::List(vals) if is_plain(vals) => Ok(()),
        _ => try_fold_parts_mut(val, (), |(), part| each_handle(part, visit)),
    }
}

/// Returns whether a list is one of numbers, which may be long.
fn is_plain(vals: &[Val]) -> bool {
    matches!(vals.first(), Some(first) if is_scalar(first)) && vals.iter().all(is_scalar)
}

#[inline]
fn is_scalar(val: &Val) -> bool {
    matches!(
        val,
        Val::Bool(_)
            | Val::S8(_)
            | Val::U8(_)
            | Val::S16(_)
            | Val::U16(_)
            | Val::S32(_)
            | Val::U32(_)
            | Val::S64(_)
            | Val::U64(_)
            | Val::Float32(_)
            | Val::Float64(_)
            | Val::Char(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(number: u32) -> Val {
        Val::String(number.to_string())
    }

    /// A value of each kind that has others in it, around the texts 0 to 8.
    fn nested() -> Val {
        let boxed = |number| Some(Box::new(text(number)));
        Val::Tuple(vec![
            text(0),
            Val::List(vec![text(1), Val::Option(boxed(2))]),
            Val::Map(vec![(text(3), text(4))]),
            Val::U32(9),
            Val::Record(vec![("a".to_owned(), text(5))]),
            Val::Variant("b".to_owned(), boxed(6)),
            Val::Result(Ok(boxed(7))),
            Val::Result(Err(boxed(8))),
            Val::Option(None),
        ])
    }

    /// Returns the texts in a value, at any depth, one after the other.
    fn texts(val: &Val) -> String {
        let own = match val {
            Val::String(text) => text.clone(),
            _ => String::new(),
        };
        fold_parts(val, own, |all, part| all + &texts(part))
    }

    fn add_point(val: &mut Val) -> Result<(), Infallible> {
        if let Val::String(text) = val {
            text.push('.');
        }
        try_fold_parts_mut(val, (), |(), part| add_point(part))
    }

    #[test]
    fn all_parts_are_folded_in_order() {
        assert_eq!(texts(&nested()), "012345678");
    }

    #[test]
    fn all_parts_can_be_changed() {
        let mut val = nested();
        let Ok(()) = add_point(&mut val);
        assert_eq!(texts(&val), "0.1.2.3.4.5.6.7.8.");
    }

    #[test]
    fn scalars_are_passed_over() {
        let scalars = [
            Val::Bool(true),
            Val::U8(0),
            Val::S64(0),
            Val::Float32(0.0),
            Val::Char('a'),
        ];
        let mixed = Val::Tuple(scalars.into_iter().chain([text(1)]).collect());
        assert_eq!(fold_parts(&mixed, 0, |count, _| count + 1), 1);
    }

    #[test]
    fn first_error_ends_the_fold() {
        let vals = Val::Tuple((0..9).map(text).collect());
        let mut visited = 0;
        let error = try_fold_parts(&vals, (), |(), part| {
            visited += 1;
            match part == &text(3) {
                true => Err(3),
                false => Ok(()),
            }
        });
        assert_eq!((error, visited), (Err(3), 4));
    }
}
