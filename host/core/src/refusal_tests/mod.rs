//! Refused system calls. The kernel may refuse any system call of Tombolo's. The result is an
//! error, a trap, or the end of that guest, and never anything else.
//!
//! A guest does everything that takes system calls, again and again, and each time another call
//! is refused: each single one, two in a row, and three. Beside it an innocent guest keeps its
//! windows.

mod guest;

use rustix::io::Errno;
use tombolo_region::{GRANULE, Rights};
use tombolo_test_util::child::{again, alone};
use wasmtime::Config;

use crate::config::prepare;
use crate::host::{Region, RegionHost};
use crate::sys::StoreId;
use crate::sys::kernel::refusals;
use crate::sys::parking;
use crate::violation::WriteViolation;
use crate::window::mask_all;
use crate::wit::windows::WitAccess::{Read, Write};

use self::guest::{Puppet, assert_filled, filled, mappings_of};

const PAGE: u32 = 65536;

/// The end of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// A call was refused, and the guest did without all that follows.
    Refused,
    /// It was stopped when it wrote to its read-only window, as without a refusal.
    Violated,
    /// It trapped before that, or there was no memory for it.
    Trapped,
}

/// Everything that a guest and the host program do with memory.
struct Attack<'a> {
    host: &'a RegionHost,
    /// A region full of ones. The guest only reads it.
    music: &'a Region,
}

impl Attack<'_> {
    /// Stops when the guest traps. The guest does without calls that are refused.
    fn run(&self) -> wasmtime::Result<()> {
        let mut a = Puppet::try_new(self.host, "hostile")?;
        self.own_region(&mut a)?;
        self.parking(&mut a)?;
        self.recycling(&mut a)?;
        self.pins(&mut a)?;
        self.hiding(&mut a)?;
        self.host_program();
        self.violate(&mut a)
    }

    /// Creates a region, and changes the access of a window on it.
    fn own_region(&self, a: &mut Puppet) -> wasmtime::Result<()> {
        let Ok(number) = a.create("own", 2 * GRANULE)? else {
            return Ok(());
        };
        let _ = a.write_at(number, 5, &[1; 100])?;
        let _ = a.read_at(number, 5, 100)?;
        let at = a.allocate(2)?;
        if at == 0 {
            return Ok(());
        }
        if let Ok(window) = a.map(number, 0, 2 * GRANULE, Write, at)? {
            a.poke(at, 2)?;
            if a.set_access(window, Read)?.is_ok() {
                let _ = a.set_access(window, Write)?;
            }
            a.drop_window(window)?;
            // Memory of its own again.
            a.fill(at, 2 * PAGE, 3)?;
        }
        a.drop_handle(number)
    }

    /// Maps a window again whose page tables were kept.
    fn parking(&self, a: &mut Puppet) -> wasmtime::Result<()> {
        let Ok(number) = a.create("again", 4 * GRANULE)? else {
            return Ok(());
        };
        let at = a.allocate(4)?;
        if at == 0 {
            return Ok(());
        }
        for byte in 1..4 {
            let Ok(window) = a.map(number, 0, 4 * GRANULE, Write, at)? else {
                return Ok(());
            };
            assert_eq!(a.byte(at), byte - 1, "what was written through the window");
            a.fill(at, 4 * PAGE, byte)?;
            a.drop_window(window)?;
            assert_eq!(a.byte(at), 0, "memory of its own again");
        }
        a.drop_handle(number)
    }

    /// Creates a region with the file of another one.
    fn recycling(&self, a: &mut Puppet) -> wasmtime::Result<()> {
        for _ in 0..2 {
            let Ok(number) = a.create("next", GRANULE)? else {
                return Ok(());
            };
            if let Ok(bytes) = a.read_at(number, 0, 200)? {
                assert_eq!(bytes, [0; 200], "what another region contained");
            }
            let _ = a.write_at(number, 5, &[1; 100])?;
            a.drop_handle(number)?;
        }
        Ok(())
    }

    /// Unpins under a window, and pins again.
    fn pins(&self, a: &mut Puppet) -> wasmtime::Result<()> {
        let Ok(number) = a.create("cache", 5 * GRANULE)? else {
            return Ok(());
        };
        let at = a.allocate(5)?;
        if at == 0 {
            return Ok(());
        }
        let Ok(window) = a.map(number, 0, 5 * GRANULE, Write, at)? else {
            return Ok(());
        };
        for granule in [1, 3] {
            let _ = a.unpin(number, granule * GRANULE, GRANULE)?;
        }
        // Three parts.
        if a.set_access(window, Read)?.is_ok() {
            let _ = a.set_access(window, Write)?;
        }
        a.fill(at, 5 * PAGE, 4)?;
        self.host.purge(GRANULE);
        if a.pin(number, 0, 0)?.is_ok() {
            a.fill(at, 5 * PAGE, 5)?;
        }
        let _ = a.unpin(number, 0, 0)?;
        Ok(())
    }

    /// Masks a window, as a lend does, and unmasks it.
    fn hiding(&self, a: &mut Puppet) -> wasmtime::Result<()> {
        let region = self.music.duplicate(Rights::ALL)?;
        let (shared, claim) = (region.inner().clone(), region.handle().claim());
        let number = a.receive(region);
        let at = a.allocate(3)?;
        if at == 0 {
            return Ok(());
        }
        let Ok(_) = a.map(number, 0, 3 * GRANULE, Read, at)? else {
            return Ok(());
        };
        let _ = a.unpin(number, GRANULE, GRANULE)?;
        let store = StoreId::of(&a.store);
        let hidden = mask_all(store, &shared, claim, None, true);
        let hidden = hidden.map_err(wasmtime::Error::from)?;
        a.fill(at, 3 * PAGE, 6)?;
        hidden.unmask(store).map_err(wasmtime::Error::from)
    }

    /// Guards of the host program, and copies.
    fn host_program(&self) {
        if let Ok(region) = self.host.create("host's", GRANULE) {
            if let Ok(mut guard) = region.try_write(0..GRANULE) {
                guard.fill(7);
            }
            drop(region.try_read(0..GRANULE));
            let _ = region.write_at(3, &[1, 2, 3]);
            let _ = region.read_at(3..6);
            let _ = region.usage();
            let _ = region.unpin(..);
            self.host.purge(GRANULE);
        }
    }

    /// Writes to a window that only reads, of which one part is unpinned.
    fn violate(&self, a: &mut Puppet) -> wasmtime::Result<()> {
        let number = a.receive(self.music.duplicate(Rights::ALL)?);
        let at = a.allocate(3)?;
        if at == 0 {
            return Ok(());
        }
        let Ok(_) = a.map(number, 0, 3 * GRANULE, Read, at)? else {
            return Ok(());
        };
        let _ = a.unpin(number, GRANULE, GRANULE)?;
        a.fill(at + 10, 3 * PAGE - 20, 9)?;
        let error = a
            .create("more", 1)
            .expect_err("it wrote to a read-only window");
        refusals::without(|| assert!(error.is::<WriteViolation>(), "{error:?}"));
        Err(error)
    }
}

