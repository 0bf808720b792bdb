//! The rights of handles.

use std::fmt;
use std::ops::BitOr;

/// The set of operations that a handle permits. Rights only ever shrink.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Rights(u8);

impl Rights {
    /// Permits mapping for reading and copying out.
    pub const READ: Rights = Rights(1);
    /// Permits copying in, freezing and clearing poison. With [`READ`](Rights::READ) it also
    /// permits mapping for writing.
    pub const WRITE: Rights = Rights(2);
    /// Permits duplicating, moving and publishing.
    pub const SHARE: Rights = Rights(4);
    /// All rights. The creator of a region has them.
    pub const ALL: Rights = Rights(7);
    /// No rights.
    pub const NONE: Rights = Rights(0);

    /// Returns whether these rights include all of `other`.
    #[must_use]
    #[inline]
    pub const fn contains(self, other: Rights) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns these rights without `other`.
    #[must_use]
    #[inline]
    pub const fn without(self, other: Rights) -> Rights {
        Rights(self.0 & !other.0)
    }

    /// Returns the rights that both sets have.
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
