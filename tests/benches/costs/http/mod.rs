//! The HTTP server of `examples/embed` beside the same server with bytes as lists, and beside
//! one that has no plugin.
//!
//! | module | content |
//! |---|---|
//! | `lists` | the server with lists |
//! | `load` | the clients |
//!
//! A server runs in a process of its own, which is this program with an argument that says so.

mod lists;
mod load;

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use embed::http::{collect, listen, next, response};
use embed::{Plugins, Settings};
use hyper::StatusCode;
use tokio::net::TcpListener;
use tombolo_tests::artifacts::EMBED_PLUGIN;

use crate::measure::{Plan, Unit};
use crate::ratio::{Goal, Ratio};
use crate::table::Table;
use lists::Lists;
use load::Client;

/// The argument that makes this program a server. One of [`SIDES`] follows.
pub const SERVER: &str = "--http-server";

const SIDES: [&str; 3] = ["regions", "lists", "alone"];
const ROWS: [&str; 3] = ["regions", "`list<u8>`", "no plugin"];

/// The longest body in bytes.
const MOST: u64 = 64 << 20;
const SIZES: [u64; 5] = [1 << 10, 16 << 10, 64 << 10, 1 << 20, 16 << 20];
const CLIENTS: usize = 4;

/// The paths, and what they do.
const PATHS: [(&str, &str); 2] = [("/sum", "read"), ("/echo", "echo")];

/// Runs a server until standard input ends.
pub fn serve(side: &str) {
    let runtime = tokio::runtime::Runtime::new().expect("there are threads");
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"));
    let listener = listener.expect("there are ports");
    let address = listener.local_addr().expect("it listens");
    match side {
        "regions" => {
            let engine = embed::engine().expect("this machine can do it");
            let wasm = std::fs::read(EMBED_PLUGIN).expect("it was built");
            let plugins = Plugins::new(&engine, &wasm, Settings::default());
            let plugins = Arc::new(plugins.expect("it is the plugin"));
            runtime.spawn(embed::serve(listener, plugins));
        }
        "lists" => {
            let lists = Lists::new();
            runtime.spawn(listen(listener, move |request| {
                lists.clone().answer(request)
            }));
        }
        _ => {
            runtime.spawn(listen(listener, |request| async {
                let is_echo = request.uri().path() == "/echo";
                let mut body = request.into_body();
                let answer = match is_echo {
                    true => collect(&mut body, MOST as usize).await,
                    false => {
                        while let Ok(Some(_)) = next(&mut body).await {}
                        Ok(Bytes::from_static(b"read\n"))
                    }
                };
                let answer = answer.unwrap_or_default();
                response(StatusCode::OK, "text/plain", answer)
            }));
        }
    }
    println!("{address}");
    std::io::stdout().flush().expect("the parent reads it");
    let _ = std::io::stdin().lines().last();
}

/// The process of a server.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(side: &str) -> Server {
        let mut command = Command::new(std::env::current_exe().expect("this has a path"));
        command.args([SERVER, side]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("this program can be started");
        let mut line = String::new();
        let output = child.stdout.take().expect("it is piped");
        let read = BufReader::new(output).read_line(&mut line);
        read.expect("it prints its address");
        let address = line.trim().parse().expect("it prints its address");
        Server { child, address }
    }

    /// Returns the processor time that its threads have used, in nanoseconds.
    fn used(&self) -> f64 {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let times = threads.expect("it runs").filter_map(|thread| {
            // A thread may just have ended.
            let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
            text.split(' ').next()?.parse::<f64>().ok()
        });
        times.sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

pub fn run(plan: &Plan) -> (Vec<Table>, Vec<Ratio>) {
    let body: Vec<u8> = (0..SIZES[4]).map(|at| (at * 7 % 251) as u8).collect();
    let mut tables = Vec::new();
    for (_, what) in PATHS {
        tables.push(Table::by_size(format!("{what}: requests a second"), &SIZES));
        tables.push(Table::by_size(
            format!("{what}: the server's processor time for a request"),
            &SIZES,
        ));
    }
    let servers = SIDES.map(Server::start);
    let rounds = if plan.quick { 1 } else { 15 };
    for round in 0..rounds {
        for (column, bytes) in SIZES.into_iter().enumerate() {
            let body = &body[..bytes as usize];
            for (at, (path, _)) in PATHS.into_iter().enumerate() {
                for turn in 0..SIDES.len() {
                    // Nobody always comes first.
                    let side = (turn + round) % SIDES.len();
                    let server = &servers[side];
                    let mut clients: Vec<_> = (0..CLIENTS)
                        .map(|_| Client::new(server.address, path, body.len()))
                        .collect();
                    let answer = clients[0].ask(body);
                    assert!(path != "/echo" || answer == body, "an echo is the body");
                    let (warm, time) = times(plan, bytes);
                    load::run(&mut clients, body, warm);
                    let before = server.used();
                    let (answered, took) = load::run(&mut clients, body, time);
                    let used = server.used() - before;
                    let rate = answered as f64 / took.as_secs_f64();
                    tables[2 * at]
                        .cell(ROWS[side], column)
                        .note(Unit::Rate, rate);
                    let cell = tables[2 * at + 1].cell(ROWS[side], column);
                    cell.extend([used / answered as f64]);
                }
            }
        }
    }
    let ratios = ratios(&tables);
    (tables, ratios)
}

/// Returns how long to warm up, and how long to measure.
fn times(plan: &Plan, bytes: u64) -> (Duration, Duration) {
    let [warm, time] = match bytes {
        _ if plan.quick => [0, 0],
        0..=MIB => [30, 150],
        _ => [150, 400],
    };
    (Duration::from_millis(warm), Duration::from_millis(time))
}

const MIB: u64 = 1 << 20;

fn ratios(tables: &[Table]) -> Vec<Ratio> {
    let of = |table: usize, column: usize| {
        let times = |row| tables[table].times(row, column);
        times(ROWS[0])?.ratio(times(ROWS[1])?)
    };
    let least = |table| {
        (0..SIZES.len())
            .filter_map(|column| of(table, column))
            .reduce(f64::min)
    };
    let (even, megabyte, large) = (Goal::AtLeast(0.95), Goal::AtMost(0.7), Goal::AtMost(0.5));
    let all = [
        (
            "HTTP, read: requests, regions / lists, least",
            least(0),
            even,
        ),
        (
            "HTTP, echo: requests, regions / lists, least",
            least(2),
            even,
        ),
        (
            "HTTP, read 1 MiB: processor time, regions / lists",
            of(1, 3),
            megabyte,
        ),
        (
            "HTTP, echo 1 MiB: processor time, regions / lists",
            of(3, 3),
            megabyte,
        ),
        (
            "HTTP, read 16 MiB: processor time, regions / lists",
            of(1, 4),
            large,
        ),
        (
            "HTTP, echo 16 MiB: processor time, regions / lists",
            of(3, 4),
            large,
        ),
    ];
    all.into_iter()
        .filter_map(|(what, value, goal)| {
            Some(Ratio {
                what,
                value: value?,
                goal,
            })
        })
        .collect()
}
