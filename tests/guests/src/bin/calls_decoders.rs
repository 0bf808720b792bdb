//! Defines resources, and records the destroyed ones.

mod bindings {
    #![allow(unsafe_code, missing_docs, clippy::undocumented_unsafe_blocks)] // Generated.
    wit_bindgen::generate!({
        path: ["../../wit/memory", "../wit/resources.wit"],
        world: "test:resources/owner",
        generate_all,
    });
    export!(Decoders);
    pub(crate) struct Decoders;
}

use std::cell::{Cell, RefCell};

use bindings::exports::test::resources::decoders::{
    Decoder, DecoderBorrow, Either, Guest, GuestDecoder, GuestTicket, Lent, Pair, Region, Ticket,
};

thread_local! {
    static ALIVE: Cell<u32> = const { Cell::new(0) };
    static DESTROYED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    static KEPT: RefCell<Vec<Decoder>> = const { RefCell::new(Vec::new()) };
}

struct Own {
    name: String,
    count: Cell<u32>,
}

impl Own {
    fn made(name: String) -> Own {
        ALIVE.set(ALIVE.get() + 1);
        Own {
            name,
            count: Cell::new(0),
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        assert!(!self.name.starts_with("bomb"), "destroyed");
        ALIVE.set(ALIVE.get() - 1);
        DESTROYED.with_borrow_mut(|it| it.push(self.name.clone()));
    }
}

impl GuestDecoder for Own {
    fn new(name: String) -> Own {
        Own::made(name)
    }

    fn open(name: String) -> Result<Decoder, String> {
        match name.as_str() {
            "" => Err("no name".into()),
            _ => Ok(Decoder::new(Own::made(name))),
        }
    }

    fn name(&self) -> Result<String, String> {
        Ok(self.name.clone())
    }

    fn next(&self) -> Result<u32, String> {
        Ok(self.next_roomless())
    }

    fn next_roomless(&self) -> u32 {
        self.count.set(self.count.get() + 1);
        self.count.get()
    }

    fn is(&self, other: DecoderBorrow<'_>) -> Result<bool, String> {
        Ok(std::ptr::eq(self, other.get::<Own>()))
    }
}

struct Number(u32);

impl GuestTicket for Number {
    fn new(number: u32) -> Number {
        Number(number)
    }

    fn number(&self) -> u32 {
        self.0
    }
}

fn number(either: &Either<'_>) -> String {
    match either {
        Either::One(it) => it.get::<Own>().name.clone(),
        Either::Other(it) => it.get::<Number>().0.to_string(),
        Either::None => "none".into(),
    }
}

impl Guest for bindings::Decoders {
    type Decoder = Own;
    type Ticket = Number;

    fn swap(all: Vec<Pair>) -> Result<Vec<Pair>, String> {
        let turned = all.into_iter().rev().map(|pair| match pair.right {
            Some(right) => Pair {
                left: right,
                right: Some(pair.left),
                ticket: pair.ticket,
            },
            None => Pair {
                ticket: Ok(Ticket::new(Number(7))),
                ..pair
            },
        });
        Ok(turned.collect())
    }

    fn look(
        a: Lent<'_>,
        b: Option<DecoderBorrow<'_>>,
        (c, d): (Either<'_>, Either<'_>),
    ) -> Result<String, String> {
        let b = b.map_or("none".into(), |b| b.get::<Own>().name.clone());
        let a = (a.label, &a.it.get::<Own>().name);
        Ok(format!("{}={} {b} {} {}", a.0, a.1, number(&c), number(&d)))
    }

    fn take(it: Decoder, keep: bool) -> Result<String, String> {
        let own = it.get::<Own>();
        let said = format!("{} {}", own.name, own.count.get());
        if keep {
            KEPT.with_borrow_mut(|kept| kept.push(it));
        }
        Ok(said)
    }

    fn mix(
        it: DecoderBorrow<'_>,
        room: &Region,
        other: Decoder,
        more: Region,
    ) -> Result<(Region, Decoder), String> {
        let text = |error| format!("{error:?}");
        room.write_at(0, it.get::<Own>().name.as_bytes())
            .map_err(text)?;
        more.write_at(0, other.get::<Own>().name.as_bytes())
            .map_err(text)?;
        Ok((more, other))
    }

    fn many(count: u32) -> Result<Vec<Decoder>, String> {
        let many = (0..count).map(|n| Decoder::new(Own::made(format!("many {n}"))));
        Ok(many.collect())
    }

    fn destroyed() -> Result<Vec<String>, String> {
        Ok(DESTROYED.with_borrow(Clone::clone))
    }

    fn alive() -> Result<u32, String> {
        Ok(ALIVE.get())
    }

    fn die() -> Result<(), String> {
        panic!("told to die")
    }
}

fn main() {}
