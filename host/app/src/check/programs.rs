//! The programs of an app: guests that are the same program are read and compiled once.

use std::collections::HashMap;
use std::sync::Arc;

use crate::compile::{CompileLimits, Measure, MeasureError, measure};
use crate::spec::GuestSpec;

/// Guests that are the same program share its code.
pub(super) struct Programs<'a> {
    /// The different programs.
    pub(super) wasm: Vec<&'a [u8]>,
    /// The size of each program, or why it is not compiled.
    pub(super) measured: Vec<Result<Measure, MeasureError>>,
    /// The program of each guest.
    pub(super) of_guest: Vec<usize>,
}

impl<'a> Programs<'a> {
    /// Finds the guests that are the same program, and measures the programs.
    pub(super) fn of(guests: &'a [GuestSpec], limits: &CompileLimits) -> Programs<'a> {
        let mut programs = Programs {
            wasm: Vec::new(),
            measured: Vec::new(),
            of_guest: Vec::new(),
        };
        // A program is looked for by where it is first: to look at all its bytes takes
        // as long as starting many guests.
        let mut placed: HashMap<*const [u8], usize> = HashMap::new();
        let mut known: HashMap<&[u8], usize> = HashMap::new();
        for guest in guests {
            let program = *placed.entry(Arc::as_ptr(&guest.wasm)).or_insert_with(|| {
                *known.entry(&guest.wasm).or_insert_with(|| {
                    programs.wasm.push(&guest.wasm);
                    programs.wasm.len() - 1
                })
            });
            programs.of_guest.push(program);
        }
        let measured = programs.wasm.iter().map(|wasm| measure(wasm, limits));
        programs.measured = measured.collect();
        programs
    }

    /// Returns whether one of the programs needs an engine with concurrency.
    pub(super) fn need_concurrency(&self) -> bool {
        let mut measured = self.measured.iter().flatten();
        measured.any(|measure| measure.concurrent)
    }
}
