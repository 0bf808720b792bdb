//! Connections.

use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::proxy::Proxy;

/// The time without new connections after the process or the kernel ran out of something.
const PAUSE: Duration = Duration::from_millis(50);

/// Answers requests until the future is dropped.
pub async fn serve(listener: TcpListener, proxy: Arc<Proxy>) {
    // Dropping it ends the connections.
    let mut connections = JoinSet::new();
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
        let proxy = proxy.clone();
        connections.spawn(async move {
            let service = service_fn(|request| proxy.handle(request));
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            match timeout(proxy.settings().connection_time, connection).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "connection ended"),
                Err(_) => tracing::debug!("connection took too long"),
            }
        });
    }
}
