//! Links the imports of each guest, one after the other.

use wasmtime::component::types::{ComponentFunc, ComponentInstance, ComponentItem, Type};
use wasmtime::component::{Component, Linker, ResourceType};
use wasmtime::{Engine, bail};

use super::error::{LinkError, UnsupportedImport};
use super::error_slot::{ErrorSlot, LinkWarning};
use super::exports::{ExportIndex, ExportedInterface};
use super::identify::{ExporterChoice, Needs, choose};
use super::interfaces::{self, Import, Provider};
use super::name::Name;
use super::offer::Offers;
use super::resources::{Identity, Origin, Resources};
use super::{Allowed, ExaminedGuest, ExaminedGuests, Link, LinkPlan, LinkedFunction, ResourceDef};
use super::{compare, payload, print, visit};
use crate::near::Hints;
use tombolo_exchange::GuestId;

/// A plan in the making.
pub(super) struct Planner<'a> {
    engine: &'a Engine,
    guests: &'a ExaminedGuests<'a>,
    exports: &'a ExportIndex,
    allowed: &'a Allowed,
    pub(super) plan: LinkPlan,
    pub(super) errors: Vec<LinkError>,
    hints: Hints,
}

impl<'a> Planner<'a> {
    pub(super) fn new(
        engine: &'a Engine,
        guests: &'a ExaminedGuests<'a>,
        exports: &'a ExportIndex,
        allowed: &'a Allowed,
        resources: Vec<ResourceDef>,
    ) -> Planner<'a> {
        Planner {
            engine,
            guests,
            exports,
            allowed,
            plan: LinkPlan {
                links: Vec::new(),
                resources,
                warnings: Vec::new(),
            },
            errors: Vec::new(),
            hints: Hints::new(),
        }
    }

    /// Links all imports of one guest that the host does not serve. Returns the provider of each
    /// import.
    pub(super) fn imports<T: 'static>(
        &mut self,
        importer: GuestId,
        offers: &mut Offers<T>,
    ) -> Vec<Import> {
        let guest = &self.guests[&importer];
        let mut imports = Vec::new();
        for (name, item) in guest.ty.imports(self.engine) {
            let mut import = Import {
                name: name.to_owned(),
                functions: Vec::new(),
                resources: Vec::new(),
                provider: Provider::Unsupported,
            };
            match item.ty {
                ComponentItem::ComponentInstance(instance) => {
                    import.provider = match offers.offered(name) {
                        true => Provider::Host,
                        false => self.link(importer, name, &instance, offers.nearest(name)),
                    };
                    import.functions = interfaces::functions(self.engine, &instance);
                    import.resources = interfaces::resources(self.engine, &instance);
                }
                item => match unsupported_item(&guest.resources, &item) {
                    Some(reason) => self.errors.push(unsupported(guest, name, None, reason)),
                    // A type by itself needs no exporter.
                    None => continue,
                },
            }
            imports.push(import);
        }
        imports
    }

    /// Links one imported interface, and returns its provider. `host` is the incompatible
    /// version of it that the host offers.
    fn link(
        &mut self,
        importer: GuestId,
        import: &str,
        instance: &ComponentInstance,
        host: Option<String>,
    ) -> Provider {
        let guest = &self.guests[&importer];
        let Some(items) = ImportedItems::of(self.engine, instance) else {
            let reason = UnsupportedImport::Item {
                item: "nested item",
            };
            self.errors.push(unsupported(guest, import, None, reason));
            return Provider::Unsupported;
        };
        let needs = Needs::of(self.engine, guest, import, instance);
        let export = match self.exporter(importer, import, needs, host) {
            Ok(export) => export,
            Err(provider) => return provider,
        };
        let pair = Pair {
            engine: self.engine,
            importer: guest,
            import,
            exporter: &self.guests[&export.guest],
            export,
        };
        let known = self.errors.len();
        let resources = self.resources(&pair, items.resources);
        // Functions would only repeat that a resource is missing.
        let functions = match self.errors.len() == known {
            true => self.functions(&pair, items.functions),
            false => Vec::new(),
        };
        if self.errors.len() > known {
            return Provider::Unfit(pair.exporter.name.to_owned());
        }
        self.plan.links.push(Link {
            importer,
            import: import.to_owned(),
            exporter: export.guest,
            export: export.name.clone(),
            functions,
            resources,
        });
        Provider::Guest(pair.exporter.name.to_owned())
    }

    /// Finds the export that serves an import. Otherwise adds an error, if it is one, and
    /// returns what is to be reported as the provider.
    fn exporter(
        &mut self,
        importer: GuestId,
        import: &str,
        needs: Needs,
        host: Option<String>,
    ) -> Result<&'a ExportedInterface, Provider> {
        let guest = self.guests[&importer].name.to_owned();
        let names = |guests: &[GuestId]| -> Vec<String> {
            let names = guests.iter().map(|guest| self.guests[guest].name);
            names.map(str::to_owned).collect()
        };
        let import_name = import.to_owned();
        let (error, provider) = match choose(self.exports, self.allowed, importer, import, needs) {
            ExporterChoice::Types => return Err(Provider::Types),
            ExporterChoice::Export(export) => return Ok(export),
            ExporterChoice::Nobody => (self.missing(importer, import, host), Provider::Nobody),
            ExporterChoice::Forbidden(others) => {
                let exporters = names(&others);
                let error = LinkError::Forbidden {
                    guest,
                    import: import_name,
                    exporters: exporters.clone(),
                };
                (error, Provider::Forbidden(exporters))
            }
            ExporterChoice::Several(several) => {
                let exporters = names(&several);
                let error = LinkError::Ambiguous {
                    guest,
                    import: import_name,
                    exporters: exporters.clone(),
                };
                (error, Provider::Ambiguous(exporters))
            }
        };
        self.errors.push(error);
        Err(provider)
    }

    /// Returns the error that no guest serves `import`. `host` is the version of it that the
    /// host offers.
    fn missing(&mut self, importer: GuestId, import: &str, host: Option<String>) -> LinkError {
        let name = Name::parse(import);
        let guest = self.guests[&importer].name.to_owned();
        let import = import.to_owned();
        match host {
            Some(offered) => LinkError::HostVersion {
                guest,
                import,
                offered,
            },
            None if name.is_hosts() => LinkError::HostLacks { guest, import },
            None => LinkError::Missing {
                near: self
                    .exports
                    .near(importer, &name, self.guests, &mut self.hints),
                guest,
                import,
            },
        }
    }

    /// Returns the resources of an import with their numbers. Adds an error for each that the
    /// exporter lacks.
    fn resources(
        &mut self,
        pair: &Pair<'_>,
        resources: Vec<(&str, ResourceType)>,
    ) -> Vec<(String, u32)> {
        let mut numbered = Vec::new();
        for (name, ty) in resources {
            match pair.importer.resources.identity(ty) {
                Identity::Guest(number) => numbered.push((name.to_owned(), number)),
                Identity::Unknown if pair.importer.defines(pair.import, ty) => {
                    self.errors.push(pair.no_resource(name));
                }
                // It is used from another interface, which is checked by itself.
                Identity::Unknown | Identity::Region => {}
            }
        }
        numbered
    }

    /// Returns the functions of an import. Adds an error for each that does not match the
    /// exporter's, and a warning for each without an error slot.
    fn functions(
        &mut self,
        pair: &Pair<'_>,
        functions: Vec<(&str, ComponentFunc)>,
    ) -> Vec<LinkedFunction> {
        let mut linked = Vec::new();
        for (name, ty) in functions {
            match pair.function(name, ty, &mut self.hints) {
                Ok(function) => {
                    if function.error_slot.is_none() {
                        self.plan.warnings.push(LinkWarning {
                            importer: pair.importer.name.to_owned(),
                            exporter: pair.exporter.name.to_owned(),
                            function: format!("{}.{name}", Name::parse(pair.import).path),
                        });
                    }
                    linked.push(function);
                }
                Err(error) => self.errors.push(*error),
            }
        }
        linked
    }

    /// Lets the engine check one guest's imports against the host. All that other guests serve
    /// is defined as planned.
    pub(super) fn check_host<T: 'static>(
        &self,
        linker: &Linker<T>,
        importer: GuestId,
        component: &Component,
    ) -> wasmtime::Result<()> {
        let mut linker = linker.clone();
        for link in &self.plan.links {
            if link.importer != importer {
                continue;
            }
            let mut instance = linker.instance(&link.import)?;
            for (resource, number) in &link.resources {
                instance.resource(resource, ResourceType::host_dynamic(*number), |_, _| Ok(()))?;
            }
            for LinkedFunction { name, ty, .. } in &link.functions {
                // Never called: this linker makes no instance.
                match ty.async_() {
                    true => instance.func_new_concurrent(name, |_, _, _, _| {
                        Box::pin(async { bail!("not linked") })
                    })?,
                    false => instance.func_new(name, |_, _, _, _| bail!("not linked"))?,
                }
            }
        }
        linker.substituted_component_type(component)?;
        Ok(())
    }
}

