//! HTTP without plugins: connections, bodies as bytes, responses.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// The time without new connections after the process or the kernel ran out of something.
const PAUSE: Duration = Duration::from_millis(50);

/// Answers requests until the future is dropped. If no connection can be accepted, for example
/// because there are no descriptors left, those that exist go on.
pub async fn listen<S, F>(listener: TcpListener, answer: S)
where
    S: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send,
{
    // Dropping it ends the connections.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted now");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let answer = answer.clone();
        connections.spawn(async move {
            let service = service_fn(|request| {
                let response = answer(request);
                async { Ok::<_, Infallible>(response.await) }
            });
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection ended");
            }
        });
    }
}

/// A reason why a body did not arrive.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The body is too long.
    #[error("the body is longer than {0} bytes")]
    TooLarge(u64),
    /// The connection or the encoding broke off.
    #[error("the body broke off")]
    Broken(#[from] hyper::Error),
}

/// Returns the least number of bytes that the body will have.
///
/// # Errors
///
/// [`ReceiveError::TooLarge`] if these are more than `most`.
pub fn announced(body: &Incoming, most: u64) -> Result<u64, ReceiveError> {
    match body.size_hint().lower() {
        least if least > most => Err(ReceiveError::TooLarge(most)),
        least => Ok(least),
    }
}

/// Waits for the next bytes of a body. `None` at its end.
///
/// # Errors
///
/// [`ReceiveError::Broken`].
pub async fn next(body: &mut Incoming) -> Result<Option<Bytes>, ReceiveError> {
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

/// Collects a body until its end, or until it has `most` bytes. One that comes in one piece is
/// not copied.
///
/// # Errors
///
/// [`ReceiveError::Broken`].
pub async fn collect(body: &mut Incoming, most: usize) -> Result<Bytes, ReceiveError> {
    let announced = body.size_hint().lower();
    let first = next(body).await?.unwrap_or_default();
    if first.len() as u64 == announced || first.len() >= most {
        return Ok(first);
    }
    let mut all = Vec::with_capacity(most.min(announced as usize));
    all.extend_from_slice(&first);
    drop(first);
    while all.len() < most
        && let Some(data) = next(body).await?
    {
        all.extend_from_slice(&data);
    }
    Ok(all.into())
}

/// Makes a response.
pub fn response(status: StatusCode, content_type: &str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    // It comes from the plugin. A text that is not a valid header is left out.
    if let Ok(value) = HeaderValue::from_str(content_type) {
        response.headers_mut().insert(CONTENT_TYPE, value);
    }
    response
}
