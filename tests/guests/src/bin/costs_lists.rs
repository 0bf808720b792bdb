//! The plugin of `examples/embed` with bytes as lists, for comparison.

mod bindings {
    #![allow(unsafe_code, missing_docs, clippy::undocumented_unsafe_blocks)] // Generated.
    wit_bindgen::generate!({ path: "../wit/http.wit", world: "lists" });
    export!(Lists);
    pub(crate) struct Lists;
}

use bindings::Lists;
use bindings::exports::test::http::handler::{Answer, Guest};
use tombolo_test_guests::kernels;

impl Guest for Lists {
    fn handle(path: String, body: Vec<u8>) -> Option<Answer> {
        let (content_type, body) = match path.as_str() {
            "/sum" => {
                let text = format!("{} bytes, sum {:016x}\n", body.len(), kernels::sum(&body));
                ("text/plain", text.into_bytes())
            }
            "/echo" => ("application/octet-stream", body),
            _ => return None,
        };
        Some(Answer {
            content_type: content_type.into(),
            body,
        })
    }
}

fn main() {}
