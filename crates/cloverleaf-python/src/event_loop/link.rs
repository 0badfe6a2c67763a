//! How other extensions written in Rust or C reach a loop: by a link, which any thread may use without Python.
//!
//! What they post is one job among the others. On the loop's own thread it comes in the order of `call_soon`; from
//! elsewhere it takes the way of every thread, which wakes a sleeping loop once for a burst. A link outlives its loop.
//!
//! It holds no object of Python's. Whoever releases one knows whether its thread is attached; our PyO3 does not: on the
//! loop's own thread it takes the run for attached, while another extension, by its own PyO3, has detached.

use std::cell::Cell;
use std::sync::Arc;

use cloverleaf::Injector;
use pyo3::prelude::*;

use super::{FINAL, Loop};
use crate::ffi::{Offered, Posted, capsule_of};
use crate::job::Job;

thread_local! {
    /// The loop that began to run last in this thread, until that run ends.
    static RUNS_HERE: Cell<Option<Py<Loop>>> = const { Cell::new(None) };
}

/// What other extensions have of a loop.
pub(super) struct Link {
    injector: Arc<Injector<Job>>,
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
        })))
    }

    fn post(&self, posted: Posted) -> Result<(), Posted> {
        let job = Job::Posted(posted);
        let given = if self.injector.is_forked() {
            Err(job)
        } else {
            self.give(job)
        };
        given.map_err(|job| match job {
            Job::Posted(posted) => posted,
            Job::Callback(_) | Job::Call(_) | Job::Io(..) | Job::Step(_) | Job::Internal(_) => {
                unreachable!("what is refused is what was given")
            }
        })
    }
}

impl Link {
    fn give(&self, job: Job) -> Result<(), Job> {
        // Nothing below panics, runs Python code, or drops an object: this thread may be detached.
        let here = RUNS_HERE.try_with(Cell::take).ok().flatten();
        let given = match &here {
            Some(event_loop) if Arc::ptr_eq(&event_loop.get().injector, &self.injector) => {
                event_loop.get().give_own(job)
            }
            Some(_) | None => self.injector.inject(job),
        };
        if here.is_some() {
            RUNS_HERE.set(here);
        }
        given
    }
}

/// Notes that this thread runs the loop; what it ran before, for [`end_here`].
pub(super) fn begin_here(event_loop: &Bound<'_, Loop>) -> Option<Py<Loop>> {
    RUNS_HERE.replace(Some(event_loop.clone().unbind()))
}

impl Loop {
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
pub(super) fn end_here(before: Option<Py<Loop>>) {
    drop(RUNS_HERE.replace(before));
}

/// Adds the capsule with the functions for links.
///
/// # Errors
/// `MemoryError`.
pub(super) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("API", capsule_of::<Link>(module.py())?)
}
