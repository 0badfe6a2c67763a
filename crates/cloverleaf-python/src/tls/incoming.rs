//! The way in: from the inner transport's bytes to the protocol.
//!
//! Everything that one event of the inner transport brings is handed on in it, and what the protocol writes meanwhile
//! goes out together at its end.

use pyo3::exceptions::{PyConnectionResetError, PyException};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::class::TlsTransport;
use super::connection::Connection;
use super::records::Records;
use super::state::{State, Told};
use super::{flow, handshake, outgoing, shutdown};
use crate::event_loop::Loop;
use crate::ffi::{Method, Owned, Reach, raw_noargs, raw_onename};
use crate::transport::{boolean, fatal_error, is_stream, none};
use crate::{report, streams};

fn data_received(slf: &Bound<'_, PyAny>, data: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let this = TlsTransport::of(slf)?;
    let begun = this.with(slf.py(), |connection| {
        let records = connection.records.clone()?;
        connection.in_event = true;
        Some((records, connection.state))
    });
    let Some((records, state)) = begun else {
        // The connection is lost, and what still comes of it is nobody's.
        return Ok(none(slf.py()));
    };
    let result = react(slf, state, &records, data);
    let is_deferred = this.with(slf.py(), |connection| {
        connection.in_event = false;
        std::mem::take(&mut connection.is_deferred)
    });
    // What was written before an exception goes, too.
    let flushed = if is_deferred {
        outgoing::flush(slf)
    } else {
        Ok(())
    };
    result
        .and(flushed)
        .or_else(|error| give_back(slf, this, error))?;
    Ok(none(slf.py()))
}

/// What comes of an exception that is no `Exception`: to the inner transport, its protocol has failed.
///
/// # Errors
/// The exception, if that transport is not a stream, or no handler may have it.
#[cold]
fn give_back(slf: &Bound<'_, PyAny>, this: &TlsTransport, error: PyErr) -> PyResult<()> {
    let py = slf.py();
    let inner = this.inner(py).filter(is_stream);
    match inner.filter(|_| !error.is_instance_of::<PyException>(py)) {
        // asyncio's words: there, the transport asks its protocol for buffers.
        Some(inner) => {
            let message = "Fatal error: protocol.buffer_updated() call failed.";
            fatal_error(&inner, error, message)
        }
        None => Err(error),
    }
}

/// Ends the event in which the peer's bytes are looked at, if this is a TLS transport, for what was written in it; its
/// protocol, which may be such a transport, too.
///
/// # Errors
/// What no handler may have: `SystemExit` and `KeyboardInterrupt`.
pub(crate) fn end_event<'py>(slf: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Ok(this) = TlsTransport::of(slf) else {
        return Ok(None);
    };
    let is_deferred = this.with(slf.py(), |connection| {
        connection.in_event = false;
        std::mem::take(&mut connection.is_deferred)
    });
    if is_deferred {
        outgoing::flush(slf)?;
    }
    read_on_later(slf, this)?;
    Ok(this.protocol(slf.py()))
}

/// Has what found no room in the protocol's buffer read in a turn of its own.
fn read_on_later(slf: &Bound<'_, PyAny>, this: &TlsTransport) -> PyResult<()> {
    let py = slf.py();
    let may_be_more = this.with(py, |connection| {
        let records = connection.records.as_ref();
        connection.is_buffered && records.is_some_and(|records| !records.has_drained())
    });
    if may_be_more {
        let go_on = slf.getattr(intern!(py, "_continue_reading"))?;
        this.soon(&go_on, &PyTuple::empty(py))?;
    }
    Ok(())
}

/// Notes, for a run within it, that the event of a connection is served that the kernel has not reported.
fn note_event(this: &TlsTransport, py: Python<'_>) -> PyResult<()> {
    let mut carrier = this.inner(py);
    while let Some(object) = &carrier
        && let Ok(between) = TlsTransport::of(object)
    {
        carrier = between.inner(py);
    }
    if let Some(carrier) = carrier.map(Owned::from) {
        let event_loop = this.event_loop.bind(py);
        let state = Loop::of(&event_loop)?.state();
        state.with(|state| state.held.begin_unheld_event(&carrier))?;
    }
    Ok(())
}

