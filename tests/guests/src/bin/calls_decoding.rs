//! Uses resources of another guest. Plays the scenario of its first argument, or of its own
//! name.
// Hostile calls bypass the bindings.
#![allow(unsafe_code, clippy::undocumented_unsafe_blocks)]

mod bindings {
    #![allow(missing_docs)] // Generated.
    wit_bindgen::generate!({
        path: ["../../wit/memory", "../wit/resources.wit"],
        world: "test:resources/user",
        with: {
            "tombolo:memory/regions@0.1.0": tombolo_test_guests::raw::regions,
            "tombolo:memory/windows@0.1.0": tombolo_test_guests::raw::windows,
        },
        generate_all,
    });
}

use bindings::test::resources::decoders::{self, Decoder, Either, Lent, Pair, Ticket};
use bindings::test::resources::sink;
use tombolo_test_guests::node;
use tombolo_test_guests::raw::regions::Region;
use tombolo_test_guests::raw::windows::Access;
use tombolo_test_guests::scenarios::DecodingScenario;

#[link(wasm_import_module = "test:resources/decoders")]
unsafe extern "C" {
    #[link_name = "[method]decoder.next-roomless"]
    safe fn raw_next(handle: u32) -> u32;
    #[link_name = "[resource-drop]decoder"]
    safe fn raw_drop(handle: u32);
}

fn open(name: &str) -> Decoder {
    Decoder::open(name).expect("it can be opened")
}

fn destroyed() -> Vec<String> {
    decoders::destroyed().expect("the owner lives")
}

fn region() -> Region {
    Region::create("room", 65536, true).expect("there is room")
}

/// Shows the test that this point is reached.
fn wave() -> (Region, node::Page) {
    let region = region();
    let page = node::Page::map(&region, 0, Access::Read).expect("it can be mapped");
    (region, page)
}

fn pair(left: &str, right: Option<&str>) -> Pair {
    Pair {
        left: Decoder::new(left),
        right: right.map(Decoder::new),
        ticket: Err("none yet".into()),
    }
}

fn values() {
    let (a, b) = (Decoder::new("a"), open("b"));
    assert_eq!(a.name().as_deref(), Ok("a"));
    assert_eq!((a.next(), a.next(), b.next()), (Ok(1), Ok(2), Ok(1)));
    assert_eq!(a.next_roomless(), 3);
    assert_eq!(Decoder::open("").err().as_deref(), Some("no name"));
    assert_eq!((a.is(&a), a.is(&b)), (Ok(true), Ok(false)));

    let ticket = Ticket::new(5);
    assert_eq!(ticket.number(), 5);
    let lent = Lent {
        label: "label".into(),
        it: &a,
    };
    let said = decoders::look(&lent, Some(&b), (&Either::Other(&ticket), &Either::One(&a)));
    assert_eq!(said.as_deref(), Ok("label=a b 5 a"));
    let said = decoders::look(&lent, None, (&Either::None, &Either::One(&b)));
    assert_eq!(said.as_deref(), Ok("label=a none none b"));

    let all = [pair("c", Some("d")), pair("e", None)];
    let back = decoders::swap(all.into()).expect("the owner lives");
    let names: Vec<String> = back
        .iter()
        .flat_map(|pair| [Some(&pair.left), pair.right.as_ref()])
        .map(|it| it.map_or("none".into(), |it| it.name().expect("it lives")))
        .collect();
    assert_eq!(names, ["e", "none", "d", "c"]);
    assert_eq!(back[0].ticket.as_ref().map(Ticket::number), Ok(7));
    assert!(back[1].ticket.is_err());
    assert_eq!(destroyed(), [""; 0]);
    drop(back);
    assert_eq!(destroyed(), ["e", "d", "c"]);

    // The same resource as before.
    assert_eq!(decoders::take(a, true).as_deref(), Ok("a 3"));
    assert_eq!(decoders::alive(), Ok(2));
    assert_eq!(decoders::take(b, false).as_deref(), Ok("b 1"));
    assert_eq!(decoders::alive(), Ok(1));
}

fn order() {
    let (a, b, c) = (open("a"), open("b"), open("c"));
    drop(b);
    assert_eq!(destroyed(), ["b"]);
    drop(c);
    let d = open("d");
    drop((d, a));
    assert_eq!(destroyed(), ["b", "c", "d", "a"]);
}

fn mixed() {
    let (a, b, room) = (open("a"), open("b"), region());
    let (more, b) = decoders::mix(&a, &room, b, region()).expect("the owner lives");
    assert_eq!(room.read_at(0, 2).expect("it is free"), b"a\0");
    assert_eq!(more.read_at(0, 2).expect("it is free"), b"b\0");
    assert_eq!(b.name().as_deref(), Ok("b"));
}

fn many() {
    for n in 0..20_000 {
        let one = open("one");
        if n % 4 == 0 {
            decoders::take(one, false).expect("the owner lives");
        } else if n % 4 == 1 {
            sink::keep(one).expect("the third lives");
        } else if n % 4 == 2 {
            assert_eq!(sink::look(&one, false).as_deref(), Ok("one"));
        }
    }
    sink::drop_kept().expect("it was kept");
    assert_eq!(decoders::alive(), Ok(0));
}

/// Runs with a limit of eight handles.
fn limit() {
    let refused = decoders::many(9).expect_err("that is too many");
    assert!(refused.contains("`handles`"), "{refused}");
    assert_eq!(decoders::alive(), Ok(0));
    let eight = decoders::many(8).expect("that is not");
    assert!(Decoder::open("one more").is_err());
    drop(eight);
    drop(open("again"));
    assert_eq!(decoders::alive(), Ok(0));
}

