//! How an endpoint ends: in order, at once, or by a failure; `connection_lost` comes once, and last.

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;

use super::{DatagramTransport, outbox};
use crate::event_loop::Loop;
use crate::ffi::{Method, Owned, Reach, caught, copy_context, raw_noargs, raw_onename};
use crate::report;
use crate::transport::close::{forget_source, tell_later, tell_lost};
use crate::transport::endpoint::Endpoint;
use crate::transport::failure::told_and_closed;
use crate::transport::info::{boolean, none};
use crate::transport::state::Phase;

/// What a handler reads about a receive that failed.
pub(super) const READ_FAILED: &str = "Fatal read error on datagram transport";
/// What a handler reads about a send that failed.
pub(super) const WRITE_FAILED: &str = "Fatal write error on datagram transport";

/// Ends the endpoint because of a failure, which a handler hears of unless it is the network's own.
///
/// # Errors
/// What no handler may have: `SystemExit` and `KeyboardInterrupt`.
#[cold]
pub(super) fn fatal_error(slf: &Bound<'_, PyAny>, error: PyErr, message: &str) -> PyResult<()> {
    let py = slf.py();
    if crate::error::ends_the_run(py, &error) {
        return Err(error);
    }
    let this = DatagramTransport::of(slf)?;
    let event_loop = this.event_loop(py);
    if error.is_instance_of::<PyOSError>(py) {
        if Loop::of(&event_loop)?.debug() {
            let about = (slf, message, error.value(py));
            event_loop.reach(intern!(py, "_log_transport_error"), about)?;
        }
    } else {
        let protocol = this
            .protocol(py)
            .unwrap_or_else(|| py.None().into_bound(py));
        let about = [("transport", slf), ("protocol", &protocol)];
        report::failed(&event_loop, message, error.clone_ref(py), &about)?;
    }
    force_close(slf, Some(error))
}

/// Ends an endpoint whose event was served in part, for want of memory. That takes no memory of Python's; to tell a
/// handler of it does.
///
/// # Errors
/// What no handler may have, and `MemoryError` if none could be told.
#[cold]
pub(super) fn break_off(slf: &Bound<'_, PyAny>, error: PyErr, message: &str) -> PyResult<()> {
    let py = slf.py();
    let told = caught(py, || fatal_error(slf, error.clone_ref(py), message));
    let closed = force_close(slf, Some(error));
    told.and_then(|told| told).and(closed)
}

/// Ends the endpoint at once, whatever is still to be sent.
fn force_close(slf: &Bound<'_, PyAny>, error: Option<PyErr>) -> PyResult<()> {
    let py = slf.py();
    let this = DatagramTransport::of(slf)?;
    if this.with(py, |datagrams| datagrams.phase >= Phase::Lost) {
        return Ok(());
    }
    Loop::of(&this.event_loop(py))?.check_open()?;
    outbox::flush(slf, this)?;
    let dropped = this.with(py, |datagrams| {
        (datagrams.phase < Phase::Lost).then(|| {
            datagrams.phase = Phase::Lost;
            datagrams.queued = 0;
            std::mem::take(&mut datagrams.queue)
        })
    });
    if dropped.is_none() {
        return Ok(());
    }
    drop(dropped);
    // The protocol is told whatever comes of that.
    let updated = this.update_interest(slf);
    schedule_connection_lost(slf, error)?;
    updated
}

/// Lets `connection_lost` come with the next turn, in a copy of the context of now.
fn schedule_connection_lost(slf: &Bound<'_, PyAny>, error: Option<PyErr>) -> PyResult<()> {
    let py = slf.py();
    let this = DatagramTransport::of(slf)?;
    let context = copy_context(py).or_else(|error| {
        // There is no memory for a copy.
        let other = this.with(py, |datagrams| {
            datagrams.read_context.as_ref().map(|of| of.clone_ref(py))
        });
        other.ok_or(error)
    })?;
    tell_later(slf, &this.event_loop(py), context, error, connection_lost)
}

/// Tells the protocol that its endpoint is gone, and closes the socket whatever the protocol says to that.
///
/// # Errors
/// What the protocol raises, and then what closing the socket raises.
pub(super) fn connection_lost(slf: &Bound<'_, PyAny>, reason: &Bound<'_, PyAny>) -> PyResult<()> {
    let this = DatagramTransport::of(slf)?;
    let told = match this.protocol(slf.py()) {
        Some(protocol) => tell_lost(&protocol, reason),
        None => Ok(()),
    };
    let closed = release(slf);
    told_and_closed(slf.py(), told, closed)
}