/// The functions and resources of an imported interface.
struct ImportedItems<'a> {
    functions: Vec<(&'a str, ComponentFunc)>,
    resources: Vec<(&'a str, ResourceType)>,
}

impl<'a> ImportedItems<'a> {
    /// Returns `None` if the interface contains items that cannot be linked.
    fn of(engine: &'a Engine, instance: &'a ComponentInstance) -> Option<Self> {
        let mut items = ImportedItems {
            functions: Vec::new(),
            resources: Vec::new(),
        };
        for (name, item) in instance.exports(engine) {
            match item.ty {
                ComponentItem::ComponentFunc(ty) => items.functions.push((name, ty)),
                ComponentItem::Resource(ty) => items.resources.push((name, ty)),
                ComponentItem::Type(_) => {}
                _ => return None,
            }
        }
        Some(items)
    }
}

/// An imported interface, and the export that serves it.
struct Pair<'a> {
    engine: &'a Engine,
    importer: &'a ExaminedGuest<'a>,
    import: &'a str,
    exporter: &'a ExaminedGuest<'a>,
    export: &'a ExportedInterface,
}

impl Pair<'_> {
    fn no_resource(&self, resource: &str) -> LinkError {
        LinkError::NoResource {
            importer: self.importer.name.to_owned(),
            import: self.import.to_owned(),
            resource: resource.to_owned(),
            exporter: self.exporter.name.to_owned(),
            export: self.export.name.clone(),
        }
    }

    /// Checks that the exporter has a function of this type.
    fn function(
        &self,
        name: &str,
        ty: ComponentFunc,
        hints: &mut Hints,
    ) -> Result<LinkedFunction, Box<LinkError>> {
        let (importer, exporter) = (self.importer, self.exporter);
        if let Some(reason) = unsupported_function(&importer.resources, &ty) {
            return Err(Box::new(unsupported(
                importer,
                self.import,
                Some(name),
                reason,
            )));
        }
        let item = self.export.instance.get_export(self.engine, name);
        let Some(ComponentItem::ComponentFunc(exported)) = item.map(|item| item.ty) else {
            return Err(Box::new(LinkError::NoFunction {
                importer: importer.name.to_owned(),
                import: self.import.to_owned(),
                function: name.to_owned(),
                exporter: exporter.name.to_owned(),
                export: self.export.name.clone(),
                near: near_function(self.engine, &self.export.instance, name, hints),
            }));
        };
        let difference =
            compare::functions((&importer.resources, &ty), (&exporter.resources, &exported));
        if let Some(difference) = difference {
            return Err(Box::new(LinkError::Mismatch {
                importer: importer.name.to_owned(),
                import: self.import.to_owned(),
                function: name.to_owned(),
                exporter: exporter.name.to_owned(),
                imported: print::function(&importer.resources, &ty),
                exported: print::function(&exporter.resources, &exported),
                difference,
            }));
        }
        Ok(LinkedFunction {
            name: name.to_owned(),
            handles: passes_handles(&ty, |_| true) || passes_streams(&ty),
            only_regions: !passes_handles(&ty, |handle| {
                importer.resources.identity(handle) != Identity::Region
            }),
            error_slot: ErrorSlot::of(&ty),
            ty,
        })
    }
}

