//! Values of all types, and handles in them.

use super::bindings::test::calls::{deep, near_short, plain};
use super::near;
use super::{create, write};
use tombolo_test_guests::raw::regions::Region;

/// Passes scalars, one by one.
fn scalars() {
    for d in [i16::MIN, -1, i16::MAX] {
        assert_eq!(near_short::small(u8::MAX, i8::MIN, u16::MAX, d), d);
    }
    for c in [0, 1 << 32, u64::MAX] {
        assert_eq!(near_short::large(u32::MAX, i32::MIN, c, i64::MIN), c);
    }
    for c in ['\0', 'a', '\u{10ffff}'] {
        let seen = near_short::others(f32::MIN_POSITIVE, f64::MAX, c, true);
        assert_eq!(seen, c);
    }
    assert!(near_short::negated(false) && !near_short::negated(true));
    let mut color = near_short::Color::Red;
    for _ in 0..3 {
        color = near_short::next(color);
    }
    assert!(matches!(color, near_short::Color::Red));
    assert_eq!(near_short::doubled(-0.25), Ok(-0.5));
    assert_eq!(near_short::doubled(f64::NAN), Err("no number".into()));
    let region = super::create("back");
    region.write_at(3, &[5]).unwrap();
    let region = near_short::back(region);
    assert_eq!(region.read_at(3, 1).unwrap(), [5]);
}

pub(super) fn values() {
    scalars();
    let integers = [
        (0, 0, 0, 0, 0, 0, 0, 0),
        (
            u8::MAX,
            i8::MAX,
            u16::MAX,
            i16::MAX,
            u32::MAX,
            i32::MAX,
            u64::MAX,
            i64::MAX,
        ),
        (1, i8::MIN, 2, i16::MIN, 3, i32::MIN, 4, i64::MIN),
    ];
    for (a, b, c, d, e, f, g, h) in integers {
        assert_eq!(
            plain::integers(a, b, c, d, e, f, g, h),
            (a, b, c, d, e, f, g, h)
        );
    }
    let texts = ["", "plain", "Ünïcödé \u{1f3dd} \0 end"];
    let reals = [0.0, f64::MIN_POSITIVE, f64::INFINITY, -1.5e300];
    for (text, real) in texts.into_iter().zip(reals) {
        for c in ['\0', 'x', '\u{d7ff}', '\u{e000}', char::MAX] {
            assert_eq!(
                plain::others(real as f32, real, c, real > 1.0, text),
                (real as f32, real, c, real > 1.0, text.to_owned())
            );
        }
    }
    let (nan, other, ..) = plain::others(f32::NAN, f64::NAN, 'x', true, "");
    assert!(nan.is_nan() && other.is_nan());
    let (zero, ..) = plain::others(-0.0, 0.0, 'x', true, "");
    assert!(zero.is_sign_negative());

    use plain::{Colours, Point, Shape, Size};
    let point = |x| Point {
        x,
        y: u64::MAX,
        tags: vec!["one".into(), String::new()],
    };
    let shapes = [Shape::Circle(0.5), Shape::Square, Shape::Label("l".into())];
    for colours in [
        Colours::empty(),
        Colours::GREEN,
        Colours::RED | Colours::BLUE,
        Colours::all(),
    ] {
        for size in [Size::Small, Size::Medium, Size::Large] {
            let (a, b, c, d) = plain::named(colours, size, &shapes, &point(-3));
            assert_eq!((a, b), (colours, size));
            assert_eq!(format!("{c:?}"), format!("{shapes:?}"));
            assert_eq!(format!("{d:?}"), format!("{:?}", point(-3)));
        }
    }

    let lists = [vec![1, 2, 3], vec![], vec![u16::MAX]];
    let results = [Ok(point(1)), Err(Shape::Square), Err(Shape::Circle(2.0))];
    let tuples = [(1, vec![0.5, -0.5]), (2, vec![])];
    for option in [None, Some(None), Some(Some("some"))] {
        let slices = |(a, b): &(u8, Vec<f32>)| (*a, b.clone());
        let tuples: Vec<_> = tuples.iter().map(slices).collect();
        let (a, b, c, d) = plain::nested(&lists, option, &results, &tuples);
        assert_eq!(a, lists);
        assert_eq!(b, option.map(|some| some.map(str::to_owned)));
        assert_eq!(format!("{c:?}"), format!("{results:?}"));
        assert_eq!(d, tuples);
    }
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    assert_eq!(
        plain::none(&bytes, Some(""), Err(())),
        (bytes.clone(), Some(String::new()), Err(()))
    );
    assert_eq!(plain::none(&[], None, Ok(())), (vec![], None, Ok(())));
    let mut reversed = plain::bytes(&bytes);
    reversed.reverse();
    assert_eq!(reversed, bytes);
    assert_eq!(plain::bytes(&[]), []);
    plain::nothing();
}

pub(super) fn deep() {
    use deep::{Either, Lent, LentEither, Moved};
    let regions: Vec<Region> = (0..5)
        .map(|byte| {
            let region = create("deep");
            drop(write(&region, byte));
            region
        })
        .collect();
    let [a, b, c, d, e] = regions.as_slice() else {
        unreachable!()
    };
    let label = || "label".to_owned();
    let lent = Lent {
        label: label(),
        part: Some(a),
    };
    let seen = deep::look(&lent, Ok(b), (200, &LentEither::Parts((c, d))));
    assert_eq!(seen, Ok(vec![200, 0, 1, 2, 3]));
    let lent = Lent {
        label: label(),
        part: None,
    };
    let seen = deep::look(&lent, Err("none"), (201, &LentEither::Whole(e)));
    assert_eq!(seen, Ok(vec![201, 4]));
    let seen = deep::look(&lent, Ok(a), (202, &LentEither::None));
    assert_eq!(seen, Ok(vec![202, 1]));

    let first = |region: &Region| region.read_at(0, 1).unwrap()[0];
    let bytes: Vec<u8> = regions.iter().map(first).collect();
    assert_eq!(bytes, [2, 2, 3, 4, 5]);
    let ids: Vec<u64> = regions.iter().map(Region::id).collect();
    let mut regions = regions.into_iter();
    let mut next = || regions.next().unwrap();
    let moved = vec![
        Moved {
            label: label(),
            part: next(),
            more: vec![next(), next()],
        },
        Moved {
            label: label(),
            part: next(),
            more: vec![],
        },
    ];
    let pair = (create("pair"), create("pair"));
    let pair_ids = (pair.0.id(), pair.1.id());
    let (back, last, either) = deep::swap(moved, None, Either::Parts(pair), Err(next())).unwrap();
    let back_ids: Vec<u64> = back.iter().map(Region::id).collect();
    assert_eq!(back_ids, [ids[3], ids[2], ids[1], ids[0]]);
    assert_eq!(back.iter().map(first).collect::<Vec<_>>(), [5, 4, 3, 3]);
    let last = last.unwrap();
    assert_eq!((&*last.label, last.part.id()), ("back", ids[4]));
    assert_eq!(first(&last.part), 6);
    let Either::Parts((one, other)) = either else {
        panic!("the pair comes back")
    };
    assert_eq!((one.id(), other.id()), pair_ids);
    // Received handles are first handles here, too.
    assert_eq!(near::move_("own", one).as_deref(), Ok("0"));
}
