//! Requests: bodies are received, and plugins answer them.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use tokio::net::TcpListener;
use tombolo::RegionError;

use crate::body::Error;
use crate::http::{self, ReceiveError, response};
use crate::plugin::{Plugins, Refusal};

/// Answers requests until the future is dropped.
pub async fn serve(listener: TcpListener, plugins: Arc<Plugins>) {
    http::listen(listener, move |request| {
        let plugins = plugins.clone();
        async move { answer(&plugins, request).await }
    })
    .await;
}

/// Returns the status that tells a client of an error.
fn status(error: &Error) -> StatusCode {
    match error {
        Error::Body(ReceiveError::TooLarge(_)) => StatusCode::PAYLOAD_TOO_LARGE,
        Error::Body(ReceiveError::Broken(_)) => StatusCode::BAD_REQUEST,
        Error::Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
        Error::Refused(Refusal::NotFound) => StatusCode::NOT_FOUND,
        Error::Refused(Refusal::TooLong) => StatusCode::GATEWAY_TIMEOUT,
        Error::Refused(Refusal::Region(RegionError::Exhausted(_))) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Error::Refused(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

async fn answer(plugins: &Plugins, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    let result = async {
        let body = plugins.bodies().receive(request.into_body()).await?;
        Ok::<_, Error>(plugins.handle(&path, body).await?)
    };
    match result.await {
        Ok(answer) => response(StatusCode::OK, &answer.content_type, answer.body),
        Err(error) => {
            let status = status(&error);
            let text = if status.is_server_error() {
                // The reason is for the log, and not for the client.
                tracing::warn!(path, "{:#}", anyhow::Error::new(error));
                format!("{status}\n")
            } else {
                format!("{error}\n")
            };
            response(status, "text/plain", text.into())
        }
    }
}
