//! The server as a process that has few descriptors.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tombolo_test_util::process::Process;
use tombolo_tests::artifacts::EMBED_PLUGIN;

const DESCRIPTORS: usize = 40;

struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start() -> Server {
        let script = format!(
            "ulimit -n {DESCRIPTORS}; exec \"$0\" --listen 127.0.0.1:0 --plugin {EMBED_PLUGIN}"
        );
        let mut command = Command::new("sh");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_embed")]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let output = child.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on http://").unwrap();
        Server {
            child,
            address: address.to_owned(),
        }
    }

    fn connect(&self) -> BufReader<TcpStream> {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        BufReader::new(stream)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a body on a connection that stays open, and returns what comes back.
fn echo(stream: &mut BufReader<TcpStream>, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let socket = stream.get_mut();
    socket.write_all(head.as_bytes()).unwrap();
    socket.write_all(body).unwrap();
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(stream.read_line(&mut head).unwrap(), 0, "{head}");
    }
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let mut answer = vec![0; body.len()];
    stream.read_exact(&mut answer).unwrap();
    answer
}

// rule 8
#[test]
fn connections_go_on_while_others_use_all() {
    let server = Server::start();
    let body = vec![b'x'; 4 << 20];
    let mut kept = server.connect();
    assert!(echo(&mut kept, &body) == body);

    let idle: Vec<_> = (0..2 * DESCRIPTORS).map(|_| server.connect()).collect();
    let process = Process::of(server.child.id());
    let deadline = Instant::now() + Duration::from_secs(60);
    while process.descriptors().unwrap().len() < DESCRIPTORS {
        assert!(Instant::now() < deadline, "{:?}", process.descriptors());
        thread::sleep(Duration::from_millis(1));
    }
    for _ in 0..3 {
        assert!(echo(&mut kept, b"short") == b"short");
        assert!(echo(&mut kept, &body) == body);
    }
    drop(idle);
    assert!(echo(&mut server.connect(), b"short") == b"short");
}
