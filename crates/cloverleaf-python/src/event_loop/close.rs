//! The end of a loop, by `close` or because nobody has it any more: everything that it holds goes, with nothing borrowed.

use std::sync::atomic::Ordering;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::Loop;
use crate::state::LoopState;

/// Drops everything that is scheduled or registered and gives back what the kernel lent; more than once is fine.
///
/// # Errors
/// `RuntimeError` while the loop runs.
pub(super) fn close(this: &Loop, py: Python<'_>) -> PyResult<()> {
    let _ownership = match this.cell.own() {
        Ok(ownership) => Some(ownership),
        // In a forked child the loop of the parent may be on the stack; it is not running there.
        Err(_) if this.process != std::process::id() => None,
        Err(_) => {
            return Err(PyRuntimeError::new_err("Cannot close a running event loop"));
        }
    };
    this.closed.store(true, Ordering::Release);
    drop(this.cell.with(LoopState::take_all)?);
    this.cell.with(LoopState::close_driver)?;
    // Waits a moment for threads that are about to end.
    py.detach(|| {
        this.pool.close();
        this.lookups.close();
        this.waiting.close();
    });
    Ok(())
}

impl Drop for Loop {
    fn drop(&mut self) {
        // Jobs and sources hold Python objects, which other owners of the injector must not be left with.
        if let Ok(held) = self.cell.with(LoopState::take_all) {
            drop(held);
        }
    }
}
