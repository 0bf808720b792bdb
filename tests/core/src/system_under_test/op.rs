//! Steps of a random history.

/// What a holder does. Numbers choose among what there is: 255 and those below
/// it also among what has ended.
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
    Revoke {
        lend: u8,
    },
    /// The call of a lend ends as it should: the borrower's windows too.
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
    /// The host program takes a guard, or copies.
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
        /// Something else failed, and the pin is taken back.
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
    /// Somebody writes into what its claim pins.
    Write {
        handle: u8,
        granule: u8,
    },
    /// Memory is needed elsewhere.
    Purge {
        granules: u8,
    },
    SetBudget {
        granules: u8,
    },
    /// Somebody waits for a window.
    Wait {
        handle: u8,
        first: u8,
        length: u8,
        access: u8,
    },
    /// It asks whether it is its turn.
    Ask {
        waiter: u8,
    },
    /// It does not want it any more.
    Forget {
        waiter: u8,
    },
    /// Time passes.
    Pass {
        millis: u8,
    },
    /// A guest ends, with all that it has.
    End {
        holder: u8,
        died: bool,
    },
}

/// What is done, and with which region.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "arbitrary", derive(arbitrary::Arbitrary))]
pub struct Step {
    /// Chooses the region; nothing to those that are about all of them.
    pub region: u8,
    /// What is done.
    pub op: Op,
}