fn owner_dies() {
    let (a, b, c) = (open("a"), open("b"), open("c"));
    sink::keep(c).expect("the third lives");
    let told = "guest `decoders` was ended in `test:resources/decoders.die`";
    let why = decoders::die().unwrap_err();
    assert!(why.starts_with(told), "{why}");
    assert_eq!(a.next(), Err(why.clone()));
    assert_eq!(sink::look(&a, false), Err(why.clone()));
    assert_eq!(sink::next_of_kept(), Err(why.clone()));
    assert_eq!(decoders::take(b, false), Err(why.clone()));
    assert_eq!(Decoder::open("new").err(), Some(why));
    drop(a);
    sink::drop_kept().expect("it was kept");
}

fn owner_dies_roomless() {
    let a = open("a");
    decoders::die().unwrap_err();
    a.next_roomless();
}

fn owner_lives_again() {
    let (a, b, c) = (open("a"), open("b"), open("c"));
    sink::keep(c).expect("the third lives");
    let why = decoders::die().unwrap_err();
    let gone = format!("resource `test:resources/decoders.decoder` is gone: {why}");
    assert_eq!(a.next(), Err(gone.clone()));
    let new = open("new");
    assert_eq!(new.next(), Ok(1));
    assert_eq!(new.is(&a), Err(gone.clone()));
    assert_eq!(a.is(&new), Err(gone.clone()));
    assert_eq!(sink::look(&a, false), Err(gone.clone()));
    assert_eq!(sink::next_of_kept(), Err(gone.clone()));
    assert_eq!(decoders::take(b, false), Err(gone));
    drop(a);
    sink::drop_kept().expect("it was kept");
    assert_eq!(destroyed(), [""; 0]);
    drop(new);
    assert_eq!(destroyed(), ["new"]);
}

fn third() {
    let (a, b) = (open("a"), open("b"));
    assert_eq!((a.next(), b.next()), (Ok(1), Ok(1)));
    assert_eq!(sink::look(&a, false).as_deref(), Ok("a"));
    assert_eq!(sink::compare(&a), Ok(true));
    assert_eq!(destroyed(), ["own"]);
    sink::keep(a).expect("the third lives");
    assert_eq!(sink::next_of_kept(), Ok(2));
    let a = sink::give_back().expect("the third lives");
    assert_eq!(a.next(), Ok(3));
    sink::keep(a).expect("the third lives");
    sink::drop_kept().expect("it was kept");
    assert_eq!(destroyed(), ["own", "a"]);

    // The guest dies with a resource that it owns, and one that it was lent.
    sink::keep(open("kept")).expect("the third lives");
    let why = sink::look(&b, true).unwrap_err();
    assert!(why.contains("guest `sink` was ended"), "{why}");
    assert_eq!(destroyed(), ["own", "a", "kept"]);
    assert_eq!(b.next(), Ok(2));
    assert!(sink::keep(b).is_err());
    assert_eq!(destroyed(), ["own", "a", "kept", "b"]);
}

fn bomb() {
    drop(open("bomb"));
    let why = decoders::alive().unwrap_err();
    let told = "guest `decoders` was ended in `test:resources/decoders.[dtor]decoder`";
    assert!(why.starts_with(told), "{why}");
}

/// Holds resources, and ends in the given way. Another guest watches.
fn ends(how: &str) {
    let some = [open("a"), open("b")];
    sink::keep(open("c")).expect("the third lives");
    let _seen = wave();
    match how {
        "trap" => panic!("on purpose"),
        "exit" => std::process::exit(1),
        "spin" => loop {
            std::hint::spin_loop();
        },
        // In a loop, so that the end comes during a call.
        "call" => loop {
            some[0].next().expect("the owner lives");
        },
        other => panic!("{other}?"),
    }
}

/// Waits until exactly the two resources of the other guest are destroyed.
fn watch() {
    loop {
        let destroyed = destroyed();
        if destroyed.len() == 2 {
            assert_eq!(destroyed, ["a", "b"]);
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert_eq!(decoders::alive(), Ok(1));
    assert_eq!(sink::next_of_kept(), Ok(1));
}

fn hostile(how: &str) {
    let a = open("a");
    let ticket = Ticket::new(1);
    match how {
        "forged" => drop(raw_next(4711)),
        "forged-drop" => raw_drop(4711),
        "given-away" => {
            let handle = a.handle();
            decoders::take(a, true).expect("the owner lives");
            raw_next(handle);
        }
        "dropped" => {
            let handle = a.handle();
            drop(a);
            raw_next(handle);
        }
        "confused" => drop(raw_next(ticket.handle())),
        "confused-drop" => raw_drop(ticket.handle()),
        other => panic!("{other}?"),
    }
    println!("went on");
}

fn main() {
    let scenario = std::env::args().nth(1).expect("the name of a scenario");
    let (scenario, rest) = scenario.split_once(' ').unwrap_or((&scenario, ""));
    match scenario.parse().expect("the scenario exists") {
        DecodingScenario::Ends => ends(rest),
        DecodingScenario::Hostile => hostile(rest),
        DecodingScenario::Values => values(),
        DecodingScenario::Order => order(),
        DecodingScenario::Mixed => mixed(),
        DecodingScenario::Many => many(),
        DecodingScenario::Limit => limit(),
        DecodingScenario::OwnerDies => owner_dies(),
        DecodingScenario::OwnerDiesRoomless => owner_dies_roomless(),
        DecodingScenario::OwnerLivesAgain => owner_lives_again(),
        DecodingScenario::Third => third(),
        DecodingScenario::Bomb => bomb(),
        DecodingScenario::Watch => watch(),
    }
}
