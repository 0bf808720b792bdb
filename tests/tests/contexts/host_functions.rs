//! Functions of the host program that take `borrow<region>`.

use std::sync::{Arc, Mutex};

use tombolo::{
    GRANULE, HeldLoan, MaskedLoan, PackError, Region, RegionError, RegionHost, Rights,
    WriteViolation, guest_in,
};
use tombolo_test_util::child::alone;
use tombolo_test_util::puppet::{assert_filled, filled};
use wasmtime::component::{Linker, Resource, Val};
use wasmtime::{Result, StoreContextMut};

use crate::world::{Access, Acts, READ, State, WRITE, World, getter};

const INTERFACE: &str = "test:contexts/host";

/// The result of a function, as its type in the interface.
type Answer = (std::result::Result<u64, String>,);

fn answer(result: std::result::Result<u64, RegionError>) -> Result<Answer> {
    Ok((result.map_err(|error| error.to_string()),))
}

/// Adds `sum` and `fill`, which work in place.
fn link(linker: &mut Linker<State>, number: usize) -> Result<()> {
    let mut host = linker.instance(INTERFACE)?;
    host.func_wrap(
        "sum",
        move |mut store: StoreContextMut<'_, State>, (region,): (Resource<Region>,)| {
            let mut guest = guest_in(&mut store, getter(number));
            let region = Region::borrow(&mut guest, region)?;
            answer(region.try_read(..).map(|bytes| sum(&bytes)))
        },
    )?;
    host.func_wrap(
        "fill",
        move |mut store: StoreContextMut<'_, State>, (region, byte): (Resource<Region>, u8)| {
            let mut guest = guest_in(&mut store, getter(number));
            let region = Region::borrow(&mut guest, region)?;
            let written = region.try_write(..).map(|mut bytes| {
                let before = sum(&bytes);
                bytes.fill(byte);
                before
            });
            region.end();
            answer(written)
        },
    )?;
    host.func_wrap(
        "take",
        move |mut store: StoreContextMut<'_, State>, (region,): (Resource<Region>,)| {
            let region = Region::take(guest_in(&mut store, getter(number)), region)?;
            answer(Ok(region.size()))
        },
    )
}

fn sum(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte)).sum()
}

/// Creates a store with one guest, which has a region full of threes.
fn one(host: &RegionHost, link: impl Fn(&mut Linker<State>, usize) -> Result<()>) -> Setting {
    let region = filled(host, "music", GRANULE, 3);
    let mut world = World::linked([host.context("a"), host.context("b")], link);
    let number = world.give(0, &region);
    Setting {
        world,
        region,
        number,
    }
}

struct Setting {
    world: World,
    region: Region,
    number: u32,
}

impl Setting {
    fn map(&mut self, access: Access) -> u32 {
        let number = self.number;
        let acts = |acts: &Acts, store: &mut _| acts.call_map_window(store, number, access);
        self.world.acts(0, acts).unwrap().unwrap()
    }

    fn peek(&mut self, window: u32) -> u8 {
        let seen = self
            .world
            .acts(0, |acts, store| acts.call_peek(store, window));
        seen.unwrap()
    }

    fn poke(&mut self, window: u32, byte: u8) {
        let poked = self
            .world
            .acts(0, |acts, store| acts.call_poke(store, window, byte));
        poked.unwrap();
    }

    fn sum(&mut self) -> Result<std::result::Result<u64, String>> {
        let number = self.number;
        self.world
            .acts(0, |acts, store| acts.call_host_sum(store, number))
    }

    fn fill(&mut self, byte: u8) -> Result<std::result::Result<u64, String>> {
        let number = self.number;
        self.world
            .acts(0, |acts, store| acts.call_host_fill(store, number, byte))
    }
}

// rule 5
#[test]
fn sum_is_read_under_the_guests_write_window() {
    let host = RegionHost::new();
    let mut it = one(&host, link);
    let window = it.map(WRITE);
    it.poke(window, 13);
    assert_eq!(it.sum().unwrap(), Ok(3 * GRANULE + 10));
    // The window is as before, and so is its lock.
    assert_eq!(it.peek(window), 13);
    it.poke(window, 14);
    assert!(matches!(
        it.region.try_read(..),
        Err(RegionError::WouldBlock)
    ));
    it.world
        .acts(0, |acts, store| acts.call_drop_window(store, window))
        .unwrap();
    assert_eq!(it.region.try_write(0..2).unwrap()[..], [14, 3]);
}

