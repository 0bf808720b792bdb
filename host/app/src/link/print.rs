//! Prints types as WIT text.

use std::fmt::{self, Write};

use wasmtime::component::types::{ComponentFunc, Type};

use super::resources::Resources;

/// The most bytes of a printed function type. Longer ones are cut.
const FUNCTION: usize = 400;
/// The most bytes of a printed type.
const TYPE: usize = 120;

/// Returns a function's type as text, for example `func(buffer: borrow<region>) -> string`.
pub(super) fn function(resources: &Resources, ty: &ComponentFunc) -> String {
    TypePrinter::print(resources, FUNCTION, |printer| {
        printer.write_str(if ty.async_() { "async func" } else { "func" })?;
        printer.list("(", ")", ty.params(), |printer, (name, ty)| {
            write!(printer, "{name}: ")?;
            printer.ty(&ty)
        })?;
        for ty in ty.results() {
            printer.write_str(" -> ")?;
            printer.ty(&ty)?;
        }
        Ok(())
    })
}

/// Returns a type as text, for example `option<list<u8>>`.
pub(super) fn ty(resources: &Resources, ty: &Type) -> String {
    TypePrinter::print(resources, TYPE, |printer| printer.ty(ty))
}

/// A text of bounded length that types are written to. Writing ends where the text is full, so
/// the time is bounded too, however large the types are.
struct TypePrinter<'a> {
    resources: &'a Resources,
    text: String,
    left: usize,
}

impl Write for TypePrinter<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if text.len() > self.left {
            return Err(fmt::Error);
        }
        self.left -= text.len();
        self.text.push_str(text);
        Ok(())
    }
}

impl<'a> TypePrinter<'a> {
    fn print(
        resources: &'a Resources,
        left: usize,
        write: impl FnOnce(&mut Self) -> fmt::Result,
    ) -> String {
        let mut printer = Self {
            resources,
            text: String::new(),
            left,
        };
        if write(&mut printer).is_err() {
            printer.text.push('…');
        }
        printer.text
    }

    fn ty(&mut self, ty: &Type) -> fmt::Result {
        match ty {
            Type::Bool => self.write_str("bool"),
            Type::S8 => self.write_str("s8"),
            Type::U8 => self.write_str("u8"),
            Type::S16 => self.write_str("s16"),
            Type::U16 => self.write_str("u16"),
            Type::S32 => self.write_str("s32"),
            Type::U32 => self.write_str("u32"),
            Type::S64 => self.write_str("s64"),
            Type::U64 => self.write_str("u64"),
            Type::Float32 => self.write_str("f32"),
            Type::Float64 => self.write_str("f64"),
            Type::Char => self.write_str("char"),
            Type::String => self.write_str("string"),
            Type::List(list) => self.of("list", &[Some(list.ty())]),
            Type::FixedLengthList(list) => {
                self.write_str("list<")?;
                self.ty(&list.ty())?;
                write!(self, ", {}>", list.len())
            }
            Type::Map(map) => self.of("map", &[Some(map.key()), Some(map.value())]),
            Type::Option(option) => self.of("option", &[Some(option.ty())]),
            Type::Result(result) => match (result.ok(), result.err()) {
                (None, None) => self.write_str("result"),
                (ok, None) => self.of("result", &[ok]),
                (ok, err) => self.of("result", &[ok, err]),
            },
            Type::Tuple(tuple) => {
                self.list("tuple<", ">", tuple.types(), |printer, ty| printer.ty(&ty))
            }
            Type::Record(record) => {
                self.list("record { ", " }", record.fields(), |printer, field| {
                    write!(printer, "{}: ", field.name)?;
                    printer.ty(&field.ty)
                })
            }
            Type::Variant(variant) => {
                self.list("variant { ", " }", variant.cases(), |printer, case| {
                    printer.write_str(case.name)?;
                    match case.ty {
                        Some(ty) => {
                            printer.write_str("(")?;
                            printer.ty(&ty)?;
                            printer.write_str(")")
                        }
                        None => Ok(()),
                    }
                })
            }
            Type::Enum(names) => self.list("enum { ", " }", names.names(), Self::write_str),
            Type::Flags(names) => self.list("flags { ", " }", names.names(), Self::write_str),
            Type::Own(ty) => self.write_str(self.resources.name(*ty)),
            Type::Borrow(ty) => write!(self, "borrow<{}>", self.resources.name(*ty)),
            Type::Future(future) => match future.ty() {
                Some(ty) => self.of("future", &[Some(ty)]),
                None => self.write_str("future"),
            },
            Type::Stream(stream) => match stream.ty() {
                Some(ty) => self.of("stream", &[Some(ty)]),
                None => self.write_str("stream"),
            },
            Type::ErrorContext => self.write_str("error-context"),
        }
    }

    /// Writes `name<a, b>`, with `_` for an absent type.
    fn of(&mut self, name: &str, types: &[Option<Type>]) -> fmt::Result {
        self.write_str(name)?;
        self.list("<", ">", types, |printer, ty| match ty {
            Some(ty) => printer.ty(ty),
            None => printer.write_str("_"),
        })
    }

    fn list<I: IntoIterator>(
        &mut self,
        open: &str,
        close: &str,
        items: I,
        mut write: impl FnMut(&mut Self, I::Item) -> fmt::Result,
    ) -> fmt::Result {
        self.write_str(open)?;
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                self.write_str(", ")?;
            }
            write(self, item)?;
        }
        self.write_str(close)
    }
}