/// Closes the socket and lets go of the protocol and of what was not handed over.
fn release(slf: &Bound<'_, PyAny>) -> PyResult<()> {
    take_back(slf)?.close(slf.py())
}

/// Takes an endpoint back that could not start: nobody has been told of it, and its socket is its giver's.
///
/// # Errors
/// `TypeError` if this is no endpoint.
pub(super) fn abandon(slf: &Bound<'_, PyAny>) -> PyResult<()> {
    take_back(slf).map(drop)
}

/// Takes everything from an endpoint and from the loop; what is left is its socket.
fn take_back(slf: &Bound<'_, PyAny>) -> PyResult<Endpoint> {
    let py = slf.py();
    let this = DatagramTransport::of(slf)?;
    let (endpoint, token, dropped) = this.with(py, |datagrams| {
        datagrams.phase = Phase::Closed;
        datagrams.queued = 0;
        let remains = datagrams.endpoint.remains(py);
        (
            std::mem::replace(&mut datagrams.endpoint, remains),
            datagrams.token.take(),
            (
                datagrams.protocol.take(),
                datagrams.read_context.take(),
                datagrams.write_context.take(),
                std::mem::take(&mut datagrams.queue),
                std::mem::take(&mut datagrams.inbox),
                datagrams.last_peer.take(),
            ),
        )
    });
    if let Some(token) = token {
        forget_source(
            Loop::of(&this.event_loop(py))?,
            endpoint.registered_number(),
            token,
        );
    }
    drop(dropped);
    Ok(endpoint)
}

/// Closes the endpoint when everything that waits has been sent.
fn close(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    let this = DatagramTransport::of(slf)?;
    if this.with(py, |datagrams| datagrams.is_closing()) {
        return Ok(none(py));
    }
    Loop::of(&this.event_loop(py))?.check_open()?;
    outbox::flush(slf, this)?;
    let is_over = this.with(py, |datagrams| {
        if datagrams.is_closing() {
            return false;
        }
        let is_over = datagrams.queue.is_empty();
        datagrams.phase = if is_over { Phase::Lost } else { Phase::Closing };
        is_over
    });
    // The protocol is told whatever comes of that.
    let updated = this.update_interest(slf);
    if is_over {
        schedule_connection_lost(slf, None)?;
    }
    updated.map(|()| none(py))
}

fn abort(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    force_close(slf, None)?;
    Ok(none(slf.py()))
}

/// What asyncio's loop calls by a handle, after which the handler's message is named.
fn call_connection_lost(slf: &Bound<'_, PyAny>, reason: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    let this = DatagramTransport::of(slf)?;
    this.with(py, |datagrams| {
        datagrams.phase = datagrams.phase.max(Phase::Lost);
    });
    this.update_interest(slf)?;
    connection_lost(slf, reason)?;
    Ok(none(py))
}

fn is_closing(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    let is_closing = DatagramTransport::of(slf)?.with(py, |datagrams| datagrams.is_closing());
    Ok(boolean(py, is_closing))
}

/// Warns of an endpoint that nobody closed, and closes it.
pub(super) fn finalize(slf: &Bound<'_, PyAny>) {
    let py = slf.py();
    let Ok(this) = DatagramTransport::of(slf) else {
        return;
    };
    if this.with(py, |datagrams| {
        matches!(datagrams.endpoint, Endpoint::Closed(..))
    }) {
        return;
    }
    if let Err(error) = report::warn_unclosed(slf) {
        error.write_unraisable(py, Some(slf));
    }
    if let Err(error) = release(slf) {
        error.write_unraisable(py, Some(slf));
    }
}

pub(super) const METHODS: [Method; 4] = [
    Method {
        name: c"_call_connection_lost",
        doc: c"_call_connection_lost($self, exc)\n--\n\nTell the protocol that the endpoint is gone, and close it.",
        kind: raw_onename!(call_connection_lost, "_call_connection_lost", "exc"),
    },
    Method {
        name: c"close",
        doc: c"close($self, /)\n--\n\nClose the endpoint once what was handed to sendto() has been sent.",
        kind: raw_noargs!(close),
    },
    Method {
        name: c"abort",
        doc: c"abort($self, /)\n--\n\nClose the endpoint at once; what was not sent is lost.",
        kind: raw_noargs!(abort),
    },
    Method {
        name: c"is_closing",
        doc: c"is_closing($self, /)\n--\n\nWhether the endpoint is closed or on its way there.",
        kind: raw_noargs!(is_closing),
    },
];
