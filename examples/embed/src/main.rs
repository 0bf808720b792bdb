//! The program: runs the server of the library.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use embed::{Plugins, Settings, engine, serve};
use tokio::net::TcpListener;
use tracing_subscriber::EnvFilter;

/// Serve HTTP: lend each request's body to a plugin, which answers.
#[derive(Parser)]
struct Args {
    /// Listen on this address.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Run this component.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "target/wasm32-wasip2/release/plugin.wasm"
    )]
    plugin: PathBuf,
    /// Give the plugin these 256 bytes, with which `/translate` replaces each byte.
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let filter = EnvFilter::builder()
        .with_default_directive(tracing::Level::WARN.into())
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();

    let wasm = std::fs::read(&args.plugin).with_context(|| {
        format!(
            "cannot read the plugin {} (`cargo build --release --target wasm32-wasip2 \
             -p embed-plugin` builds it)",
            args.plugin.display()
        )
    })?;
    let mut settings = Settings::default();
    if let Some(file) = &args.table {
        let bytes = std::fs::read(file)
            .with_context(|| format!("cannot read the table {}", file.display()))?;
        let table = bytes.try_into().map_err(|bytes: Vec<u8>| {
            anyhow::anyhow!(
                "the table {} has {} bytes; it should have 256",
                file.display(),
                bytes.len()
            )
        })?;
        settings.table = Some(table);
    }
    let plugins = Plugins::new(&engine()?, &wasm, settings)
        .with_context(|| format!("cannot use the plugin {}", args.plugin.display()))?;
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    println!("listening on http://{}", listener.local_addr()?);
    serve(listener, Arc::new(plugins)).await;
    Ok(())
}
