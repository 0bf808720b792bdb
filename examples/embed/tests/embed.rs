//! The server, on loopback, on an engine that maps.

mod client;

use std::io::Write;
use std::net::TcpStream;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use client::{Server, letters};
use embed::Settings;
use wasmtime::Engine;

const MIB: usize = 1 << 20;
/// The length from which bodies go into regions.
const LONG: usize = 2 << 20;
/// The bytes that a body pins first.
const STEP: usize = 256 << 10;

fn start(settings: Settings) -> Server {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    let engine = ENGINE.get_or_init(|| embed::engine().unwrap());
    Server::start(engine, settings)
}

#[test]
fn bodies_of_any_size_are_answered() {
    let server = start(Settings::default());
    for size in [
        0,
        1,
        65_537,
        LONG - 1,
        LONG,
        LONG + 1,
        5 * MIB,
        40 * MIB + 3,
    ] {
        let (body, capitals) = letters(size);
        let reply = server.post("/translate", &body);
        assert_eq!(reply.status, 200, "{size} bytes");
        assert!(reply.body == capitals, "{size} bytes");
        let reply = server.post("/echo", &body);
        assert!(reply.body == body, "{size} bytes");
    }
    let counts = server.plugins.host().counts();
    assert_eq!(counts.bytes_copied, 0, "{counts:?}");
    // Of the long ones only.
    assert_eq!(counts.windows, 4, "{counts:?}");
}

#[test]
fn regions_are_used_again() {
    let server = start(Settings::default());
    for _ in 0..10 {
        let (body, capitals) = letters(4 * MIB);
        assert!(server.post("/translate", &body).body == capitals);
        // It has the same region as the one before.
        let (body, capitals) = letters(3 * MIB);
        assert!(server.post("/translate", &body).body == capitals);
    }
    assert_eq!(server.plugins.host().counts().regions_created, 1);
    let usage = server.plugins.host().budget();
    assert_eq!(usage.purgeable, usage.committed, "nothing idle is pinned");
}

// rule 8
#[test]
fn idle_regions_make_room_for_others() {
    let server = start(Settings {
        all_bytes: 16 << 20,
        ..Settings::default()
    });
    for size in [2 * MIB, 16 * MIB, 8 * MIB, 2 * MIB, 16 * MIB] {
        let (body, capitals) = letters(size);
        let reply = server.post("/translate", &body);
        assert_eq!(reply.status, 200, "{size} bytes");
        assert!(reply.body == capitals, "{size} bytes");
    }
    assert!(server.plugins.host().budget().purged > 0);
}

/// Sends the head of a request, and the beginning of its body.
fn begin(server: &Server, path: &str, length: usize, start: &[u8]) -> TcpStream {
    let header = format!("Content-Length: {length}");
    server.begin(path, &header, start).unwrap()
}

/// Waits until the server has received so many bytes of a body, or a few more.
fn until_pinned(server: &Server, bytes: usize) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let usage = server.plugins.host().budget();
        if usage.committed - usage.purgeable >= bytes as u64 {
            return;
        }
        assert!(Instant::now() < deadline, "{usage:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until the server has created this many regions.
fn until_created(server: &Server, regions: u64) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let counts = server.plugins.host().counts();
        if counts.regions_created >= regions {
            return;
        }
        assert!(Instant::now() < deadline, "{counts:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until no body pins anything.
fn until_unpinned(server: &Server) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let usage = server.plugins.host().budget();
        if usage.committed == usage.purgeable {
            return;
        }
        assert!(Instant::now() < deadline, "{usage:?}");
        thread::sleep(Duration::from_millis(1));
    }
}

// rule 8
#[test]
fn announced_bytes_cost_nothing_until_they_come() {
    let server = start(Settings {
        all_bytes: 64 << 20,
        ..Settings::default()
    });
    let (body, capitals) = letters(4 * MIB);
    let slow: Vec<_> = (1..=16)
        .map(|count| {
            let slow = begin(&server, "/count", 64 * MIB, &body[..STEP + 1]);
            until_pinned(&server, count * 2 * STEP);
            slow
        })
        .collect();
    let reply = server.post("/translate", &body);
    assert_eq!(reply.status, 200);
    assert!(reply.body == capitals);
    drop(slow);
}

// rule 8
#[test]
fn body_waits_for_memory_of_others() {
    let server = start(Settings {
        all_bytes: 4 << 20,
        wait_time: Duration::from_secs(60),
        ..Settings::default()
    });
    let (body, capitals) = letters(4 * MIB);
    let mut first = begin(&server, "/translate", 4 * MIB, &body[..4 * MIB - 1]);
    until_pinned(&server, 4 * MIB);
    thread::scope(|scope| {
        let second = scope.spawn(|| server.post("/translate", &body));
        // From then on it waits: it has a region, and there is no room to pin a byte of it.
        until_created(&server, 2);
        first.write_all(&body[4 * MIB - 1..]).unwrap();
        let replies = [Server::reply(&mut first).unwrap(), second.join().unwrap()];
        for reply in replies {
            assert_eq!(reply.status, 200);
            assert!(reply.body == capitals);
        }
    });
}

