//! The end: in order by either side, at once, or by a failure; `connection_lost` comes once, and last.

use std::sync::atomic::{AtomicBool, Ordering};

use pyo3::exceptions::asyncio::CancelledError;
use pyo3::exceptions::{PyException, PyOSError, PyTimeoutError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::class::TlsTransport;
use super::incoming::{self, Rest};
use super::records::Step;
use super::state::{State, Told};
use super::{handshake, outgoing};
use crate::ffi::{Method, Owned, Reach, raw_noargs, raw_onename, tuple_from};
use crate::report;
use crate::transport::{boolean, none};

/// The time for a shutdown runs until the connection is lost, and not only until the peer has said goodbye: releases of
/// asyncio differ in that.
static STAYS_LIMITED: AtomicBool = AtomicBool::new(false);

/// Has shutdowns be limited as asyncio's of this Python.
pub(super) fn stay_limited(stays: bool) {
    STAYS_LIMITED.store(stays, Ordering::Relaxed);
}

/// Looks up what the last failures of a program need, which cannot be imported then.
pub(super) fn prepare(py: Python<'_>) {
    // PyO3 keeps the class.
    drop(py.get_type::<CancelledError>());
}

/// Ends the connection because of a failure, which a handler hears of unless it is the network's own.
///
/// # Errors
/// What no handler may have: `SystemExit` and `KeyboardInterrupt`.
#[cold]
pub(super) fn fatal_error(slf: &Bound<'_, PyAny>, error: PyErr, message: &str) -> PyResult<()> {
    let py = slf.py();
    if crate::error::ends_the_run(py, &error) {
        return Err(error);
    }
    let this = TlsTransport::of(slf)?;
    if this.with(py, |connection| std::mem::take(&mut connection.is_deferred)) {
        outgoing::hand_over(slf, this)?;
    }
    let inner = this.inner(py);
    if let Some(inner) = &inner {
        force_close(inner, Some(&error))?;
    }
    if error.is_instance_of::<PyOSError>(py) {
        if this.debug(py) {
            this.event_loop.bind(py).reach(
                intern!(py, "_log_transport_error"),
                (slf, message, error.value(py)),
            )?;
        }
        return Ok(());
    }
    if error.is_instance_of::<CancelledError>(py) {
        return Ok(());
    }
    let inner = inner.unwrap_or_else(|| py.None().into_bound(py));
    let about = [("transport", &inner), ("protocol", slf)];
    report::failed(&this.event_loop.bind(py), message, error, &about)
}

/// The same for what goes wrong as records are made and read. What is no `Exception`, as a `CancelledError`, ends nothing
/// here, as on asyncio: it is raised to whoever closes or writes, or to the inner transport.
///
/// # Errors
/// Those of [`fatal_error`], and `error` itself if it is no `Exception`.
#[cold]
pub(super) fn failed(slf: &Bound<'_, PyAny>, error: PyErr) -> PyResult<()> {
    if !error.is_instance_of::<PyException>(slf.py()) {
        return Err(error);
    }
    fatal_error(slf, error, "Fatal error on SSL protocol")
}

/// Ends a transport of any kind at once, with a reason where it takes one.
fn force_close(transport: &Bound<'_, PyAny>, reason: Option<&PyErr>) -> PyResult<()> {
    let py = transport.py();
    match transport.getattr_opt(intern!(py, "_force_close"))? {
        Some(close) => close.invoke((reason.map(|error| error.value(py)),)),
        None => transport.reach0(intern!(py, "abort")),
    }
    .map(drop)
}

/// Ends the connection at once; what was written in this very event still goes first.
///
/// # Errors
/// What the inner transport raises.
pub(super) fn abort(slf: &Bound<'_, PyAny>, reason: Option<&PyErr>) -> PyResult<()> {
    let py = slf.py();
    let this = TlsTransport::of(slf)?;
    if this.with(py, |connection| std::mem::take(&mut connection.is_deferred)) {
        outgoing::hand_over(slf, this)?;
    }
    this.with(py, |connection| {
        connection.is_closed = true;
        connection.state = State::Unwrapped;
    });
    match this.inner(py) {
        Some(inner) => force_close(&inner, reason),
        None => Ok(()),
    }
}

/// Begins to end the connection in order.
///
/// # Errors
/// What no handler may have: `SystemExit` and `KeyboardInterrupt`.
pub(super) fn start(slf: &Bound<'_, PyAny>) -> PyResult<()> {
    let this = TlsTransport::of(slf)?;
    match this.state(slf.py()) {
        State::Flushing | State::Shutdown | State::Unwrapped => Ok(()),
        State::Handshake => abort(slf, None),
        State::Wrapped => {
            this.with(slf.py(), |connection| {
                connection.is_closed = true;
                connection.state = State::Flushing;
            });
            limit_time(slf, this)?;
            flush(slf)
        }
    }
}

/// From now on the shutdown may take so long and no longer.
fn limit_time(slf: &Bound<'_, PyAny>, this: &TlsTransport) -> PyResult<()> {
    if this.with(slf.py(), |connection| connection.shutdown_timer.is_some()) {
        return Ok(());
    }
    let timer = this.after(slf, &this.shutdown_timeout, "_on_shutdown_timeout")?;
    let old = this.with(slf.py(), |connection| {
        connection.shutdown_timer.replace(timer)
    });
    drop(old);
    Ok(())
}

/// Hands on and sends what is left; when nothing is, says goodbye.
///
/// # Errors
/// What no handler may have: `SystemExit` and `KeyboardInterrupt`.
pub(super) fn flush(slf: &Bound<'_, PyAny>) -> PyResult<()> {
    let this = TlsTransport::of(slf)?;
    if incoming::read(slf)? == Rest::Unread {
        // The protocol goes on reading when it likes.
        return Ok(());
    }
    if this.state(slf.py()) != State::Flushing {
        return Ok(());
    }
    let (waits, has_ended) = this.with(slf.py(), |connection| {
        // A write may be on its way below, in the midst of which a finalizer or another thread closes.
        let waits = connection.is_draining || !connection.backlog.is_empty();
        (waits, connection.has_goodbye || connection.has_eof)
    });
    if waits && has_ended {
        // The peer has nothing more to say. Whoever pauses reading from now on holds nothing up.
        this.with(slf.py(), |connection| connection.has_goodbye = true);
        incoming::tell_eof(slf)?;
        return peer_is_done(slf, this);
    }
    if waits {
        return limit_time(slf, this);
    }
    this.with(slf.py(), |connection| connection.state = State::Shutdown);
    say_goodbye(slf)
}

/// Exchanges the last records; without a peer that answers, there is nothing to wait for.
///
/// # Errors
/// What no handler may have: `SystemExit` and `KeyboardInterrupt`.
pub(super) fn say_goodbye(slf: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = slf.py();
    let this = TlsTransport::of(slf)?;
    let (has_eof, owes_goodbye) = this.with(py, |connection| {
        let owes_goodbye = std::mem::take(&mut connection.owes_goodbye);
        (connection.has_eof, owes_goodbye)
    });
    if !has_eof || owes_goodbye {
        match this.records(py)?.unwrap(py) {
            Ok(Step::Done(())) => {}
            // Nobody will answer.
            Ok(Step::Again) if has_eof => {}
            Ok(Step::Again) => return outgoing::flush(slf),
            Err(error) => {
                end_timer(this, py)?;
                return fatal_error(slf, error, "Fatal error on transport");
            }
        }
    }
    outgoing::flush(slf)?;
    incoming::tell_eof(slf)?;
    peer_is_done(slf, this)?;
    // The goodbyes are said: whatever else comes is not looked at.
    this.with(py, |connection| connection.state = State::Unwrapped);
    match this.inner(py) {
        Some(inner) => this.soon(&inner.getattr(intern!(py, "close"))?, &PyTuple::empty(py)),
        None => Ok(()),
    }
}

/// What is left for the peer to read takes as long as that takes, or, where shutdowns stay limited, until the time is over.
fn peer_is_done(slf: &Bound<'_, PyAny>, this: &TlsTransport) -> PyResult<()> {
    if !STAYS_LIMITED.load(Ordering::Relaxed) {
        return end_timer(this, slf.py());
    }
    if this.inner(slf.py()).is_none() {
        // It was lost meanwhile.
        return Ok(());
    }
    limit_time(slf, this)
}

fn end_timer(this: &TlsTransport, py: Python<'_>) -> PyResult<()> {
    let timer = this.with(py, |connection| connection.shutdown_timer.take());
    cancel(py, timer)
}

/// Cancels a timer, if there is one.
///
/// # Errors
/// What its `repr()` raises, which only debug mode asks for.
pub(super) fn cancel(py: Python<'_>, timer: Option<Owned>) -> PyResult<()> {
    match timer {
        Some(timer) => timer.bind(py).reach0(intern!(py, "cancel")).map(drop),
        None => Ok(()),
    }
}

fn on_shutdown_timeout(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    let this = TlsTransport::of(slf)?;
    // Where it stays limited, the timer goes with the connection.
    let is_late = this.state(py).is_ending() || STAYS_LIMITED.load(Ordering::Relaxed);
    if is_late && let Some(inner) = this.inner(py) {
        let error = PyTimeoutError::new_err("SSL shutdown timed out");
        force_close(&inner, Some(&error))?;
    }
    Ok(none(py))
}

/// The inner transport is gone: tells the protocol, unless it never knew of its connection.
fn connection_lost(slf: &Bound<'_, PyAny>, reason: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    let this = TlsTransport::of(slf)?;
    let (protocol, held, timers, must_hear) = this.with(py, |connection| {
        connection.backlog.clear();
        connection.lost_writes += 1;
        connection.is_closed = true;
        connection.is_deferred = false;
        let must_hear = connection.state != State::Handshake && connection.told.must_hear_of_loss();
        if must_hear {
            connection.told = Told::Lost;
        }
        connection.state = State::Unwrapped;
        (
            connection.protocol.take(),
            (connection.inner.take(), connection.records.take()),
            [
                connection.handshake_timer.take(),
                connection.shutdown_timer.take(),
            ],
            must_hear,
        )
    });
    drop(held);
    for timer in timers {
        cancel(py, timer)?;
    }
    if let Some(protocol) = protocol.filter(|_| must_hear) {
        let lost = protocol.bind(py).getattr(intern!(py, "connection_lost"))?;
        this.soon(&lost, &tuple_from(py, [reason.clone()])?)?;
    }
    let error = (!reason.is_none()).then(|| PyErr::from_value(reason.clone()));
    handshake::wake(slf, error.as_ref())?;
    forsake(py, this)?;
    Ok(none(py))
}

/// Lets go of the context and the session too, if the connection is lost and the program has closed the transport
/// more than once: a protocol that keeps its transport then keeps nothing else alive, as on asyncio.
fn forsake(py: Python<'_>, this: &TlsTransport) -> PyResult<()> {
    if this.with(py, |connection| {
        connection.is_forsaken && connection.records.is_none()
    }) {
        this.extra.bind(py).reach0(intern!(py, "clear"))?;
    }
    Ok(())
}

/// `transport.close`: what has come already is handed on first, as on asyncio, unless reading is paused.
fn close(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    let this = TlsTransport::of(slf)?;
    let (is_first, state) = this.with(py, |connection| {
        let is_first = !connection.is_closed;
        connection.is_closed = true;
        connection.is_forsaken |= !is_first;
        (is_first, connection.state)
    });
    if !is_first {
        forsake(py, this)?;
        return Ok(none(py));
    }
    let started = start(slf);
    if state == State::Wrapped {
        this.with(py, |connection| connection.discards = true);
    }
    started?;
    if state == State::Wrapped && this.state(py) == State::Flushing {
        // The protocol has paused, and will not be asked again.
        flush(slf)?;
    }
    Ok(none(py))
}

fn py_abort(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    abort(slf, None)?;
    Ok(none(slf.py()))
}

/// What an outer TLS transport calls.
fn py_force_close(slf: &Bound<'_, PyAny>, reason: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let error = (!reason.is_none()).then(|| PyErr::from_value(reason.clone()));
    abort(slf, error.as_ref())?;
    Ok(none(slf.py()))
}

fn is_closing(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    let this = TlsTransport::of(slf)?;
    if this.with(py, |connection| connection.is_closed) {
        return Ok(boolean(py, true));
    }
    match this.inner(py) {
        Some(inner) => Ok(inner.reach0(intern!(py, "is_closing"))?.into()),
        None => Ok(boolean(py, false)),
    }
}

/// Warns of a transport that nobody closed.
pub(super) fn finalize(slf: &Bound<'_, PyAny>) {
    let Ok(this) = TlsTransport::of(slf) else {
        return;
    };
    if this.with(slf.py(), |connection| {
        std::mem::replace(&mut connection.is_closed, true)
    }) {
        return;
    }
    if let Err(error) = report::warn_unclosed(slf) {
        error.write_unraisable(slf.py(), Some(slf));
    }
}

pub(super) const METHODS: [Method; 6] = [
    Method {
        name: c"connection_lost",
        doc: c"connection_lost($self, exc)\n--\n\nFor the inner transport: it is gone.",
        kind: raw_onename!(connection_lost, "connection_lost", "exc"),
    },
    Method {
        name: c"close",
        doc: c"close($self, /)\n--\n\nSend what was written, say goodbye to the peer, and close the connection.",
        kind: raw_noargs!(close),
    },
    Method {
        name: c"abort",
        doc: c"abort($self, /)\n--\n\nClose the connection at once; what was not sent is lost.",
        kind: raw_noargs!(py_abort),
    },
    Method {
        name: c"_force_close",
        doc: c"_force_close($self, exc)\n--\n\nFor an outer TLS transport: abort, for this reason.",
        kind: raw_onename!(py_force_close, "_force_close", "exc"),
    },
    Method {
        name: c"is_closing",
        doc: c"is_closing($self, /)\n--\n\nWhether the connection is closed or on its way there.",
        kind: raw_noargs!(is_closing),
    },
    Method {
        name: c"_on_shutdown_timeout",
        doc: c"_on_shutdown_timeout($self, /)\n--\n\nFor a timer: give a shutdown up that takes too long.",
        kind: raw_noargs!(on_shutdown_timeout),
    },
];
