//! Running: one turn after the other.

use std::collections::VecDeque;
use std::ffi::CStr;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use cloverleaf::{Clock, Interest, Token};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyTuple};

use super::batch::Batch;
use super::sleep::wait;
use super::watched::{report_if_slow, run_watched};
use super::{Loop, ahead, link, perform, steer, watch};
use crate::error::ends_the_run;
use crate::ffi::{BareCall, Owned, Stay, caught, thread_ident};
use crate::handle;
use crate::job::{Internal, Job};
use crate::owner::Ownership;
use crate::report;
use crate::source::{Hold, Serve, Source};
use crate::state::LoopState;
use crate::transport;

/// A run of the loop: ends, whether by return or by a panic, with the loop stopped and owned by nobody.
pub(super) struct Run<'a, 'py> {
    slf: &'a Bound<'py, Loop>,
    /// The age of the first timer that is made in this run.
    first_age: u64,
    /// What this thread ran when it began.
    ran_before: Option<Py<Loop>>,
    _ownership: Ownership<'a>,
}

impl<'a, 'py> Run<'a, 'py> {
    pub(super) fn begin(slf: &'a Bound<'py, Loop>) -> PyResult<Self> {
        let this = slf.get();
        let ownership = this
            .state()
            .own()
            .map_err(|_| PyRuntimeError::new_err("This event loop is already running"))?;
        this.thread.store(thread_ident(), Ordering::Release);
        this.leave_host();
        let mut run = Self {
            slf,
            first_age: 0,
            ran_before: link::begin_here(slf),
            _ownership: ownership,
        };
        this.nested.begin_run(slf.py());
        this.stats.begin_run(Clock::monotonic().now());
        run.first_age = this.state().with(|state| {
            state.expect_events();
            state.scheduler.timers().next_age()
        })?;
        this.name_itself(slf)?;
        Ok(run)
    }
}

impl Run<'_, '_> {
    /// Looks for no timers at the end: what is made in it is known to the collector at once.
    pub(super) fn look_for_no_timers(&mut self) {
        self.first_age = u64::MAX;
    }
}

impl Drop for Run<'_, '_> {
    fn drop(&mut self) {
        let this = self.slf.get();
        this.forget_itself(self.slf);
        link::end_here(self.ran_before.take());
        this.thread.store(0, Ordering::Release);
        this.injector.end_run();
        // Not borrowed: a run ends between two jobs.
        let py = self.slf.py();
        this.rest_with_host(py);
        this.stats.end_run(Clock::monotonic().now());
        let discarded = this.state().with(|state| {
            state.scheduler.clear_stop();
            state.reveal_queued(py, self.first_age);
            state.held.end_run();
            transport::push_all(py, state);
            state.take_discarded()
        });
        drop(discarded);
    }
}

/// Runs the loop until it is stopped.
///
/// # Errors
/// What a callback raises and no handler may have, and what the kernel says of a broken driver.
pub(super) fn run(slf: &Bound<'_, Loop>) -> PyResult<()> {
    let this = slf.get();
    this.check_open()?;
    let _run = Run::begin(slf)?;
    // Another thread may have closed it before it was ours.
    this.check_open()?;
    go_on(slf, VecDeque::new())
}

/// Runs these jobs, if there are any, as the rest of a turn, and then turn after turn until the loop is stopped.
///
/// # Errors
/// Those of [`run`].
pub(super) fn go_on(slf: &Bound<'_, Loop>, rest: VecDeque<Job>) -> PyResult<()> {
    let mut is_first = rest.is_empty();
    let mut batch = Batch::new(slf.get(), rest);
    // Left before anything else is done, whatever ends the run.
    let mut stay = Stay::new(slf.py());
    if !is_first {
        let together = slf.get().state().with(|state| state.held.goes_together())?;
        run_batch(slf, &mut batch, &mut stay, together)?;
    }
    while turn(slf, &mut batch, &mut stay, is_first)? {
        is_first = false;
    }
    Ok(())
}