fn unsupported(
    guest: &ExaminedGuest<'_>,
    import: &str,
    function: Option<&str>,
    reason: UnsupportedImport,
) -> LinkError {
    LinkError::Unsupported {
        guest: guest.name.to_owned(),
        import: import.to_owned(),
        function: function.map(str::to_owned),
        reason,
    }
}

/// Returns why an imported item that is not an interface cannot be linked. Types need no
/// exporter.
fn unsupported_item(resources: &Resources, item: &ComponentItem) -> Option<UnsupportedImport> {
    let item = match item {
        ComponentItem::ComponentInstance(_) | ComponentItem::Type(_) => return None,
        ComponentItem::Resource(ty) if resources.origin(*ty).is_some_and(Origin::is_imported) => {
            return None;
        }
        ComponentItem::ComponentFunc(_) => return Some(UnsupportedImport::Bare),
        ComponentItem::Resource(_) => "resource",
        ComponentItem::CoreFunc(_) => "core function",
        ComponentItem::Module(_) => "module",
        ComponentItem::Component(_) => "component",
    };
    Some(UnsupportedImport::Item { item })
}

/// Returns why no guest can offer a function of this type to another.
fn unsupported_function(resources: &Resources, ty: &ComponentFunc) -> Option<UnsupportedImport> {
    visit::function(ty, |ty, at| {
        let value = match ty {
            Type::Own(handle) | Type::Borrow(handle)
                if resources.identity(*handle) == Identity::Unknown =>
            {
                return Some(UnsupportedImport::Handle {
                    resource: resources.describe(*handle),
                    at: at.to_owned(),
                });
            }
            Type::Future(future) if payload::passes(resources, future.ty().as_ref()) => {
                return None;
            }
            Type::Stream(stream) if payload::passes(resources, stream.ty().as_ref()) => {
                return None;
            }
            Type::Future(_) | Type::Stream(_) | Type::ErrorContext => print::ty(resources, ty),
            _ => return None,
        };
        Some(UnsupportedImport::Value {
            value,
            at: at.to_owned(),
        })
    })
}

/// Returns whether a stream or future can pass.
fn passes_streams(ty: &ComponentFunc) -> bool {
    let is_stream = |ty: &Type| matches!(ty, Type::Stream(_) | Type::Future(_));
    visit::function(ty, |ty, _| is_stream(ty).then_some(())).is_some()
}

/// Returns whether a handle to such a resource can pass. [`unsupported_function`] has checked
/// that it may.
fn passes_handles(ty: &ComponentFunc, such: impl Fn(ResourceType) -> bool) -> bool {
    visit::function(ty, |ty, _| match ty {
        Type::Own(handle) | Type::Borrow(handle) => such(*handle).then_some(()),
        _ => None,
    })
    .is_some()
}

/// Finds the function whose name is most similar to `name`.
fn near_function(
    engine: &Engine,
    instance: &ComponentInstance,
    name: &str,
    hints: &mut Hints,
) -> Option<String> {
    let functions = instance
        .exports(engine)
        .filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_)))
        .map(|(other, _)| (other, other));
    hints.nearest(name, functions, 0.7).map(str::to_owned)
}
