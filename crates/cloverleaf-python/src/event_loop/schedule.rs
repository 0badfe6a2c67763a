//! `call_soon` and its kin: the methods that run for every callback.

use std::sync::atomic::Ordering;

use pyo3::Borrowed;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat};

use super::futures::create_future;
use super::signature::{CALL_AT, CALL_LATER, CALL_SOON, CALL_SOON_THREADSAFE, Request, Signature};
use super::{Loop, onlookers};
use crate::ffi::{
    Arguments, BareCall, CallContext, Method, Owned, Reach, call_in_full, float_from, new_dict,
    raw_attached, raw_noargs, raw_noargs_attached, reveal, tuple_from,
};
use crate::handle::{self, When};
use crate::job::{Internal, Job};

#[cold]
fn debug_checks(
    slf: &Bound<'_, PyAny>,
    method: Signature,
    callback: Borrowed<'_, '_, PyAny>,
) -> PyResult<()> {
    let py = slf.py();
    if method.checks_thread {
        slf.reach0(intern!(py, "_check_thread"))?;
    }
    slf.reach(intern!(py, "_check_callback"), (callback, method.name))?;
    Ok(())
}

#[inline]
fn soon(slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>, method: Signature) -> PyResult<Owned> {
    let py = slf.py();
    let this = Loop::of(slf)?;
    let request = Request::of_callback(py, method, &args)?;
    this.check_open()?;
    let debug = this.debug();
    if debug {
        debug_checks(slf, method, request.callback)?;
        // That was Python code, and may have closed the loop.
        this.check_open()?;
    }
    let context = request.context(py)?;
    let handle = handle::new_handle(slf, request.callback, &args, context, method.guard())?;
    if debug {
        handle::set_source_traceback(&handle)?;
    }
    let sleeper = this.push_handle(slf, handle.clone().into())?;
    if !this.is_running_now() {
        // Only a loop that runs keeps its queue alive. No Python code has run since the handle was queued.
        reveal(&handle);
        this.call_host();
    }
    if let Some(sleeper) = sleeper {
        this.rouse(py, sleeper);
    }
    Ok(handle.into())
}

/// Queues a callback with one argument, in this context, as `call_soon` of a loop whose debug mode is off would.
///
/// # Errors
/// `RuntimeError` if the loop is closed.
#[inline]
pub(crate) fn queue_callback(
    event_loop: &Bound<'_, PyAny>,
    callback: Owned,
    arg: Owned,
    context: Owned,
) -> PyResult<()> {
    let this = Loop::of(event_loop)?;
    this.check_open()?;
    this.push_open(Job::Call(BareCall {
        callback,
        arg: Some(arg),
        context: CallContext {
            context,
            is_copy: false,
        },
    }))
}

/// Whether nothing about a loop keeps [`queue_callback`] from being what its `call_soon` does: it is of the final class, and not in
/// debug mode.
#[inline]
pub(crate) fn is_plain(event_loop: &Bound<'_, PyAny>) -> bool {
    super::FINAL.is_exactly(event_loop) && !Loop::of(event_loop).is_ok_and(Loop::debug)
}

/// Whether a loop was ever given a `call_soon`, a `create_future` or a `sock_connect` of its own.
#[inline]
pub(crate) fn has_own_methods(event_loop: &Bound<'_, PyAny>) -> bool {
    Loop::of(event_loop).is_ok_and(|this| this.onlookers.own_methods())
}

/// Queues a call without a handle, if it is asyncio's own C code that asks for it and lets go of the handle unseen.
#[inline]
fn soon_unseen(slf: &Bound<'_, PyAny>, args: &Arguments<'_, '_>) -> PyResult<Option<Owned>> {
    let Some(context) = args.context_of_unseen() else {
        return Ok(None);
    };
    let this = Loop::of(slf)?;
    // In debug mode a handle knows where it was made.
    let (Some(callback), None, false) = (args.get(0), args.get(2), this.debug()) else {
        return Ok(None);
    };
    this.check_open()?;
    this.push_open(Job::Call(BareCall {
        callback: callback.into(),
        arg: args.get(1).map(Into::into),
        context: CallContext {
            context: context.into(),
            is_copy: false,
        },
    }))?;
    Ok(Some(slf.py().None().into_bound(slf.py()).into()))
}

