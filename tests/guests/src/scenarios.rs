//! The scenarios that tests name to guests.
//!
//! A guest matches the enum of its group, so a scenario that it does not handle is a compile
//! error. The test program gets a private copy of the enum by `tombolo_tests::scenarios!`, so
//! a scenario that it does not use is a compile error too.

use std::fmt;
use std::str::FromStr;

/// Declares the enum of a group, and `GROUPS`.
macro_rules! scenarios {
    ($($(#[$doc:meta])* $group:ident $name:ident { $($variant:ident = $text:literal,)* })*) => {
        $(
            $(#[$doc])*
            #[allow(missing_docs)] // The functions of the guest describe them.
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub enum $name {
                $($variant,)*
            }

            impl fmt::Display for $name {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    f.write_str(match self {
                        $(Self::$variant => $text,)*
                    })
                }
            }

            impl FromStr for $name {
                type Err = String;

                fn from_str(text: &str) -> Result<Self, String> {
                    match text {
                        $($text => Ok(Self::$variant),)*
                        _ => Err(format!("no such scenario: {text}")),
                    }
                }
            }
        )*

        /// The group, the name and the variants with their texts of each enum, for the build
        /// script of `tombolo-tests`.
        pub const GROUPS: &[(&str, &str, &[(&str, &str)])] = &[
            $((stringify!($group), stringify!($name), &[
                $((stringify!($variant), $text),)*
            ]),)*
        ];
    };
}

scenarios! {
    /// The scenarios of `calls_client` that other programs and guests name.
    other OtherScenario {
        HoldMuch = "hold-much",
        SharePurged = "share-purged",
        Own = "own",
    }

    /// The scenarios of `calls_client`.
    calls Scenario {
        Values = "values",
        Deep = "deep",
        LendKeptWindows = "lend-kept-windows",
        LendLive = "lend-live",
        LendLiveWords = "lend-live-words",
        LendThirdParty = "lend-third-party",
        LendSameTwice = "lend-same-twice",
        LendWindowKept = "lend-window-kept",
        LendForbidden = "lend-forbidden",
        LendRestrictedKept = "lend-restricted-kept",
        LendRights = "lend-rights",
        LendOn = "lend-on",
        LendRoundtrips = "lend-roundtrips",
        Move = "move",
        MoveRefused = "move-refused",
        MoveRefusedRoomless = "move-refused-roomless",
        MoveOverLimit = "move-over-limit",
        MoveResults = "move-results",
        MoveResultOverLimit = "move-result-over-limit",
        MoveToDead = "move-to-dead",
        UseMoved = "use-moved",
        Cycle = "cycle",
        CycleRoomless = "cycle-roomless",
        Late = "late",
        Killed = "killed",
        KilledWriting = "killed-writing",
        DeadOfPressure = "dead-of-pressure",
        KilledIdle = "killed-idle",
        KilledBetween = "killed-between",
        Dead = "dead",
        DeadRoomless = "dead-roomless",
        Restarted = "restarted",
        HeavyDeath = "heavy-death",
        QueuedAtDeath = "queued-at-death",
        WaitLong = "wait-long",
        Poison = "poison",
        PoisonNot = "poison-not",
        UnpinLarge = "unpin-large",
        Leave = "leave",
        Forge = "forge",
        ForgeOwn = "forge-own",
        Limit = "limit",
        Hold = "hold",
        Ping = "ping",
        LendKept = "lend-kept",
        LendPlain = "lend-plain",
        Make = "make",
        Kept = "kept",
        KeptWindow = "kept-window",
        Trap = "trap",
    }

    /// The scenarios of `calls_decoding`.
    calls DecodingScenario {
        Ends = "ends",
        Hostile = "hostile",
        Values = "values",
        Order = "order",
        Mixed = "mixed",
        Many = "many",
        Limit = "limit",
        OwnerDies = "owner-dies",
        OwnerDiesRoomless = "owner-dies-roomless",
        OwnerLivesAgain = "owner-lives-again",
        Third = "third",
        Bomb = "bomb",
        Watch = "watch",
    }

    /// The acts with which `soak_cache` ends.
    soak SoakEnd {
        Return = "return",
        Exit = "exit",
        Trap = "trap",
        Spin = "spin",
        GoOn = "go-on",
        Survive = "survive",
    }

    /// The parts of `tearing_node`.
    tearing TearingPart {
        Read = "read",
        Write = "write",
    }

    /// The parts of `waits_node`.
    waits WaitsPart {
        Write = "write",
        WriteAfter = "write-after",
        Read = "read",
        Die = "die",
        Alone = "alone",
        OwnWindow = "own-window",
        OwnChannel = "own-channel",
    }

    /// The parts of `live_node`.
    live LivePart {
        Ping = "ping",
        Pong = "pong",
        Hold = "hold",
        IsRefused = "is-refused",
        Alone = "alone",
        WriteThenShare = "write-then-share",
        Wait = "wait",
        Keep = "keep",
        Die = "die",
    }

    /// The scenarios of `tasks_lender`.
    tasks Tasks {
        Lend = "lend",
        LendTwice = "lend-twice",
        Plain = "plain",
        Move = "move",
        CancelBefore = "cancel-before",
        CancelMapped = "cancel-mapped",
        CancelDead = "cancel-dead",
        Meet = "meet",
        Alone = "alone",
        Die = "die",
        Killed = "killed",
        Spin = "spin",
        Sleep = "sleep",
        Restart = "restart",
        Resources = "resources",
        Mixed = "mixed",
        Cycle = "cycle",
        NarrowCycle = "narrow-cycle",
        Flood = "flood",
        Random = "random",
        Print = "print",
    }

    /// The scenarios of `streams_player`.
    streams Streams {
        Write = "write",
        Read = "read",
        Regions = "regions",
        PassOn = "pass-on",
        Flood = "flood",
        ReaderDies = "reader-dies",
        WriterDies = "writer-dies",
        FutureDies = "future-dies",
        PlainFutureDies = "plain-future-dies",
        Many = "many",
        Churn = "churn",
    }

    /// The parts of `awaits_command`.
    awaits AwaitsPart {
        Send = "send",
        Receive = "receive",
        Publish = "publish",
        Open = "open",
        Stop = "stop",
    }

    /// The parts of `pipes_node`.
    pipes PipesPart {
        Produce = "produce",
        Add = "add",
        AddBut = "add-but",
        Consume = "consume",
        Say = "say",
        Hear = "hear",
        HearBut = "hear-but",
        SendUntilClosed = "send-until-closed",
        ReceiveOne = "receive-one",
        FillUp = "fill-up",
        HoldThenReceive = "hold-then-receive",
        Ungranted = "ungranted",
        Publish = "publish",
        Open = "open",
        Linger = "linger",
        FailUntil = "fail-until",
        Fail = "fail",
        Spin = "spin",
    }
}