/// Looks at what the peer has sent, according to the state.
fn react(
    slf: &Bound<'_, PyAny>,
    state: State,
    records: &Records,
    data: &Bound<'_, PyAny>,
) -> PyResult<()> {
    if state != State::Wrapped {
        records.feed(data)?;
    }
    match state {
        State::Handshake => handshake::advance(slf),
        State::Wrapped => read_with(slf, records, Some(data)).map(drop),
        State::Flushing => shutdown::flush(slf),
        State::Shutdown => shutdown::say_goodbye(slf),
        State::Unwrapped => Ok(()),
    }
}

/// Whether there may be more to read than the protocol wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// All that came was handed on.
    Nothing,
    /// The protocol has paused before the end.
    Unread,
}

/// Hands on what there is, unless the protocol has paused.
///
/// # Errors
/// What no handler may have: `SystemExit` and `KeyboardInterrupt`.
pub(super) fn read(slf: &Bound<'_, PyAny>) -> PyResult<Rest> {
    let this = TlsTransport::of(slf)?;
    match this.with(slf.py(), |connection| connection.records.clone()) {
        Some(records) => read_with(slf, &records, None),
        None => Ok(Rest::Nothing),
    }
}

/// The same, when these bytes of the peer's have just come, too.
fn read_with(
    slf: &Bound<'_, PyAny>,
    records: &Records,
    arrived: Option<&Bound<'_, PyAny>>,
) -> PyResult<Rest> {
    let rest = hand_on(slf, records, arrived).and_then(|rest| {
        if !TlsTransport::of(slf)?.with(slf.py(), Connection::is_settled_by_its_event) {
            outgoing::write_backlog(slf)?;
            flow::control_reading(slf)?;
        }
        Ok(rest)
    });
    match rest {
        Ok(rest) => Ok(rest),
        Err(error) => {
            shutdown::failed(slf, error)?;
            Ok(Rest::Nothing)
        }
    }
}

/// Hands on what may have come together with the end of the handshake.
///
/// # Errors
/// What no handler may have: `SystemExit` and `KeyboardInterrupt`.
pub(super) fn read_first(slf: &Bound<'_, PyAny>) -> PyResult<()> {
    if TlsTransport::of(slf)?.unread(slf.py())? == 0 {
        // Not even asked for a buffer is a protocol that there is nothing for.
        return outgoing::write_backlog(slf);
    }
    read(slf).map(drop)
}

/// Who takes what is read.
enum Taker {
    Protocol(Owned),
    Buffered(Owned),
    /// Nobody any more: the program has closed the transport.
    Nobody,
    /// Nobody for now.
    Later,
}

fn taker(this: &TlsTransport, py: Python<'_>) -> Option<Taker> {
    this.with(py, |connection| {
        let is_open = matches!(connection.state, State::Wrapped | State::Flushing);
        if !is_open || connection.has_goodbye {
            return None;
        }
        if connection.discards {
            return Some(Taker::Nobody);
        }
        if connection.reading_paused {
            return Some(Taker::Later);
        }
        let protocol = connection.protocol.as_ref()?.clone_ref(py);
        Some(if connection.is_buffered {
            Taker::Buffered(protocol)
        } else {
            Taker::Protocol(protocol)
        })
    })
}

fn hand_on(
    slf: &Bound<'_, PyAny>,
    records: &Records,
    mut arrived: Option<&Bound<'_, PyAny>>,
) -> PyResult<Rest> {
    let py = slf.py();
    let this = TlsTransport::of(slf)?;
    loop {
        let mut is_done = true;
        let taker = taker(this, py);
        let arrived = match (&taker, arrived.take()) {
            (Some(Taker::Protocol(_)), arrived) => arrived,
            (_, Some(data)) => {
                records.feed(data)?;
                None
            }
            (_, None) => None,
        };
        match taker {
            Some(Taker::Protocol(protocol)) => {
                read_bytes(slf, records, &protocol.bind(py), arrived)?;
            }
            Some(Taker::Buffered(protocol)) => {
                is_done = !read_into_protocol(slf, records, &protocol.bind(py))?;
            }
            Some(Taker::Nobody) => {
                let read = records.read_all(py)?;
                if let Some(error) = read.failure {
                    return Err(error);
                }
                this.with(py, |connection| connection.has_goodbye |= read.is_end);
            }
            Some(Taker::Later) => return Ok(Rest::Unread),
            None => {}
        }
        if is_done {
            return Ok(Rest::Nothing);
        }
    }
}

