//! The bindings of a guest's own WIT use this crate's types: in imports and exports, lent
//! and moved, at any depth. Most of this is tested by compiling it. The tests of the host
//! cover its behaviour.

use tombolo_guest::{Error, Region};

mod bindings {
    #![allow(unsafe_code, missing_docs, unreachable_pub)]

    wit_bindgen::generate!({
        path: "wit",
        inline: r#"
            package test:depth;

            interface desk {
                use tombolo:memory/regions@0.1.0.{region};

                record lent { label: string, part: option<borrow<region>> }

                // Only imported, because the generator cannot lift borrows out of lists.
                look-many: func(many: list<borrow<region>>) -> result<u64, string>;
                look-deep: func(items: list<lent>) -> result<_, string>;
            }

            interface shelf {
                use tombolo:memory/regions@0.1.0.{region, rights, error-code};

                record lent { label: string, part: option<borrow<region>> }
                record moved { label: string, part: region, more: list<region> }
                variant either { whole(region), parts(tuple<region, region>), none }

                look: func(one: borrow<region>) -> result<u64, error-code>;
                look-in: func(item: lent, pair: tuple<borrow<region>, rights>) -> result<_, string>;
                put: func(items: list<moved>, last: option<region>) -> result<either, string>;
                take: func(name: string) -> result<option<moved>, error-code>;
            }

            world both {
                import desk;
                import shelf;
                export shelf;
            }
        "#,
        with: { "tombolo:memory/regions@0.1.0": tombolo_guest::regions },
        generate_all,
    });

    export!(Shelf);

    pub(crate) struct Shelf;
}

use bindings::Shelf;
use bindings::exports::test::depth::shelf as exported;
use bindings::test::depth::{desk, shelf as imported};

impl exported::Guest for Shelf {
    fn look(one: &Region) -> Result<u64, exported::ErrorCode> {
        Ok(u64::from(one.try_read(..1)?[0]))
    }

    fn look_in(
        item: exported::Lent<'_>,
        (region, allowed): (&Region, exported::Rights),
    ) -> Result<(), String> {
        let weaker = region.restrict(allowed).map_err(|e| e.to_string())?;
        desk::look_many(&[region, &weaker])?;
        imported::look_in(
            &imported::Lent {
                label: item.label,
                part: item.part,
            },
            (&weaker, &allowed),
        )
    }

    fn put(
        mut items: Vec<exported::Moved>,
        last: Option<Region>,
    ) -> Result<exported::Either, String> {
        match (items.pop().map(|item| item.part), last) {
            (Some(one), Some(other)) => Ok(exported::Either::Parts((one, other))),
            (Some(one), None) | (None, Some(one)) => Ok(exported::Either::Whole(one)),
            (None, None) => Ok(exported::Either::None),
        }
    }

    fn take(name: String) -> Result<Option<exported::Moved>, exported::ErrorCode> {
        let part = Region::create(&name, 1)?;
        let more = vec![part.duplicate(tombolo_guest::Rights::all())?];
        Ok(Some(exported::Moved {
            label: name,
            part,
            more,
        }))
    }
}

/// Lends while windows stay mapped. This must compile.
#[allow(dead_code)]
fn lend_with_windows_kept(region: Region, other: Region) -> Result<(), Box<dyn std::error::Error>> {
    let mut head = region.try_write(..65536)?;
    let mut tails = vec![region.try_read(65536..)?];
    {
        let lent = region.lend((&mut head, tails.as_mut_slice()));
        imported::look(&lent)?;
        desk::look_many(&[&lent, &other])?;
        let items = [desk::Lent {
            label: "deep".into(),
            part: Some(&lent),
        }];
        desk::look_deep(&items)?;
    }
    head.fill(1);
    let head = head.into_read().map_err(Error::from)?;
    assert_eq!(head[0], tails[0][0]);
    drop((head, tails));
    let put = imported::put(
        vec![imported::Moved {
            label: String::new(),
            part: region,
            more: Vec::new(),
        }],
        Some(other),
    )?;
    assert!(matches!(put, imported::Either::Parts(_)));
    Ok(())
}

#[test]
fn error_text_names_the_remedy() {
    let poisoned = Error::Poisoned.to_string();
    assert!(poisoned.contains("clear_poison"), "{poisoned}");
    let exhausted = Error::from(imported::ErrorCode::Exhausted("regions: 8".into()));
    assert_eq!(exhausted.to_string(), "exhausted: regions: 8");
}
