//! The public types, as embedders use them.

use std::error::Error;
use std::io;
use std::sync::Arc;

use tombolo::pressure::{
    Cgroup, Detected, Headroom, Level, MemoryEvents, PressureSink, Psi, SystemGauge, Thresholds,
};
use tombolo::{
    Borrowed, BudgetUsage, CallError, CallFailure, Exhausted, GiveError, HostCounts, HostLimits,
    Lending, LentRegion, Limits, Loan, MarginKeeper, MaskedLoan, NameError, PackError, Parcel,
    Pinned, PrepareError, PressureChanges, PressureMonitor, ReadGuard, Recipient, Region,
    RegionCtx, RegionCtxBuilder, RegionError, RegionHost, RegionId, RegionUsage, Rights,
    ShortOfMemory, SpanError, Strand, Transfer, WriteGuard, WriteViolation,
};

#[test]
fn public_types_are_send_and_sync() {
    fn both<T: Send + Sync>() {}
    both::<(Region, ReadGuard, WriteGuard)>();
    both::<(
        RegionHost,
        HostLimits,
        Limits,
        HostCounts,
        RegionId,
        RegionUsage,
    )>();
    both::<(RegionCtxBuilder, Strand, Rights, Pinned, BudgetUsage)>();
    both::<(Parcel, Lending, Borrowed, Recipient, LentRegion, Transfer)>();
    both::<(PressureMonitor, PressureChanges, MarginKeeper)>();
    both::<(Cgroup, Headroom, Level, MemoryEvents)>();
    both::<(PressureSink, Psi, SystemGauge, Thresholds)>();
    both::<(RegionError, PackError, GiveError, PrepareError)>();
    both::<(CallError, CallFailure, Loan, MaskedLoan)>();
    both::<(
        Exhausted,
        NameError,
        SpanError,
        ShortOfMemory,
        WriteViolation,
    )>();
}

#[test]
fn contexts_and_sources_can_be_sent() {
    // A context belongs to a store's data, and a source to its thread. Nobody shares them.
    fn sent<T: Send>() {}
    sent::<(RegionCtx, Detected)>();
}

/// Returns the texts of an error and its sources.
fn chain(error: &dyn Error) -> Vec<String> {
    let mut texts = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        texts.push(error.to_string());
        next = error.source();
    }
    texts
}

fn system() -> RegionError {
    RegionError::System(Arc::new(io::Error::other("out of descriptors")))
}

fn exhausted() -> RegionError {
    let mut limits = HostLimits::default();
    limits.regions = 0;
    let host = RegionHost::with_limits(limits);
    host.create("r", 1).unwrap_err()
}

#[test]
fn errors_print_their_cause_once() {
    let host = RegionHost::new();
    let refused = |reason| PackError::Refused {
        region: "r".into(),
        transfer: Transfer::Move,
        reason,
    };
    let errors: Vec<Box<dyn Error>> = vec![
        Box::new(host.create("", 1).unwrap_err()),
        Box::new(host.create("r", 0).unwrap_err()),
        Box::new(host.create("r", 1).unwrap().try_read(2..3).unwrap_err()),
        Box::new(exhausted()),
        Box::new(system()),
        Box::new(RegionError::Limit("limit `copy-bytes`: too much".into())),
        Box::new(RegionError::Forked),
        Box::new(refused(RegionError::Purged)),
        Box::new(refused(exhausted())),
        Box::new(refused(system())),
        Box::new(PackError::Fatal(system().into())),
        Box::new(PrepareError::System(io::Error::other("no pages"))),
        Box::new(PrepareError::Handler(io::Error::other("no signals"))),
        Box::new(PrepareError::Engine(system().into())),
        Box::new(PrepareError::NoTrap("it succeeded".into())),
        Box::new(PrepareError::EngineBefore),
    ];
    for error in errors {
        let texts = chain(&*error);
        for (number, text) in texts.iter().enumerate() {
            assert!(!text.is_empty(), "{texts:?}");
            for cause in &texts[number + 1..] {
                assert!(!text.contains(cause.as_str()), "twice: {texts:?}");
            }
        }
    }
}

#[test]
fn refused_transfer_names_region_and_reason() {
    let error = PackError::Refused {
        region: "music".into(),
        transfer: Transfer::Lend,
        reason: RegionError::Purged,
    };
    assert_eq!(
        chain(&error),
        [
            "region `music` cannot be lent",
            "the region was frozen, and purged since"
        ]
    );
}

#[test]
fn ranges_can_be_open() {
    let host = RegionHost::new();
    let region = host.create("r", 100_000).unwrap();
    assert_eq!(region.try_read(..).unwrap().len(), 100_000);
    assert_eq!(region.try_read(99_000..).unwrap().len(), 1000);
    assert_eq!(region.try_write(..=9).unwrap().len(), 10);
    assert!(region.try_read(5..5).unwrap().is_empty());
    assert!(region.try_read(..100_001).is_err());
    assert_eq!(region.read_at(10..12).unwrap(), [0, 0]);
}

#[test]
fn pins_end_at_a_granule_or_with_the_region() {
    let host = RegionHost::new();
    let region = host.create_unpinned("r", 100_000).unwrap();
    assert!(!region.is_pinned(..).unwrap());
    region.pin(..65_536).unwrap();
    assert!(region.is_pinned(..65_536).unwrap());
    region.pin(65_536..100_000).unwrap();
    assert!(region.is_pinned(..).unwrap());
    region.unpin(65_536..).unwrap();
    assert!(!region.is_pinned(65_536..).unwrap());
    let misaligned = region.pin(..99_000).unwrap_err();
    assert!(matches!(
        misaligned,
        RegionError::Span(SpanError::Misaligned { .. })
    ));
    let empty = region.pin(0..0).unwrap_err();
    assert!(matches!(empty, RegionError::Span(SpanError::Empty)));
}
