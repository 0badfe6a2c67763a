//! A few `bytes` that were given away, to be filled again once nobody has them any more.
//!
//! To the C library a piece of some KiB is large: getting and freeing one takes as long as half of what else Python does
//! for a read of 4 KiB. So the last few are held, and one with no other owner is the next result, as `zip` uses its
//! tuple again. Nobody can tell it from a new one in the old one's place: a `bytes` has no weak references, no
//! attributes and no finalizer, and whoever reads it, without Python too, owns a reference meanwhile. Without the GIL
//! nothing is held: nobody can tell then that there are no other owners.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::content::Unfilled;
use super::made::bytes_from;

/// Smaller ones come from lists of the C library's own.
#[cfg(not(Py_GIL_DISABLED))]
const LEAST: usize = 1000;
/// The copy of larger ones takes much longer than their allocation.
#[cfg(not(Py_GIL_DISABLED))]
const MOST: usize = 16 * 1024;
/// How many are held. Whoever reads one after the other has the last one while the next is read.
#[cfg(not(Py_GIL_DISABLED))]
const PLACES: usize = 4;

/// Room for `len` bytes, in a `bytes` that is new, or as good as new.
///
/// # Errors
/// `MemoryError`.
#[inline]
pub(crate) fn unfilled_again(py: Python<'_>, len: usize) -> PyResult<Unfilled> {
    #[cfg(not(Py_GIL_DISABLED))]
    if (LEAST..=MOST).contains(&len)
        && let Some(bytes) = HELD.take(py, len)
    {
        return Ok(bytes);
    }
    Unfilled::new(py, len)
}

/// A `bytes` with this content, new, or as good as new.
///
/// # Errors
/// `MemoryError`.
#[inline]
pub(crate) fn bytes_again<'py>(py: Python<'py>, content: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    #[cfg(not(Py_GIL_DISABLED))]
    if (LEAST..=MOST).contains(&content.len()) {
        let mut bytes = unfilled_again(py, content.len())?;
        let start: *mut u8 = bytes.room().as_mut_ptr().cast();
        // SAFETY: there is room for as many bytes as there are, in an object that nobody else has.
        unsafe { start.copy_from_nonoverlapping(content.as_ptr(), content.len()) };
        return cut_and_hold(bytes, py, content.len());
    }
    bytes_from(py, content)
}

/// The `bytes` cut to the first `filled`, which were filled; held, if that is all of it and it is of such a size.
///
/// # Errors
/// `MemoryError`.
#[inline]
pub(crate) fn cut_and_hold(
    bytes: Unfilled,
    py: Python<'_>,
    filled: usize,
) -> PyResult<Bound<'_, PyBytes>> {
    #[cfg(not(Py_GIL_DISABLED))]
    let is_whole = filled == bytes.len();
    let bytes = bytes.cut(py, filled)?;
    #[cfg(not(Py_GIL_DISABLED))]
    if is_whole && (LEAST..=MOST).contains(&filled) {
        HELD.hold(&bytes);
    }
    Ok(bytes)
}

#[cfg(not(Py_GIL_DISABLED))]
static HELD: held::Held = held::Held::new();

#[cfg(not(Py_GIL_DISABLED))]
mod held {
    use std::cell::Cell;

    use pyo3::ffi;
    use pyo3::prelude::*;
    use pyo3::types::PyBytes;

    use super::super::content::Unfilled;
    use super::super::object::Owned;
    use super::PLACES;

    /// References to the last few.
    pub(super) struct Held {
        places: [Cell<Option<Owned>>; PLACES],
        next: Cell<usize>,
    }

    // SAFETY: the GIL guards the places: all methods run on attached threads and let nobody else run meanwhile.
    unsafe impl Sync for Held {}

    impl Held {
        pub(super) const fn new() -> Self {
            Self {
                places: [const { Cell::new(None) }; PLACES],
                next: Cell::new(0),
            }
        }

        /// One of this length that nobody else has, and that is not held any more.
        #[inline]
        pub(super) fn take<'py>(&self, py: Python<'py>, len: usize) -> Option<Unfilled> {
            self.places.iter().find_map(|place| {
                let held = place.take()?;
                let pointer = held.as_ptr();
                // SAFETY: the object is live, and the thread attached.
                let is_free = unsafe { ffi::Py_REFCNT(pointer) } == 1;
                // SAFETY: as above; only `bytes` are held.
                if !is_free || unsafe { ffi::Py_SIZE(pointer) } != len.cast_signed() {
                    place.set(Some(held));
                    return None;
                }
                // SAFETY: only `bytes` are held.
                let bytes: Bound<'py, PyBytes> =
                    unsafe { held.into_bound(py).cast_into_unchecked() };
                // SAFETY: this is the only reference.
                Some(unsafe { Unfilled::again(bytes, len) })
            })
        }

        /// Holds one; the one that has been held the longest goes, if there is no place.
        #[inline]
        pub(super) fn hold(&self, bytes: &Bound<'_, PyBytes>) {
            let place = &self.places[self.next.get()];
            self.next.set((self.next.get() + 1) % PLACES);
            // No Python code runs when a `bytes` is freed.
            drop(place.replace(Some(bytes.clone().into())));
        }
    }
}
