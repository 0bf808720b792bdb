//! The lives of regions, windows and guests.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;

use tombolo::{RegionCtx, RegionHost, RegionView};
use tombolo_app::{App, GuestSpec};
use tombolo_test_util::process::Process;
use tombolo_test_util::run::threads;
use tombolo_tests::artifacts;
use wasmtime::component::{Component, InstancePre, Linker, ResourceTable};
use wasmtime::{Config, Engine, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::guests::Guests;
use crate::measure::{Plan, Unit};
use crate::ratio::{Goal, Ratio};
use crate::table::{Table, bytes};

/// The bytes of data in the measured programs.
const DATA: [usize; 6] = [0, 4 << 10, 64 << 10, 256 << 10, 1 << 20, 16 << 20];
/// The address at which the data of a Rust program begins. Its stack is below.
const STACK: usize = 1 << 20;
const GRANULE: usize = 64 << 10;
const PAGE: usize = 4 << 10;

/// The number of guests in a crowd.
const CROWD: usize = 1000;
/// The argument that makes this program the process of a crowd. Its size follows.
pub const ALONE: &str = "--crowd";

/// The rows of guests that Tombolo starts, and of those that stock wasmtime starts.
const START: [&str; 2] = ["start, Tombolo", "start, stock wasmtime"];
const READ: [&str; 2] = [
    "then read a byte of each page, Tombolo",
    "then read a byte of each page, stock wasmtime",
];
const WRITE: [&str; 2] = [
    "or write to each page, Tombolo",
    "or write to each page, stock wasmtime",
];
const END: [&str; 2] = ["end, Tombolo", "end, stock wasmtime"];
const NEW: &str = "start without a reservation to reuse, Tombolo";

struct State {
    wasi: WasiCtx,
    table: ResourceTable,
    /// `None` in a store of stock wasmtime.
    regions: Option<RegionCtx>,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl RegionView for State {
    fn region_ctx(&mut self) -> &mut RegionCtx {
        self.regions.as_mut().expect("a linker with Tombolo in it")
    }
}

/// An embedder, which creates engines and stores.
struct Embedder {
    engine: Engine,
    linker: Linker<State>,
    host: Option<RegionHost>,
}

impl Embedder {
    fn new(config: &Config, host: Option<RegionHost>) -> Embedder {
        let engine = Engine::new(config).expect("it is a valid configuration");
        let mut linker = Linker::new(&engine);
        wasmtime_wasi::p2::add_to_linker_sync(&mut linker).expect("nothing else is in there");
        if host.is_some() {
            tombolo::add_to_linker(&mut linker).expect("nothing of it is in there");
        }
        Embedder {
            engine,
            linker,
            host,
        }
    }

    /// Returns one that uses Tombolo, on an engine with concurrency support or without.
    fn with_tombolo(concurrency: bool) -> Embedder {
        let mut config = Config::new();
        config.concurrency_support(concurrency);
        tombolo::prepare(&mut config).expect("this machine can do it");
        Embedder::new(&config, Some(RegionHost::new()))
    }

    /// Returns one that uses Tombolo and one that does not. Stock wasmtime has images of
    /// the data, which it copies on write, and creates memories on demand.
    fn both() -> [Embedder; 2] {
        let tombolo = Embedder::with_tombolo(false);
        let mut config = Config::new();
        config.concurrency_support(false);
        [tombolo, Embedder::new(&config, None)]
    }

    /// Prepares a program to be instantiated.
    fn ready(&self, wasm: &[u8]) -> InstancePre<State> {
        let component = Component::new(&self.engine, wasm).expect("it is a component");
        let ready = self.linker.instantiate_pre(&component);
        ready.expect("it needs no more")
    }

    /// Starts a guest of a prepared program.
    fn start(&self, ready: &InstancePre<State>) -> Guest {
        let state = State {
            wasi: WasiCtx::builder().build(),
            table: ResourceTable::new(),
            regions: self.host.as_ref().map(|host| host.context("one").build()),
        };
        let mut store = Store::new(&self.engine, state);
        let instance = ready.instantiate(&mut store).expect("there is memory");
        Guest { store, instance }
    }
}

struct Guest {
    store: Store<State>,
    instance: wasmtime::component::Instance,
}

impl Guest {
    /// Makes the guest `read` or `write` each page of its data.
    fn touch(&mut self, how: &str) {
        let touch = self.instance.get_typed_func::<(), ()>(&mut self.store, how);
        let touch = touch.expect("it exports this");
        touch.call(&mut self.store, ()).expect("it is its memory");
    }
}

/// A program with so many bytes of data, where a program in Rust has them.
fn with_data(size: usize) -> Vec<u8> {
    let pages = (STACK + size).div_ceil(GRANULE) + 1;
    let end = STACK + size;
    let data = match size {
        0 => String::new(),
        _ => format!(
            "(data (i32.const {STACK}) \"{}\")",
            "tombolo ".repeat(size / 8)
        ),
    };
    let touch = |how: &str, act: &str| {
        format!(
            "(func (export \"{how}\") (local $at i32)
                (local.set $at (i32.const {STACK}))
                (loop $more
                    (if (i32.lt_u (local.get $at) (i32.const {end}))
                        (then
                            ({act})
                            (local.set $at (i32.add (local.get $at) (i32.const {PAGE})))
                            (br $more)))))"
        )
    };
    let read = touch("read", "drop (i32.load (local.get $at))");
    let write = touch("write", "i32.store (local.get $at) (i32.const 1)");
    let text = format!(
        "(component
            (core module $program (memory {pages}) {data} {read} {write})
            (core instance $guest (instantiate $program))
            (func (export \"read\") (canon lift (core func $guest \"read\")))
            (func (export \"write\") (canon lift (core func $guest \"write\"))))"
    );
    wat::parse_str(text).expect("it is well-formed")
}

/// The rows of guests on engines with concurrency support and without.
pub const LIVES: [&str; 2] = ["start of a guest", "end of a guest"];

/// Starts and ends guests side by side, on an engine without concurrency support and on one with
/// it. The table has a column for each.
pub fn by_concurrency(plan: &Plan, table: &mut Table) {
    let embedders = [false, true].map(Embedder::with_tombolo);
    let wasm = with_data(0);
    let programs = embedders.each_ref().map(|it| it.ready(&wasm));
    for _ in 0..if plan.quick { 3 } else { 200 } {
        for (column, (embedder, program)) in embedders.iter().zip(&programs).enumerate() {
            let start = || embedder.start(program);
            let guest = table.cell(LIVES[0], column).time(start);
            table.cell(LIVES[1], column).time(|| drop(guest));
        }
    }
}

/// Starts and ends guests side by side, by how much data they have.
fn by_data(plan: &Plan, embedders: &[Embedder; 2], table: &mut Table) {
    for (column, size) in DATA.into_iter().enumerate() {
        let wasm = with_data(size);
        let programs = embedders.each_ref().map(|it| it.ready(&wasm));
        let repeats = match size {
            _ if plan.quick => 3,
            0..=GRANULE => 200,
            _ => 40,
        };
        for repeat in 0..repeats {
            for (who, (embedder, program)) in embedders.iter().zip(&programs).enumerate() {
                let start = || embedder.start(program);
                let mut guest = table.cell(START[who], column).time(start);
                let (row, how) = match repeat % 2 {
                    0 => (READ[who], "read"),
                    _ => (WRITE[who], "write"),
                };
                table.cell(row, column).time(|| guest.touch(how));
                table.cell(END[who], column).time(|| drop(guest));
            }
        }
        // With so many alive at a time, most reuse no reservation.
        let many = if plan.quick { 40 } else { 100 };
        let mut crowd = Vec::new();
        for index in 0..many {
            let begun = Instant::now();
            crowd.push(embedders[0].start(&programs[0]));
            if index >= many / 2 {
                let took = begun.elapsed().as_nanos() as f64;
                table.cell(NEW, column).extend([took]);
            }
        }
    }
}

/// Measures the cost of each guest of an app that only waits. They run in a process of
/// their own, because the allocator would reuse memory of earlier guests.
fn crowd(plan: &Plan, times: &mut Table, costs: &mut Table) {
    let count = crowd_of(plan);
    let program = std::env::current_exe().expect("this is a program");
    let output = Command::new(program)
        .args([ALONE, &count.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .expect("it is this program");
    let output = String::from_utf8(output.stdout).expect("it is numbers");
    let mut found = output.split_whitespace().map(|number| {
        let number = number.parse::<f64>();
        number.expect("it is a number")
    });
    let mut next = || found.next().expect("it tells all of them");
    for row in [
        "start of an app with one guest, compilation included",
        "start of one more: link, instantiate, strand",
        "end",
    ] {
        times.cell(row, 0).extend([next()]);
    }
    for (row, unit) in [
        ("kernel mappings (VMAs) of an idle guest", Unit::Count),
        ("resident memory of an idle guest", Unit::Bytes),
    ] {
        costs.cell(row, 0).note(unit, next());
    }
}

fn crowd_of(plan: &Plan) -> usize {
    if plan.quick { 20 } else { CROWD }
}

/// Measures a crowd in a process of its own, and prints the figures in the order above.
pub fn alone(count: &str) {
    let count = count.parse().expect("it is a number");
    let wasm: Arc<[u8]> = std::fs::read(artifacts::RING_MEMBER)
        .map(|wasm| tombolo_tests::server(&wasm).into())
        .expect("the build script built it");
    let command: Arc<[u8]> = std::fs::read(artifacts::ARTIFACTS_COMMAND)
        .expect("as above")
        .into();
    let runtime = threads(2);
    let process = Process::current();
    // All apps stay until the last one is measured, so that it reuses nothing of them.
    let start = |count: usize| {
        let command = GuestSpec::new("command", command.clone());
        let app = (0..count).fold(App::builder().guest(command), |app, index| {
            app.guest(GuestSpec::new(format!("guest{index}"), wasm.clone()))
        });
        let mappings = process.mappings().expect("it is this process").len();
        let resident = process.resident_memory().expect("it is this process");
        let begun = Instant::now();
        let app = runtime.block_on(app.start()).expect("it starts");
        let took = begun.elapsed().as_nanos() as f64;
        let more = process.mappings().expect("as before").len() - mappings;
        let resident = process.resident_memory().expect("as before") - resident;
        (app, [took, more as f64, resident as f64])
    };
    let end = |app: App| {
        let begun = Instant::now();
        runtime.block_on(app.run());
        begun.elapsed().as_nanos() as f64
    };
    let (one, [first, ..]) = start(1);
    let (again, [start_one, mappings_one, resident_one]) = start(1);
    let (many, [start_many, mappings_many, resident_many]) = start(count);
    let ends = [end(one), end(again), end(many)];
    let more = (count - 1) as f64;
    for figure in [
        first,
        (start_many - start_one) / more,
        (ends[2] - ends[1]) / more,
        (mappings_many - mappings_one) / more,
        (resident_many - resident_one) / more,
    ] {
        println!("{figure}");
    }
}

pub fn run(plan: &Plan) -> (Vec<Table>, Vec<Ratio>) {
    let guests = Guests::read();
    let embedders = Embedder::both();
    let path = Path::new(artifacts::ARTIFACTS_COMMAND);
    let program = std::fs::read(path).expect("the build script built it");
    let programs = embedders.each_ref().map(|it| it.ready(&program));
    let mut life = Table::new("by a guest, one granule", ["one".to_owned()]);
    let mut starts = Table::new(
        "a Rust guest, started by the host program",
        ["one".to_owned()],
    );
    let columns = DATA.map(|size| match size {
        0 => "no data".to_owned(),
        size => bytes(size as u64),
    });
    let mut data = Table::new("size of the guest's data", columns);
    let title = format!("{} guests in one app", crowd_of(plan));
    let mut times = Table::new(&*title, ["each".to_owned()]);
    let mut costs = Table::new(&*title, ["each".to_owned()]);
    for _ in 0..plan.rounds() {
        guests.add(plan, "life", &[0], &mut [("life", &mut life)]);
        by_data(plan, &embedders, &mut data);
        for _ in 0..if plan.quick { 3 } else { 100 } {
            for (who, (embedder, program)) in embedders.iter().zip(&programs).enumerate() {
                let guest = starts.cell(START[who], 0).time(|| embedder.start(program));
                starts.cell(END[who], 0).time(|| drop(guest));
            }
        }
        let start = || embedders[0].start(&programs[0]);
        let crowd: Vec<_> = (1..CROWD).map(|_| start()).collect();
        for _ in 0..if plan.quick { 3 } else { 100 } {
            let row = "start of the 1000th, Tombolo";
            let guest = starts.cell(row, 0).time(start);
            drop(guest);
        }
        drop(crowd);
        self::crowd(plan, &mut times, &mut costs);
    }
    let ratio = |what, table: &Table, column| {
        let medians = START.map(|row| table.median(row, column));
        Ratio::of(what, medians[0], medians[1], Goal::AtMost(1.0))
    };
    let lives = |what, column| {
        let sum = |who: usize| -> Option<f64> {
            let rows = [START[who], READ[who], END[who]];
            rows.iter().map(|row| data.median(row, column)).sum()
        };
        Ratio::of(what, sum(0), sum(1), Goal::AtMost(1.3))
    };
    let ratios = [
        ratio("start of a Rust guest / with stock wasmtime", &starts, 0),
        ratio("the same, no data", &data, 0),
        ratio("the same, 4 KiB of data", &data, 1),
        ratio("the same, 64 KiB of data", &data, 2),
        lives("start, read all, end / with stock wasmtime, 1 MiB", 4),
        lives("the same, 16 MiB", 5),
    ];
    let ratios = ratios.into_iter().flatten().collect();
    (vec![life, starts, data, times, costs], ratios)
}
