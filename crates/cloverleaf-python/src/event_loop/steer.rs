//! The second phase of a turn of a loop for tests: the clock stands while anything can be done, and then jumps.
//!
//! Every turn asks the kernel, without a sleep. If that finds nothing and nothing is ready, the clock jumps to the next
//! deadline, unless work of this loop goes on outside of it, which it waits for: on threads, in a ring, in children, in
//! connections that are being made. Then a deadline comes when that much real time has passed, and no sooner.
//! [Decision 0027](../../../../docs/decisions/0027-a-clock-that-jumps.md) has the rules and their reasons.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use std::{fmt, io};

use cloverleaf::{Clock, ManualClock, Shuffle, Time, is_on_the_way};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyFloat;

use super::{Loop, connect};
use crate::child;
use crate::error::os_error;
use crate::ffi::{Owned, Reach, TaskStep, borrow_fd, detached, float_from, is_alone, task_step};
use crate::handle::{self, AnyHandle};
use crate::job::Job;
use crate::source::{Hold, Source};
use crate::start;
use crate::state::LoopState;
use crate::steering::{Steering, WaitsFor};

/// For how long a loop that nothing can happen in sleeps before it asks again whether that is so.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// Nothing that the loop knows of can happen any more.
#[derive(Debug)]
struct NothingComes;

impl fmt::Display for NothingComes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing can happen any more")
    }
}

impl std::error::Error for NothingComes {}

/// Asks the kernel what has happened; if nothing is ready and nothing is under way, moves the clock.
///
/// # Errors
/// What the kernel says of a broken driver, and [`NothingComes`], to be handed to [`failed`].
#[cold]
pub(super) fn wait(py: Python<'_>, state: &mut LoopState, this: &Loop) -> io::Result<()> {
    rearrange(py, state);
    let is_idle = state.sleep_limit() != Some(Duration::ZERO);
    detached(py, || state.wait(Some(Duration::ZERO)))?;
    let has_come = state.reactor.has_events() || this.injector.has_pending();
    if !is_idle || has_come {
        return note_busy(state);
    }
    let works = works_outside(py, state, this);
    // Whoever has ended its work by now has told the loop of it before.
    if this.injector.has_pending() {
        return note_busy(state);
    }
    rest(py, state, this, works)
}

#[expect(clippy::unnecessary_wraps, reason = "it is one end of `wait`")]
fn note_busy(state: &mut LoopState) -> io::Result<()> {
    if let Some(steering) = state.steering.as_deref_mut() {
        steering.note_busy();
    }
    Ok(())
}

/// Has nothing to do: sleeps, or moves the clock.
fn rest(py: Python<'_>, state: &mut LoopState, this: &Loop, works: bool) -> io::Result<()> {
    let next = state.scheduler.next_deadline_and_age();
    let next = next.filter(|(deadline, _)| *deadline != Time::NEVER);
    let watches = state.polling.expects_any();
    let is_over = next.is_none() && !works && !watches;
    let waits_for = waits_for(py, state, next.is_some(), works);
    let Some(steering) = state.steering.as_deref_mut() else {
        return Ok(());
    };
    if is_over && !std::mem::take(&mut steering.may_sleep) {
        return Err(io::Error::other(NothingComes));
    }
    let limit = match waits_for {
        // Another thread may end without a word: then the loop is asked again what is to be done.
        _ if is_over => Some(ASK_AGAIN),
        Some(waits_for) => steering.real_limit(next, waits_for),
        None => Some(Duration::ZERO),
    };
    match next {
        Some((deadline, _)) if limit == Some(Duration::ZERO) => {
            steering.jump(deadline);
            Ok(())
        }
        _ => sleep(py, state, this, limit),
    }
}

fn waits_for(
    py: Python<'_>,
    state: &LoopState,
    has_deadline: bool,
    works: bool,
) -> Option<WaitsFor> {
    let is_patient = || {
        let has_patience = state.steering.as_ref().is_some_and(|own| own.is_patient());
        has_patience && (state.polling.expects_any() || !is_alone(py))
    };
    if works {
        Some(WaitsFor::Work)
    } else if !has_deadline {
        Some(WaitsFor::Others)
    } else if bytes_are_on_the_way(state) {
        Some(WaitsFor::Bytes)
    } else {
        is_patient().then_some(WaitsFor::Others)
    }
}

/// Whether a socket of the loop's has sent what no peer has acknowledged.
fn bytes_are_on_the_way(state: &LoopState) -> bool {
    let mut fds = state.transports.keys().chain(state.watches.keys());
    // A user's descriptor may be closed, or name another socket.
    fds.any(|fd| is_on_the_way(borrow_fd(*fd)))
}

/// Sleeps in real time, unless a job has come.
fn sleep(
    py: Python<'_>,
    state: &mut LoopState,
    this: &Loop,
    limit: Option<Duration>,
) -> io::Result<()> {
    // No Python code runs, and what is freed holds nothing.
    handle::give_back(py);
    if !this.injector.before_sleep() {
        return Ok(());
    }
    state.look_up();
    let result = detached(py, || {
        this.injector.at_rest();
        // The clock of its timers stands meanwhile.
        this.stats.begin_sleep(Clock::monotonic().now());
        let result = state.wait(limit);
        this.stats.end_sleep(Clock::monotonic().now());
        result
    });
    this.stats.go_on();
    this.injector.after_sleep();
    result
}