/// One turn: see [`turn_by`].
fn turn(
    slf: &Bound<'_, Loop>,
    batch: &mut Batch<'_>,
    stay: &mut Stay<'_>,
    is_first: bool,
) -> PyResult<bool> {
    turn_by(slf, batch, stay, is_first, |py, state, this| {
        if state.steering.is_none() {
            wait(py, state, this)
        } else {
            steer::wait(py, state, this)
        }
    })
}

/// One turn: ask the kernel, collect, and run exactly what was ready then. `false` if the turn before was the last.
///
/// A copied context stays entered from one turn to the next, if nothing comes between them but what the interpreter does
/// between any two instructions of a callback.
#[inline]
pub(super) fn turn_by(
    slf: &Bound<'_, Loop>,
    batch: &mut Batch<'_>,
    stay: &mut Stay<'_>,
    is_first: bool,
    ask: impl FnOnce(Python<'_>, &mut LoopState, &Loop) -> io::Result<()>,
) -> PyResult<bool> {
    let py = slf.py();
    let this = batch.this;
    if stay.is_any() && !this.state().with(|state| state.goes_on_at_once())? {
        stay.leave();
    }
    let begun = this.state().with(|state| {
        if state.has_corked() {
            transport::push_all(py, state);
        }
        if state.scheduler.is_stopping() && !is_first {
            return None;
        }
        let waited = ask(py, state, this);
        if waited.is_ok() {
            state.collect(py);
            state.note_turn();
            batch.has_many_sources = state.reactor.len() > ahead::MANY;
            batch.with(|jobs| {
                state.scheduler.take_ready(jobs);
                if batch.has_many_sources {
                    ahead::fetch_first_sources(state, jobs);
                }
            });
        }
        // Something is held still if a panic has ended the turn before.
        let together = state.held.goes_together() || state.held.is_any();
        Some(waited.map(|()| (state.take_discarded(), together)))
    })?;
    let Some(begun) = begun else {
        return Ok(false);
    };
    let (discarded, together) = match begun {
        Ok(begun) => begun,
        Err(error) => return steer::failed(slf, &error).map(|()| true),
    };
    drop(discarded);
    // Python's own signal handlers run here, also when nothing but a signal ended the sleep.
    py.check_signals()?;
    this.onlookers.look(py)?;
    // A signal's handler or a finalizer may have set a variable, or have got hold of the context.
    stay.leave_if_changed();
    run_batch(slf, batch, stay, together)?;
    Ok(true)
}

#[inline]
fn run_batch(
    slf: &Bound<'_, Loop>,
    batch: &mut Batch<'_>,
    stay: &mut Stay<'_>,
    together: bool,
) -> PyResult<()> {
    if together {
        stay.leave();
        let ran = run_together(slf, batch);
        // What was written is sent, whatever has happened.
        let sent = transport::flush_all(slf);
        return ran.and(sent);
    }
    run_jobs(slf, batch, stay)?;
    stay.leave_to_others();
    Ok(())
}

#[inline]
fn run_jobs(slf: &Bound<'_, Loop>, batch: &mut Batch<'_>, stay: &mut Stay<'_>) -> PyResult<()> {
    let py = slf.py();
    let this = batch.this;
    let fetch_sources = |batch: &Batch<'_>| {
        let fetch = |state: &mut _| batch.with(|jobs| ahead::fetch_sources(py, state, jobs));
        this.state().with(fetch)
    };
    if batch.has_many_sources {
        fetch_sources(batch)?;
    }
    while let Some((job, left)) = batch.pop() {
        if left > ahead::LONG {
            batch.with(|jobs| ahead::fetch_handles(py, jobs));
        }
        if batch.has_many_sources
            && let Job::Io(..) = job
        {
            fetch_sources(batch)?;
        }
        this.stats.jobs.add(1);
        run_job(slf, this, job, stay)?;
        if this.closed.load(Ordering::Relaxed) {
            stay.leave();
            // By a forked child, in the midst of its parent's turn.
            drop(batch.take());
        }
    }
    Ok(())
}