fn call_soon(slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>) -> PyResult<Owned> {
    match soon_unseen(slf, &args)? {
        Some(nothing) => Ok(nothing),
        None => soon(slf, args, CALL_SOON),
    }
}

fn call_soon_threadsafe(slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>) -> PyResult<Owned> {
    soon(slf, args, CALL_SOON_THREADSAFE)
}

/// Makes a timer that says `when`, and runs when the kernel's clock says `due`.
#[inline]
fn at(
    slf: &Bound<'_, PyAny>,
    request: &Request<'_, '_>,
    when: When,
    due: f64,
    args: &Arguments<'_, '_>,
) -> PyResult<Owned> {
    let py = slf.py();
    let this = Loop::of(slf)?;
    this.check_open()?;
    let debug = this.debug();
    if debug {
        // asyncio's call_later is its call_at, which is the name in its messages.
        debug_checks(slf, CALL_AT, request.callback)?;
        this.check_open()?;
    }
    let handle = handle::new_timer_handle(slf, when, request.callback, args, request.context(py)?)?;
    if debug {
        handle::set_source_traceback(&handle)?;
    }
    let job = Job::Callback(handle.clone().into());
    let mut key = None;
    let given = this.state().give(job, |state, job| {
        key = Some(state.scheduler.push_at(handle::deadline(due), job));
    });
    if let (Ok(()), Some(key)) = (given, key) {
        handle::set_timer_key(&handle, key);
        if this.reveals_timers() {
            reveal(&handle);
        } else if !this.is_running_now() {
            reveal(&handle);
            this.call_host();
        }
    } else {
        // Another thread's timer: the loop itself queues it, on its thread.
        reveal(&handle);
        at_from_elsewhere(this, &handle, due)?;
    }
    Ok(handle.into())
}

#[cold]
fn at_from_elsewhere(this: &Loop, handle: &Bound<'_, PyAny>, due: f64) -> PyResult<()> {
    let handle = handle.clone().unbind();
    this.push_call(handle, move |py, handle| {
        let handle = handle.into_bound(py);
        let event_loop = handle.getattr(intern!(py, "_loop"))?;
        let this = Loop::of(&event_loop)?;
        let job = Job::Callback(handle.clone().into());
        let key = this
            .state()
            .with(|state| state.scheduler.push_at(handle::deadline(due), job))?;
        handle::set_timer_key(&handle, key);
        if handle::AnyHandle::of(&handle).is_some_and(handle::AnyHandle::is_cancelled) {
            this.cancel_timer(key);
        }
        Ok(())
    })
}

fn call_later(slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>) -> PyResult<Owned> {
    let py = slf.py();
    let request = Request::parse(py, CALL_LATER, &args)?;
    let Some(delay) = request.first.filter(|delay| !delay.is_none()) else {
        return Err(PyTypeError::new_err("delay must not be None"));
    };
    if !super::FINAL.is_exactly(slf) {
        return by_call_at(slf, &request, &delay, &args);
    }
    let now = now();
    let when = match delay.cast_exact::<PyFloat>() {
        Ok(delay) => (now + delay.value()).into(),
        // Any number that can be added to a float, and asyncio's own message for what cannot.
        Err(_) => When::of(&float_from(py, now)?.add(&*delay)?)?,
    };
    let due = when.seconds;
    let has_own_time =
        Loop::of(slf)?.onlookers.own_time() || onlookers::class_has_own_time(&slf.get_type())?;
    let when = if has_own_time {
        When::of(&slf.reach0(intern!(py, "time"))?.add(&*delay)?)?
    } else {
        when
    };
    at(slf, &request, when, due, &args)
}

fn call_at(slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>) -> PyResult<Owned> {
    let request = Request::parse(slf.py(), CALL_AT, &args)?;
    let Some(when) = request.first.filter(|when| !when.is_none()) else {
        return Err(PyTypeError::new_err("when cannot be None"));
    };
    let when = When::of(&when)?;
    let due = when.seconds;
    at(slf, &request, when, due, &args)
}

