//! Guests are told of memory pressure, in apps and in an embedder's stores.
//!
//! | module | content |
//! |---|---|
//! | this one | which guests are told, and when |
//! | `relief` | a report leads to purging and to the end of guests |
//! | `margin` | so does a lack of memory |
//! | `kernel` | the kernel reports pressure itself |

use std::future::Future;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tombolo::RegionHost;
use tombolo::pressure::{Level, PressureSink, PressureSource};
use tombolo_app::{CommandExit, CommandSpec, GuestSpec};
use tombolo_test_util::process::{Descriptor, Process};
use tombolo_test_util::run::{builder, one_thread, until};
use tombolo_test_util::store::{State, add_to_linker_async, component, engine};
use tombolo_tests::artifacts;
use wasmtime::Store;
use wasmtime::component::Linker;
use wasmtime_wasi::WasiCtx;
use wasmtime_wasi::p2::bindings::Command;

mod kernel;
mod margin;
mod relief;

tombolo_tests::guests!(pressure);

/// A source that the test controls.
#[derive(Clone, Default)]
struct Own(Arc<Mutex<Option<PressureSink>>>);

impl Own {
    fn report(&self, level: Level) {
        let sink = self.0.lock().unwrap().clone();
        sink.expect("it was started").report(level);
    }
}

impl PressureSource for Own {
    fn name(&self) -> String {
        "the test".into()
    }

    fn start(self: Box<Self>, sink: PressureSink) -> io::Result<Box<dyn Send>> {
        *self.0.lock().unwrap() = Some(sink);
        Ok(self)
    }
}

/// Lets guests run until they have created `count` regions, by which they signal progress.
async fn signs(host: &RegionHost, count: u64) {
    until(|| host.counts().regions_created >= count).await;
}

/// Returns the bytes that the kernel has allocated for the region of this name, of which the
/// process has one.
fn resident(name: &str) -> u64 {
    let descriptors = Process::current().descriptors().unwrap();
    let is_it = |it: &&Descriptor| {
        it.memfd()
            .is_some_and(|it| it == &*format!("tombolo:{name}"))
    };
    let it = descriptors.iter().find(is_it).expect("it is there");
    let file = std::fs::metadata(format!("/proc/self/fd/{}", it.number)).unwrap();
    file.blocks() * 512
}

// rules 8, 11
#[test]
fn waiting_guest_is_told_and_blocks_no_thread() {
    // If the guest blocked the only thread, the test could not report.
    let heard = Arc::new(Mutex::new(Vec::new()));
    let outcome = one_thread().block_on(async {
        let guest = GuestSpec {
            name: "waiter".into(),
            wasm: std::fs::read(guests::PRESSURE_WAITER).unwrap().into(),
            inherit_stdio: true,
            ..GuestSpec::default()
        };
        let command = CommandSpec {
            args: vec!["Moderate".into(), "Critical".into()],
            ..CommandSpec::default()
        };
        let app = builder().command(command).guest(guest);
        let app = app.start().await.unwrap();
        let host = app.host().clone();
        assert_eq!(host.pressure(), Level::Normal);
        let (own, react) = (Own::default(), heard.clone());
        let _monitor = host
            .watch_pressure(own.clone(), move |level, _| {
                react.lock().unwrap().push(level)
            })
            .unwrap();
        let report = async {
            signs(&host, 1).await;
            own.report(Level::Moderate);
            signs(&host, 2).await;
            own.report(Level::Critical);
        };
        let both = async { tokio::join!(app.run(), report).0 };
        tokio::time::timeout(Duration::from_secs(60), both)
            .await
            .expect("the guest is woken")
    });
    assert_eq!(outcome.end, CommandExit::Exit(0), "{:?}", outcome.failures);
    assert_eq!(
        *heard.lock().unwrap(),
        [Level::Moderate, Level::Critical],
        "the embedder is told as well"
    );
}

/// The guest's call pends only while it waits.
// rules 8, 11
#[test]
fn embedded_guest_waits_and_is_woken() {
    let component = component(guests::PRESSURE_WAITER);
    let mut linker: Linker<State> = Linker::new(engine());
    add_to_linker_async(&mut linker);
    tombolo::add_pressure_to_linker(&mut linker).unwrap();

    let host = RegionHost::new();
    let wasi = WasiCtx::builder()
        .args(&["waiter", "Critical", "Normal"])
        .inherit_stdio()
        .build();
    let state = State::with_wasi(host.context("waiter").build(), wasi);
    let mut store = Store::new(engine(), state);
    {
        let mut run = pin!(async {
            let command = Command::instantiate_async(&mut store, &component, &linker).await?;
            command.wasi_cli_run().call_run(&mut store).await
        });
        let mut context = Context::from_waker(Waker::noop());
        let mut pends = || run.as_mut().poll(&mut context);
        assert!(pends().is_pending());
        assert_eq!(host.counts().regions_created, 1);
        // A poll without a report changes nothing.
        assert!(pends().is_pending());
        host.report_pressure(Level::Normal);
        assert!(pends().is_pending());
        assert_eq!(host.counts().regions_created, 1);

        host.report_pressure(Level::Critical);
        assert!(pends().is_pending());
        assert_eq!(host.counts().regions_created, 2, "it waits again");
        host.report_pressure(Level::Normal);
        let Poll::Ready(ended) = pends() else {
            panic!("it was not woken")
        };
        assert_eq!(ended.unwrap(), Ok(()));
    }
    drop(store);
    assert_eq!(host.counts().regions_freed, 2);
}

/// Returns the imports of the component at `path`.
fn imports(path: &'static str) -> Vec<String> {
    let ty = component(path).component_type();
    ty.imports(engine())
        .map(|(name, _)| name.to_owned())
        .collect()
}

#[test]
fn guest_imports_pressure_only_if_used() {
    let pressure = "tombolo:memory/pressure@0.1.0".to_owned();
    assert!(imports(guests::PRESSURE_WAITER).contains(&pressure));
    // These use the same SDK.
    for path in [artifacts::EMBED_PLUGIN, artifacts::MUSIC_AUDIOSERVER] {
        let imports = imports(path);
        assert!(!imports.contains(&pressure), "{path}: {imports:?}");
        let regions = "tombolo:memory/regions@0.1.0".to_owned();
        assert!(imports.contains(&regions), "{path}: {imports:?}");
    }
}
