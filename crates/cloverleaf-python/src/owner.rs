//! A cell that one thread at a time owns: no lock on the owner's path, no re-entry, no access for anybody else.
//!
//! While a loop runs, its thread owns the cell. While it does not, whoever comes owns it for one access, and without the
//! GIL waits for another thread's to end: it is a few instructions long.
#![expect(
    unsafe_code,
    reason = "a fence: shared ownership of a value by turns cannot be written safely"
)]

use std::cell::UnsafeCell;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::ffi::thread_ident;

/// Why an access was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Another thread owns the value.
    Foreign,
    /// This thread is in the middle of another access.
    Borrowed,
}

const NOBODY: u64 = 0;
/// Set beside the owner's number for the time of one access. Such a number is an address, and even.
const MOMENTARY: u64 = 1;
/// How often a thread looks whether another one's access is over before it lets others run.
const LOOKS: u32 = 64;

/// A value and the thread that owns it.
pub(crate) struct OwnerCell<T> {
    owner: AtomicU64,
    borrowed: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: only the owner reaches the value, ownership passes by an acquire and a release, and an owner's accesses do
// not overlap; so the value is sent from thread to thread and never shared.
unsafe impl<T: Send> Sync for OwnerCell<T> {}

impl<T> fmt::Debug for OwnerCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnerCell")
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}

/// Ends an access, whether by return or by a panic.
struct Access<'a> {
    borrowed: &'a AtomicBool,
}

impl Drop for Access<'_> {
    #[inline]
    fn drop(&mut self) {
        self.borrowed.store(false, Ordering::Relaxed);
    }
}

/// Ownership by this thread until it is dropped.
#[derive(Debug)]
pub(crate) struct Ownership<'a> {
    owner: &'a AtomicU64,
}

impl Drop for Ownership<'_> {
    #[inline]
    fn drop(&mut self) {
        self.owner.store(NOBODY, Ordering::Release);
    }
}

impl<T> OwnerCell<T> {
    /// A value that nobody owns.
    pub(crate) const fn new(value: T) -> Self {
        Self {
            owner: AtomicU64::new(NOBODY),
            borrowed: AtomicBool::new(false),
            value: UnsafeCell::new(value),
        }
    }

    /// Makes this thread the owner for a while.
    ///
    /// # Errors
    /// [`Refused::Foreign`] if another thread owns the value, [`Refused::Borrowed`] if this one does already.
    pub(crate) fn own(&self) -> Result<Ownership<'_>, Refused> {
        self.own_as(thread_ident())
    }

    /// Makes this thread the owner for one access.
    #[inline]
    fn own_for_access(&self) -> Result<Ownership<'_>, Refused> {
        self.own_as(thread_ident() | MOMENTARY)
    }

    #[inline]
    fn own_as(&self, me: u64) -> Result<Ownership<'_>, Refused> {
        let mut looks = 0;
        loop {
            // Looked at first: another thread's call to a loop that runs costs no exchange.
            let owner = match self.owner.load(Ordering::Relaxed) {
                NOBODY => self
                    .owner
                    .compare_exchange(NOBODY, me, Ordering::Acquire, Ordering::Relaxed)
                    .unwrap_or_else(|owner| owner),
                owner => owner,
            };
            if owner == NOBODY {
                return Ok(Ownership { owner: &self.owner });
            }
            if owner | MOMENTARY == me | MOMENTARY {
                return Err(Refused::Borrowed);
            }
            if owner & MOMENTARY == 0 {
                return Err(Refused::Foreign);
            }
            // No Python code runs in an access, so it ends although this thread stays attached; and none is left
            // behind by a fork, before which every other thread has been brought to a halt outside of accesses.
            looks += 1;
            if looks % LOOKS == 0 {
                std::thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
    }

    /// Whether this thread owns the value.
    #[inline]
    pub(crate) fn is_owner(&self) -> bool {
        self.owner.load(Ordering::Relaxed) == thread_ident()
    }

    /// Accesses the value, as its owner or, if nobody owns it, as its owner for the moment.
    ///
    /// No Python code may run in `access`, and no Python object be dropped: both could come back here.
    ///
    /// # Errors
    /// See [`Refused`].
    #[inline]
    pub(crate) fn with<R>(&self, access: impl FnOnce(&mut T) -> R) -> Result<R, Refused> {
        if self.is_owner() {
            return self.borrow(access);
        }
        let _ownership = self.own_for_access()?;
        self.borrow(access)
    }

    /// Hands something over to the value, or back if access is refused. What [`with`](Self::with) says holds here, too.
    ///
    /// # Errors
    /// What was to be handed over.
    #[inline]
    pub(crate) fn give<G>(&self, gift: G, accept: impl FnOnce(&mut T, G)) -> Result<(), G> {
        let _ownership = if self.is_owner() {
            None
        } else {
            match self.own_for_access() {
                Ok(ownership) => Some(ownership),
                Err(_) => return Err(gift),
            }
        };
        if self.borrowed.load(Ordering::Relaxed) {
            return Err(gift);
        }
        // Not refused, since the flag is clear and only this thread could set it.
        cloverleaf::ignore(self.borrow(|value| accept(value, gift)));
        Ok(())
    }

    #[inline]
    fn borrow<R>(&self, access: impl FnOnce(&mut T) -> R) -> Result<R, Refused> {
        // Only the owner reads and writes this flag, so it needs no more than program order.
        if self.borrowed.load(Ordering::Relaxed) {
            return Err(Refused::Borrowed);
        }
        self.borrowed.store(true, Ordering::Relaxed);
        let _access = Access {
            borrowed: &self.borrowed,
        };
        // SAFETY: this thread owns the cell, and the flag was clear, so no other borrow of the value exists.
        Ok(access(unsafe { &mut *self.value.get() }))
    }
}