// rule 5
#[test]
fn bytes_of_a_fill_are_in_the_guests_window() {
    let host = RegionHost::new();
    let mut it = one(&host, link);
    for access in [WRITE, READ] {
        let window = it.map(access);
        assert!(it.fill(7).unwrap().is_ok());
        assert_eq!(it.peek(window), 7);
        it.world
            .acts(0, |acts, store| acts.call_drop_window(store, window))
            .unwrap();
    }
    assert_filled(&it.region, 7);
    assert!(!it.region.is_poisoned());
}

// rule 2
#[test]
fn window_of_another_guest_is_in_the_way() {
    let host = RegionHost::new();
    let mut it = one(&host, link);
    let region = it.region.duplicate(Rights::ALL).unwrap();
    let other = it.world.give(1, &region);
    let mapped = it
        .world
        .acts(1, |acts, store| acts.call_map_window(store, other, READ));
    mapped.unwrap().unwrap();
    assert_eq!(it.sum().unwrap(), Ok(3 * GRANULE));
    let refused = it.fill(7).unwrap().unwrap_err();
    assert_eq!(refused, RegionError::WouldBlock.to_string());
    assert_filled(&it.region, 3);
    assert!(!it.region.is_poisoned());
}

// rule 1
#[test]
fn loan_has_the_rights_of_the_handle() {
    let host = RegionHost::new();
    let mut it = one(&host, link);
    let weak = it.region.duplicate(Rights::READ | Rights::SHARE).unwrap();
    let handle = weak.give(it.world.guest(0)).unwrap();
    it.number = it
        .world
        .acts(0, |acts, store| acts.call_keep(store, handle))
        .unwrap();
    assert!(it.sum().unwrap().is_ok());
    let refused = it.fill(7).unwrap().unwrap_err();
    assert_eq!(refused, RegionError::NotPermitted.to_string());
}

// rule 8
#[test]
fn owned_region_moves_to_the_host_program() {
    let host = RegionHost::new();
    let mut it = one(&host, link);
    let window = it.map(WRITE);
    let number = it.number;
    let taken = it
        .world
        .acts(0, |acts, store| acts.call_host_take(store, number));
    assert_eq!(taken.unwrap(), Ok(GRANULE));
    assert_eq!(it.peek(window), 0);
    assert_eq!(it.world.store.data().guests[0].claimed_bytes(), 0);
    drop(it.region.try_write(..).unwrap());
}

// rule 9
#[test]
fn guest_that_violated_a_window_lends_nothing() {
    alone(
        "host_functions::guest_that_violated_a_window_lends_nothing",
        || {
            let host = RegionHost::new();
            let mut it = one(&host, link);
            let window = it.map(READ);
            it.world
                .acts(0, |acts, store| acts.call_violate(store, window))
                .unwrap();
            let error = it.sum().unwrap_err();
            assert!(error.is::<WriteViolation>() || format!("{error:#}").contains("wrote to its"));
        },
    );
}

/// Host functions that do not come to their end.
mod failures {
    use super::*;

    /// Replaces `fill` by one that writes half, and then does what it is told.
    fn failing(
        end: impl Fn(HeldLoan<'_, State>) -> Result<Answer> + Clone + Send + Sync + 'static,
    ) -> impl Fn(&mut Linker<State>, usize) -> Result<()> {
        move |linker, number| {
            let end = end.clone();
            linker.instance(INTERFACE)?.func_wrap(
                "fill",
                move |mut store: StoreContextMut<'_, State>,
                      (region, byte): (Resource<Region>, u8)| {
                    let mut guest = guest_in(&mut store, getter(number));
                    let region = Region::borrow(&mut guest, region)?;
                    region.try_write(..GRANULE / 2)?.fill(byte);
                    end(region)
                },
            )
        }
    }

    // rule 6
    #[test]
    fn function_that_fails_midway_poisons() {
        let host = RegionHost::new();
        let mut it = one(&host, failing(|_| wasmtime::bail!("the codec failed")));
        let error = it.fill(7).unwrap_err();
        assert!(format!("{error:#}").contains("the codec failed"));
        assert!(it.region.is_poisoned());
        drop(it.world);
        it.region.clear_poison().unwrap();
        // The loan has ended.
        assert_eq!(it.region.try_write(0..1).unwrap()[..], [7]);
    }

    // rule 6
    #[test]
    fn function_that_reports_a_failure_decides() {
        let host = RegionHost::new();
        let without_end = |_: HeldLoan<'_, State>| Ok((Err("half of it".to_owned()),));
        let mut it = one(&host, failing(without_end));
        assert_eq!(it.fill(7).unwrap(), Err("half of it".into()));
        assert!(it.region.is_poisoned());
        let in_order = |loan: HeldLoan<'_, State>| {
            loan.end();
            Ok((Err("all of it".to_owned()),))
        };
        let mut it = one(&host, failing(in_order));
        assert_eq!(it.fill(7).unwrap(), Err("all of it".into()));
        assert!(!it.region.is_poisoned());
    }

