//! Mistakes of an embedder in safe code: none is undefined behaviour, and each is noticed.

use tombolo::{
    GRANULE, GiveError, PackError, Parcel, Region, RegionError, RegionHost, Rights, WriteViolation,
};
use tombolo_test_util::child::alone;
use tombolo_test_util::puppet::{ErrorCode, Puppet, READ, WRITE, assert_filled, filled};

/// Stores whose calls are checked by `attach`.
mod attached {
    use super::*;

    // rule 9
    #[test]
    fn call_that_violates_a_window_fails() {
        alone("attached::call_that_violates_a_window_fails", || {
            let host = RegionHost::new();
            let region = filled(&host, "music", GRANULE, 1);
            let mut a = Puppet::new(&host, "a");
            tombolo::attach(&mut a.store);
            let number = a.receive(region.duplicate(Rights::ALL).unwrap());
            let (_, at) = a.mapped(number, 1, READ);
            // Nobody checks, and the guest calls no host function.
            let error = a.fill(at + 5, 100, 9).unwrap_err();
            let violation: &WriteViolation = error.downcast_ref().expect("that is the reason");
            assert_eq!(violation.guest(), "a");
            assert_eq!(violation.region(), Some("music"));
            assert_eq!(violation.offset(), Some(5));
            assert!(a.fill(at + 5, 1, 9).is_err(), "each call from then on");
            drop(a);
            assert_filled(&region, 1);
        });
    }

    #[test]
    fn context_that_is_replaced_hides_no_violation() {
        alone(
            "attached::context_that_is_replaced_hides_no_violation",
            || {
                let host = RegionHost::new();
                let region = filled(&host, "music", GRANULE, 1);
                let mut a = Puppet::new(&host, "a");
                tombolo::attach(&mut a.store);
                let number = a.receive(region.duplicate(Rights::ALL).unwrap());
                let (_, at) = a.mapped(number, 1, READ);
                a.store.data_mut().regions = host.context("again").build();
                let error = a.fill(at, 100, 9).unwrap_err();
                assert!(error.is::<WriteViolation>(), "{error:?}");
                assert_filled(&region, 1);
            },
        );
    }

    #[test]
    fn guests_without_violations_work_on() {
        let host = RegionHost::new();
        let mut a = Puppet::new(&host, "a");
        tombolo::attach(&mut a.store);
        a.assert_works();
    }
}

/// Contexts that are replaced and swapped while their stores have windows.
mod contexts {
    use super::*;

    /// Checks that the guest was terminated because it wrote to its window on `region`.
    #[track_caller]
    fn assert_violation<R: std::fmt::Debug>(result: wasmtime::Result<R>, region: &Region) {
        let error = result.expect_err("the guest wrote to its read window");
        let error = error
            .downcast::<WriteViolation>()
            .expect("the reason is the violation");
        let text = error.to_string();
        assert!(text.contains(&format!("`{}`", region.name())), "{text}");
    }

    /// Creates a region full of ones, and a guest with a `read` window on three granules of it.
    /// The middle granule is unpinned. The guest's first window belongs to an earlier context.
    fn with_a_new_context(host: &RegionHost, name: &str) -> (Region, Puppet, u32, u32) {
        let region = filled(host, name, 3 * GRANULE, 1);
        let mut a = Puppet::new(host, "a");
        let number = a.create("first", GRANULE).unwrap().unwrap();
        a.mapped(number, 1, READ);
        a.store.data_mut().regions = host.context("again").build();
        let number = a.receive(region.duplicate(Rights::ALL).unwrap());
        let (_, at) = a.mapped(number, 3, READ);
        a.unpin(number, GRANULE, GRANULE).unwrap().unwrap();
        (region, a, number, at)
    }

    // rules 9, 12
    #[test]
    fn new_context_reports_the_violation() {
        alone("contexts::new_context_reports_the_violation", || {
            let host = RegionHost::new();
            let (region, mut a, number, at) = with_a_new_context(&host, "music");
            a.fill(at, 100, 9).unwrap();
            assert!(a.store.data().regions.check().is_err());
            assert_violation(a.pin(number, GRANULE, GRANULE), &region);
            drop(a);
            assert_filled(&region, 1);
            Puppet::new(&host, "b").assert_works();
        });
    }

