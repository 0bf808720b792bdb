//! The WIT package: it resolves, and says what each item is for and since when.

use std::path::Path;

use anyhow::Result;
use wit_parser::{Docs, PackageId, Resolve, Stability, TypeDefKind, TypeOwner};

/// What a reader of the package needs to know of an item. Cases and flags have
/// no stability of their own.
struct Item<'a> {
    name: String,
    docs: &'a Docs,
    stability: Option<&'a Stability>,
}

fn package() -> Result<(Resolve, PackageId)> {
    let mut resolve = Resolve::default();
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit");
    let (package, _) = resolve.push_dir(wit)?;
    Ok((resolve, package))
}

/// The items of our package, without those of the packages that it uses.
fn items(resolve: &Resolve, package: PackageId) -> Vec<Item<'_>> {
    let mut items = Vec::new();
    let mut add = |name: String, docs, stability| {
        items.push(Item {
            name,
            docs,
            stability,
        })
    };
    let ours = Some(package);
    for (_, world) in resolve.worlds.iter().filter(|(_, it)| it.package == ours) {
        add(world.name.clone(), &world.docs, Some(&world.stability));
    }
    let interfaces = resolve.interfaces.iter();
    for (_, interface) in interfaces.filter(|(_, it)| it.package == ours) {
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
        let owner = &resolve.interfaces[owner];
        if owner.package != ours {
            continue;
        }
        let owner = owner.name.as_deref().unwrap_or_default();
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
    let (resolve, package) = package()?;
    let items = items(&resolve, package);
    for item in ["regions.rights.share", "pressure.watch"] {
        assert!(items.iter().any(|it| it.name == item), "{item}");
    }
    for item in items {
        assert!(!item.docs.is_empty(), "{} has no documentation", item.name);
    }
    Ok(())
}

#[test]
fn every_item_says_since_when_it_is_there() -> Result<()> {
    let (resolve, package) = package()?;
    for item in items(&resolve, package) {
        assert!(
            !item.stability.is_some_and(Stability::is_unknown),
            "{} has neither `@since` nor `@unstable`",
            item.name
        );
    }
    Ok(())
}
