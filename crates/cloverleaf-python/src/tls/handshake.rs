//! The beginning: from `connection_made` of the inner transport to that of the protocol.

use pyo3::exceptions::{PyConnectionAbortedError, PyException};
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::class::TlsTransport;
use super::records::Step;
use super::state::{State, Told};
use super::{incoming, outgoing, shutdown};
use crate::ffi::{Method, Once, Owned, Reach, raw_noargs, raw_onename};
use crate::transport::none;
use crate::{future, report};

static CERTIFICATE_ERROR: Once<Py<PyType>> = Once::new();

/// The inner transport is there: begins.
fn connection_made(slf: &Bound<'_, PyAny>, inner: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    let this = TlsTransport::of(slf)?;
    if this.with(py, |connection| connection.records.is_none()) {
        // The connection was lost before it began: whoever upgraded it had closed it already.
        return Ok(none(py));
    }
    let kept = Owned::from(inner.clone());
    let (old, is_closed) = this.with(py, |connection| {
        (connection.inner.replace(kept), connection.is_closed)
    });
    drop(old);
    if is_closed {
        shutdown::abort(slf, None)?;
        return Ok(none(py));
    }
    if this.debug(py) {
        let event_loop = this.event_loop.bind(py);
        report::note(&event_loop, slf, "debug", "%r starts SSL handshake")?;
        let began: f64 = this
            .event_loop
            .bind(py)
            .reach0(intern!(py, "time"))?
            .extract()?;
        this.with(py, |connection| connection.began = Some(began));
    }
    this.with(py, |connection| connection.state = State::Handshake);
    let timer = this.after(slf, &this.handshake_timeout, "_on_handshake_timeout")?;
    let old = this.with(py, |connection| connection.handshake_timer.replace(timer));
    drop(old);
    advance(slf)?;
    Ok(none(py))
}

/// Goes on with the handshake as far as the peer's bytes allow.
///
/// # Errors
/// What no handler may have: `SystemExit` and `KeyboardInterrupt`.
pub(super) fn advance(slf: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = slf.py();
    let this = TlsTransport::of(slf)?;
    let records = this.records(py)?;
    let attempt = records.do_handshake(py);
    if this.state(py) != State::Handshake {
        // A callback of the context has aborted the connection.
        return Ok(());
    }
    match attempt {
        Ok(Step::Again) => outgoing::flush(slf),
        Ok(Step::Done(())) => {
            records.note_shaken(py)?;
            complete(slf)
        }
        Err(error) => fail(slf, error),
    }
}

/// Gives the handshake up.
///
/// # Errors
/// `error` itself, if no handler may have it.
pub(super) fn fail(slf: &Bound<'_, PyAny>, error: PyErr) -> PyResult<()> {
    let py = slf.py();
    if crate::error::ends_the_run(py, &error) {
        return Err(error);
    }
    let this = TlsTransport::of(slf)?;
    cancel_timer(this, py)?;
    this.with(py, |connection| connection.state = State::Unwrapped);
    let certificate_error = CERTIFICATE_ERROR.import(py, "ssl", "CertificateError")?;
    let message = if error.is_instance(py, certificate_error) {
        "SSL handshake failed on verifying the certificate"
    } else {
        "SSL handshake failed"
    };
    shutdown::fatal_error(slf, error.clone_ref(py), message)?;
    wake(slf, Some(&error))
}

fn complete(slf: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = slf.py();
    let this = TlsTransport::of(slf)?;
    cancel_timer(this, py)?;
    let began = this.with(py, |connection| {
        connection.state = State::Wrapped;
        connection.began.take()
    });
    if let Some(began) = began {
        let now: f64 = this
            .event_loop
            .bind(py)
            .reach0(intern!(py, "time"))?
            .extract()?;
        let took_ms = (now - began) * 1e3;
        let text = format!("%r: SSL handshake took {took_ms:.1} ms");
        report::note(&this.event_loop.bind(py), slf, "debug", &text)?;
    }
    this.extra
        .bind(py)
        .set_item(intern!(py, "ssl_object"), this.records(py)?.object(py))?;
    if let Err(error) = tell_made(slf, this) {
        if !error.is_instance_of::<PyException>(py) {
            // Raised to the inner transport, which tells a handler also of a `CancelledError`.
            return Err(error);
        }
        // asyncio's words: there, the inner transport reports it.
        let message = "Fatal error: protocol.buffer_updated() call failed.";
        return shutdown::fatal_error(slf, error, message);
    }
    wake(slf, None)?;
    incoming::read_first(slf)
}

fn tell_made(slf: &Bound<'_, PyAny>, this: &TlsTransport) -> PyResult<()> {
    let py = slf.py();
    let is_news = this.with(py, |connection| {
        let is_news = connection.told == Told::Nothing;
        if is_news {
            connection.told = Told::Made;
        }
        is_news
    });
    match this.protocol(py) {
        Some(protocol) if is_news => protocol
            .reach(intern!(py, "connection_made"), (slf,))
            .map(drop),
        _ => Ok(()),
    }
}

/// Tells whoever waits for the handshake how it went.
///
/// # Errors
/// What completing a future raises, and what no handler may have.
pub(super) fn wake(slf: &Bound<'_, PyAny>, error: Option<&PyErr>) -> PyResult<()> {
    let py = slf.py();
    let this = TlsTransport::of(slf)?;
    let (waiter, is_accepted) = this.with(py, |connection| {
        let is_accepted = std::mem::take(&mut connection.is_accepted);
        (connection.waiter.take(), is_accepted)
    });
    if let Some(waiter) = waiter {
        let waiter = waiter.bind(py);
        return match error {
            Some(error) => future::set_exception(&waiter, error),
            None => future::set_result(&waiter, py.None().bind(py)),
        };
    }
    match error {
        Some(error) if is_accepted && this.debug(py) => report_accepted(slf, this, error),
        _ => Ok(()),
    }
}

/// In debug mode a server's handler hears of a client that could not connect, as on asyncio.
fn report_accepted(slf: &Bound<'_, PyAny>, this: &TlsTransport, error: &PyErr) -> PyResult<()> {
    let py = slf.py();
    let protocol = this
        .protocol(py)
        .unwrap_or_else(|| py.None().into_bound(py));
    report::failed(
        &this.event_loop.bind(py),
        "Error on transport creation for incoming connection",
        error.clone_ref(py),
        &[("protocol", &protocol), ("transport", slf)],
    )
}

fn cancel_timer(this: &TlsTransport, py: Python<'_>) -> PyResult<()> {
    let timer = this.with(py, |connection| connection.handshake_timer.take());
    shutdown::cancel(py, timer)
}

fn on_handshake_timeout(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    let this = TlsTransport::of(slf)?;
    if this.state(py) == State::Handshake {
        let message = format!(
            "SSL handshake is taking longer than {} seconds: aborting the connection",
            this.handshake_timeout.bind(py).str()?
        );
        let error = PyConnectionAbortedError::new_err(message);
        shutdown::fatal_error(slf, error, "Fatal error on transport")?;
    }
    Ok(none(py))
}

pub(super) const METHODS: [Method; 2] = [
    Method {
        name: c"connection_made",
        doc: c"connection_made($self, transport)\n--\n\nFor the inner transport: begin the handshake.",
        kind: raw_onename!(connection_made, "connection_made", "transport"),
    },
    Method {
        name: c"_on_handshake_timeout",
        doc: c"_on_handshake_timeout($self, /)\n--\n\nFor a timer: give a handshake up that takes too long.",
        kind: raw_noargs!(on_handshake_timeout),
    },
];
