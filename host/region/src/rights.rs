use std::fmt;
use std::ops::BitOr;

/// What a handle lets its holder do. Rights only ever shrink.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Rights(u8);

impl Rights {
    /// Map for reading, or copy out.
    pub const READ: Rights = Rights(1);
    /// Map for writing, or copy in; freeze; clear poison.
    pub const WRITE: Rights = Rights(2);
    /// Duplicate, or move to another guest.
    pub const SHARE: Rights = Rights(4);
    /// All of them: what the creator of a region has.
    pub const ALL: Rights = Rights(7);
    /// None of them.
    pub const NONE: Rights = Rights(0);

    /// Tells whether all of `other` are among these.
    #[must_use]
    pub const fn contains(self, other: Rights) -> bool {
        self.0 & other.0 == other.0
    }

    /// These without `other`.
    #[must_use]
    pub const fn without(self, other: Rights) -> Rights {
        Rights(self.0 & !other.0)
    }

    /// Those that are in both.
    #[must_use]
    pub const fn and(self, other: Rights) -> Rights {
        Rights(self.0 & other.0)
    }
}

impl BitOr for Rights {
    type Output = Rights;
    fn bitor(self, other: Rights) -> Rights {
        Rights(self.0 | other.0)
    }
}

impl fmt::Debug for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Rights::READ, "read"),
            (Rights::WRITE, "write"),
            (Rights::SHARE, "share"),
        ];
        let mut first = true;
        for (_, name) in names.iter().filter(|(right, _)| self.contains(*right)) {
            if !first {
                f.write_str("+")?;
            }
            f.write_str(name)?;
            first = false;
        }
        if first { f.write_str("none") } else { Ok(()) }
    }
}
