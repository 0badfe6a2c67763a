//! What a loop has before it, for whoever looks into a program: found by a walk when it is asked for, so that nobody pays
//! for it before.

use std::collections::HashMap;
use std::os::fd::RawFd;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::Loop;
use crate::ffi::{Owned, new_dict, spared};
use crate::handle::AnyHandle;
use crate::job::Job;
use crate::source::{Hold, Party, Source};
use crate::state::LoopState;

/// References that were taken under the borrow; nothing of Python's runs until it has ended.
struct Found {
    ready_len: usize,
    ready: Vec<Waiting>,
    timers_len: usize,
    timers: Vec<(f64, Waiting)>,
    served: Vec<(Option<RawFd>, Hold)>,
    watches: Vec<(RawFd, [Option<Waiting>; 2])>,
    in_flight: usize,
}

/// Who is called, or told.
enum Waiting {
    Handle(Owned),
    Call(Owned, Option<Owned>),
    Future(Owned),
}

/// A callback and its first argument, or a future and nothing.
type Shown<'py> = (Bound<'py, PyAny>, Option<Bound<'py, PyAny>>);

impl Waiting {
    fn of_job(py: Python<'_>, job: &Job) -> Option<Self> {
        match job {
            Job::Callback(handle) => Some(Self::Handle(handle.clone_ref(py))),
            Job::Call(call) => {
                let arg = call.arg.as_ref().map(|arg| arg.clone_ref(py));
                Some(Self::Call(call.callback.clone_ref(py), arg))
            }
            Job::Io(..) | Job::Posted(_) | Job::Step(_) | Job::Internal(_) => None,
        }
    }

    fn of_party(py: Python<'_>, party: &Party) -> Self {
        match party {
            Party::Handle(handle) => Self::Handle(handle.clone_ref(py)),
            Party::Waiter(future, _) => Self::Future(future.clone_ref(py)),
        }
    }

    /// `None` if it was cancelled.
    fn shown(self, py: Python<'_>) -> Option<Shown<'_>> {
        let (callback, arg) = match self {
            Self::Handle(handle) => {
                let handle = handle.into_bound(py);
                AnyHandle::of(&handle)?.callback_and_argument(&handle)?
            }
            Self::Call(callback, arg) => (callback, arg),
            Self::Future(future) => (future, None),
        };
        Some((callback.into_bound(py), arg.map(|arg| arg.into_bound(py))))
    }
}

fn find(py: Python<'_>, state: &LoopState, most: usize) -> Found {
    let scheduler = &state.scheduler;
    let waiting = |job: &Job| Waiting::of_job(py, job);
    let soonest = scheduler.timers().soonest(most);
    let numbers: HashMap<_, _> = state
        .transports
        .iter()
        .map(|(fd, token)| (*token, *fd))
        .collect();
    let mut served = Vec::new();
    let mut watches = Vec::new();
    for (token, source) in state.reactor.sources() {
        match source {
            Source::Served(hold, _) => {
                served.push((numbers.get(&token).copied(), hold.clone_ref(py)));
            }
            Source::Watch(watch) => {
                let party = |party: &Option<Party>| {
                    party.as_ref().map(|party| Waiting::of_party(py, party))
                };
                watches.push((watch.fd, [party(&watch.reader), party(&watch.writer)]));
            }
        }
    }
    let foreign = state.foreign.iter();
    served.extend(foreign.map(|(fd, hold)| (Some(*fd), hold.clone_ref(py))));
    Found {
        ready_len: scheduler.ready_len(),
        ready: scheduler.ready().filter_map(waiting).take(most).collect(),
        timers_len: scheduler.timers().len(),
        timers: soonest
            .into_iter()
            .filter_map(|(deadline, job)| Some((deadline.as_secs(), waiting(job)?)))
            .collect(),
        served,
        watches,
        in_flight: state.reactor.driver().in_flight(),
    }
}

/// What the loop has before it, by name:
///
/// - `ready`, `timers`: the next `most` callbacks with their first arguments, of timers with their times before;
///   `ready_count` and `timers_count` are how many there are;
/// - `served`: a descriptor, or None, with its transport, listener, child, connection that is being made, or the future
///   that waits for an operation;
/// - `watched`: a descriptor with who reads and who writes: a callback and its first argument, a future, or None;
/// - `in_flight`: operations that the kernel does by itself; `busy_threads`: whether a thread is at work.
///
/// # Errors
/// `RuntimeError` from another thread than the one that runs the loop, and `MemoryError`.
#[pyfunction]
fn pending<'py>(event_loop: &Bound<'py, Loop>, most: usize) -> PyResult<Bound<'py, PyDict>> {
    let py = event_loop.py();
    let this = event_loop.get();
    spared(py, || {
        let found = this.state().with(|state| find(py, state, most))?;
        let named = new_dict(py)?;
        let shown = |waiting: Waiting| waiting.shown(py);
        let ready: Vec<_> = found.ready.into_iter().filter_map(shown).collect();
        let timers: Vec<_> = found
            .timers
            .into_iter()
            .filter_map(|(when, waiting)| {
                let (callback, arg) = waiting.shown(py)?;
                Some((when, callback, arg))
            })
            .collect();
        let mut served = Vec::with_capacity(found.served.len());
        for (fd, hold) in found.served {
            if let Some(object) = hold.object(py)? {
                served.push((fd, object));
            }
        }
        let watched: Vec<_> = found
            .watches
            .into_iter()
            .map(|(fd, [reader, writer])| (fd, reader.and_then(shown), writer.and_then(shown)))
            .collect();
        named.set_item("ready_count", found.ready_len)?;
        named.set_item("ready", ready)?;
        named.set_item("timers_count", found.timers_len)?;
        named.set_item("timers", timers)?;
        named.set_item("served", served)?;
        named.set_item("watched", watched)?;
        named.set_item("in_flight", found.in_flight)?;
        named.set_item("busy_threads", this.has_busy_threads())?;
        Ok(named)
    })
}

/// Adds the function.
///
/// # Errors
/// What adding to a module raises.
pub(super) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(pyo3::wrap_pyfunction!(pending, module)?)
}