// rule 8
#[test]
fn body_without_memory_is_refused_for_now() {
    let server = start(Settings {
        all_bytes: 4 << 20,
        wait_time: Duration::from_millis(50),
        ..Settings::default()
    });
    let (body, _) = letters(4 * MIB);
    let first = begin(&server, "/count", 4 * MIB, &body[..4 * MIB - 1]);
    until_pinned(&server, 4 * MIB);
    assert_eq!(server.post("/count", &body).status, 503);
    // Short ones need none of it.
    assert_eq!(server.post("/count", b"x").status, 200);
    drop(first);
}

#[test]
fn body_is_counted() {
    let server = start(Settings::default());
    let reply = server.post("/count", b"one two\nthree\n");
    assert_eq!(
        reply.text(),
        "14 bytes, 3 words, 2 lines, CRC-32 41d502e5, seen as a list\n"
    );
    let reply = server.post("/count", &vec![b'x'; LONG]);
    assert_eq!(
        reply.text(),
        "2097152 bytes, 1 words, 0 lines, CRC-32 79284fff, seen in place\n"
    );
    let reply = server.post("/count", b"");
    assert_eq!(
        reply.text(),
        "0 bytes, 0 words, 0 lines, CRC-32 00000000, seen as a list\n"
    );
}

#[test]
fn body_of_unknown_length_is_answered() {
    let server = start(Settings::default());
    let reply = server
        .send(
            "/count",
            "Transfer-Encoding: chunked",
            b"4\r\none \r\n3\r\ntwo\r\n0\r\n\r\n",
        )
        .unwrap();
    assert_eq!(
        reply.text(),
        "7 bytes, 2 words, 0 lines, CRC-32 cd07892f, seen as a list\n"
    );
}

#[test]
fn long_body_of_unknown_length_is_answered() {
    let server = start(Settings::default());
    let (body, capitals) = letters(3 * MIB + 5);
    let mut chunks = Vec::new();
    for chunk in body.chunks(100_000) {
        chunks.extend(format!("{:x}\r\n", chunk.len()).bytes());
        chunks.extend([chunk, b"\r\n"].concat());
    }
    chunks.extend(b"0\r\n\r\n");
    for _ in 0..2 {
        let reply = server.send("/translate", "Transfer-Encoding: chunked", &chunks);
        let reply = reply.unwrap();
        assert_eq!(reply.status, 200);
        assert!(reply.body == capitals);
    }
    assert_eq!(server.plugins.host().counts().windows, 2);
}

#[test]
fn unknown_path_is_not_found() {
    let server = start(Settings::default());
    assert_eq!(server.post("/nowhere", b"x").status, 404);
    assert_eq!(server.post("/count", b"x").status, 200);
}

#[test]
fn requests_are_answered_at_the_same_time() {
    let server = start(Settings::default());
    thread::scope(|scope| {
        for client in 0..8 {
            let server = &server;
            scope.spawn(move || {
                for round in 0..5 {
                    let (body, capitals) = letters(client * 300_000 + round);
                    let reply = server.post("/translate", &body);
                    assert_eq!(reply.status, 200);
                    assert!(reply.body == capitals, "client {client}, round {round}");
                }
            });
        }
    });
}

// rule 9
#[test]
fn trap_costs_only_its_own_request() {
    let server = start(Settings::default());
    thread::scope(|scope| {
        let steady = scope.spawn(|| {
            for _ in 0..10 {
                let (body, capitals) = letters(3 * MIB);
                let reply = server.post("/translate", &body);
                assert_eq!(reply.status, 200);
                assert!(reply.body == capitals);
            }
        });
        while !steady.is_finished() {
            assert_eq!(server.post("/trap", b"boo").status, 500);
            assert_eq!(server.post("/trap", &vec![b'x'; LONG]).status, 500);
            thread::sleep(Duration::from_millis(50));
        }
        steady.join().unwrap();
    });
    assert_eq!(server.post("/count", b"x").status, 200);
}

// rule 9
#[test]
fn hanging_plugin_is_dropped_and_delays_nobody() {
    let server = start(Settings {
        call_time: Duration::from_secs(4),
        ..Settings::default()
    });
    thread::scope(|scope| {
        // More of them than this machine may have threads to run wasm.
        let hung: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| server.post("/hang", b"x").status))
            .collect();
        thread::sleep(Duration::from_millis(200));
        let began = Instant::now();
        assert_eq!(server.post("/count", b"x").status, 200);
        assert!(
            began.elapsed() < Duration::from_secs(3),
            "{:?}",
            began.elapsed()
        );
        for hung in hung {
            assert_eq!(hung.join().unwrap(), 504);
        }
    });
    assert_eq!(server.post("/count", b"x").status, 200);
}

