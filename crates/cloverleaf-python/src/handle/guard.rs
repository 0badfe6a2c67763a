//! A handle that another thread cancels while its callback runs: from Python 3.14 on, whoever cancels a handle of
//! `call_soon_threadsafe` waits for the callback's end.
//!
//! The two sides each write first and look afterwards, in one total order, so at least one of them sees the other:
//! either the callback does not begin, or the canceller waits.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use pyo3::Python;

use crate::ffi::{is_ending, thread_ident};

const NOBODY: u64 = 0;
/// The mark of a handle that needs no guard.
const UNGUARDED: u64 = u64::MAX;

/// Which thread runs the callback of a handle, if that must be known.
#[derive(Debug)]
pub(crate) struct Guard(AtomicU64);

/// Those who wait for the end of any callback; few ever do.
static WAITING: AtomicUsize = AtomicUsize::new(0);
static LOCK: Mutex<()> = Mutex::new(());
static ENDED: Condvar = Condvar::new();

/// Until it is dropped, the callback runs.
pub(super) struct Running<'a>(&'a AtomicU64);

impl Drop for Running<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.store(NOBODY, Ordering::SeqCst);
        if WAITING.load(Ordering::SeqCst) > 0 {
            drop(LOCK.lock().unwrap_or_else(PoisonError::into_inner));
            ENDED.notify_all();
        }
    }
}

impl Guard {
    /// For handles that only their own thread may cancel.
    pub(crate) const fn none() -> Self {
        Self(AtomicU64::new(UNGUARDED))
    }

    /// For handles that any thread may cancel.
    pub(crate) const fn of_threadsafe() -> Self {
        if cfg!(Py_3_14) {
            Self(AtomicU64::new(NOBODY))
        } else {
            Self::none()
        }
    }

    /// Declares that this thread runs the callback.
    #[inline]
    pub(super) fn enter(&self) -> Option<Running<'_>> {
        if self.0.load(Ordering::Relaxed) == UNGUARDED {
            return None;
        }
        self.0.store(thread_ident(), Ordering::SeqCst);
        Some(Running(&self.0))
    }

    fn runs_elsewhere(&self) -> bool {
        let thread = self.0.load(Ordering::SeqCst);
        thread != UNGUARDED && thread != NOBODY && thread != thread_ident()
    }

    /// Waits, detached from Python, until no other thread runs the callback. At the interpreter's end, when it does not
    /// go on, nobody waits.
    #[inline]
    pub(super) fn wait_for_end(&self, py: Python<'_>) {
        if self.runs_elsewhere() && !is_ending(py) {
            py.detach(|| self.block());
        }
    }

    #[cold]
    fn block(&self) {
        WAITING.fetch_add(1, Ordering::SeqCst);
        let mut lock = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
        while self.runs_elsewhere() {
            lock = ENDED.wait(lock).unwrap_or_else(PoisonError::into_inner);
        }
        drop(lock);
        WAITING.fetch_sub(1, Ordering::SeqCst);
    }
}