/// The same in a turn of many events: what came is received together, and the answers are sent together, before anything
/// but another such event is served.
#[cold]
fn run_together(slf: &Bound<'_, Loop>, batch: &mut Batch<'_>) -> PyResult<()> {
    let this = batch.this;
    let mut seen_to: usize = 0;
    while batch.len() > 0 {
        let must_send = this.state().with(|state| {
            let may_wait = |jobs: &mut VecDeque<Job>| {
                let next = jobs.front();
                next.is_some_and(|next| brings_an_answer(slf.py(), state, next))
            };
            state.held.is_any() && !batch.with(may_wait)
        })?;
        if must_send {
            transport::flush_all(slf)?;
        }
        // What tools look on at is received as asyncio receives it.
        if seen_to == 0 && !this.onlookers.have_tools() {
            seen_to = batch.with(|jobs| transport::receive_together(slf.py(), this, jobs))?;
        }
        seen_to = seen_to.saturating_sub(1);
        let Some((job, _)) = batch.pop() else {
            break;
        };
        let mut stay = Stay::new(slf.py());
        this.stats.jobs.add(1);
        let ran = run_job(slf, this, job, &mut stay);
        stay.leave();
        ran?;
        if this.closed.load(Ordering::Relaxed) {
            drop(batch.take());
        }
    }
    Ok(())
}

/// Whether a job tells a connection of data, and nothing else.
fn brings_an_answer(py: Python<'_>, state: &LoopState, job: &Job) -> bool {
    let Job::Io(token, Interest::READ) = job else {
        return false;
    };
    match state.reactor.get(*token) {
        Some(Source::Served(Hold::Strong(object), _)) => transport::is_stream(&object.bind(py)),
        Some(Source::Served(Hold::Weak(_), _) | Source::Watch(_)) | None => false,
    }
}

#[inline]
fn run_job(slf: &Bound<'_, Loop>, this: &Loop, job: Job, stay: &mut Stay<'_>) -> PyResult<()> {
    match job {
        Job::Callback(handle) => run_callback(slf, this, handle, stay),
        Job::Call(call) => run_call(slf, this, call, stay),
        Job::Io(token, interest) => {
            stay.leave();
            serve(slf, this, token, interest)
        }
        Job::Posted(posted) => {
            stay.leave();
            if this.onlookers.any() {
                return run_as_callback(slf, this, c"posted", |py| posted.run(py));
            }
            run_own(slf, || posted.run(slf.py()))
        }
        Job::Step(step) => {
            stay.leave();
            if this.onlookers.have_tools() {
                return run_as_callback(slf, this, c"step", |py| step.run(py));
            }
            run_own(slf, || step.run(slf.py()))
        }
        Job::Internal(internal) => {
            stay.leave();
            run_internal(slf, this, *internal)
        }
    }
}

fn run_internal(slf: &Bound<'_, Loop>, this: &Loop, internal: Internal) -> PyResult<()> {
    match internal {
        Internal::CancelTimer(key) => {
            drop(this.state().with(|state| state.scheduler.cancel(key))?);
            Ok(())
        }
        Internal::Stop => {
            this.state().with(|state| state.scheduler.stop())?;
            Ok(())
        }
        Internal::RemoveSource(fd, token) => {
            drop(this.state().with(|state| state.remove_source(fd, token))?);
            Ok(())
        }
        Internal::Ended(waiter, completion) => run_own(slf, || {
            perform::ended(this, &waiter.into_bound(slf.py()), completion)
        }),
    }
}

/// Does something that is not a user's callback, and reports what it raises.
fn run_own(slf: &Bound<'_, Loop>, own: impl FnOnce() -> PyResult<()>) -> PyResult<()> {
    let done = caught(slf.py(), own).and_then(|done| done);
    done.or_else(|error| report::failed(slf.as_any(), "Exception in event loop", error, &[]))
}