/// Whether work of this loop goes on outside of it.
fn works_outside(py: Python<'_>, state: &LoopState, this: &Loop) -> bool {
    let is_held = state.steering.as_ref().is_some_and(|own| own.is_held());
    is_held
        || state.reactor.driver().in_flight() > 0
        || this.has_busy_threads()
        || state.reactor.sources().any(|(_, source)| match source {
            Source::Served(Hold::Strong(object), _) => {
                let object = object.bind(py);
                child::is_child(&object)
                    || start::is_report(&object)
                    || connect::is_connecting(&object)
            }
            Source::Served(Hold::Weak(_), _) | Source::Watch(_) => false,
        })
}

/// Gives the tasks that are ready another order, if a seed was given.
fn rearrange(py: Python<'_>, state: &mut LoopState) {
    let shuffle = state.steering.as_ref().and_then(|own| own.shuffle);
    let Some(mut shuffle) = shuffle.filter(|_| state.scheduler.ready_len() > 1) else {
        return;
    };
    let mut seen = Vec::new();
    let groups: Vec<_> = state
        .scheduler
        .ready()
        .map(|job| group_of(py, job, &mut seen))
        .collect();
    shuffle.rearrange(state.scheduler.ready_mut(), &groups);
    if let Some(steering) = state.steering.as_deref_mut() {
        steering.shuffle = Some(shuffle);
    }
    // Another thread may have let go of them meanwhile, and what is the last reference goes with nothing borrowed.
    for object in seen {
        state.discard(object);
    }
}

/// Which steps of tasks keep their order: those that wait for the same future. `None` for what is no task's step.
fn group_of(py: Python<'_>, job: &Job, seen: &mut Vec<Owned>) -> Option<usize> {
    let (callback, arg) = match job {
        Job::Call(call) => {
            let arg = call.arg.as_ref().map(|arg| arg.clone_ref(py));
            (call.callback.clone_ref(py), arg)
        }
        Job::Callback(handle) => {
            let handle = handle.bind(py);
            AnyHandle::of(&handle)?.callback_and_argument(&handle)?
        }
        Job::Io(..) | Job::Step(_) | Job::Internal(_) | Job::Posted(_) => return None,
    };
    let group = match (task_step(&callback.bind(py)), &arg) {
        (Some(TaskStep::Alone), _) => Some(callback.address()),
        (Some(TaskStep::Waited), Some(future)) => Some(future.address()),
        (Some(TaskStep::Waited), None) | (None, _) => None,
    };
    seen.push(callback);
    seen.extend(arg);
    group
}

/// What ends a run of a loop whose kernel has failed it, unless nothing but the loop's end was to be told of: then the
/// loop itself says what is to be done, and may go on.
///
/// # Errors
/// `OSError`, and what the loop raises.
#[cold]
pub(super) fn failed(slf: &Bound<'_, Loop>, error: &io::Error) -> PyResult<()> {
    let py = slf.py();
    let is_of_the_kernel = !matches!(error.get_ref(), Some(inner) if inner.is::<NothingComes>());
    if is_of_the_kernel {
        return Err(os_error(py, error));
    }
    if let Err(error) = slf.reach0(intern!(py, "_nothing_comes")) {
        // A thread may have told the loop something, and have ended before it could be seen.
        let is_wrong =
            slf.get().injector.has_pending() && error.is_instance_of::<PyRuntimeError>(py);
        return if is_wrong { Ok(()) } else { Err(error) };
    }
    slf.get().state().with(|state| {
        if let Some(steering) = state.steering.as_deref_mut() {
            steering.may_sleep = true;
        }
    })?;
    Ok(())
}

/// The clock of a loop for tests, and what its Python half tells it.
#[pyclass(frozen, immutable_type, module = "cloverleaf._cloverleaf")]
#[derive(Debug)]
pub(crate) struct Steered {
    clock: ManualClock,
    held: Arc<AtomicUsize>,
}

#[pymethods]
impl Steered {
    /// Steers a loop from now on, whose time is `start`.
    ///
    /// # Errors
    /// `ValueError` for what is no number of seconds.
    #[new]
    fn new(
        event_loop: &Bound<'_, Loop>,
        start: f64,
        patience: f64,
        seed: Option<u64>,
    ) -> PyResult<Self> {
        let clock = ManualClock::new();
        clock.advance_to(Time::from_secs_ceil(start));
        // As good as for ever, if it is infinite.
        let patience = Duration::try_from_secs_f64(patience.min(1e9))
            .map_err(|error| PyValueError::new_err(format!("patience: {error}")))?;
        let held = Arc::new(AtomicUsize::new(0));
        event_loop.get().state().with(|state| {
            let steering = Steering::new(
                clock.clone(),
                Arc::clone(&held),
                patience,
                seed.map(Shuffle::new),
            );
            state.scheduler.set_clock(Clock::Manual(clock.clone()));
            state.steering = Some(Box::new(steering));
        })?;
        Ok(Self { clock, held })
    }

    /// The loop's time in seconds.
    fn time<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyFloat>> {
        float_from(py, self.clock.now().as_secs())
    }

    /// Says that work has begun outside of the loop, in any thread.
    fn hold(&self) {
        self.held.fetch_add(1, Ordering::AcqRel);
    }

    /// Says that it has ended; called with its future, or with nothing.
    #[pyo3(signature = (_future=None, /))]
    fn release(&self, _future: Option<&Bound<'_, PyAny>>) {
        self.held.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Adds the class.
///
/// # Errors
/// What adding to a module raises.
pub(super) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Steered>()
}
