//! The WIT package: it resolves, and says what each item is for and since when.

use std::path::Path;

use anyhow::Result;
use wit_parser::{Docs, Resolve, Stability, TypeDefKind, TypeOwner};

/// What a reader of the package needs to know of an item. Cases and flags have
/// no stability of their own.
struct Item<'a> {
    name: String,
    docs: &'a Docs,
    stability: Option<&'a Stability>,
}

fn package() -> Result<Resolve> {
    let mut resolve = Resolve::default();
    resolve.push_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit"))?;
    Ok(resolve)
}

fn items(resolve: &Resolve) -> Vec<Item<'_>> {
    let mut items = Vec::new();
    let mut add = |name: String, docs, stability| {
        items.push(Item {
            name,
            docs,
            stability,
        })
    };
    for (_, world) in resolve.worlds.iter() {
        add(world.name.clone(), &world.docs, Some(&world.stability));
    }
    for (_, interface) in resolve.interfaces.iter() {
        let name = interface
            .name
            .clone()
            .expect("interfaces of packages have names");
        add(name.clone(), &interface.docs, Some(&interface.stability));
        for function in interface.functions.values() {
            let name = format!("{name}.{}", function.name);
            add(name, &function.docs, Some(&function.stability));
        }
    }
    for (_, definition) in resolve.types.iter() {
        let (Some(name), TypeOwner::Interface(owner)) = (&definition.name, definition.owner) else {
            continue;
        };
        let owner = resolve.interfaces[owner]
            .name
            .as_deref()
            .unwrap_or_default();
        let name = format!("{owner}.{name}");
        let cases: Vec<(&str, &Docs)> = match &definition.kind {
            // `use` of a type that is documented where it is defined.
            TypeDefKind::Type(_) => continue,
            TypeDefKind::Record(it) => it.fields.iter().map(|it| (&*it.name, &it.docs)).collect(),
            TypeDefKind::Variant(it) => it.cases.iter().map(|it| (&*it.name, &it.docs)).collect(),
            TypeDefKind::Enum(it) => it.cases.iter().map(|it| (&*it.name, &it.docs)).collect(),
            TypeDefKind::Flags(it) => it.flags.iter().map(|it| (&*it.name, &it.docs)).collect(),
            _ => Vec::new(),
        };
        for (case, docs) in cases {
            add(format!("{name}.{case}"), docs, None);
        }
        add(name, &definition.docs, Some(&definition.stability));
    }
    items
}

#[test]
fn every_item_is_documented() -> Result<()> {
    let resolve = package()?;
    let items = items(&resolve);
    assert!(items.iter().any(|it| it.name == "regions.rights.share"));
    for item in items {
        assert!(!item.docs.is_empty(), "{} has no documentation", item.name);
    }
    Ok(())
}

#[test]
fn every_item_says_since_when_it_is_there() -> Result<()> {
    for item in items(&package()?) {
        assert!(
            !item.stability.is_some_and(Stability::is_unknown),
            "{} has neither `@since` nor `@unstable`",
            item.name
        );
    }
    Ok(())
}
