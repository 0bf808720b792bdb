//! Compares the types of two components, and finds where they first differ.
//!
//! Wasmtime's own comparison of [`Type`]s treats resource types of different components as
//! different, and does not report where a difference lies.

use wasmtime::component::types::{ComponentFunc, Type};

use super::error::Difference;
use super::print;
use super::resources::{Identity, Resources};
use super::visit::{self, step};

/// A type, with the resources of its component.
type TypeOf<'a, T> = (&'a Resources, &'a T);

/// Finds where the type of an imported function first differs from that of the exported one.
/// Returns `None` if they are the same.
pub(super) fn functions(
    (imports, import): TypeOf<'_, ComponentFunc>,
    (exports, export): TypeOf<'_, ComponentFunc>,
) -> Option<Difference> {
    let mut compare = Compare { imports, exports };
    compare.functions(import, export).err()
}

struct Compare<'a> {
    imports: &'a Resources,
    exports: &'a Resources,
}

type Same = Result<(), Difference>;

impl Compare<'_> {
    fn functions(&mut self, import: &ComponentFunc, export: &ComponentFunc) -> Same {
        if import.async_() != export.async_() {
            let word = |ty: &ComponentFunc| if ty.async_() { "async func" } else { "func" };
            return Err(Difference {
                at: "the kind of function".to_owned(),
                imported: word(import).to_owned(),
                exported: word(export).to_owned(),
            });
        }
        // Names are compared too, because parameters that changed places may have the same types.
        names(
            "the parameters",
            "parameter",
            import.params().map(|(name, _)| name),
            export.params().map(|(name, _)| name),
        )?;
        for ((name, a), (_, b)) in import.params().zip(export.params()) {
            self.types(&a, &b, &mut visit::param(name))?;
        }
        self.maybe(
            import.results().next(),
            export.results().next(),
            &mut visit::result(),
        )
    }

    fn types(&mut self, a: &Type, b: &Type, path: &mut String) -> Same {
        match (a, b) {
            (Type::List(a), Type::List(b)) => self.inner(&a.ty(), &b.ty(), path, "[]"),
            (Type::FixedLengthList(x), Type::FixedLengthList(y)) if x.len() == y.len() => {
                self.inner(&x.ty(), &y.ty(), path, "[]")
            }
            (Type::Map(a), Type::Map(b)) => {
                self.inner(&a.key(), &b.key(), path, ".key")?;
                self.inner(&a.value(), &b.value(), path, ".value")
            }
            (Type::Option(a), Type::Option(b)) => self.inner(&a.ty(), &b.ty(), path, ".some"),
            (Type::Result(a), Type::Result(b)) => {
                step(path, ".ok", |path| self.maybe(a.ok(), b.ok(), path))?;
                step(path, ".err", |path| self.maybe(a.err(), b.err(), path))
            }
            (Type::Tuple(x), Type::Tuple(y)) if x.types().len() == y.types().len() => {
                for (index, (a, b)) in x.types().zip(y.types()).enumerate() {
                    self.inner(&a, &b, path, &format!(".{index}"))?;
                }
                Ok(())
            }
            (Type::Record(a), Type::Record(b)) => {
                names(
                    path,
                    "field",
                    a.fields().map(|field| field.name),
                    b.fields().map(|field| field.name),
                )?;
                for (a, b) in a.fields().zip(b.fields()) {
                    self.inner(&a.ty, &b.ty, path, &format!(".{}", a.name))?;
                }
                Ok(())
            }
            (Type::Variant(a), Type::Variant(b)) => {
                names(
                    path,
                    "case",
                    a.cases().map(|case| case.name),
                    b.cases().map(|case| case.name),
                )?;
                for (a, b) in a.cases().zip(b.cases()) {
                    step(path, &format!(".{}", a.name), |path| {
                        self.maybe(a.ty, b.ty, path)
                    })?;
                }
                Ok(())
            }
            (Type::Enum(a), Type::Enum(b)) => names(path, "case", a.names(), b.names()),
            (Type::Flags(a), Type::Flags(b)) => names(path, "flag", a.names(), b.names()),
            (Type::Own(x), Type::Own(y)) | (Type::Borrow(x), Type::Borrow(y)) => {
                let (a, b) = (self.imports.identity(*x), self.exports.identity(*y));
                if a == b && a != Identity::Unknown {
                    Ok(())
                } else {
                    Err(Difference {
                        at: path.clone(),
                        imported: format!("a handle to {}", self.imports.describe(*x)),
                        exported: format!("a handle to {}", self.exports.describe(*y)),
                    })
                }
            }
            (Type::Stream(a), Type::Stream(b)) => {
                step(path, ".item", |path| self.maybe(a.ty(), b.ty(), path))
            }
            (Type::Future(a), Type::Future(b)) => {
                step(path, ".value", |path| self.maybe(a.ty(), b.ty(), path))
            }
            // Types without parts. All other pairs differ.
            (Type::Bool, Type::Bool)
            | (Type::S8, Type::S8)
            | (Type::U8, Type::U8)
            | (Type::S16, Type::S16)
            | (Type::U16, Type::U16)
            | (Type::S32, Type::S32)
            | (Type::U32, Type::U32)
            | (Type::S64, Type::S64)
            | (Type::U64, Type::U64)
            | (Type::Float32, Type::Float32)
            | (Type::Float64, Type::Float64)
            | (Type::Char, Type::Char)
            | (Type::String, Type::String) => Ok(()),
            _ => Err(self.difference(Some(a), Some(b), path)),
        }
    }

    fn inner(&mut self, a: &Type, b: &Type, path: &mut String, name: &str) -> Same {
        step(path, name, |path| self.types(a, b, path))
    }

    /// Compares optional types.
    fn maybe(&mut self, a: Option<Type>, b: Option<Type>, path: &mut String) -> Same {
        match (a, b) {
            (None, None) => Ok(()),
            (Some(a), Some(b)) => self.types(&a, &b, path),
            (a, b) => Err(self.difference(a.as_ref(), b.as_ref(), path)),
        }
    }

    fn difference(&self, a: Option<&Type>, b: Option<&Type>, path: &str) -> Difference {
        let text = |resources, ty: Option<&Type>| match ty {
            Some(ty) => print::ty(resources, ty),
            None => "nothing".to_owned(),
        };
        Difference {
            at: path.to_owned(),
            imported: text(self.imports, a),
            exported: text(self.exports, b),
        }
    }
}

/// Compares two lists of names. `what` is the kind of the named items.
fn names<'a, 'b>(
    at: &str,
    what: &str,
    mut a: impl Iterator<Item = &'a str>,
    mut b: impl Iterator<Item = &'b str>,
) -> Same {
    loop {
        let pair = (a.next(), b.next());
        match pair {
            (None, None) => return Ok(()),
            (Some(a), Some(b)) if a == b => {}
            (a, b) => {
                let text = |name: Option<&str>| match name {
                    Some(name) => format!("{what} `{name}`"),
                    None => format!("no further {what}"),
                };
                return Err(Difference {
                    at: at.to_owned(),
                    imported: text(a),
                    exported: text(b),
                });
            }
        }
    }
}
