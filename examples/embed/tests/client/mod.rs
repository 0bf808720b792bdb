//! A server on loopback, and a client that speaks just enough HTTP.

use std::io::{ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use embed::{Plugins, Settings, serve};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use wasmtime::Engine;

/// A server that runs until it is dropped.
pub struct Server {
    pub plugins: Arc<Plugins>,
    pub address: SocketAddr,
    _runtime: Runtime,
}

impl Server {
    pub fn start(engine: &Engine, settings: Settings) -> Server {
        let wasm = std::fs::read(tombolo_tests::artifacts::EMBED_PLUGIN).unwrap();
        let plugins = Arc::new(Plugins::new(engine, &wasm, settings).unwrap());
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(serve(listener, plugins.clone()));
        Server {
            plugins,
            address,
            _runtime: runtime,
        }
    }

    /// Sends one request with a body.
    pub fn post(&self, path: &str, body: &[u8]) -> Reply {
        let length = format!("Content-Length: {}", body.len());
        self.send(path, &length, body).unwrap()
    }

    /// Sends a head with one header of the caller's, and then bytes.
    pub fn send(&self, path: &str, header: &str, bytes: &[u8]) -> Result<Reply> {
        Self::reply(&mut self.begin(path, header, bytes)?)
    }

    /// Sends as [`send`](Server::send) does, without waiting for the answer.
    pub fn begin(&self, path: &str, header: &str, bytes: &[u8]) -> Result<TcpStream> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{header}\r\n\r\n");
        stream.write_all(head.as_bytes())?;
        // A server may answer, and close, before it has read everything.
        let _ = stream.write_all(bytes);
        Ok(stream)
    }

    /// Reads an answer up to the end of the connection.
    pub fn reply(stream: &mut TcpStream) -> Result<Reply> {
        let mut reply = Vec::new();
        let read = stream.read_to_end(&mut reply);
        if reply.is_empty() {
            read?;
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(Reply::parse(&reply))
    }
}

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Reply {
    fn parse(bytes: &[u8]) -> Reply {
        let end = bytes
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .unwrap_or_else(|| panic!("no HTTP: {}", String::from_utf8_lossy(bytes)));
        let head = std::str::from_utf8(&bytes[..end]).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Reply {
            status,
            body: bytes[end + 4..].to_owned(),
        }
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// Words and lines, `length` bytes of them, and what `/translate` makes of it.
pub fn letters(length: usize) -> (Vec<u8>, Vec<u8>) {
    let line = b"the quick brown Fox 1, ";
    let body: Vec<u8> = line.iter().copied().cycle().take(length).collect();
    let capitals = body.to_ascii_uppercase();
    (body, capitals)
}