/// What asyncio's `call_later` does: asks `time()` and calls `call_at()`, either of which a subclass may define anew.
///
/// # Errors
/// What they raise.
#[cold]
fn by_call_at<'py>(
    slf: &Bound<'py, PyAny>,
    request: &Request<'_, 'py>,
    delay: &Bound<'py, PyAny>,
    args: &Arguments<'_, 'py>,
) -> PyResult<Owned> {
    let py = slf.py();
    let when = slf.reach0(intern!(py, "time"))?.add(delay)?;
    let call_at = slf.getattr(intern!(py, "call_at"))?;
    let context = request
        .context
        .map_or_else(|| py.None().into_bound(py), Borrowed::to_owned);
    let names = new_dict(py)?;
    names.set_item(intern!(py, "context"), context)?;
    let positional = [when, request.callback.to_owned()];
    let rest = args.rest(2).map(Borrowed::to_owned);
    let values = tuple_from(py, positional.into_iter().chain(rest).collect::<Vec<_>>())?;
    call_in_full(&call_at, &values, &names).map(Owned::from)
}

/// The loop's time in seconds.
#[inline]
fn now() -> f64 {
    cloverleaf::Clock::monotonic().now().as_secs()
}

fn time(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    float_from(slf.py(), now()).map(Into::into)
}

fn is_running(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    Ok(PyBool::new(slf.py(), Loop::of(slf)?.is_running_now())
        .to_owned()
        .into())
}

fn is_closed(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    Ok(
        PyBool::new(slf.py(), Loop::of(slf)?.closed.load(Ordering::Acquire))
            .to_owned()
            .into(),
    )
}

fn get_debug(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    Ok(PyBool::new(slf.py(), Loop::of(slf)?.debug())
        .to_owned()
        .into())
}

fn stop(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let this = Loop::of(slf)?;
    if this.state().with(|state| state.scheduler.stop()).is_err() {
        // A closed loop has stopped already.
        cloverleaf::ignore(this.injector.inject(Job::internal(Internal::Stop)));
    }
    Ok(slf.py().None().into_bound(slf.py()).into())
}

pub(super) const METHODS: [Method; 10] = [
    Method {
        name: c"call_soon",
        doc: c"call_soon($self, callback, *args, context=None)\n--\n\nRun the callback in the next turn of the loop; \
             returns its Handle. Not for other threads.",
        kind: raw_attached!(call_soon),
    },
    Method {
        name: c"call_soon_threadsafe",
        doc: c"call_soon_threadsafe($self, callback, *args, context=None)\n--\n\nLike call_soon, from any thread, \
             and wakes the loop if it sleeps.",
        kind: raw_attached!(call_soon_threadsafe),
    },
    Method {
        name: c"call_later",
        doc: c"call_later($self, delay, callback, *args, context=None)\n--\n\nRun the callback when delay seconds \
             have passed, never earlier; returns its TimerHandle.",
        kind: raw_attached!(call_later),
    },
    Method {
        name: c"call_at",
        doc: c"call_at($self, when, callback, *args, context=None)\n--\n\nRun the callback when time() is when \
             seconds, never earlier; returns its TimerHandle.",
        kind: raw_attached!(call_at),
    },
    Method {
        name: c"time",
        doc: c"time($self, /)\n--\n\nThe loop's time in seconds: CLOCK_MONOTONIC, as time.monotonic().",
        kind: raw_noargs_attached!(time),
    },
    Method {
        name: c"create_future",
        doc: c"create_future($self, /)\n--\n\nA new asyncio.Future of this loop.",
        kind: raw_noargs_attached!(create_future),
    },
    Method {
        name: c"is_running",
        doc: c"is_running($self, /)\n--\n\nWhether the loop runs now.",
        kind: raw_noargs_attached!(is_running),
    },
    Method {
        name: c"is_closed",
        doc: c"is_closed($self, /)\n--\n\nWhether the loop was closed.",
        kind: raw_noargs_attached!(is_closed),
    },
    Method {
        name: c"get_debug",
        doc: c"get_debug($self, /)\n--\n\nWhether debug mode is on.",
        kind: raw_noargs_attached!(get_debug),
    },
    Method {
        name: c"stop",
        doc: c"stop($self, /)\n--\n\nEnd the run after the present turn.",
        kind: raw_noargs!(stop),
    },
];
