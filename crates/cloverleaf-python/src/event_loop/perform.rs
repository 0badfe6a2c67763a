//! Requests to the kernel that may have to wait for a disk: by the ring if there is one, else on threads of the loop's
//! own.
//!
//! A request owns its descriptor and its memory until it has ended, whoever has given up waiting for it.

use std::io;

use cloverleaf::{Completion, InUse, Interest, Note};
use pyo3::prelude::*;

use super::Loop;
use super::blocking::Wait;
use super::futures::create_future;
use crate::error::os_error;
use crate::ffi::Owned;
use crate::file::{Answer, Left, Request, Work, answer};
use crate::future;
use crate::source::{Hold, Source};
use crate::state::LoopState;

/// A future of what a request brings.
///
/// # Errors
/// `RuntimeError` if the loop is closed, no thread can be started, or the request was made already.
pub(super) fn perform<'py>(
    slf: &Bound<'py, Loop>,
    request: &Bound<'py, Request>,
) -> PyResult<Bound<'py, PyAny>> {
    slf.get().check_open()?;
    let waiter = create_future(slf.as_any())?.into_bound(slf.py());
    perform_for(slf, request, &waiter)?;
    Ok(waiter)
}

/// The same for somebody who has a future's `done`, `set_result` and `set_exception`, and is told by them.
///
/// # Errors
/// As above.
pub(super) fn perform_for(
    slf: &Bound<'_, Loop>,
    request: &Bound<'_, Request>,
    waiter: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let this = slf.get();
    this.check_open()?;
    let request = request.get();
    let work = request.take()?;
    match submit(this, waiter, work, request.note())? {
        None => Ok(()),
        Some(work) => on_thread(this, waiter, work.ready(slf.py())?, request.left()),
    }
}

/// Gives the work to the ring; gives it back if there is none, or the ring cannot do it.
fn submit(
    this: &Loop,
    waiter: &Bound<'_, PyAny>,
    work: Work,
    note: &Note,
) -> PyResult<Option<Work>> {
    if this.state().with(LoopState::backend)? != InUse::EpollAndRing {
        return Ok(Some(work));
    }
    let op = match work.into_op(note) {
        Ok(op) => op,
        Err(work) => return Ok(Some(work)),
    };
    let source = Source::Served(Hold::Strong(Owned::from(waiter.clone())), not_served);
    let refused = this.state().with(|state| {
        let token = state.reactor.insert(source);
        let refused = state.reactor.submit(op, token).err()?;
        Some((refused, state.reactor.remove(token)))
    })?;
    Ok(refused.map(|(op, source)| {
        drop(source);
        Work::Operation(op)
    }))
}

/// An operation is not ready, it ends.
#[expect(clippy::unnecessary_wraps, reason = "the signature of every `Serve`")]
fn not_served(_waiter: &Bound<'_, PyAny>, _interest: Interest) -> PyResult<()> {
    Ok(())
}

/// Has a thread do the work.
fn on_thread(this: &Loop, waiter: &Bound<'_, PyAny>, work: Work, left: Left) -> PyResult<()> {
    let held = work.held();
    let wait = if work.may_never_end() {
        Wait::ForEver
    } else {
        Wait::Disk
    };
    // The work drops its share first, so the last one is dropped with Python.
    this.answer_from_thread(
        wait,
        waiter,
        move || (left.perform(work), held),
        |waiter, (ended, _held)| settle(waiter, ended.into_result()),
    )
}

fn settle(waiter: &Bound<'_, PyAny>, result: io::Result<Answer>) -> PyResult<()> {
    let py = waiter.py();
    let found = result.map_err(|error| os_error(py, &error));
    // What cannot be made an object is the waiter's error: nobody else tells it that the end has come.
    match found.and_then(|answer| answer.into_object(py)) {
        Ok(object) => future::set_result(waiter, &object),
        Err(error) => future::set_exception(waiter, &error),
    }
}

/// Tells whoever waits for an operation that it has ended, or has a thread do what is missing.
///
/// # Errors
/// What completing a future raises.
pub(super) fn ended(
    this: &Loop,
    waiter: &Bound<'_, PyAny>,
    completion: Completion,
) -> PyResult<()> {
    // Nobody cancels what is under way, so what was not done the driver has found that it cannot do.
    let answered = match completion.undone() {
        Ok(op) => Ok(Err(Work::Operation(op))),
        Err(ended) => answer(ended),
    };
    match answered {
        Ok(Ok(answer)) => settle(waiter, Ok(answer)),
        Ok(Err(work)) => match on_thread(this, waiter, work, Left::default()) {
            Ok(()) => Ok(()),
            Err(error) => future::set_exception(waiter, &error),
        },
        Err(error) => settle(waiter, Err(error)),
    }
}