    // rules 9, 12
    #[test]
    fn later_context_reports_the_violation() {
        alone("contexts::later_context_reports_the_violation", || {
            let host = RegionHost::new();
            let (region, mut a, _, at) = with_a_new_context(&host, "music");
            a.fill(at, 100, 9).unwrap();
            let kept = std::mem::replace(
                &mut a.store.data_mut().regions,
                host.context("third").build(),
            );
            assert!(tombolo::check(&mut a.store).is_err());
            assert_violation(a.create("more", 1), &region);
            drop((kept, a));
            assert_filled(&region, 1);
        });
    }

    // rules 9, 12
    #[test]
    fn violation_stays_with_its_store() {
        alone("contexts::violation_stays_with_its_store", || {
            let host = RegionHost::new();
            let (region, mut a, _, at) = with_a_new_context(&host, "music");
            let (other, mut b, _, at_b) = with_a_new_context(&host, "words");
            std::mem::swap(
                &mut a.store.data_mut().regions,
                &mut b.store.data_mut().regions,
            );
            a.fill(at, 100, 9).unwrap();
            // `a` committed the violation, whichever context it has.
            let made = b.create("more", 1).unwrap();
            made.unwrap();
            assert_violation(a.create("more", 1), &region);
            b.fill(at_b, 100, 9).unwrap();
            assert_violation(b.create("more", 1), &other);
            drop((a, b));
            assert_filled(&region, 1);
            assert_filled(&other, 1);
        });
    }
}

/// Calls that do not return, in which a guest writes to a lent region.
mod lends {
    use super::*;

    const BOTH: Rights = Rights::ALL.without(Rights::SHARE);

    /// Checks that the region is poisoned, and that the lend has ended.
    #[track_caller]
    fn assert_half_written(region: &Region) {
        assert!(region.is_poisoned());
        assert!(matches!(region.try_read(0..1), Err(RegionError::Poisoned)));
        region.clear_poison().unwrap();
        region.try_write(0..1).unwrap()[0] = 1;
    }

    // rules 5, 6
    #[test]
    fn ending_a_lend_after_a_trap_poisons() {
        let host = RegionHost::new();
        let region = filled(&host, "lent", GRANULE, 1);
        let mut a = Puppet::new(&host, "a");
        let at = a.allocate(1).unwrap();
        let lent = region.lend(&mut a.store, BOTH).unwrap();
        a.map_lent(lent.resource(), WRITE, at).unwrap().unwrap();
        a.poke(at, 9).unwrap();
        // The address is beyond the memory.
        let returned = a.poke(u32::MAX, 9);
        let trap = lent.end(&mut a.store, returned).unwrap_err();
        assert!(trap.is::<wasmtime::Trap>(), "{trap:?}");
        assert_half_written(&region);
    }

    // rules 5, 6
    #[test]
    fn ending_a_lend_after_a_panic_poisons() {
        let host = RegionHost::new();
        let region = filled(&host, "lent", GRANULE, 1);
        let mut a = Puppet::new(&host, "a");
        let at = a.allocate(1).unwrap();
        let lent = region.lend(&mut a.store, BOTH).unwrap();
        a.map_lent(lent.resource(), WRITE, at).unwrap().unwrap();
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            a.poke(at, 9).unwrap();
            panic!("in a host function");
        }));
        let returned = panicked.map_err(|_| wasmtime::Error::msg("it panicked"));
        lent.end(&mut a.store, returned).unwrap_err();
        assert_half_written(&region);
        drop(a);
        // The region is not poisoned again.
        assert!(!region.is_poisoned());
    }

    // rules 5, 6
    #[test]
    fn ending_a_lend_after_a_return_does_not_poison() {
        let host = RegionHost::new();
        let region = filled(&host, "lent", GRANULE, 1);
        let mut a = Puppet::new(&host, "a");
        let at = a.allocate(1).unwrap();
        a.lend_to_map(&region, BOTH, WRITE, at).unwrap().unwrap();
        assert_filled(&region, 1);
    }

    // rules 5, 6
    #[test]
    fn failed_call_with_a_read_window_does_not_poison() {
        let host = RegionHost::new();
        let region = filled(&host, "lent", GRANULE, 1);
        let mut a = Puppet::new(&host, "a");
        let at = a.allocate(1).unwrap();
        let lent = region.lend(&mut a.store, Rights::READ).unwrap();
        a.map_lent(lent.resource(), READ, at).unwrap().unwrap();
        let returned = a.poke(u32::MAX, 9);
        lent.end(&mut a.store, returned).unwrap_err();
        assert_filled(&region, 1);
    }
}

