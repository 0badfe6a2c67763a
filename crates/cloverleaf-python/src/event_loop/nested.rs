//! A run of the loop within one of its own callbacks, for who has asked for that.
//!
//! It first does what is left of the turn in which it begins, so no job is lost, made twice or overtaken, and what the
//! kernel has reported for that turn is not asked for again. It begins with nothing held back from the network, and
//! outside of the contexts of the callback, which others may have to be called in. A stop that was asked for before it
//! began is the outer run's. [Decision 0030](../../../../docs/decisions/0030-runs-within-runs.md) has the reasons.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use cloverleaf::{Clock, Time, limits};
use pyo3::exceptions::{PyRecursionError, PyRuntimeError};
use pyo3::prelude::*;

use super::batch::take_rest;
use super::{Loop, link, run};
use crate::ffi::{Outside, Owned, present_context, spared};
use crate::source::{Hold, Source};
use crate::state::LoopState;
use crate::{tls, transport};

/// What runs within runs need to know of each other.
#[derive(Debug, Default)]
pub(super) struct Nesting {
    /// How many nanoseconds the runs within the callback that runs now have taken.
    taken: AtomicU64,
    /// The context in which the loop was run.
    context: AtomicUsize,
    /// In how many runs the innermost one is.
    depth: AtomicU32,
}

impl Nesting {
    /// A run begins that is within no other.
    pub(super) fn begin_run(&self, py: Python<'_>) {
        self.context.store(present_context(py), Ordering::Relaxed);
    }

    /// A clock that stands while the callback that runs now has the loop run within it.
    pub(super) fn own_time(&self) -> Time {
        let taken = Duration::from_nanos(self.taken.load(Ordering::Relaxed));
        let now = Clock::monotonic().now();
        Time::from_nanos(now.as_nanos().saturating_sub(nanos(taken)))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A run within another one: ends with everything as the outer one had it.
struct Nested<'a, 'py> {
    slf: &'a Bound<'py, Loop>,
    /// Whether the outer run is to end after its turn.
    outer_stops: bool,
    /// The handle that runs, in debug mode.
    current: Option<Owned>,
    /// Which loop this thread ran last.
    ran_before: Option<Py<Loop>>,
    began: Time,
    taken: u64,
}

impl<'a, 'py> Nested<'a, 'py> {
    fn begin(slf: &'a Bound<'py, Loop>) -> PyResult<Self> {
        let this = slf.get();
        let outer_stops = this.state().with(|state| {
            state.held.break_off();
            state.expect_events();
            let stops = state.scheduler.is_stopping();
            state.scheduler.clear_stop();
            stops
        })?;
        this.nested.depth.fetch_add(1, Ordering::Relaxed);
        Ok(Self {
            slf,
            outer_stops,
            current: this.current.replace(slf.as_any(), None),
            ran_before: link::begin_here(slf),
            began: Clock::monotonic().now(),
            taken: this.nested.taken.load(Ordering::Relaxed),
        })
    }
}

impl Drop for Nested<'_, '_> {
    fn drop(&mut self) {
        let this = self.slf.get();
        link::end_here(self.ran_before.take());
        drop(this.current.replace(self.slf.as_any(), self.current.take()));
        let took = Clock::monotonic().now().saturating_since(self.began);
        let taken = self.taken.saturating_add(nanos(took));
        this.nested.taken.store(taken, Ordering::Relaxed);
        this.nested.depth.fetch_sub(1, Ordering::Relaxed);
        // Not borrowed: a run ends between two jobs.
        cloverleaf::ignore(this.state().with(|state| {
            state.held.break_off();
            state.scheduler.clear_stop();
            if self.outer_stops {
                state.scheduler.stop();
            }
        }));
    }
}

/// Runs a loop that this thread runs already, within the callback from which this is called, until it is stopped.
///
/// # Errors
/// What a callback raises and no handler may have, and what the kernel says of a broken driver; `RuntimeError` if the loop
/// is closed, or is not run by this thread; `RecursionError`.
#[pyfunction]
fn run_nested(event_loop: &Bound<'_, Loop>) -> PyResult<()> {
    spared(event_loop.py(), || run_within(event_loop))
}

fn run_within(slf: &Bound<'_, Loop>) -> PyResult<()> {
    let py = slf.py();
    let this = slf.get();
    this.check_open()?;
    if !this.state().is_owner() {
        return Err(PyRuntimeError::new_err(
            "This event loop does not run in this thread",
        ));
    }
    if this.nested.depth.load(Ordering::Relaxed) >= limits::NESTED_RUNS {
        return Err(PyRecursionError::new_err(
            "this event loop runs within itself too many times",
        ));
    }
    end_event(slf)?;
    let context = this.nested.context.load(Ordering::Relaxed);
    let _outside = Outside::of_contexts(py, context)?;
    let _nested = Nested::begin(slf)?;
    // What was told of what has been sent may have made a protocol write again.
    while this.state().with(|state| state.held.is_any())? {
        transport::flush_all(slf)?;
    }
    run::go_on(slf, take_rest(this))
}

/// Sends what is held until the event that is being served has been: who waits for the effect of it may do so in the run
/// that begins.
///
/// # Errors
/// What no handler may have: `SystemExit` and `KeyboardInterrupt`.
fn end_event(slf: &Bound<'_, Loop>) -> PyResult<()> {
    let py = slf.py();
    let this = slf.get();
    let served = this.state().with(|state| {
        let object_of = |source: &Source| match source {
            Source::Served(Hold::Strong(object), _) if state.held.may_serve(object) => {
                Some(object.clone_ref(py))
            }
            Source::Served(..) | Source::Watch(_) => None,
        };
        if !state.held.may_serve_any() {
            return Vec::new();
        }
        let sources = state.reactor.sources();
        sources
            .filter_map(|(_, source)| object_of(source))
            .collect::<Vec<_>>()
    })?;
    for object in served {
        let object = object.into_bound(py);
        let mut protocol = transport::end_event(&object)?;
        while let Some(next) = protocol {
            protocol = tls::end_event(&next)?;
        }
    }
    this.state().with(|state: &mut LoopState| {
        transport::push_all(py, state);
    })?;
    transport::flush_all(slf)
}

/// Adds the function.
///
/// # Errors
/// What adding to a module raises.
pub(super) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(pyo3::wrap_pyfunction!(run_nested, module)?)
}
