//! The lives of regions, windows and guests.

use std::path::Path;

use tombolo_tests::artifacts;
use wasmtime::component::{Component, InstancePre, Linker, ResourceTable};
use wasmtime::{Config, Engine, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::guests::Guests;
use crate::measure::Plan;
use crate::ratio::{Goal, Ratio};
use crate::table::Table;

struct State(WasiCtx, ResourceTable);

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.0,
            table: &mut self.1,
        }
    }
}

/// A program, ready to be instantiated.
fn ready(config: &Config) -> InstancePre<State> {
    let engine = Engine::new(config).expect("it is a valid configuration");
    let path = Path::new(artifacts::ARTIFACTS_COMMAND);
    let component = Component::from_file(&engine, path).expect("the build script built it");
    let mut linker = Linker::new(&engine);
    wasmtime_wasi::p2::add_to_linker_sync(&mut linker).expect("nothing else is in there");
    linker
        .instantiate_pre(&component)
        .expect("it needs no more")
}

fn start(ready: &InstancePre<State>) -> Store<State> {
    let state = State(WasiCtx::builder().build(), ResourceTable::new());
    let mut store = Store::new(ready.engine(), state);
    ready.instantiate(&mut store).expect("there is memory");
    store
}

pub fn run(plan: &Plan) -> (Vec<Table>, Vec<Ratio>) {
    let guests = Guests::read();
    let mut config = Config::new();
    tombolo::prepare(&mut config).expect("this machine can do it");
    let ours = ready(&config);
    let mut config = Config::new();
    config.concurrency_support(false);
    let stock = ready(&config);
    let mut life = Table::new("by a guest, of one granule", ["one".to_owned()]);
    let mut starts = Table::new("by the host program", ["one".to_owned()]);
    const OURS: &str = "start of a guest, as Tombolo prepares wasmtime";
    const STOCK: &str = "start of a guest, stock wasmtime";
    for _ in 0..plan.rounds() {
        guests.add(plan, "life", &[0], &mut [("life", &mut life)]);
        for _ in 0..if plan.quick { 3 } else { 100 } {
            for (start_row, end_row, ready) in [
                (OURS, "end of it, as Tombolo prepares wasmtime", &ours),
                (STOCK, "end of it, stock wasmtime", &stock),
            ] {
                let store = starts.cell(start_row, 0).time(|| start(ready));
                starts.cell(end_row, 0).time(|| drop(store));
            }
        }
        let mut crowd: Vec<_> = (1..1000).map(|_| start(&ours)).collect();
        for _ in 0..if plan.quick { 3 } else { 100 } {
            let row = "start of the thousandth, as Tombolo prepares wasmtime";
            let store = starts.cell(row, 0).time(|| start(&ours));
            drop(store);
        }
        crowd.clear();
    }
    let ratio = Ratio::of(
        "start of a guest by stock wasmtime's",
        starts.median(OURS, 0),
        starts.median(STOCK, 0),
        Goal::AtMost(1.0),
    );
    (vec![life, starts], ratio.into_iter().collect())
}