/// The innocent guest, with a window to read and one to write.
struct Innocent {
    guest: Puppet,
    region: Region,
    reads: u32,
    writes: u32,
    byte: u8,
}

impl Innocent {
    fn new(host: &RegionHost, music: &Region) -> Innocent {
        let mut guest = Puppet::new(host, "innocent");
        let number = guest.receive(music.duplicate(Rights::ALL).unwrap());
        let (_, reads) = guest.mapped(number, 3, Read);
        let region = filled(host, "innocent", GRANULE, 0);
        let number = guest.receive(region.duplicate(Rights::ALL).unwrap());
        let (_, writes) = guest.mapped(number, 1, Write);
        Innocent {
            guest,
            region,
            reads,
            writes,
            byte: 0,
        }
    }

    /// Checks that both windows work.
    #[track_caller]
    fn works(&mut self) {
        let ones = u64::from_ne_bytes([1; 8]).wrapping_mul(3 * GRANULE / 8);
        assert_eq!(self.guest.sum(self.reads, 3 * PAGE).unwrap(), ones);
        assert_eq!(self.guest.byte(self.writes + 7), self.byte);
        self.byte = self.byte.wrapping_add(1);
        self.guest.fill(self.writes, PAGE, self.byte).unwrap();
        assert!(self.region.try_read(0..1).is_err(), "it holds the lock");
    }
}

/// Checks that memory is zeros at addresses that others had.
fn assert_fresh(host: &RegionHost) {
    let mut fresh = Puppet::new(host, "fresh");
    let first = u32::try_from(fresh.grow(16).unwrap()).unwrap();
    assert_eq!(fresh.sum(first * PAGE, 16 * PAGE).unwrap(), 0);
}

