//! Composing components into one, as tools such as `wac` do.

use wasmparser::{ComponentTypeRef, Parser, Payload};

/// The sections of a component.
const TYPES: u8 = 7;
const IMPORTS: u8 = 10;
const ALIASES: u8 = 6;
const COMPONENTS: u8 = 4;
const INSTANCES: u8 = 5;
const EXPORTS: u8 = 11;
/// The sort of instances.
const INSTANCE: u8 = 5;

/// The imports of a component, whose sections can begin another one.
struct Imports {
    /// The sections with the imports and their types.
    sections: Vec<u8>,
    /// The names of the imported instances, in the order of their numbers.
    names: Vec<String>,
}

impl Imports {
    fn of(component: &[u8]) -> Imports {
        let (mut sections, mut names) = (Vec::new(), Vec::new());
        for payload in Parser::new(0).parse_all(component) {
            let payload = payload.expect("it is a component");
            if let Payload::ComponentImportSection(imports) = &payload {
                for import in imports.clone() {
                    let import = import.expect("it is well-formed");
                    let is_instance = matches!(import.ty, ComponentTypeRef::Instance(_));
                    assert!(is_instance, "`{}` is no instance", import.name.name);
                    names.push(import.name.name.to_owned());
                }
            }
            let Some((id, range)) = payload.as_section() else {
                continue;
            };
            match id {
                0 => {}
                TYPES | IMPORTS | ALIASES => section(&mut sections, id, &component[range]),
                // The imports come first.
                _ => break,
            }
        }
        Imports { sections, names }
    }
}

/// Composes two instances of a component, which imports the interface `link` that it exports. The
/// first one calls the second one, and the second one whatever the result imports as `link`. The
/// result exports that interface of the first one as `front`.
pub(crate) fn chain(component: &[u8], link: &str, front: &str) -> Vec<u8> {
    let Imports { sections, names } = Imports::of(component);
    let imported = u32::try_from(names.len()).expect("few");
    let (second, linked, first, exported) = (imported, imported + 1, imported + 2, imported + 3);
    let mut whole = b"\0asm\x0d\0\x01\0".to_vec();
    whole.extend(sections);
    section(&mut whole, COMPONENTS, component);
    for (instance, its_link) in [(second, None), (first, Some(linked))] {
        // One instance, of the first component.
        let mut body = vec![1, 0, 0];
        number(&mut body, imported);
        for (no, name) in (0..).zip(&names) {
            text(&mut body, name);
            body.push(INSTANCE);
            let its_link = its_link.filter(|_| name == link);
            number(&mut body, its_link.unwrap_or(no));
        }
        section(&mut whole, INSTANCES, &body);
        // The instance that this one exports.
        let mut body = vec![1, INSTANCE, 0];
        number(&mut body, instance);
        text(&mut body, link);
        section(&mut whole, ALIASES, &body);
    }
    let mut body = vec![1, 0];
    text(&mut body, front);
    body.push(INSTANCE);
    number(&mut body, exported);
    // Without a type of its own.
    body.push(0);
    section(&mut whole, EXPORTS, &body);
    whole
}

fn section(to: &mut Vec<u8>, id: u8, body: &[u8]) {
    to.push(id);
    number(to, u32::try_from(body.len()).expect("it is small"));
    to.extend(body);
}

fn text(to: &mut Vec<u8>, text: &str) {
    number(to, u32::try_from(text.len()).expect("it is short"));
    to.extend(text.bytes());
}

/// Writes a number in LEB128.
fn number(to: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        to.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}