#[test]
fn body_over_the_limit_is_refused() {
    let server = start(Settings {
        body_bytes: 100_000,
        ..Settings::default()
    });
    let (body, _) = letters(100_001);
    assert_eq!(server.post("/count", &body[..100_000]).status, 200);
    // Before the body comes, if its length is told ...
    let told = server
        .send("/count", "Content-Length: 100001", b"")
        .unwrap();
    assert_eq!(told.status, 413);
    // ... or when it has come.
    let chunk = [b"186a1\r\n", &body[..], b"\r\n"].concat();
    let untold = server
        .send("/count", "Transfer-Encoding: chunked", &chunk)
        .unwrap();
    assert_eq!(untold.status, 413);
    assert_eq!(server.post("/count", b"x").status, 200);
}

// rule 6
#[test]
fn broken_bodies_leave_nothing_behind() {
    let server = start(Settings::default());
    let reply = server.send("/count", "Transfer-Encoding: chunked", b"zz\r\n");
    assert_eq!(reply.unwrap().status, 400);
    let (body, capitals) = letters(LONG);
    for _ in 0..3 {
        let broken = begin(&server, "/count", LONG, &body[..STEP + 1]);
        until_pinned(&server, 2 * STEP);
        drop(broken);
        let reply = server.post("/translate", &body);
        assert!(reply.body == capitals);
        until_unpinned(&server);
    }
    // A body broke off, and the next one had its region or a second one.
    assert!(server.plugins.host().counts().regions_created <= 2);
}

#[test]
fn body_longer_than_all_memory_is_refused() {
    let server = start(Settings {
        all_bytes: 4 << 20,
        ..Settings::default()
    });
    // Refused before the body comes: a client that went on sending might find
    // the connection closed.
    let length = format!("Content-Length: {}", 4 * MIB + 1);
    assert_eq!(server.send("/count", &length, b"").unwrap().status, 413);
    assert_eq!(server.post("/count", &vec![b'x'; 4 * MIB]).status, 200);
}

#[test]
fn plugins_share_a_frozen_table() {
    let server = start(Settings {
        table: Some(std::array::from_fn(|byte| byte as u8 ^ 0x20)),
        ..Settings::default()
    });
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(server.post("/translate", b"Ab").body, b"aB"));
        }
    });
    // A fresh instance gets it as well.
    assert_eq!(server.post("/trap", b"").status, 500);
    assert_eq!(server.post("/translate", b"cD").body, b"Cd");
}

#[test]
fn readme_names_items_of_the_program() {
    let readme = include_str!("../README.md");
    let source = include_str!("../src/plugin.rs");
    let (_, table) = readme.split_once("| item | part |\n|---|---|\n").unwrap();
    let (table, _) = table.split_once("\n\n").unwrap();
    let rows: Vec<&str> = table.lines().collect();
    assert_eq!(rows.len(), 7);
    for row in rows {
        let path = row.split('`').nth(1).unwrap();
        let name = path.rsplit("::").next().unwrap();
        let is_there = ["fn ", "struct ", "mod "]
            .iter()
            .any(|kind| source.contains(&format!("{kind}{name}")));
        assert!(is_there, "src/plugin.rs has no `{path}`");
    }
}

/// Sends the README's requests, as `curl` does there.
#[test]
fn readme_shows_the_answers() {
    let server = start(Settings {
        call_time: Duration::from_secs(1),
        ..Settings::default()
    });
    let lines: Vec<&str> = include_str!("../README.md").lines().collect();
    let mut count = 0;
    for pair in lines.windows(2) {
        let Some(command) = pair[0].strip_prefix("$ ") else {
            continue;
        };
        let Some((before, path)) = command.split_once("http://127.0.0.1:8080") else {
            continue;
        };
        let words: Vec<&str> = before.split(' ').collect();
        let reply = match words[..] {
            ["curl", "-d", body, ..] => server.post(path, body.as_bytes()),
            // The server refuses it before the body comes.
            ["head", "-c", length, ..] => {
                let header = format!("Content-Length: {length}");
                server.send(path, &header, b"").unwrap()
            }
            ["printf", ..] => {
                let text = before.split('\'').nth(1).unwrap();
                server.post(path, text.replace("\\n", "\n").as_bytes())
            }
            _ => panic!("this test cannot run `{command}`"),
        };
        assert_eq!(reply.text().trim_end(), pair[1], "{command}");
        count += 1;
    }
    assert_eq!(count, 6);
}