    // rule 6
    #[test]
    fn panic_poisons_and_ends_the_loan() {
        let host = RegionHost::new();
        let mut it = one(&host, failing(|_| panic!("a bug")));
        let world = std::panic::AssertUnwindSafe(&mut it);
        let caught = std::panic::catch_unwind(|| {
            let world = world;
            world.0.fill(7)
        });
        assert!(caught.is_err());
        assert!(it.region.is_poisoned());
        drop(it.world);
        it.region.clear_poison().unwrap();
        drop(it.region.try_write(..).unwrap());
    }

    // rule 6
    #[test]
    fn function_that_only_reads_poisons_nothing() {
        let host = RegionHost::new();
        let mut it = one(&host, |linker, number| {
            linker.instance(INTERFACE)?.func_wrap(
                "sum",
                move |mut store: StoreContextMut<'_, State>, (region,): (Resource<Region>,)| {
                    let mut guest = guest_in(&mut store, getter(number));
                    let region = Region::borrow(&mut guest, region)?;
                    let _bytes = region.try_read(..)?;
                    Err::<Answer, _>(wasmtime::format_err!("no hash today"))
                },
            )
        });
        assert!(it.sum().is_err());
        assert!(!it.region.is_poisoned());
        drop(it.region.try_write(..).unwrap());
    }

    // rule 5
    #[test]
    fn purged_region_is_refused() {
        let host = RegionHost::new();
        let seen: Arc<Mutex<Option<String>>> = Arc::default();
        let noted = seen.clone();
        let mut it = one(&host, move |linker, number| {
            let noted = noted.clone();
            linker.instance(INTERFACE)?.func_wrap(
                "sum",
                move |mut store: StoreContextMut<'_, State>, (region,): (Resource<Region>,)| {
                    let mut guest = guest_in(&mut store, getter(number));
                    match Region::borrow(&mut guest, region) {
                        Err(PackError::Refused { reason, .. }) => {
                            *noted.lock().unwrap() = Some(reason.to_string());
                            answer(Err(reason))
                        }
                        other => answer(Ok(other?.size())),
                    }
                },
            )
        });
        // A frozen region that was purged can be lent to nobody.
        it.region.freeze().unwrap();
        assert_eq!(it.sum().unwrap(), Ok(GRANULE));
        let number = it.number;
        let unpinned = it
            .world
            .acts(0, |acts, store| acts.call_unpin(store, number));
        unpinned.unwrap().unwrap();
        it.region.unpin(..).unwrap();
        host.purge(u64::MAX);
        assert_eq!(it.sum().unwrap(), Err(RegionError::Purged.to_string()));
        assert_eq!(*seen.lock().unwrap(), Some(RegionError::Purged.to_string()));
    }
}

/// Asynchronous functions.
mod waiting {
    use super::*;
    use std::time::Duration;

    use tokio::sync::Notify;

    /// Replaces `fill` by one that takes a guard, waits, and then writes.
    fn slow(gate: Arc<Notify>) -> impl Fn(&mut Linker<State>, usize) -> Result<()> {
        move |linker, number| {
            let gate = gate.clone();
            linker.instance(INTERFACE)?.func_wrap_async(
                "fill",
                move |mut store: StoreContextMut<'_, State>,
                      (region, byte): (Resource<Region>, u8)| {
                    let gate = gate.clone();
                    Box::new(async move {
                        let mut guest = guest_in(&mut store, getter(number));
                        let region = Region::borrow(&mut guest, region)?;
                        let mut bytes = region.write(..).await?;
                        gate.notified().await;
                        let before = sum(&bytes);
                        bytes.fill(byte);
                        drop(bytes);
                        region.end();
                        answer(Ok(before))
                    })
                },
            )
        }
    }

