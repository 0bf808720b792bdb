//! Clients that send requests one after the other, each on a connection of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// A connection that is kept, and a request.
pub struct Client {
    stream: BufReader<TcpStream>,
    head: String,
    reply: Vec<u8>,
}

impl Client {
    pub fn new(address: SocketAddr, path: &str, bytes: usize) -> Client {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_nodelay(true).expect("it is a socket");
        let head =
            format!("POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: {bytes}\r\n\r\n");
        Client {
            stream: BufReader::new(stream),
            head,
            reply: Vec::new(),
        }
    }

    /// Sends the request with this body, and returns the body of the answer.
    pub fn ask(&mut self, body: &[u8]) -> &[u8] {
        self.send(body).expect("the server answers")
    }

    fn send(&mut self, body: &[u8]) -> std::io::Result<&[u8]> {
        let stream = self.stream.get_mut();
        match body.len() {
            // In one segment.
            0..4096 => stream.write_all(&[self.head.as_bytes(), body].concat())?,
            _ => {
                stream.write_all(self.head.as_bytes())?;
                stream.write_all(body)?;
            }
        }
        let mut length = None;
        let mut line = String::new();
        for number in 0.. {
            line.clear();
            self.stream.read_line(&mut line)?;
            if number == 0 {
                assert_eq!(line.trim_end(), "HTTP/1.1 200 OK");
            }
            if line.trim_end().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().ok();
            }
        }
        self.reply.resize(length.expect("answers have a length"), 0);
        self.stream.read_exact(&mut self.reply)?;
        Ok(&self.reply)
    }
}

/// Lets all clients send requests for at least `time`, and returns how many were answered, and
/// how long it took.
pub fn run(clients: &mut [Client], body: &[u8], time: Duration) -> (usize, Duration) {
    let begun = Instant::now();
    let answered = thread::scope(|scope| {
        let threads: Vec<_> = clients
            .iter_mut()
            .map(|client| {
                scope.spawn(move || {
                    let mut answered = 0;
                    while answered == 0 || begun.elapsed() < time {
                        client.ask(body);
                        answered += 1;
                    }
                    answered
                })
            })
            .collect();
        let joined = threads.into_iter().map(|it| it.join());
        joined.map(|it| it.expect("a client works")).sum()
    });
    (answered, begun.elapsed())
}
