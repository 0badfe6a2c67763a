//! Writes that are held until the event that they answer has been served, so that several become one call.
//!
//! A protocol that is told of data may answer in pieces: a head and a body, or the answers to pipelined requests. The
//! first write is sent at once, as asyncio sends it; small ones after it are held. They go in one call when the protocol
//! returns, when it writes again and the first of them has been held for long enough, and before anything by which it
//! could tell: closing, ending the writing, the size and the limits of the buffer, its socket, a file. Tasks and other
//! callbacks send at once, as some of them wait, without awaiting, for what they have sent to take effect.

use pyo3::prelude::*;

use super::stream::{Stream, StreamTransport};
use super::write::{self, Outcome};
use crate::event_loop::Loop;
use crate::ffi::{Owned, copy_context, with_context};
use crate::held::Moment;

/// The moment of a write through this transport.
#[inline]
pub(super) fn moment(this: &StreamTransport, py: Python<'_>) -> PyResult<Moment> {
    let event_loop = this.event_loop(py);
    let moment = Loop::of(&event_loop)?
        .state()
        .with(|state| state.held.moment());
    // Another thread's loop: nothing can be held from here.
    Ok(moment.unwrap_or(Moment::OUTSIDE))
}

/// Makes sure that what has just been held is offered when the event has been served.
///
/// # Errors
/// `MemoryError`.
pub(super) fn keep(slf: &Bound<'_, PyAny>, this: &StreamTransport) -> PyResult<()> {
    let py = slf.py();
    let mut context = Some(copy_context(py)?);
    this.with(|stream| {
        if stream.write_context.is_none() {
            stream.write_context = context.take();
        }
    });
    drop(context);
    let event_loop = this.event_loop(py);
    let mut transport = Some(Owned::from(slf.clone()));
    let kept = Loop::of(&event_loop)?.state().with(|state| {
        if let Some(transport) = transport.take() {
            state.held.add(transport);
        }
    });
    match kept {
        Ok(()) => Ok(()),
        Err(_) => flush(slf, this),
    }
}

/// Offers what this transport holds to the kernel, if it holds anything.
///
/// # Errors
/// What no handler may have: `SystemExit` and `KeyboardInterrupt`.
#[inline]
pub(super) fn flush(slf: &Bound<'_, PyAny>, this: &StreamTransport) -> PyResult<()> {
    match this.with(Stream::offer_held) {
        None => Ok(()),
        Some(outcome) => after_offer(slf, this, outcome),
    }
}

#[cold]
fn after_offer(slf: &Bound<'_, PyAny>, this: &StreamTransport, outcome: Outcome) -> PyResult<()> {
    let tells_too_much = matches!(outcome, Outcome::Done)
        && this.with(|stream| stream.registered != stream.wanted());
    if tells_too_much {
        this.update_interest(slf)?;
    }
    write::settle(slf, this, outcome)
}

/// Offers what every transport of the loop holds.
///
/// # Errors
/// What no handler may have: `SystemExit` and `KeyboardInterrupt`. The others are offered nevertheless.
#[cold]
pub(crate) fn flush_all(event_loop: &Bound<'_, Loop>) -> PyResult<()> {
    let py = event_loop.py();
    let mut transports = event_loop.get().state().with(|state| state.held.take())?;
    let mut result = Ok(());
    for transport in transports.drain(..) {
        let slf = transport.into_bound(py);
        let flushed = StreamTransport::of(&slf).and_then(|this| flush_later(&slf, this));
        result = result.and(flushed);
    }
    event_loop
        .get()
        .state()
        .with(|state| state.held.reuse(transports))?;
    result
}

/// Offers what this transport holds, in the context of the write that was held first.
fn flush_later(slf: &Bound<'_, PyAny>, this: &StreamTransport) -> PyResult<()> {
    let py = slf.py();
    let (outcome, context) = this.with(|stream| {
        let outcome = stream.offer_held();
        let context = match outcome {
            Some(Outcome::Done) => stream.write_context.take(),
            Some(_) => stream
                .write_context
                .as_ref()
                .map(|context| context.clone_ref(py)),
            None => None,
        };
        (outcome, context)
    });
    match (outcome, context) {
        (None, _) => Ok(()),
        (Some(outcome), None) => after_offer(slf, this, outcome),
        (Some(Outcome::Done), Some(context)) => {
            drop(context);
            after_offer(slf, this, Outcome::Done)
        }
        (Some(outcome), Some(context)) => {
            with_context(py, context.bind(py), || after_offer(slf, this, outcome))
        }
    }
}