    struct Waiting {
        world: World,
        region: Region,
        /// The parameters of `host-fill`.
        params: [Val; 2],
        window: Val,
    }

    impl Waiting {
        /// Creates a store with a guest that has a window on a region full of threes.
        async fn new(host: &RegionHost, gate: &Arc<Notify>, access: &str) -> Waiting {
            let region = filled(host, "music", GRANULE, 3);
            let mut world = World::linked_async([host.context("a")], slow(gate.clone())).await;
            let (number, window) = world.give_and_map(0, &region, access).await;
            Waiting {
                world,
                region,
                params: [number, Val::U8(7)],
                window,
            }
        }
    }

    fn fills_threes(result: Result<Val>) -> bool {
        result.unwrap() == Val::Result(Ok(Some(Box::new(Val::U64(3 * GRANULE)))))
    }

    // rule 5
    #[tokio::test]
    async fn loan_lasts_across_waits() {
        let (host, gate) = (RegionHost::new(), Arc::new(Notify::new()));
        let mut it = Waiting::new(&host, &gate, "write").await;
        gate.notify_one();
        let filled = it.world.call_async(0, "host-fill", &it.params).await;
        assert!(fills_threes(filled));
        let seen = it.world.call_async(0, "peek", &[it.window]).await;
        assert_eq!(seen.unwrap(), Val::U8(7));
        assert!(!it.region.is_poisoned());
    }

    // rule 6
    #[tokio::test]
    async fn dropped_call_poisons_and_ends_the_loan() {
        let (host, gate) = (RegionHost::new(), Arc::new(Notify::new()));
        let mut it = Waiting::new(&host, &gate, "read").await;
        let call = it.world.call_async(0, "host-fill", &it.params);
        let stopped = tokio::time::timeout(Duration::from_millis(20), call).await;
        assert!(stopped.is_err(), "nobody opens the gate");
        drop(it.world);
        assert!(it.region.is_poisoned());
        it.region.clear_poison().unwrap();
        drop(it.region.try_write(..).unwrap());
    }

    // rule 2
    #[tokio::test]
    async fn function_waits_for_another_reader() {
        let (host, gate) = (RegionHost::new(), Arc::new(Notify::new()));
        let mut it = Waiting::new(&host, &gate, "read").await;
        gate.notify_one();
        let guard = it.region.try_read(..).unwrap();
        let mut call = Box::pin(it.world.call_async(0, "host-fill", &it.params));
        let waited = tokio::time::timeout(Duration::from_millis(20), &mut call).await;
        assert!(waited.is_err(), "a guard is in the way");
        assert_eq!(sum(&guard), 3 * GRANULE);
        drop(guard);
        assert!(fills_threes(call.await));
        drop(it.world);
        assert_filled(&it.region, 7);
    }

    // rules 5, 12
    #[test]
    fn masked_loan_gives_the_store_back() {
        let host = RegionHost::new();
        let kept: Arc<Mutex<Option<MaskedLoan>>> = Arc::default();
        let keep = kept.clone();
        let mut it = one(&host, move |linker, number| {
            let keep = keep.clone();
            linker.instance(INTERFACE)?.func_wrap(
                "sum",
                move |mut store: StoreContextMut<'_, State>, (region,): (Resource<Region>,)| {
                    let mut guest = guest_in(&mut store, getter(number));
                    let loan = Region::borrow(&mut guest, region)?.mask()?;
                    *keep.lock().unwrap() = Some(loan);
                    answer(Ok(0))
                },
            )
        });
        let window = it.map(WRITE);
        it.poke(window, 13);
        assert_eq!(it.sum().unwrap(), Ok(0));
        // The guest runs meanwhile, and neither sees nor changes a byte of the region.
        assert_eq!(it.peek(window), 0);
        it.poke(window, 99);
        let loan = kept.lock().unwrap().take().unwrap();
        let mut bytes = loan.try_write(..).unwrap();
        assert_eq!(bytes[..2], [13, 3]);
        bytes.fill(7);
        drop(bytes);
        loan.end(&mut it.world.store).unwrap();
        assert_eq!(it.peek(window), 7);
        assert!(!it.region.is_poisoned());
    }
}
