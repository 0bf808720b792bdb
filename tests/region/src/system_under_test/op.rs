//! Steps of a random history.

/// An operation of a holder. Numbers choose among the objects that exist. The largest numbers,
/// from 255 down, also choose among those that have ended.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
#[expect(missing_docs, reason = "they are what the ledger calls them")]
pub enum Op {
    Duplicate {
        handle: u8,
        rights: u8,
    },
    Restrict {
        handle: u8,
        rights: u8,
    },
    Lend {
        handle: u8,
        rights: u8,
        to: u8,
    },
    /// A guest lends to another part of itself.
    LendWithin {
        handle: u8,
        rights: u8,
    },
    Revoke {
        lend: u8,
    },
    /// The call of a lend ends regularly, with the borrower's windows.
    Return {
        lend: u8,
    },
    Move {
        handle: u8,
        to: u8,
    },
    Release {
        handle: u8,
    },
    Open {
        handle: u8,
        first: u8,
        length: u8,
        access: u8,
    },
    /// The host program takes a guard or copies.
    Guard {
        handle: u8,
        first: u8,
        length: u8,
        write: bool,
    },
    SetAccess {
        window: u8,
        access: u8,
    },
    Close {
        window: u8,
        died: bool,
    },
    Freeze {
        handle: u8,
    },
    ClearPoison {
        handle: u8,
    },
    Pin {
        handle: u8,
        first: u8,
        length: u8,
        /// Whether the pin is undone, because mapping failed.
        undo: bool,
    },
    Unpin {
        handle: u8,
        first: u8,
        length: u8,
        undo: bool,
    },
    IsPinned {
        handle: u8,
        first: u8,
        length: u8,
    },
    /// A holder writes into a granule that its claim pins.
    Write {
        handle: u8,
        granule: u8,
    },
    /// The host purges memory.
    Purge {
        granules: u8,
    },
    SetBudget {
        granules: u8,
    },
    /// A holder waits for a window.
    Wait {
        handle: u8,
        first: u8,
        length: u8,
        access: u8,
    },
    /// A waiter is polled.
    Poll {
        waiter: u8,
    },
    /// A waiter leaves the queue.
    Dequeue {
        waiter: u8,
    },
    /// The time advances.
    Advance {
        millis: u8,
    },
    /// A guest ends, with all its handles and windows.
    End {
        holder: u8,
        died: bool,
    },
}

/// An operation and its region.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Step {
    /// Chooses the region. Operations on all regions ignore it.
    pub region: u8,
    /// The operation.
    pub op: Op,
}
