//! Receives resources of another guest from a third.

mod bindings {
    #![allow(unsafe_code, missing_docs, clippy::undocumented_unsafe_blocks)] // Generated.
    wit_bindgen::generate!({
        path: ["../../wit/memory", "../wit/resources.wit"],
        world: "test:resources/third",
        generate_all,
    });
    export!(Sink);
    pub(crate) struct Sink;
}

use std::cell::RefCell;

use bindings::exports::test::resources::sink::{Decoder, Guest};

thread_local! {
    static KEPT: RefCell<Option<Decoder>> = const { RefCell::new(None) };
}

fn nothing() -> String {
    "nothing is kept".into()
}

impl Guest for bindings::Sink {
    fn keep(it: Decoder) -> Result<(), String> {
        KEPT.set(Some(it));
        Ok(())
    }

    fn next_of_kept() -> Result<u32, String> {
        KEPT.with_borrow(|kept| kept.as_ref().ok_or_else(nothing)?.next())
    }

    fn give_back() -> Result<Decoder, String> {
        KEPT.take().ok_or_else(nothing)
    }

    fn drop_kept() -> Result<(), String> {
        KEPT.take().map(drop).ok_or_else(nothing)
    }

    fn look(it: &Decoder, die: bool) -> Result<String, String> {
        let name = it.name()?;
        assert!(!die, "told to die");
        Ok(name)
    }

    fn compare(it: &Decoder) -> Result<bool, String> {
        let own = Decoder::open("own")?;
        Ok(it.is(it)? && !it.is(&own)? && !own.is(it)?)
    }
}

fn main() {}
