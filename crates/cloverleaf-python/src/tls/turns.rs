//! One thread at a time in the objects of OpenSSL's that make one connection.
//!
//! OpenSSL demands it, and Python's `ssl` lets go of the GIL, where there is one, in the midst of a record: a transport
//! that two threads write to would corrupt its memory. Whoever comes meanwhile waits, detached from Python.
//!
//! This is the one lock under which Python code may run: the callbacks that a program gives to an `ssl.SSLContext`. What
//! these do with the connection again, in the same thread, does not wait. What they do with another connection may, unless
//! its turn is a thread's that waits, directly or not, for this one's: then nobody would ever go on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::MutexExt;

use crate::ffi::{is_ending, thread_ident};

const NOBODY: u64 = 0;

/// Who uses the objects of one connection.
#[derive(Debug)]
pub(super) struct Turns {
    lock: Mutex<()>,
    holder: Arc<AtomicU64>,
    /// The process in which they were made.
    process: u32,
}

/// Threads that wait, and who has the turn that each of them waits for.
static WAITS: Mutex<Vec<(u64, Arc<AtomicU64>)>> = Mutex::new(Vec::new());

/// Until it is dropped, a thread waits.
struct Waiting(u64);

impl Waiting {
    /// Begins to wait; `None` if that would never end.
    fn begin(me: u64, holder: &Arc<AtomicU64>) -> Option<Self> {
        let mut waits = WAITS.lock().unwrap_or_else(PoisonError::into_inner);
        if is_endless(&waits, me, holder) {
            return None;
        }
        waits.push((me, Arc::clone(holder)));
        Some(Self(me))
    }
}

/// Whether the holder of a turn waits, directly or not, for one of this thread's.
fn is_endless(waits: &[(u64, Arc<AtomicU64>)], me: u64, holder: &Arc<AtomicU64>) -> bool {
    let mut next = holder;
    // No thread waits twice, so a chain is never longer than all waits.
    for _ in 0..=waits.len() {
        let who = next.load(Ordering::Relaxed);
        if who == me {
            return true;
        }
        match waits.iter().find(|(waiter, _)| *waiter == who) {
            Some((_, further)) => next = further,
            None => return false,
        }
    }
    false
}

/// What a program is told whose wait would never end.
#[cold]
pub(super) fn crossed() -> PyErr {
    PyRuntimeError::new_err(
        "another thread uses this TLS connection, and waits for the one whose callback runs here",
    )
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut waits = WAITS.lock().unwrap_or_else(PoisonError::into_inner);
        waits.retain(|(waiter, _)| *waiter != self.0);
    }
}

/// Until it is dropped, this thread has its turn.
struct Turn<'a>(&'a AtomicU64);

impl Drop for Turn<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.store(NOBODY, Ordering::Relaxed);
    }
}

impl Turns {
    pub(super) fn new() -> Self {
        Self {
            lock: Mutex::new(()),
            holder: Arc::new(AtomicU64::new(NOBODY)),
            process: std::process::id(),
        }
    }

    /// Refuses a wait that would never end, before anything is begun. One that comes to that only now may still be
    /// refused later.
    ///
    /// # Errors
    /// `RuntimeError`, as [`take`](Self::take) would.
    #[inline]
    pub(super) fn look(&self) -> PyResult<()> {
        match self.holder.load(Ordering::Relaxed) {
            NOBODY => Ok(()),
            _ => self.look_at_waits(),
        }
    }

    #[cold]
    fn look_at_waits(&self) -> PyResult<()> {
        let me = thread_ident();
        let is_mine = self.holder.load(Ordering::Relaxed) == me;
        let waits = WAITS.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_mine && is_endless(&waits, me, &self.holder) {
            return Err(crossed());
        }
        Ok(())
    }

    /// Uses the objects when it is this thread's turn.
    ///
    /// # Errors
    /// `RuntimeError` in a forked child, if another thread of its parent's had its turn then, which never ends there; at
    /// the interpreter's end, if another thread has its turn, which never ends either, as that thread does not get Python
    /// any more; and if the thread whose turn it is waits for one of this thread's.
    #[inline]
    pub(super) fn take<R>(
        &self,
        py: Python<'_>,
        inside: impl FnOnce() -> PyResult<R>,
    ) -> PyResult<R> {
        self.try_take(py, inside)?.ok_or_else(crossed)
    }

    /// Uses the objects when it is this thread's turn; `None`, and nothing has been done, if the thread whose turn it is
    /// waits for one of this thread's.
    ///
    /// # Errors
    /// Those of [`take`](Self::take) else.
    #[inline]
    pub(super) fn try_take<R>(
        &self,
        py: Python<'_>,
        inside: impl FnOnce() -> PyResult<R>,
    ) -> PyResult<Option<R>> {
        let me = thread_ident();
        // Only this thread writes its own number there, and takes it away.
        if self.holder.load(Ordering::Relaxed) == me {
            return inside().map(Some);
        }
        let _lock = match self.lock.try_lock() {
            Ok(lock) => lock,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) if self.process != std::process::id() => {
                return Err(PyRuntimeError::new_err(
                    "another thread used this TLS connection when the process was forked",
                ));
            }
            Err(TryLockError::WouldBlock) if is_ending(py) => {
                return Err(PyRuntimeError::new_err(
                    "another thread used this TLS connection when the interpreter was shut down",
                ));
            }
            Err(TryLockError::WouldBlock) => {
                let Some(_waiting) = Waiting::begin(me, &self.holder) else {
                    return Ok(None);
                };
                self.lock
                    .lock_py_attached(py)
                    .unwrap_or_else(PoisonError::into_inner)
            }
        };
        self.holder.store(me, Ordering::Relaxed);
        // Dropped before the lock.
        let _turn = Turn(&self.holder);
        inside().map(Some)
    }
}
