//! One thread at a time in the objects of OpenSSL's that make one connection.
//!
//! OpenSSL demands it, and Python's `ssl` lets go of the GIL, where there is one, in the midst of a record: a transport
//! that two threads write to would corrupt its memory. Whoever comes meanwhile waits, detached from Python.
//!
//! This is the one lock under which Python code may run: the callbacks that a program gives to an `ssl.SSLContext`. What
//! these do with the connection again, in the same thread, does not wait.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, TryLockError};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::MutexExt;

use crate::ffi::thread_ident;

const NOBODY: u64 = 0;

/// Who uses the objects of one connection.
#[derive(Debug)]
pub(super) struct Turns {
    lock: Mutex<()>,
    holder: AtomicU64,
    /// The process in which they were made.
    process: u32,
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
            holder: AtomicU64::new(NOBODY),
            process: std::process::id(),
        }
    }

    /// Uses the objects when it is this thread's turn.
    ///
    /// # Errors
    /// `RuntimeError` in a forked child, if another thread of its parent's had its turn then, which never ends there.
    #[inline]
    pub(super) fn take<R>(
        &self,
        py: Python<'_>,
        inside: impl FnOnce() -> PyResult<R>,
    ) -> PyResult<R> {
        let me = thread_ident();
        // Only this thread writes its own number there, and takes it away.
        if self.holder.load(Ordering::Relaxed) == me {
            return inside();
        }
        let _lock = match self.lock.try_lock() {
            Ok(lock) => lock,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) if self.process != std::process::id() => {
                return Err(PyRuntimeError::new_err(
                    "another thread used this TLS connection when the process was forked",
                ));
            }
            Err(TryLockError::WouldBlock) => self
                .lock
                .lock_py_attached(py)
                .unwrap_or_else(PoisonError::into_inner),
        };
        self.holder.store(me, Ordering::Relaxed);
        // Dropped before the lock.
        let _turn = Turn(&self.holder);
        inside()
    }
}
