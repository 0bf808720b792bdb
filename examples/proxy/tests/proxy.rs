//! The proxy on loopback.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use proxy::{Proxy, Settings, serve};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tombolo_tests::artifacts::{PROXY_FILTER, PROXY_HANDLER};
use wasmtime::Engine;

const MIB: usize = 1 << 20;

/// A proxy that runs until it is dropped.
struct Server {
    proxy: Arc<Proxy>,
    address: SocketAddr,
    _runtime: Runtime,
}

struct Reply {
    status: u16,
    body: Vec<u8>,
}

impl Server {
    fn start(settings: Settings) -> Server {
        static ENGINE: OnceLock<Engine> = OnceLock::new();
        let engine = ENGINE.get_or_init(|| proxy::engine().unwrap());
        let read = |path| std::fs::read(path).unwrap();
        let proxy = Proxy::new(engine, &read(PROXY_HANDLER), &read(PROXY_FILTER), settings);
        let proxy = proxy.unwrap();
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(serve(listener, proxy.clone()));
        Server {
            proxy,
            address,
            _runtime: runtime,
        }
    }

    /// Begins a request, with the bytes that come first.
    fn begin(&self, path: &str, length: usize, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let patience = Some(Duration::from_secs(60));
        stream.set_read_timeout(patience).unwrap();
        // Version 1.0, so that the answer ends with the connection.
        let head =
            format!("POST {path} HTTP/1.0\r\nHost: test\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        // The proxy may answer, and close, before it has read everything.
        let _ = stream.write_all(bytes);
        stream
    }

    fn post(&self, path: &str, body: &[u8]) -> Reply {
        let mut stream = self.begin(path, body.len(), body);
        let mut reply = Vec::new();
        let _ = stream.read_to_end(&mut reply);
        let end = reply.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&reply)));
        let head = std::str::from_utf8(&reply[..end]).unwrap();
        Reply {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            body: reply[end + 4..].to_owned(),
        }
    }

    /// Waits until all regions have been freed, of which there were at least `created`.
    fn until_freed(&self, created: u64) {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let counts = self.proxy.host().counts();
            if counts.regions_created >= created && counts.regions_created == counts.regions_freed {
                return;
            }
            assert!(Instant::now() < deadline, "{counts:?}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn until_created(&self, created: u64) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.proxy.host().counts().regions_created < created {
            assert!(Instant::now() < deadline);
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Words and lines, `length` bytes of them.
fn letters(length: usize) -> Vec<u8> {
    let line = b"the quick brown Fox 1,\n";
    line.iter().copied().cycle().take(length).collect()
}

#[test]
fn bodies_go_through_both_guests() {
    let server = Server::start(Settings::default());
    let mut copied = 0;
    for size in [0, 1, 65_537, MIB, 5 * MIB, 5 * MIB + 3] {
        let body = letters(size);
        let reply = server.post("/capitals", &body);
        assert_eq!(reply.status, 200, "{size} bytes");
        assert!(reply.body == body.to_ascii_uppercase(), "{size} bytes");
        copied += size as u64;
    }
    server.until_freed(6);
    // On their way in, and not out.
    assert_eq!(server.proxy.host().counts().bytes_copied, copied);
}

#[test]
fn readme_shows_the_answers() {
    let server = Server::start(Settings::default());
    let page = include_str!("../README.md");
    let answers = [
        ("/count", "one two\nthree\n"),
        ("/capitals", "hello, island\n"),
        ("/nowhere", "x"),
    ];
    for (path, body) in answers {
        let reply = server.post(path, body.as_bytes());
        let line = format!("http://127.0.0.1:8080{path}\n");
        let answer = String::from_utf8(reply.body).unwrap();
        assert!(
            page.contains(&format!("{line}{answer}")),
            "{path}: {answer}"
        );
    }
}

// rule 6
#[test]
fn body_that_breaks_off_leaves_nothing_behind() {
    let server = Server::start(Settings::default());
    for _ in 0..3 {
        let stream = server.begin("/capitals", 5 * MIB, &letters(2 * MIB));
        drop(stream);
    }
    server.until_freed(3);
    assert_eq!(server.proxy.host().budget().committed, 0);
    assert_eq!(server.post("/count", b"x").status, 200);
}

// rule 6
#[test]
fn client_that_does_not_read_holds_only_its_own_region() {
    let server = Server::start(Settings::default());
    // More than the kernel buffers.
    let body = letters(40 * MIB);
    let stalled = server.begin("/capitals", body.len(), &body);
    server.until_created(1);
    let small = letters(3 * MIB);
    assert!(server.post("/capitals", &small).body == small.to_ascii_uppercase());
    drop(stalled);
    server.until_freed(2);
}

// rule 6
#[test]
fn region_of_an_answer_ends_with_its_connection() {
    let server = Server::start(Settings {
        connection_time: Duration::from_secs(2),
        ..Settings::default()
    });
    let body = letters(40 * MIB);
    let stalled = server.begin("/capitals", body.len(), &body);
    server.until_freed(1);
    drop(stalled);
}

// rule 10
#[test]
fn body_that_is_too_long_is_refused() {
    let server = Server::start(Settings::default());
    let mut stream = server.begin("/count", 64 * MIB + 1, b"");
    let mut reply = [0; 12];
    stream.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"HTTP/1.0 413");
    assert_eq!(server.proxy.host().counts().regions_created, 0);
}
