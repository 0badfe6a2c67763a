//! Single turns, for a loop whose thread runs somebody else's loop, its host: a toolkit for windows, or any other.
//!
//! The host runs a turn when the loop's descriptor can be read, and when the time has come that the loop has named. A host
//! that sleeps must be woken by whatever the loop is given: by what comes from another thread while it runs, and also by
//! what any thread puts straight into its queue while it does not. So from the first question for the descriptor on, a
//! loop that does not run counts as one that sleeps.
//! [Decision 0031](../../../../docs/decisions/0031-turns-for-a-host.md) has the reasons.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cloverleaf::Time;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::Loop;
use super::batch::Batch;
use super::run::{Run, turn_by};
use crate::error::os_error;
use crate::ffi::{Stay, detached, spared};
use crate::handle;
use crate::state::LoopState;

/// Whether there is a host.
#[derive(Debug, Default)]
pub(super) struct Guest {
    has_host: AtomicBool,
    /// A turn of its own is being run, or the rest of one within it.
    in_turn: AtomicBool,
}

/// Until it is dropped, a turn for a host is being run.
struct Turn<'a>(&'a AtomicBool);

impl<'a> Turn<'a> {
    fn begin(guest: &'a Guest) -> Self {
        guest.in_turn.store(true, Ordering::Relaxed);
        Self(&guest.in_turn)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

impl Loop {
    /// Whether a timer's handle is made known to the collector as it is made: in a turn for a host. A run looks for those
    /// that were made in it at its end, by looking at all, which each turn would do.
    #[inline]
    pub(super) fn reveals_timers(&self) -> bool {
        self.guest.in_turn.load(Ordering::Relaxed)
    }

    /// Wakes the host, if there is one: the loop does not run, and was given something.
    pub(super) fn call_host(&self) {
        if self.guest.has_host.load(Ordering::Acquire) {
            self.injector.call_host();
        }
    }

    /// The same for who has given the loop something, and does not know whether it runs.
    pub(crate) fn call_resting_host(&self) {
        if !self.is_running_now() {
            self.call_host();
        }
    }

    /// A run begins: until it ends nobody has to wake the host.
    pub(super) fn leave_host(&self) {
        if self.guest.has_host.load(Ordering::Acquire) {
            self.injector.resume();
        }
    }

    /// A run has ended: leaves nothing undone that the host cannot see, and has it woken for what comes.
    pub(super) fn rest_with_host(&self, py: Python<'_>) {
        if !self.guest.has_host.load(Ordering::Acquire) || self.injector.is_forked() {
            return;
        }
        let handed_over = self.state().with(|state| {
            if !state.is_ready() {
                // It sleeps in its host, so what a sleep gives back is given back here. What is freed holds nothing.
                handle::give_back(py);
                state.scheduler.rest();
            }
            state.hand_over()
        });
        self.injector.rest_with_host();
        if !matches!(handed_over, Ok(true)) {
            // The next turn hands it over, or gives it back.
            self.injector.wake();
        }
    }
}

/// Refuses a loop for tests, whose clock would jump where the host waits in real time.
fn check_clock(state: &LoopState) -> PyResult<()> {
    if state.steering.is_some() {
        return Err(PyRuntimeError::new_err(
            "a loop for tests runs by itself alone: its clock jumps where a host waits; use cloverleaf.new_event_loop()",
        ));
    }
    Ok(())
}

/// Runs one turn, which waits for at most so many seconds, or without end; whether there was anything to run.
///
/// # Errors
/// What a callback raises and no handler may have, and what the kernel says of a broken driver; `RuntimeError` if the loop
/// runs, is closed, or is one for tests.
#[pyfunction]
fn run_once(event_loop: &Bound<'_, Loop>, seconds: Option<f64>) -> PyResult<bool> {
    // What no duration can tell is as good as without end.
    let limit = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    spared(event_loop.py(), || once(event_loop, limit))
}

fn once(slf: &Bound<'_, Loop>, limit: Option<Duration>) -> PyResult<bool> {
    let this = slf.get();
    this.check_open()?;
    let mut run = Run::begin(slf)?;
    run.look_for_no_timers();
    let _turn = Turn::begin(&this.guest);
    // Another thread may have closed it before it was ours.
    this.check_open()?;
    this.state().with(|state| check_clock(state))??;
    let before = this.stats.jobs.get();
    let mut batch = Batch::new(this, VecDeque::new());
    let mut stay = Stay::new(slf.py());
    turn_by(slf, &mut batch, &mut stay, true, |py, state, this| {
        wait(py, state, this, limit)
    })?;
    Ok(this.stats.jobs.get() != before)
}

/// Asks the kernel what has happened, always: what makes the descriptor readable has to be taken. Sleeps for at most
/// `limit` if nothing is ready.
fn wait(
    py: Python<'_>,
    state: &mut LoopState,
    this: &Loop,
    limit: Option<Duration>,
) -> io::Result<()> {
    let own = state.sleep_limit();
    let limit = own.into_iter().chain(limit).min();
    if limit == Some(Duration::ZERO) || !this.injector.before_sleep() {
        state.scheduler.stats().polls.add(1);
        state.look_up();
        return state.wait(Some(Duration::ZERO));
    }
    // No Python code runs, and what is freed holds nothing.
    handle::give_back(py);
    let result = detached(py, || {
        this.injector.at_rest();
        state.sleep(limit)
    });
    this.stats.go_on();
    this.injector.after_sleep();
    result
}

/// The descriptor that can be read when the loop should run, other than because of its time. From now on whatever the loop
/// is given while it does not run makes it so.
///
/// # Errors
/// `RuntimeError` if the loop is closed, is one for tests, or is run by another thread; `OSError` in a forked child.
#[pyfunction]
fn pollable(event_loop: &Bound<'_, Loop>) -> PyResult<i32> {
    let py = event_loop.py();
    let this = event_loop.get();
    this.check_open()?;
    let (fd, is_new) = this.state().with(|state| {
        check_clock(state)?;
        let fd = state.fd().map(|fd| fd.as_raw_fd());
        let fd = fd.map_err(|error| os_error(py, &error))?;
        let is_new = !this.guest.has_host.swap(true, Ordering::AcqRel);
        PyResult::Ok((fd, is_new))
    })??;
    if is_new && !this.is_running_now() {
        this.rest_with_host(py);
        // Another thread may have given it something before it knew of the host.
        if this.state().with(|state| state.is_ready())? {
            this.injector.wake();
        }
    }
    Ok(fd)
}

/// When the loop should run next, whatever its descriptor says: its present time if a callback is ready, else that of its
/// first timer, or None.
///
/// # Errors
/// `RuntimeError` if the loop is closed, or is run by another thread.
#[pyfunction]
fn next_deadline(event_loop: &Bound<'_, Loop>) -> PyResult<Option<f64>> {
    let this = event_loop.get();
    this.check_open()?;
    let next = this.state().with(|state| {
        if state.is_ready() {
            return Some(state.scheduler.now());
        }
        let next = state.scheduler.next_deadline_and_age();
        next.map(|(deadline, _)| deadline)
    })?;
    Ok(next
        .filter(|deadline| *deadline != Time::NEVER)
        .map(Time::as_secs))
}

/// Adds the functions.
///
/// # Errors
/// What adding to a module raises.
pub(super) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(pyo3::wrap_pyfunction!(run_once, module)?)?;
    module.add_function(pyo3::wrap_pyfunction!(pollable, module)?)?;
    module.add_function(pyo3::wrap_pyfunction!(next_deadline, module)?)
}
