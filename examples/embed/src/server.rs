//! HTTP: bodies go into regions, and answers come out of them.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tombolo::{Region, RegionError};

use crate::plugin::{Plugins, Refusal};

/// Answers requests until the listener fails or the future is dropped.
///
/// # Errors
///
/// The error of the listener.
pub async fn serve(listener: TcpListener, plugins: Arc<Plugins>) -> io::Result<()> {
    // Dropping it ends the connections.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => accepted?,
            Some(_) = connections.join_next() => continue,
        };
        let plugins = plugins.clone();
        connections.spawn(async move {
            let service = service_fn(|request| answer(&plugins, request));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(%peer, %error, "connection ended");
            }
        });
    }
}

/// A reason why a request has no answer.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the body is longer than {0} bytes")]
    TooLarge(u64),
    #[error("the body broke off")]
    Broken(#[source] hyper::Error),
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl From<RegionError> for Error {
    fn from(error: RegionError) -> Error {
        Error::Refused(error.into())
    }
}

impl Error {
    fn status(&self) -> StatusCode {
        match self {
            Error::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Error::Broken(_) => StatusCode::BAD_REQUEST,
            Error::Refused(Refusal::NotFound) => StatusCode::NOT_FOUND,
            Error::Refused(Refusal::TooLong) => StatusCode::GATEWAY_TIMEOUT,
            Error::Refused(Refusal::Region(RegionError::Exhausted(_))) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Error::Refused(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

async fn answer(
    plugins: &Plugins,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let result = async {
        let (region, length) = receive(plugins, request.into_body()).await?;
        Ok::<_, Error>(plugins.handle(&path, &region, length).await?)
    };
    Ok(match result.await {
        // The bytes go to the socket without a copy.
        Ok(answer) => response(
            StatusCode::OK,
            &answer.content_type,
            Bytes::from_owner(answer.body),
        ),
        Err(error) => {
            let status = error.status();
            let text = if status.is_server_error() {
                // The reason is for the log, and not for the client.
                tracing::warn!(path, "{:#}", anyhow::Error::new(error));
                format!("{status}\n")
            } else {
                format!("{error}\n")
            };
            response(status, "text/plain", text.into())
        }
    })
}

fn response(status: StatusCode, content_type: &str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    // It comes from the plugin. A text that is not a valid header is left out.
    if let Ok(value) = HeaderValue::from_str(content_type) {
        response.headers_mut().insert(CONTENT_TYPE, value);
    }
    response
}

/// Writes a body into a region, as it comes in.
async fn receive(plugins: &Plugins, mut body: Incoming) -> Result<(Region, u64), Error> {
    let most = plugins.settings().body_bytes;
    let told = body.size_hint();
    if told.lower() > most {
        return Err(Error::TooLarge(most));
    }
    // If the client does not tell the length, there is room for the longest body: pages that
    // nobody writes cost nothing. A region has at least one byte.
    let size = told.exact().unwrap_or(most).max(1);
    let region = plugins.host().create("body", size)?;
    let mut guard = region.try_write(..)?;
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(Error::Broken)?.into_data() else {
            continue;
        };
        let room = guard.get_mut(length..length + data.len());
        room.ok_or(Error::TooLarge(most))?.copy_from_slice(&data);
        length += data.len();
    }
    drop(guard);
    Ok((region, length as u64))
}