fn read_bytes(
    slf: &Bound<'_, PyAny>,
    records: &Records,
    protocol: &Bound<'_, PyAny>,
    arrived: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    let read = match arrived {
        Some(data) => records.read_arrived(data)?,
        None => records.read_all(slf.py())?,
    };
    if let Some(data) = read.data {
        streams::deliver(protocol, &data)?;
    }
    if let Some(error) = read.failure {
        return Err(error);
    }
    if read.is_end {
        end(slf)?;
    }
    Ok(())
}

/// Fills the protocol's buffer once; `true` if there may be more than found room.
fn read_into_protocol(
    slf: &Bound<'_, PyAny>,
    records: &Records,
    protocol: &Bound<'_, PyAny>,
) -> PyResult<bool> {
    let py = slf.py();
    let hint = records.unread(py)?;
    let buffer = protocol.reach(intern!(py, "get_buffer"), (hint,))?;
    let filled = records.read_into(&buffer)?;
    drop(buffer);
    if filled.count > 0 {
        protocol.reach(intern!(py, "buffer_updated"), (filled.count,))?;
    }
    if filled.is_end {
        end(slf)?;
    }
    Ok(filled.is_full)
}

/// The peer has said goodbye.
fn end(slf: &Bound<'_, PyAny>) -> PyResult<()> {
    TlsTransport::of(slf)?.with(slf.py(), |connection| connection.has_goodbye = true);
    tell_eof(slf)?;
    shutdown::start(slf)
}

/// Tells the protocol, once, that nothing more will come.
///
/// # Errors
/// What no handler may have: `SystemExit` and `KeyboardInterrupt`.
pub(super) fn tell_eof(slf: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = slf.py();
    let this = TlsTransport::of(slf)?;
    let is_news = this.with(py, |connection| {
        let is_news = connection.told == Told::Made;
        if is_news {
            connection.told = Told::Eof;
        }
        is_news
    });
    let Some(protocol) = this.protocol(py).filter(|_| is_news) else {
        return Ok(());
    };
    let answer = protocol
        .reach0(intern!(py, "eof_received"))
        .and_then(|answer| answer.is_truthy());
    match answer {
        Ok(true) => report::log_warning(
            py,
            "returning true from eof_received() has no effect when using ssl",
        ),
        Ok(false) => Ok(()),
        Err(error) => shutdown::fatal_error(slf, error, "Error calling eof_received()"),
    }
}

/// The inner transport has come to its end: with a goodbye before it, or without.
fn eof_received(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    let this = TlsTransport::of(slf)?;
    this.with(py, |connection| {
        connection.owes_goodbye |= connection.state == State::Flushing && !connection.has_eof;
        connection.has_eof = true;
    });
    report::note(&this.event_loop.bind(py), slf, "debug", "%r received EOF")?;
    match this.state(py) {
        State::Handshake => handshake::fail(slf, PyConnectionResetError::new_err(()))?,
        State::Wrapped => {
            this.with(py, |connection| connection.state = State::Flushing);
            shutdown::flush(slf)?;
        }
        State::Flushing => shutdown::flush(slf)?,
        State::Shutdown => shutdown::say_goodbye(slf)?,
        State::Unwrapped => {}
    }
    // What is unread or unsent keeps the inner transport open for a while.
    Ok(boolean(py, this.state(py) == State::Flushing))
}

/// Goes on where reading was paused.
fn continue_reading(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let this = TlsTransport::of(slf)?;
    note_event(this, slf.py())?;
    match this.state(slf.py()) {
        State::Wrapped => read(slf).map(drop)?,
        State::Flushing => shutdown::flush(slf)?,
        State::Shutdown => shutdown::say_goodbye(slf)?,
        State::Handshake | State::Unwrapped => {}
    }
    Ok(none(slf.py()))
}

pub(super) const METHODS: [Method; 3] = [
    Method {
        name: c"data_received",
        doc: c"data_received($self, data)\n--\n\nFor the inner transport: take what the peer has sent.",
        kind: raw_onename!(data_received, "data_received", "data"),
    },
    Method {
        name: c"eof_received",
        doc: c"eof_received($self, /)\n--\n\nFor the inner transport: the peer sends nothing more.",
        kind: raw_noargs!(eof_received),
    },
    Method {
        name: c"_continue_reading",
        doc: c"_continue_reading($self, /)\n--\n\nFor the loop: hand on what came while reading was paused.",
        kind: raw_noargs!(continue_reading),
    },
];
