//! A value that attached threads reach, one at a time: guarded by the GIL where there is one, by a lock where there is
//! none.
//!
//! To take a lock and to give it back is two atomic exchanges, 13 ns, although nobody else can be there while a thread
//! has the GIL and runs no Python code. So there a mark is enough, by which whoever breaks that rule finds out.

use std::fmt;
use std::ops::{Deref, DerefMut};

use pyo3::prelude::*;

use super::visit::Visitor;

/// A value in a native object.
pub(crate) struct AttachedCell<T>(guarded::Cell<T>);

/// The value, for a few instructions. No Python code may run meanwhile, no object be dropped, and Python not be let go
/// of.
pub(crate) struct Access<'a, T> {
    value: guarded::Guard<'a, T>,
    /// Not for longer than the thread is attached, and not for another thread.
    _attached: Option<Python<'a>>,
}

impl<T> AttachedCell<T> {
    /// A cell with this value.
    #[inline]
    pub(crate) const fn new(value: T) -> Self {
        Self(guarded::Cell::new(value))
    }

    /// The value.
    ///
    /// # Panics
    /// If this thread has it already, or another one that let go of the GIL with it.
    #[inline]
    pub(crate) fn get<'a>(&'a self, py: Python<'a>) -> Access<'a, T> {
        Access {
            value: self.0.get(),
            _attached: Some(py),
        }
    }

    /// The value, for whoever drops or has made the cell.
    #[inline]
    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut()
    }

    /// The value for the collector, whose thread is attached; None if somebody has it.
    pub(crate) fn seen_by(&self, _collector: &Visitor) -> Option<Access<'_, T>> {
        let value = self.0.try_get()?;
        Some(Access {
            value,
            _attached: None,
        })
    }
}

impl<T> fmt::Debug for AttachedCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttachedCell").finish_non_exhaustive()
    }
}

impl<T> Deref for Access<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Access<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

#[cfg(not(Py_GIL_DISABLED))]
mod guarded {
    use std::cell::UnsafeCell;
    use std::marker::PhantomData;
    use std::ops::{Deref, DerefMut};
    use std::sync::atomic::{AtomicBool, Ordering};

    pub(super) struct Cell<T> {
        is_taken: AtomicBool,
        value: UnsafeCell<T>,
    }

    // SAFETY: the GIL guards the cell. `AttachedCell` gives access to attached threads only, for no longer than they
    // are, and the mark, which is seen by whoever has the GIL next, refuses a second access while there is one.
    unsafe impl<T: Send> Sync for Cell<T> {}

    pub(super) struct Guard<'a, T> {
        cell: &'a Cell<T>,
        /// Stays with its thread.
        thread: PhantomData<*const ()>,
    }

    impl<T> Cell<T> {
        pub(super) const fn new(value: T) -> Self {
            Self {
                is_taken: AtomicBool::new(false),
                value: UnsafeCell::new(value),
            }
        }

        #[inline]
        pub(super) fn try_get(&self) -> Option<Guard<'_, T>> {
            // A load and a store are one step, as nobody else has the GIL.
            if self.is_taken.load(Ordering::Relaxed) {
                return None;
            }
            self.is_taken.store(true, Ordering::Relaxed);
            Some(Guard {
                cell: self,
                thread: PhantomData,
            })
        }

        #[inline]
        pub(super) fn get(&self) -> Guard<'_, T> {
            self.try_get()
                .expect("invariant: nothing runs while a cell's value is reached")
        }

        #[inline]
        pub(super) fn get_mut(&mut self) -> &mut T {
            self.value.get_mut()
        }
    }

    impl<T> Deref for Guard<'_, T> {
        type Target = T;

        #[inline]
        fn deref(&self) -> &T {
            // SAFETY: the mark is this guard's, so there is no other, and the value is reached through guards only.
            unsafe { &*self.cell.value.get() }
        }
    }

    impl<T> DerefMut for Guard<'_, T> {
        #[inline]
        fn deref_mut(&mut self) -> &mut T {
            // SAFETY: as above; this guard is borrowed for as long.
            unsafe { &mut *self.cell.value.get() }
        }
    }

    impl<T> Drop for Guard<'_, T> {
        #[inline]
        fn drop(&mut self) {
            self.cell.is_taken.store(false, Ordering::Relaxed);
        }
    }
}

#[cfg(Py_GIL_DISABLED)]
mod guarded {
    use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

    pub(super) struct Cell<T>(Mutex<T>);

    pub(super) type Guard<'a, T> = MutexGuard<'a, T>;

    impl<T> Cell<T> {
        pub(super) const fn new(value: T) -> Self {
            Self(Mutex::new(value))
        }

        pub(super) fn get(&self) -> Guard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }

        pub(super) fn try_get(&self) -> Option<Guard<'_, T>> {
            match self.0.try_lock() {
                Ok(value) => Some(value),
                Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => None,
            }
        }

        pub(super) fn get_mut(&mut self) -> &mut T {
            self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::guarded::Cell;

    #[test]
    fn a_value_is_reached_by_one_at_a_time() {
        let cell = Cell::new(1);
        let first = cell.try_get();
        assert!(first.is_some());
        assert!(cell.try_get().is_none());
        drop(first);
        assert!(cell.try_get().is_some());
    }

    #[test]
    fn what_was_changed_stays() {
        let mut cell = Cell::new(1);
        *cell.get() += 1;
        *cell.get_mut() += 1;
        assert_eq!(*cell.get(), 3);
    }

    #[test]
    fn a_panic_gives_the_value_back() {
        let cell = Cell::new(1);
        let ended = catch_unwind(AssertUnwindSafe(|| {
            let _value = cell.get();
            panic!("on the way");
        }));
        assert!(ended.is_err());
        assert_eq!(cell.try_get().map(|value| *value), Some(1));
    }
}