/// Regions and stores of two hosts.
mod hosts {
    use wasmtime::component::{ResourceAny, Val};

    use super::*;

    #[track_caller]
    fn assert_other_host(error: &RegionError) {
        assert!(matches!(error, RegionError::OtherHost), "{error}");
        assert!(
            error.to_string().contains("another `RegionHost`"),
            "{error}"
        );
    }

    // rule 1
    #[test]
    fn region_of_another_host_is_neither_lent_nor_given() {
        let (one, two) = (RegionHost::new(), RegionHost::new());
        let mut a = Puppet::new(&one, "a");
        let region = filled(&two, "of two", GRANULE, 1);
        assert_other_host(&region.lend(&mut a.store, Rights::READ).unwrap_err());
        let GiveError { region, reason, .. } = region.give(&mut a.store).unwrap_err();
        assert_other_host(&reason);
        // The guest's account is empty, and the region is free.
        assert_eq!(a.store.data().regions.claimed_bytes(), 0);
        region.try_write(0..1).unwrap()[0] = 1;
        // A clone is the same host.
        let region = filled(&one.clone(), "of one", GRANULE, 1);
        assert!(region.give(&mut a.store).is_ok());
    }

    // rule 1
    #[test]
    fn region_of_another_host_is_not_packed() {
        let (one, two) = (RegionHost::new(), RegionHost::new());
        let mut a = Puppet::new(&one, "a");
        let b = Puppet::new(&two, "b");
        let to = b.store.data().regions.recipient();
        let number = a.create("of one", GRANULE).unwrap().unwrap();
        let region = a.give_resource(number).unwrap();
        let val = Val::Resource(ResourceAny::try_from_resource(region, &mut a.store).unwrap());
        let error = Parcel::pack(&mut a.store, vec![val], &to).unwrap_err();
        let PackError::Refused { reason, .. } = error else {
            panic!("{error:?}")
        };
        assert_other_host(&reason);
        assert_eq!(b.store.data().regions.claimed_bytes(), 0);
    }

    // rule 1
    #[test]
    fn parcel_for_another_host_is_not_unpacked() {
        let (one, two) = (RegionHost::new(), RegionHost::new());
        let mut a = Puppet::new(&one, "a");
        let mut b = Puppet::new(&two, "b");
        let to = a.store.data().regions.recipient();
        let number = a.create("of one", GRANULE).unwrap().unwrap();
        let region = a.give_resource(number).unwrap();
        let val = Val::Resource(ResourceAny::try_from_resource(region, &mut a.store).unwrap());
        let (parcel, _) = Parcel::pack(&mut a.store, vec![val], &to).unwrap();
        let error = parcel.unpack(&mut b.store).unwrap_err();
        assert_other_host(error.downcast_ref().unwrap());
    }
}

/// Children that are forked without `exec`.
mod forks {
    use super::*;

    /// The way to fork.
    #[derive(Clone, Copy, Debug)]
    enum Fork {
        /// The function of the C library.
        Library,
        /// The system call, which the C library does not see.
        Raw,
    }

