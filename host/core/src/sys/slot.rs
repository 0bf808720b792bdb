//! Values of a call that take one core value each, in a Rust type that is decided at run time.
//!
//! wasmtime offers two ways to pass values: Rust types, one for each signature, and dynamic
//! values, which it allocates and walks over. A [`Slot`] is in between. A function of up to four
//! scalars and handles has a tuple of slots for its parameters, whatever their types are.
//!
//! # Safety
//!
//! `ComponentType`, `Lift` and `Lower` are unsafe because wasmtime trusts them to write and read
//! as many core values as the type has. All types that a slot's `typecheck` accepts have exactly
//! one core value, and each is lifted and lowered by wasmtime's own implementation for it. The
//! type in hand decides which, so a slot with another value is an error. wasmtime has none for an
//! `enum` whose cases are known only at run time. There, a slot compares the case with the number
//! of cases of the type in hand, in both directions.
//!
//! In linear memory, the size of a slot would depend on its type. wasmtime passes values in
//! memory only if a function has more than 16 core values as parameters or more than one as
//! results. So a slot is an error there.

use std::mem::MaybeUninit;

use wasmtime::component::__internal::{
    CanonicalAbiInfo, InstanceType, InterfaceType, LiftContext, LowerContext,
};
use wasmtime::component::{ComponentType, Lift, Lower, Resource};
use wasmtime::{Result, ValRaw, bail};

macro_rules! slots {
    ($($kind:ident: $primitive:ty, $interface:ident;)*) => {
        /// A scalar, or a handle to a resource `T` of the host.
        ///
        /// It is for parameters, and for a result that is no part of another one.
        #[derive(Debug)]
        pub enum Slot<T: 'static> {
            /// A handle, owned or borrowed.
            Handle(Resource<T>),
            /// A case of an `enum`, by its position.
            Case(u32),
            $(
                #[doc = concat!("A value of the type `", stringify!($primitive), "`.")]
                $kind($primitive),
            )*
        }

        // SAFETY: the types that this accepts have one core value each.
        unsafe impl<T: 'static> ComponentType for Slot<T> {
            type Lower = ValRaw;

            const ABI: CanonicalAbiInfo = CanonicalAbiInfo::SCALAR8;
            const MAY_REQUIRE_REALLOC: bool = false;

            fn typecheck(ty: &InterfaceType, types: &InstanceType<'_>) -> Result<()> {
                match ty {
                    $(InterfaceType::$interface => Ok(()),)*
                    InterfaceType::Enum(_) => Ok(()),
                    other => Resource::<T>::typecheck(other, types),
                }
            }
        }

        // SAFETY: reads one core value, as wasmtime does for the type in hand.
        unsafe impl<T: 'static> Lift for Slot<T> {
            #[inline]
            fn linear_lift_from_flat(
                cx: &mut LiftContext<'_>,
                ty: InterfaceType,
                src: &ValRaw,
            ) -> Result<Slot<T>> {
                Ok(match ty {
                    $(InterfaceType::$interface => {
                        Slot::$kind(<$primitive>::linear_lift_from_flat(cx, ty, src)?)
                    })*
                    InterfaceType::Enum(index) => {
                        let cases = cx.types[index].names.len();
                        Slot::Case(known_case(src.get_u32(), cases)?)
                    }
                    _ => Slot::Handle(Resource::linear_lift_from_flat(cx, ty, src)?),
                })
            }

            fn linear_lift_from_memory(
                _: &mut LiftContext<'_>,
                _: InterfaceType,
                _: &[u8],
            ) -> Result<Slot<T>> {
                in_memory()
            }
        }

        // SAFETY: writes one core value, as wasmtime does for the type in hand, or fails.
        unsafe impl<T: 'static> Lower for Slot<T> {
            #[inline]
            fn linear_lower_to_flat<U>(
                &self,
                cx: &mut LowerContext<'_, U>,
                ty: InterfaceType,
                dst: &mut MaybeUninit<ValRaw>,
            ) -> Result<()> {
                match (self, ty) {
                    (Slot::Handle(handle), InterfaceType::Own(_) | InterfaceType::Borrow(_)) => {
                        handle.linear_lower_to_flat(cx, ty, dst)
                    }
                    $((Slot::$kind(value), InterfaceType::$interface) => {
                        value.linear_lower_to_flat(cx, ty, dst)
                    })*
                    (Slot::Case(case), InterfaceType::Enum(index)) => {
                        let case = known_case(*case, cx.types[index].names.len())?;
                        dst.write(ValRaw::u32(case));
                        Ok(())
                    }
                    _ => bail!("a slot holds a value of another type"),
                }
            }

            fn linear_lower_to_memory<U>(
                &self,
                _: &mut LowerContext<'_, U>,
                _: InterfaceType,
                _: usize,
            ) -> Result<()> {
                in_memory()
            }
        }
    };
}

slots! {
    Bool: bool, Bool;
    S8: i8, S8;
    U8: u8, U8;
    S16: i16, S16;
    U16: u16, U16;
    S32: i32, S32;
    U32: u32, U32;
    S64: i64, S64;
    U64: u64, U64;
    Float32: f32, Float32;
    Float64: f64, Float64;
    Char: char, Char;
}

fn known_case(case: u32, cases: usize) -> Result<u32> {
    match usize::try_from(case) {
        Ok(index) if index < cases => Ok(case),
        _ => bail!("unexpected discriminant: {case}"),
    }
}

fn in_memory<R>() -> Result<R> {
    bail!("a slot is passed as a core value, not in memory")
}
