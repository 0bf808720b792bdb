//! Answers requests: reads the body into a region, lends that to another guest, and answers from
//! there.
//!
//! | path | answer |
//! |---|---|
//! | `/count` | how many bytes, words and lines the body has |
//! | `/capitals` | the body in capitals |

mod bindings {
    // Generated code, which calls the ABI of the component model.
    #![allow(unsafe_code, missing_docs, unreachable_pub)]

    wit_bindgen::generate!({
        path: "../wit",
        world: "handler",
        with: { "tombolo:memory/regions@0.1.0": tombolo_guest::regions },
        generate_all,
    });

    export!(Handler);

    pub(crate) struct Handler;
}

use bindings::tombolo_examples::proxy::filter;
use bindings::wasi::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use tombolo_guest::streams::StreamError;
use tombolo_guest::{Error, Region};

// Lets regions read and write the streams of these bindings.
tombolo_guest::impl_streams!(bindings::wasi::io0_2_12::streams);

/// The longest body in bytes.
const MOST: u64 = 64 << 20;

/// The bytes that are pinned and read at a time.
const STEP: u64 = 1 << 20;

/// The body of an answer: text, or the first bytes of a region.
enum Content {
    Text(String),
    Region(Region, u64),
}

/// A reason for another status than 200.
struct Failure(u16, String);

impl bindings::exports::wasi::http::incoming_handler::Guest for bindings::Handler {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let (status, content) = match answer(&request) {
            Ok(content) => (200, content),
            Err(Failure(status, text)) => (status, Content::Text(text + "\n")),
        };
        send(out, status, &content);
    }
}

fn answer(request: &IncomingRequest) -> Result<Content, Failure> {
    let path = request.path_with_query().unwrap_or_default();
    let (region, length) = receive(request)?;
    let failed = |text| Failure(500, text);
    match path.as_str() {
        "/count" => {
            let counts = filter::count(&region, length).map_err(failed)?;
            Ok(Content::Text(counts + "\n"))
        }
        "/capitals" => {
            filter::capitals(&region, length).map_err(failed)?;
            Ok(Content::Region(region, length))
        }
        _ => Err(Failure(404, "not found".into())),
    }
}

/// Reads the body into a region. Returns how many bytes it has.
fn receive(request: &IncomingRequest) -> Result<(Region, u64), Failure> {
    let size = match request.headers().get("content-length").pop() {
        Some(header) => str::from_utf8(&header).ok().and_then(|it| it.parse().ok()),
        None => Some(MOST),
    };
    let size = size.ok_or(Failure(400, "no content length".into()))?;
    if size > MOST {
        return Err(Failure(
            413,
            format!("the body is longer than {MOST} bytes"),
        ));
    }
    let body = request.consume().expect("it is consumed once");
    let input = body.stream().expect("it is taken once");
    // Only what has come is pinned, so an announced size reserves nothing.
    let region = Region::create_unpinned("body", size.max(1))?;
    let mut length = 0;
    while length < size {
        let end = size.min(length + STEP);
        // A lost byte was never written.
        let _ = region.pin(length..end)?;
        let read = region.fill_from(&input, length..end)?;
        length += read;
        if length < end {
            break;
        }
    }
    Ok((region, length))
}

fn send(out: ResponseOutparam, status: u16, content: &Content) {
    let response = OutgoingResponse::new(Fields::new());
    response.set_status_code(status).expect("a known status");
    let body = response.body().expect("it is taken once");
    ResponseOutparam::set(out, Ok(response));
    let output = body.write().expect("it is taken once");
    // An error means that the client has gone.
    let _ = match content {
        Content::Text(text) => output.blocking_write_and_flush(text.as_bytes()).is_ok(),
        Content::Region(region, length) => region.write_to(&output, ..*length).is_ok(),
    };
    drop(output);
    let _ = OutgoingBody::finish(body, None);
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure(503, error.to_string())
    }
}

impl From<StreamError> for Failure {
    fn from(error: StreamError) -> Failure {
        match error {
            StreamError::Region(error) => error.into(),
            error => Failure(400, error.to_string()),
        }
    }
}

fn main() {}