#[inline]
fn run_callback(
    slf: &Bound<'_, Loop>,
    this: &Loop,
    handle: Owned,
    stay: &mut Stay<'_>,
) -> PyResult<()> {
    let object = handle.into_bound(slf.py());
    if this.onlookers.any() {
        stay.leave();
        return run_watched(slf, this, &object);
    }
    match handle::run_queued(object, stay) {
        Ok(()) => Ok(()),
        Err((error, object)) => report::callback_failed(slf.as_any(), &object, error),
    }
}

#[inline]
fn run_call(
    slf: &Bound<'_, Loop>,
    this: &Loop,
    call: BareCall,
    stay: &mut Stay<'_>,
) -> PyResult<()> {
    if this.onlookers.any() {
        stay.leave();
        let handle = handle::new_handle_of(slf.as_any(), call)?;
        return run_watched(slf, this, &handle);
    }
    call.run(stay)
        .or_else(|(error, call)| call_failed(slf, error, call))
}

/// Reports what a call has raised, with a handle for those who ask for it.
#[cold]
fn call_failed(slf: &Bound<'_, Loop>, error: PyErr, call: BareCall) -> PyResult<()> {
    match handle::new_handle_of(slf.as_any(), call) {
        Ok(handle) => report::callback_failed(slf.as_any(), &handle, error),
        // There is no memory for one.
        Err(_) => report::failed(slf.as_any(), "Exception in callback", error, &[]),
    }
}

/// Runs what is no callback as if it were one, for tools.
#[cold]
fn run_as_callback(
    slf: &Bound<'_, Loop>,
    this: &Loop,
    name: &'static CStr,
    work: impl FnOnce(Python<'_>) -> PyResult<()> + Send + 'static,
) -> PyResult<()> {
    let py = slf.py();
    let work = Mutex::new(Some(work));
    let callback = PyCFunction::new_closure(py, Some(name), None, move |args, _| {
        let work = work.lock().unwrap_or_else(PoisonError::into_inner).take();
        work.map_or(Ok(()), |work| work(args.py()))
    })?;
    let handle = handle::new_bound_handle(slf.as_any(), &callback, &PyTuple::empty(py))?;
    run_callback(slf, this, handle.into(), &mut Stay::new(py))
}

/// Who is to be told of an event.
enum Found {
    Object(Owned, Serve),
    Waiters,
    Nothing,
}

/// Tells a source that it is ready, unless it has gone meanwhile.
#[inline]
fn serve(slf: &Bound<'_, Loop>, this: &Loop, token: Token, interest: Interest) -> PyResult<()> {
    let py = slf.py();
    let by_tools = this.onlookers.have_tools();
    let found = this.state().with(|state| match state.reactor.get(token) {
        Some(Source::Served(Hold::Strong(object), serve)) => {
            // What tools look on at is sent as asyncio sends it.
            if by_tools {
                state.held.begin_unheld_event(object);
            } else {
                state.held.begin_event(object);
            }
            Found::Object(object.clone_ref(py), *serve)
        }
        Some(Source::Watch(_)) => Found::Waiters,
        // What hears of nothing any more is not told of what was heard before.
        Some(Source::Served(Hold::Weak(_), _)) | None => Found::Nothing,
    })?;
    let (object, serve) = match found {
        Found::Object(object, serve) => (object, serve),
        Found::Waiters => return watch::tell_waiters(slf, token),
        Found::Nothing => return Ok(()),
    };
    if by_tools {
        return run_as_callback(slf, this, c"serve", move |py| {
            serve(&object.bind(py), interest)
        });
    }
    let object = object.into_bound(py);
    let began = this.debug().then(|| this.nested.own_time());
    let mut served = caught(py, || serve(&object, interest)).and_then(|served| served);
    if this.state().with(|state| state.held.end_event())? {
        // What was written is sent, whatever has happened.
        served = served.and(transport::flush_all(slf));
    }
    if let Some(began) = began {
        report_if_slow(slf, &object, began)?;
    }
    match served {
        Ok(()) => Ok(()),
        Err(error) if ends_the_run(py, &error) => Err(error),
        Err(error) => report::failed(
            slf.as_any(),
            "Exception in event loop",
            error,
            &[("transport", &object)],
        ),
    }
}
