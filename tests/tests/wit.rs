//! The WIT packages resolve, and each item has documentation and a `@since`.

use std::path::Path;

use anyhow::Result;
use wit_parser::{Docs, PackageId, Resolve, Stability, TypeDefKind, TypeOwner};

/// The packages, each a folder of `wit`.
const PACKAGES: [&str; 4] = ["memory", "memory-async", "app", "app-async"];

/// The documentation and the stability of an item. Cases and flags have no stability
/// of their own.
struct Item<'a> {
    name: String,
    docs: &'a Docs,
    stability: Option<&'a Stability>,
}

fn resolve(package: &str) -> Result<(Resolve, PackageId)> {
    let mut resolve = Resolve::default();
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit");
    let (package, _) = resolve.push_dir(wit.join(package))?;
    Ok((resolve, package))
}

/// Returns the items of a package, without those of the packages that it uses.
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
    for (package, known) in PACKAGES.into_iter().zip([
        ["regions.rights.share", "pressure.watch"],
        ["waits.turn", "pressure.wait-change"],
        ["channels.refusal.closed", "scopes.publication"],
        ["channels.wait-readable", "scopes.wait-published"],
    ]) {
        let (resolve, package) = resolve(package)?;
        let items = items(&resolve, package);
        for item in known {
            assert!(items.iter().any(|it| it.name == item), "{item}");
        }
        for item in items {
            assert!(!item.docs.is_empty(), "{} has no documentation", item.name);
        }
    }
    Ok(())
}

#[test]
fn every_item_has_a_stability() -> Result<()> {
    for package in PACKAGES {
        let (resolve, package) = resolve(package)?;
        for item in items(&resolve, package) {
            assert!(
                !item.stability.is_some_and(Stability::is_unknown),
                "{} has neither `@since` nor `@unstable`",
                item.name
            );
        }
    }
    Ok(())
}
