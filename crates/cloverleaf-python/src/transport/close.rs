//! How a connection ends: in order, at once, or by a failure; `connection_lost` comes once, and last.

use std::os::fd::RawFd;

use cloverleaf::Token;
use pyo3::prelude::*;

use super::early::{self, Early};
use super::endpoint::Endpoint;
use super::failure::{CALL_CONNECTION_LOST, method_failed, told_and_closed};
use super::kind::Kind;
use super::state::Phase;
use super::stream::StreamTransport;
use super::{held, sendfile};
use crate::clients::Clients;
use crate::event_loop::Loop;
use crate::ffi::{
    Method, Owned, Reach, caught, is_ours_alone, raw_noargs, raw_noargs_attached, raw_onename,
    tuple_from, value_of, with_context,
};
use crate::job::{Internal, Job};
use crate::report;

/// Ends the connection because of a failure, which a handler hears of unless such failures are part of life.
///
/// # Errors
/// What no handler may have: `SystemExit` and `KeyboardInterrupt`.
#[cold]
pub(crate) fn fatal_error(slf: &Bound<'_, PyAny>, error: PyErr, message: &str) -> PyResult<()> {
    let py = slf.py();
    if crate::error::ends_the_run(py, &error) {
        return Err(error);
    }
    let this = StreamTransport::of(slf)?;
    let event_loop = this.event_loop(py);
    let kind = this.with(|stream| stream.kind);
    if kind.is_routine(py, &error)? {
        if Loop::of(&event_loop)?.debug() {
            event_loop.reach(
                intern!(py, "_log_transport_error"),
                (slf, message, error.value(py)),
            )?;
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

/// Ends a connection whose event was served in part, for want of memory: nobody knows what has become of its bytes. That
/// takes no memory of Python's; to tell a handler of it does.
///
/// # Errors
/// What no handler may have, and `MemoryError` if none could be told.
#[cold]
pub(super) fn break_off(
    slf: &Bound<'_, PyAny>,
    error: PyErr,
    message: fn(Kind) -> &'static str,
) -> PyResult<()> {
    let py = slf.py();
    let kind = StreamTransport::of(slf)?.with(|stream| stream.kind);
    let told = caught(py, || fatal_error(slf, error.clone_ref(py), message(kind)));
    let closed = force_close(slf, Some(error));
    told.and_then(|told| told).and(closed)
}

/// Ends the connection at once, whatever is still to be sent.
///
/// # Errors
/// `RuntimeError` if the loop is closed.
pub(super) fn force_close(slf: &Bound<'_, PyAny>, error: Option<PyErr>) -> PyResult<()> {
    let this = StreamTransport::of(slf)?;
    Loop::of(&this.event_loop(slf.py()))?.check_open()?;
    let is_first = this.with(|stream| {
        let is_first = stream.phase < Phase::Lost;
        if is_first {
            // What asyncio would have sent when it was written is not taken back; whether it went, nobody hears.
            stream.offer_held();
            stream.phase = Phase::Lost;
            stream.queue.clear();
        }
        is_first
    });
    if !is_first {
        return Ok(());
    }
    // The protocol is told whatever comes of that.
    let updated = this.update_interest(slf);
    schedule_connection_lost(slf, error)?;
    updated
}

/// Lets `connection_lost` come with the next turn, in the connection's own context or a copy of the one of now.
///
/// # Errors
/// `RuntimeError` if the loop is closed.
pub(super) fn schedule_connection_lost(
    slf: &Bound<'_, PyAny>,
    error: Option<PyErr>,
) -> PyResult<()> {
    let py = slf.py();
    let this = StreamTransport::of(slf)?;
    let context = this.context(py).or_else(|error| {
        // There is no memory for a copy.
        let other = this.with(|stream| stream.read_context.as_ref().map(|of| of.clone_ref(py)));
        other.ok_or(error)
    })?;
    tell_later(slf, &this.event_loop(py), context, error, connection_lost)
}

/// Has the transport's own `connection_lost` called in the next turn, and reports what that raises.
///
/// # Errors
/// `RuntimeError` if the loop is closed.
pub(super) fn tell_later(
    slf: &Bound<'_, PyAny>,
    event_loop: &Bound<'_, PyAny>,
    context: Owned,
    error: Option<PyErr>,
    connection_lost: fn(&Bound<'_, PyAny>, &Bound<'_, PyAny>) -> PyResult<()>,
) -> PyResult<()> {
    let transport = slf.clone().unbind();
    let of = event_loop.clone().unbind();
    let held = (transport, of, context);
    Loop::of(event_loop)?.push_call(held, move |py, (transport, of, context)| {
        let slf = transport.into_bound(py);
        let reason = error.map_or_else(|| py.None().into_bound(py), |error| value_of(py, error));
        let tell = || Loop::timed(of.bind(py), &slf, || connection_lost(&slf, &reason));
        with_context(py, context.bind(py), tell).or_else(|error| {
            let args = tuple_from(py, [reason.clone()])?;
            let called = (CALL_CONNECTION_LOST, &args);
            method_failed(of.bind(py), &slf, called, context, error)
        })
    })
}

/// Tells the protocol that its connection is gone, and closes the descriptor whatever the protocol says to that.
///
/// # Errors
/// What the protocol raises, and then what closing the socket raises.
pub(super) fn connection_lost(slf: &Bound<'_, PyAny>, reason: &Bound<'_, PyAny>) -> PyResult<()> {
    let this = StreamTransport::of(slf)?;
    let told = match this.protocol(slf.py()) {
        None => Ok(()),
        Some(protocol) => tell_lost(&protocol, reason),
    };
    // Whom an exception is told of is shown the transport.
    if told.is_ok() && !cfg!(Py_GIL_DISABLED) && this.with(|stream| stream.is_unasked()) {
        return end_unasked(slf, this);
    }
    let remembered = if this.with(|stream| stream.kind == Kind::Socket) {
        super::info::remember_sockname(slf)
    } else {
        Ok(())
    };
    let closed = release(slf);
    sendfile::give_up(slf, None)?;
    told_and_closed(slf.py(), told, remembered.and(closed))
}

/// Closes a connection of which nobody has asked anything. Its own address is kept only if somebody may ask later: if
/// anybody still has the transport when the protocol has gone with all that it had.
///
/// # Errors
/// What waking those raises who wait for a server's last client.
fn end_unasked(slf: &Bound<'_, PyAny>, this: &StreamTransport) -> PyResult<()> {
    let py = slf.py();
    let (endpoint, server, gone) = take_back(slf)?;
    if let Endpoint::Native(fd) = endpoint {
        // To be asked until it is closed: finalizers run now, and they may have the transport, or keep it.
        this.with(|stream| stream.leaving = Some(fd));
    }
    drop(gone);
    // A server that is closed may wake somebody, who may find the transport; one that is not has a weak reference at most.
    let (server, left) = match server {
        Some((server, place)) if is_open(&server, py)? => (None, leave(slf, Some((server, place)))),
        server => (server, Ok(())),
    };
    // No Python code runs from here to the end of the last reference.
    let remembered = if server.is_some() || left.is_err() || !is_ours_alone(slf) {
        super::info::remember_sockname(slf)
    } else {
        Ok(())
    };
    let fd = this.with(|stream| stream.leaving.take());
    drop(fd);
    // Whoever waits for the server is woken whatever comes of the address.
    let last = leave(slf, server);
    remembered.and(left).and(last)
}

/// Whether the server of these clients is open.
fn is_open(clients: &Owned, py: Python<'_>) -> PyResult<bool> {
    Ok(!clients.bind(py).cast::<Clients>()?.get().is_closed())
}

/// Calls `connection_lost`.
///
/// # Errors
/// What it raises.
pub(super) fn tell_lost(protocol: &Bound<'_, PyAny>, reason: &Bound<'_, PyAny>) -> PyResult<()> {
    let name = intern!(protocol.py(), "connection_lost");
    protocol.reach(name, (reason,)).map(drop)
}

/// Takes a transport back that could not start: nobody has been told of it.
///
/// A descriptor of ours is closed. A Python socket is not: whoever has given it learns of the failure.
///
/// # Errors
/// `OSError` if the kernel refuses to forget the descriptor.
pub(super) fn abandon(slf: &Bound<'_, PyAny>) -> PyResult<()> {
    let this = StreamTransport::of(slf)?;
    this.with(|stream| stream.phase = Phase::Lost);
    this.update_interest(slf)?;
    let (endpoint, server, gone) = take_back(slf)?;
    drop(gone);
    drop(endpoint);
    leave(slf, server)
}

/// Closes the descriptor and lets go of the protocol and the server.
fn release(slf: &Bound<'_, PyAny>) -> PyResult<()> {
    let (endpoint, server, gone) = take_back(slf)?;
    drop(gone);
    let closed = endpoint.close(slf.py());
    leave(slf, server)?;
    closed
}

/// Leaves the clients of the server that accepted the connection.
fn leave(slf: &Bound<'_, PyAny>, server: Option<Place>) -> PyResult<()> {
    match server {
        Some((server, place)) => server
            .bind(slf.py())
            .cast::<Clients>()?
            .get()
            .discard(slf.py(), place),
        None => Ok(()),
    }
}

/// The clients of a server, and which of them a transport is.
type Place = (Owned, u32);

/// What a connection had, which goes with it: what was received early, its protocol, and its contexts.
#[must_use = "it goes when the transport is what it is after the end"]
struct Gone {
    _early: Option<Early>,
    _protocol: Option<Owned>,
    _contexts: [Option<Owned>; 2],
}

/// Takes everything from a transport and from the loop; what is left to do is for its descriptor and its server.
fn take_back(slf: &Bound<'_, PyAny>) -> PyResult<(Endpoint, Option<Place>, Gone)> {
    let py = slf.py();
    let this = StreamTransport::of(slf)?;
    let event_loop = this.event_loop(py);
    let (endpoint, early, token, protocol, server, contexts) = this.with(|stream| {
        stream.phase = Phase::Closed;
        stream.queue.clear();
        if let Some(rare) = &mut stream.rare {
            rare.unpolled = None;
        }
        (
            {
                let remains = stream.endpoint.remains(py);
                std::mem::replace(&mut stream.endpoint, remains)
            },
            stream.early.take(),
            stream.token.take(),
            stream.protocol.take(),
            stream.server.take().map(|server| (server, stream.place)),
            [stream.read_context.take(), stream.write_context.take()],
        )
    });
    if let Some(token) = token {
        let fd = endpoint.registered_number();
        forget_source(Loop::of(&event_loop)?, fd, token);
    }
    early::close_unread(py, this, &endpoint, early.as_ref());
    let gone = Gone {
        _early: early,
        _protocol: protocol,
        _contexts: contexts,
    };
    Ok((endpoint, server, gone))
}

/// Takes a transport from the loop's registry, from any thread.
pub(super) fn forget_source(event_loop: &Loop, fd: RawFd, token: Token) {
    match event_loop
        .state()
        .with(|state| state.remove_source(fd, token))
    {
        Ok(source) => drop(source),
        Err(_) => {
            // Dropped by a thread that is not the loop's. A loop that is closed has no registry any more.
            cloverleaf::ignore(event_loop.push(Job::internal(Internal::RemoveSource(fd, token))));
        }
    }
}

/// Closes the connection when everything that waits has been sent.
///
/// # Errors
/// `RuntimeError` if the loop is closed.
pub(super) fn close(slf: &Bound<'_, PyAny>) -> PyResult<()> {
    let this = StreamTransport::of(slf)?;
    if this.with(|stream| stream.is_closing()) {
        return Ok(());
    }
    Loop::of(&this.event_loop(slf.py()))?.check_open()?;
    held::flush(slf, this)?;
    let was = this.with(|stream| {
        let was = stream.phase;
        if was < Phase::Closing {
            stream.phase = if stream.queue.is_empty() {
                Phase::Lost
            } else {
                Phase::Closing
            };
        }
        (was, stream.phase)
    });
    match was {
        (Phase::Closing | Phase::Lost | Phase::Closed, _) => Ok(()),
        (_, Phase::Lost) => {
            // The protocol is told whatever comes of that.
            let updated = this.update_interest(slf);
            schedule_connection_lost(slf, None)?;
            updated
        }
        (_, _) => this.update_interest(slf),
    }
}

fn py_close(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    close(slf)?;
    Ok(super::info::none(slf.py()))
}

fn py_abort(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    force_close(slf, None)?;
    Ok(super::info::none(slf.py()))
}

/// What a TLS transport over this one calls.
fn py_force_close(slf: &Bound<'_, PyAny>, reason: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let error = (!reason.is_none()).then(|| PyErr::from_value(reason.clone()));
    force_close(slf, error)?;
    Ok(super::info::none(slf.py()))
}

fn py_is_closing(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let is_closing = StreamTransport::of(slf)?.with(|stream| stream.is_closing());
    Ok(super::info::boolean(slf.py(), is_closing))
}

/// What asyncio's loop calls by a handle, after which the handler's message is named.
fn call_connection_lost(slf: &Bound<'_, PyAny>, reason: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let this = StreamTransport::of(slf)?;
    this.with(|stream| stream.phase = stream.phase.max(Phase::Lost));
    this.update_interest(slf)?;
    // Whoever calls this may have lent us the only reference, and asks the transport afterwards.
    let kept = slf.clone();
    connection_lost(&kept, reason)?;
    Ok(super::info::none(slf.py()))
}

/// Warns of a transport that nobody closed, and closes it.
pub(super) fn finalize(slf: &Bound<'_, PyAny>) {
    let py = slf.py();
    let Ok(this) = StreamTransport::of(slf) else {
        return;
    };
    if this.with(|stream| matches!(stream.endpoint, Endpoint::Closed(..))) {
        return;
    }
    if let Err(error) = report::warn_unclosed(slf) {
        error.write_unraisable(py, Some(slf));
    }
    if let Err(error) = release(slf) {
        error.write_unraisable(py, Some(slf));
    }
}

pub(super) const METHODS: [Method; 3] = [
    Method {
        name: c"_call_connection_lost",
        doc: c"_call_connection_lost($self, exc)\n--\n\nTell the protocol that the connection is lost, and close it.",
        kind: raw_onename!(call_connection_lost, "_call_connection_lost", "exc"),
    },
    Method {
        name: c"close",
        doc: c"close($self, /)\n--\n\nClose the connection once what was written has been sent.",
        kind: raw_noargs!(py_close),
    },
    Method {
        name: c"is_closing",
        doc: c"is_closing($self, /)\n--\n\nWhether the connection is closed or on its way there.",
        kind: raw_noargs_attached!(py_is_closing),
    },
];

/// Only what is written to can be aborted.
pub(super) const ABORT: Method = Method {
    name: c"abort",
    doc: c"abort($self, /)\n--\n\nClose the connection at once; what was not sent is lost.",
    kind: raw_noargs!(py_abort),
};

/// Only TLS runs over streams, and ends them with a reason.
pub(super) const FORCE_CLOSE: Method = Method {
    name: c"_force_close",
    doc: c"_force_close($self, exc)\n--\n\nFor a TLS transport over this one: abort, for this reason.",
    kind: raw_onename!(py_force_close, "_force_close", "exc"),
};
