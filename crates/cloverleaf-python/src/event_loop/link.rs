//! How other extensions written in Rust or C reach a loop: by a link, which any thread may use without Python.
//!
//! What they post is one job among the others. On the loop's own thread it comes in the order of `call_soon`; from
//! elsewhere it takes the way of every thread, which wakes a sleeping loop once for a burst. A link holds its loop, and
//! outlives its close.

use std::cell::Cell;
use std::sync::Arc;

use cloverleaf::Injector;
use pyo3::prelude::*;

use super::{FINAL, Loop};
use crate::ffi::{Offered, Posted, capsule_of};
use crate::job::Job;

thread_local! {
    /// The address of the injector of the loop that began to run last in this thread, or zero. No more than a hint: the
    /// loop itself tells whether this thread owns it.
    static RUNS_HERE: Cell<usize> = const { Cell::new(0) };
}

/// What other extensions have of a loop.
pub(super) struct Link {
    injector: Arc<Injector<Job>>,
    /// Dropped by PyO3, which knows whether a thread is attached.
    event_loop: Py<Loop>,
}

impl Offered for Link {
    fn of(event_loop: &Bound<'_, PyAny>) -> PyResult<Option<Arc<Self>>> {
        // Whoever has a `call_soon_threadsafe` of its own wants it called.
        if !FINAL.is_exactly(event_loop) || super::has_own_methods(event_loop) {
            return Ok(None);
        }
        let event_loop = event_loop.cast::<Loop>()?;
        Ok(Some(Arc::new(Self {
            injector: Arc::clone(&event_loop.get().injector),
            event_loop: event_loop.clone().unbind(),
        })))
    }

    fn post(&self, posted: Posted) -> Result<(), Posted> {
        let job = Job::Posted(posted);
        let given = if self.injector.is_forked() {
            Err(job)
        } else if RUNS_HERE.get() == address(&self.injector) {
            self.event_loop.get().give_own(job)
        } else {
            self.injector.inject(job)
        };
        given.map_err(|job| match job {
            Job::Posted(posted) => posted,
            Job::Callback(_) | Job::Call(_) | Job::Io(..) | Job::Internal(_) => {
                unreachable!("what is refused is what was given")
            }
        })
    }
}

fn address(injector: &Arc<Injector<Job>>) -> usize {
    Arc::as_ptr(injector).addr()
}

impl Loop {
    /// Notes that this thread runs the loop; what it ran before, for [`end_here`].
    pub(super) fn begin_here(&self) -> usize {
        RUNS_HERE.replace(address(&self.injector))
    }

    /// Queues a job of this thread, which most likely runs the loop.
    ///
    /// # Errors
    /// Gives it back if the loop is closed.
    fn give_own(&self, job: Job) -> Result<(), Job> {
        if self.check_open().is_err() {
            return Err(job);
        }
        if self.cell.is_owner() {
            self.cell.give(job, |state, job| state.scheduler.push(job))
        } else {
            Err(job)
        }
        .or_else(|job| self.injector.inject(job))
    }
}

/// Notes that this thread does not run the loop any more, but perhaps the one before.
pub(super) fn end_here(before: usize) {
    RUNS_HERE.set(before);
}

/// Adds the capsule with the functions for links.
///
/// # Errors
/// `MemoryError`.
pub(super) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("API", capsule_of::<Link>(module.py())?)
}