/// Runs an attack during which some calls are refused. Returns whether there were so many calls.
fn attack(first: u32, count: u32, errno: Errno) -> (bool, Ended) {
    let host = RegionHost::new();
    let music = filled(&host, "music", 3 * GRANULE, 1);
    let mut innocent = Innocent::new(&host, &music);
    let mut ended = Ended::Refused;
    let calls = refusals::during(first, count, errno, || {
        let attack = Attack {
            host: &host,
            music: &music,
        };
        if let Err(error) = attack.run() {
            ended = match error.is::<WriteViolation>() {
                true => Ended::Violated,
                false => Ended::Trapped,
            };
        }
    });
    innocent.works();
    assert_filled(&music, 1);
    assert_fresh(&host);
    // The hostile guest has no claim on the region.
    let claims = music.usage().holders;
    assert_eq!(claims, 2, "the host program and the innocent guest");
    innocent.guest.store.data_mut().regions.finish();
    drop(innocent);
    music.try_write(0..3 * GRANULE).unwrap().fill(2);
    if count == 1 {
        // One refused call leaves nothing behind, except the mapping of the guard.
        parking::forget_all();
        assert!(mappings_of(&music).is_empty());
    }
    (first <= calls, ended)
}

/// Attacks again and again, and refuses another call each time.
fn each_call(count: u32, errno: Errno) {
    let mut ends = Vec::new();
    for first in 1.. {
        let (refused, ended) = attack(first, count, errno);
        if !refused {
            assert_eq!(ended, Ended::Violated);
            break;
        }
        ends.push(ended);
    }
    let count = |end| ends.iter().filter(|it| **it == end).count();
    let all = [Ended::Refused, Ended::Violated, Ended::Trapped].map(|end| (end, count(end)));
    println!("{} calls: {all:?}", ends.len());
    assert!(
        ends.len() >= 60,
        "the guest made fewer calls than it should"
    );
}

// rule 9
#[test]
fn each_single_call_may_be_refused() {
    alone("refusal_tests::each_single_call_may_be_refused", || {
        each_call(1, Errno::NOMEM);
    });
}

// rule 9
#[test]
fn each_single_call_may_be_forbidden() {
    alone("refusal_tests::each_single_call_may_be_forbidden", || {
        each_call(1, Errno::PERM);
    });
}

// rule 9
#[test]
fn two_calls_in_a_row_may_be_refused() {
    alone("refusal_tests::two_calls_in_a_row_may_be_refused", || {
        each_call(2, Errno::NOMEM);
    });
}

// rule 9
#[test]
fn three_calls_in_a_row_may_be_refused() {
    alone("refusal_tests::three_calls_in_a_row_may_be_refused", || {
        each_call(3, Errno::NOMEM);
    });
}

// rule 9
#[test]
fn refused_preparation_fails_in_order() {
    let name = "refusal_tests::refused_preparation_fails_in_order";
    alone(name, || {
        let mut failed = 0;
        for first in 1.. {
            let mut result = Ok(());
            let calls = refusals::during(first, 1, Errno::NOMEM, || {
                result = prepare(&mut Config::new());
            });
            if calls < first {
                result.unwrap();
                break;
            }
            failed += u32::from(result.is_err());
        }
        assert!(failed > 5, "only {failed} calls matter");
        Puppet::new(&RegionHost::new(), "a").assert_works();
    });
}

// rule 9
#[test]
fn process_says_why_it_ends() {
    use std::os::unix::process::ExitStatusExt;

    const CHILD: &str = "TOMBOLO_TEST_CHILD";
    let name = "refusal_tests::process_says_why_it_ends";
    if std::env::var_os(CHILD).is_none() {
        let output = again(name).env(CHILD, "1").output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.signal(), Some(libc::SIGSEGV), "{stderr}");
        assert!(
            stderr.contains("tombolo: a guest wrote to its read-only window"),
            "{stderr}"
        );
        return;
    }
    let host = RegionHost::new();
    let music = filled(&host, "music", GRANULE, 1);
    let mut a = Puppet::new(&host, "a");
    let number = a.receive(music.duplicate(Rights::ALL).unwrap());
    let (_, at) = a.mapped(number, 1, Read);
    // All calls except those of the C library and the standard library.
    refusals::during(1, u32::MAX, Errno::NOMEM, || drop(a.fill(at, 10, 9)));
    unreachable!("there was nowhere to write to");
}
