//! What is inside of a native object, for threads that know nothing of Python.

use std::fmt;
use std::ptr::NonNull;

use pyo3::prelude::*;

use super::class::Native;
use super::object::Owned;

/// A reference to a native object, through which any thread, attached or not, may look at what is inside.
///
/// Like an [`Owned`] it is made and dropped on attached threads only.
pub(crate) struct Reachable<T: ?Sized> {
    object: Owned,
    inside: NonNull<T>,
}

// SAFETY: the object may be used by any attached thread, and what is inside by any thread, as it is `Sync`.
unsafe impl<T: ?Sized + Sync> Send for Reachable<T> {}
// SAFETY: as above.
unsafe impl<T: ?Sized + Sync> Sync for Reachable<T> {}

impl<T: ?Sized> fmt::Debug for Reachable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.object.fmt(f)
    }
}

impl<T: ?Sized> Reachable<T> {
    /// An object, and the part that `part` shows of what is inside; `None` if it is no object of this native type.
    #[inline]
    pub(crate) fn new<N: Native>(
        object: &Bound<'_, PyAny>,
        part: for<'a> fn(&'a N) -> &'a T,
    ) -> Option<Self> {
        let inside = NonNull::from(part(N::class().get(object)?));
        Some(Self {
            object: Owned::from(object.clone()),
            inside,
        })
    }

    /// What is inside.
    #[inline]
    pub(crate) fn get(&self) -> &T {
        // SAFETY: the value stays in its place until the object is freed, which the reference prevents.
        unsafe { self.inside.as_ref() }
    }

    /// The object.
    #[inline]
    pub(crate) const fn object(&self) -> &Owned {
        &self.object
    }

    /// The object alone.
    #[inline]
    pub(crate) fn into_object(self) -> Owned {
        self.object
    }
}
