//! A list that is usually short.

use std::mem::take;
use std::slice;

/// A list that allocates from its second element on. Most calls pass one region.
#[derive(Debug, Default)]
pub(super) enum Few<T> {
    #[default]
    None,
    One(T),
    Many(Vec<T>),
}

impl<T> Few<T> {
    /// Adds an element at the end.
    #[inline]
    pub(super) fn push(&mut self, one: T) {
        match self {
            Few::None => *self = Few::One(one),
            Few::One(_) => {
                if let Few::One(first) = take(self) {
                    *self = Few::Many(vec![first, one]);
                }
            }
            Few::Many(all) => all.push(one),
        }
    }

    /// Returns whether there are none.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Few::None)
    }

    /// Returns the elements, in the order in which they were added.
    #[inline]
    pub(super) fn as_slice(&self) -> &[T] {
        match self {
            Few::None => &[],
            Few::One(one) => slice::from_ref(one),
            Few::Many(all) => all,
        }
    }

    /// Returns the elements, to change them.
    #[inline]
    pub(super) fn as_mut_slice(&mut self) -> &mut [T] {
        match self {
            Few::None => &mut [],
            Few::One(one) => slice::from_mut(one),
            Few::Many(all) => all,
        }
    }

    /// Returns the elements in a list that allocates.
    pub(super) fn into_vec(self) -> Vec<T> {
        match self {
            Few::None => Vec::new(),
            Few::One(one) => vec![one],
            Few::Many(all) => all,
        }
    }

    /// Calls `act` with each element, in their order, up to the first error.
    #[inline]
    pub(super) fn try_for_each<E>(self, mut act: impl FnMut(T) -> Result<(), E>) -> Result<(), E> {
        match self {
            Few::None => Ok(()),
            Few::One(one) => act(one),
            Few::Many(all) => all.into_iter().try_for_each(act),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_keep_their_order() {
        let mut few = Few::default();
        (0..3).for_each(|one| few.push(one));
        few.as_mut_slice().iter_mut().for_each(|one| *one += 1);
        assert_eq!(few.as_slice(), [1, 2, 3]);
        let mut seen = Vec::new();
        let all = few.try_for_each(|one| match one {
            3 => Err(one),
            _ => {
                seen.push(one);
                Ok(())
            }
        });
        assert_eq!((seen, all), (vec![1, 2], Err(3)));
    }
}