    /// Runs `act` in a child. Returns whether `act` returned there.
    #[allow(unsafe_code)]
    fn in_child(fork: Fork, act: impl FnOnce()) -> bool {
        let child = match fork {
            // SAFETY: only one thread of this process is active, and the child only runs
            // `act`.
            Fork::Library => unsafe { libc::fork() },
            // SAFETY: as above; the arguments are those of `fork`.
            Fork::Raw => unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0) }
                .try_into()
                .unwrap(),
        };
        assert!(child >= 0, "{}", std::io::Error::last_os_error());
        if child == 0 {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
            // SAFETY: this ends the child without the test process's exit handlers.
            unsafe { libc::_exit(i32::from(result.is_err())) }
        }
        let mut status = 0;
        // SAFETY: the process is our child, and `status` is valid for the call.
        let waited = unsafe { libc::waitpid(child, &mut status, 0) };
        assert_eq!(waited, child);
        status == 0
    }

    #[track_caller]
    fn assert_refused<R: std::fmt::Debug>(result: Result<R, RegionError>) {
        assert!(matches!(result, Err(RegionError::Forked)), "{result:?}");
    }

    #[test]
    fn child_cannot_touch_its_parents_regions() {
        alone("forks::child_cannot_touch_its_parents_regions", || {
            for fork in [Fork::Library, Fork::Raw] {
                let host = RegionHost::new();
                let region = filled(&host, "cache", 2 * GRANULE, 1);
                region.unpin(..GRANULE).unwrap();
                let ended = in_child(fork, || {
                    assert_eq!(host.purge(u64::MAX), 0);
                    assert_eq!(host.set_budget(0), 0);
                    assert_refused(host.create("more", 1));
                    assert_refused(region.try_write(GRANULE..2 * GRANULE));
                    assert_refused(region.try_read(GRANULE..2 * GRANULE));
                    assert_refused(region.write_at(GRANULE, &[9]));
                    assert_refused(region.read_at(GRANULE..GRANULE + 1));
                    assert_refused(region.pin(..));
                    // A host that the child creates works.
                    let host = RegionHost::new();
                    let own = filled(&host, "own", GRANULE, 2);
                    own.unpin(..).unwrap();
                    assert_eq!(host.purge(u64::MAX), GRANULE);
                });
                assert!(ended, "{fork:?}");
                assert_eq!(region.pin(..).unwrap(), tombolo::Pinned::Intact);
                assert_filled(&region, 1);
                assert_eq!(host.budget().purgeable, 0);
            }
        });
    }

    #[test]
    fn guest_in_a_child_cannot_write_to_windows() {
        alone("forks::guest_in_a_child_cannot_write_to_windows", || {
            let host = RegionHost::new();
            let region = filled(&host, "shared", GRANULE, 1);
            let mut a = Puppet::new(&host, "a");
            let number = a.receive(region.duplicate(Rights::ALL).unwrap());
            let (_, at) = a.mapped(number, 1, WRITE);
            let mut a = Some(a);
            let ended = in_child(Fork::Library, || {
                let mut a = a.take().unwrap();
                a.poke(at, 9).unwrap_err();
                drop(a);
                // The child's own guests work.
                let host = RegionHost::new();
                Puppet::new(&host, "b").assert_works();
            });
            assert!(ended);
            // The parent still has the window.
            let mut a = a.unwrap();
            a.poke(at + 1, 1).unwrap();
            a.store.data_mut().regions.finish();
            drop(a);
            assert_filled(&region, 1);
        });
    }

    #[test]
    fn guest_in_a_child_maps_nothing() {
        alone("forks::guest_in_a_child_maps_nothing", || {
            let host = RegionHost::new();
            let region = filled(&host, "shared", GRANULE, 1);
            let mut a = Puppet::new(&host, "a");
            let number = a.receive(region.duplicate(Rights::ALL).unwrap());
            let at = a.allocate(1).unwrap();
            let ended = in_child(Fork::Raw, || {
                let mapped = a.map(number, 0, GRANULE, WRITE, at).unwrap();
                assert!(
                    matches!(mapped, Err(ErrorCode::Unsupported(_))),
                    "{mapped:?}"
                );
                a.write_at(number, 0, &[9]).unwrap().unwrap_err();
            });
            assert!(ended);
            drop(a);
            assert_filled(&region, 1);
        });
    }
}
