//! The way out: from the protocol's bytes to the inner transport.
//!
//! While the inner transport takes what it is given, bytes become records at once. Once it says that it is full, they
//! wait here as they are, which is what the protocol is told of: back-pressure reaches through both layers.

use std::sync::Arc;

use cloverleaf::limits;
use pyo3::exceptions::{PyNotImplementedError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyCFunction, PyMemoryView};

use super::class::TlsTransport;
use super::connection::Connection;
use super::draining::Draining;
use super::records::{DEFERRED_BYTES, RECORD_BYTES, Records, Written, bytes_view, part};
use super::state::State;
use super::{flow, shutdown};
use crate::ffi::{
    Bytes, Method, Owned, Reach, call_method, joined, raw_noargs, raw_onename, room_for,
};
use crate::report;
use crate::transport::{boolean, is_stream, none, write_pieces};

/// How much is made into records before the inner transport is asked whether it still has room.
const PART_BYTES: usize = 128 * 1024;

/// The write to an ended connection from which on a warning is logged, as in asyncio.
const FIRST_WARNED_WRITE: u32 = 5;

/// `transport.write`.
fn write(slf: &Bound<'_, PyAny>, data: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let is_bytes_like = data.is_instance_of::<PyBytes>()
        || data.is_instance_of::<PyByteArray>()
        || data.is_instance_of::<PyMemoryView>();
    if !is_bytes_like {
        let name = data.get_type().name()?;
        return Err(PyTypeError::new_err(format!(
            "data: expecting a bytes-like instance, got {name}"
        )));
    }
    send(slf, data)?;
    Ok(none(slf.py()))
}

/// `transport.writelines`: all pieces together, in as few records as hold them.
fn writelines(slf: &Bound<'_, PyAny>, pieces: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    if let Some(times) = TlsTransport::of(slf)?.with(py, Connection::refuse_write) {
        // As asyncio, without a look at the pieces.
        warn_if_often(py, times)?;
        return Ok(none(py));
    }
    let pieces: Vec<Bound<'_, PyAny>> = pieces.try_iter()?.collect::<PyResult<_>>()?;
    let bytes: Vec<Bytes<'_>> = pieces.iter().map(Bytes::of).collect::<PyResult<_>>()?;
    let whole = joined(py, &bytes)?;
    drop(bytes);
    send(slf, &whole)?;
    Ok(none(py))
}

/// What becomes of bytes that are written now.
enum Way {
    /// They become records, made by these; large ones have a place where what is left of them may wait.
    Direct(Arc<Records>, Option<Vec<u8>>),
    /// They wait behind others, or for the inner transport.
    Queued,
    /// The connection has ended; so many writes came before.
    Lost(u32),
}

impl Connection {
    /// Counts a write after the end, and says how many came before; `None` if this one may go.
    fn refuse_write(&mut self) -> Option<u32> {
        let is_refused = self.state.refuses_writes();
        self.lost_writes += u32::from(is_refused);
        is_refused.then(|| self.lost_writes - 1)
    }
}

/// Warns of a program that goes on writing after the end.
fn warn_if_often(py: Python<'_>, times: u32) -> PyResult<()> {
    if times < FIRST_WARNED_WRITE {
        return Ok(());
    }
    report::log_warning(py, "SSL connection is closed")
}

fn send(slf: &Bound<'_, PyAny>, data: &Bound<'_, PyAny>) -> PyResult<()> {
    let this = TlsTransport::of(slf)?;
    let bytes = Bytes::of(data)?;
    if bytes.is_empty() {
        return Ok(());
    }
    let way = this.with(slf.py(), |connection| {
        if let Some(times) = connection.refuse_write() {
            return Ok(Way::Lost(times));
        }
        let is_free = connection.backlog.is_empty()
            && !connection.inner_writing_paused
            && !connection.is_draining;
        if let Some(records) = &connection.records {
            records.turns.look()?;
            if is_free && connection.state == State::Wrapped {
                // As for a socket: the write is made as a whole or not at all.
                let is_large = bytes.len() >= limits::LARGE_COPY_BYTES;
                let place = is_large.then(|| room_for(bytes.len())).transpose()?;
                return Ok(Way::Direct(Arc::clone(records), place));
            }
        }
        connection.backlog.push(&bytes)?;
        PyResult::Ok(Way::Queued)
    })?;
    let len = bytes.len();
    drop(bytes);
    let sent = match way {
        Way::Direct(records, place) => match send_now(slf, this, &records, (data, len), place) {
            // Two threads have crossed since `look`, and nothing is sent: the connection is as it was.
            Ok(Sent::Nothing) => return Err(Records::refusal()),
            Ok(Sent::All) => Ok(()),
            Err(error) => Err(error),
        },
        Way::Queued => write_backlog(slf),
        Way::Lost(times) => warn_if_often(slf.py(), times),
    };
    sent.or_else(|error| shutdown::failed(slf, error))
}

/// What has become of bytes that were to be sent at once.
enum Sent {
    /// All of them are on their way, or wait.
    All,
    /// Another thread has its turn, which ends only when this one's callback does.
    Nothing,
}

/// Makes records of bytes, as long as the inner transport takes them; the rest waits.
fn send_now(
    slf: &Bound<'_, PyAny>,
    this: &TlsTransport,
    records: &Records,
    (data, len): (&Bound<'_, PyAny>, usize),
    place: Option<Vec<u8>>,
) -> PyResult<Sent> {
    if len <= RECORD_BYTES {
        return send_parts(slf, this, records, (data, len), None);
    }
    let py = slf.py();
    // Between two records others may run: threads, finalizers that the collector calls, handlers of signals. What they
    // write goes behind this, and before the end if they close.
    let Some(draining) = Draining::begin(py, this) else {
        let bytes = Bytes::of(data)?;
        this.with(py, |connection| connection.backlog.push(&bytes))?;
        return write_backlog(slf).map(|()| Sent::All);
    };
    let sent = send_parts(slf, this, records, (data, len), place);
    drop(draining);
    let must_go_on = this.with(py, |connection| {
        connection.state == State::Flushing
            || (connection.is_free() && !connection.backlog.is_empty())
    });
    let goes_on = if must_go_on {
        go_on_later(slf, this)
    } else {
        Ok(())
    };
    sent.and_then(|sent| goes_on.map(|()| sent))
}

/// Sends part by part, and queues the rest, in this place if it has one.
fn send_parts(
    slf: &Bound<'_, PyAny>,
    this: &TlsTransport,
    records: &Records,
    (data, len): (&Bound<'_, PyAny>, usize),
    place: Option<Vec<u8>>,
) -> PyResult<Sent> {
    let mut sent = 0;
    if len <= PART_BYTES {
        match records.write(data, len)? {
            Written::Bytes(count) => sent = count,
            Written::Again => {}
            Written::Crossed => return Ok(Sent::Nothing),
        }
    }
    let mut has_crossed = false;
    if sent < len {
        let view = bytes_view(data)?;
        while sent < len {
            let end = len.min(sent + PART_BYTES);
            match records.write(&part(&view, sent, end)?, end - sent)? {
                Written::Bytes(count) => sent += count,
                Written::Again => break,
                Written::Crossed if sent == 0 => return Ok(Sent::Nothing),
                Written::Crossed => {
                    has_crossed = true;
                    break;
                }
            }
            hand_over(slf, this)?;
            if !this.with(slf.py(), |connection| connection.is_free()) {
                break;
            }
        }
        if sent < len {
            let bytes = Bytes::of(&view)?;
            let rest = &bytes[sent..];
            if len <= RECORD_BYTES {
                this.with(slf.py(), |connection| connection.backlog.push(rest))?;
            } else {
                let mut place = match place {
                    Some(place) => place,
                    None => room_for(rest.len())?,
                };
                place.extend_from_slice(rest);
                // Nothing of what waits by now has gone: this is the one that drains.
                this.with(slf.py(), |connection| connection.backlog.push_front(place))?;
            }
        }
    }
    if has_crossed {
        go_on_later(slf, this)?;
    } else {
        settle(slf, this)?;
    }
    Ok(Sent::All)
}

/// Has the loop's thread go on, which may wait for any turn: no callback of OpenSSL's runs below what the loop calls.
#[cold]
fn go_on_later(slf: &Bound<'_, PyAny>, this: &TlsTransport) -> PyResult<()> {
    let py = slf.py();
    let method = slf.getattr(intern!(py, "_go_on"))?;
    this.event_loop
        .bind(py)
        .reach(intern!(py, "call_soon_threadsafe"), (method,))
        .map(drop)
}

/// Goes on with what waits.
fn go_on(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    drain_and_flush(slf)?;
    Ok(none(slf.py()))
}

/// Makes records of what waits, as long as the inner transport takes them. If that was what a shutdown waited for, it
/// goes on.
///
/// # Errors
/// `ssl.SSLError`, and what no handler may have.
pub(super) fn write_backlog(slf: &Bound<'_, PyAny>) -> PyResult<()> {
    let this = TlsTransport::of(slf)?;
    let has_drained = drain(slf, this)?;
    let is_last = has_drained
        && this.with(slf.py(), |connection| {
            connection.state == State::Flushing && connection.backlog.is_empty()
        });
    // Whoever began the shutdown found bytes that waited, and has left it to their end.
    if is_last {
        go_on_later(slf, this)
    } else {
        Ok(())
    }
}

/// Makes records of what waits, as long as the inner transport takes them; whether there was any.
///
/// OpenSSL lets other threads run, so another one may come here meanwhile: no bytes may become records twice.
fn drain(slf: &Bound<'_, PyAny>, this: &TlsTransport) -> PyResult<bool> {
    let Some(mut draining) = Draining::begin(slf.py(), this) else {
        return Ok(false);
    };
    let mut has_drained = false;
    while let Some(piece) = draining.next()? {
        match this
            .records(slf.py())?
            .write(&piece, piece.as_bytes().len())?
        {
            Written::Bytes(count) => {
                this.with(slf.py(), |connection| connection.backlog.consume(count));
            }
            Written::Again => break,
            Written::Crossed => {
                drop(draining);
                go_on_later(slf, this)?;
                return Ok(has_drained);
            }
        }
        has_drained = true;
        if this.records(slf.py())?.made() >= DEFERRED_BYTES {
            hand_over(slf, this)?;
        }
    }
    drop(draining);
    settle(slf, this)?;
    Ok(has_drained)
}

/// Sends the records that there are: at once, or at the end of the event that is being served.
fn settle(slf: &Bound<'_, PyAny>, this: &TlsTransport) -> PyResult<()> {
    let is_deferred = this.with(slf.py(), |connection| {
        let made = connection
            .records
            .as_ref()
            .map_or(0, |records| records.made());
        let is_deferred = connection.in_event && made < DEFERRED_BYTES;
        connection.is_deferred |= is_deferred;
        is_deferred
    });
    if is_deferred { Ok(()) } else { flush(slf) }
}

/// Hands all records to the inner transport, and tells the protocol to pause or to go on if it must know.
///
/// # Errors
/// What the inner transport raises, and what no handler may have.
pub(super) fn flush(slf: &Bound<'_, PyAny>) -> PyResult<()> {
    let this = TlsTransport::of(slf)?;
    if hand_over(slf, this)? {
        flow::control_writing(slf, 0)
    } else {
        flow::control_writing(slf, this.unsent(slf.py())?)
    }
}

/// Hands all records to the inner transport, unless it is full or they cannot be waited for; whether it has them.
///
/// # Errors
/// What the inner transport raises.
pub(super) fn hand_over(slf: &Bound<'_, PyAny>, this: &TlsTransport) -> PyResult<bool> {
    let py = slf.py();
    let (inner, records) = this.with(py, |connection| {
        let is_free = !connection.inner_writing_paused;
        let inner = connection.inner.as_ref().filter(|_| is_free);
        let inner = inner.map(|inner| inner.clone_ref(py).into_bound(py));
        (inner, connection.records.clone())
    });
    let (Some(inner), Some(records)) = (inner, records) else {
        return Ok(false);
    };
    // Asked before records are taken: until the inner transport has them, no others may be.
    let gathers = records.has_aside(py) && has_own_write(&inner)?;
    let Some((pieces, last)) = records.take(py)? else {
        go_on_later(slf, this)?;
        return Ok(false);
    };
    if !pieces.is_empty() {
        give_pieces(&inner, pieces, &last, gathers)?;
    } else if !last.as_bytes().is_empty() {
        call_method(&inner, intern!(py, "write"), [last.as_any()])?;
    }
    Ok(true)
}

/// Whether this is a transport of ours whose `write` nobody has replaced, be it by another object's method.
fn has_own_write(inner: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = inner.py();
    if !is_stream(inner) {
        return Ok(false);
    }
    let write = inner.getattr(intern!(py, "write"))?;
    Ok(write.is_exact_instance_of::<PyCFunction>()
        && write.getattr(intern!(py, "__self__"))?.is(inner))
}

/// Hands several records over together: in one call to the kernel, if there is nothing but it below.
fn give_pieces(
    inner: &Bound<'_, PyAny>,
    pieces: Vec<Owned>,
    last: &Bound<'_, PyBytes>,
    gathers: bool,
) -> PyResult<()> {
    let py = inner.py();
    let mut pieces: Vec<_> = pieces
        .into_iter()
        .map(|piece| piece.into_bound(py))
        .collect();
    pieces.push(last.as_any().clone());
    if gathers {
        return write_pieces(inner, &pieces);
    }
    // asyncio calls nothing but `write`, which may be another one's, or replaced.
    let pieces: Vec<Bytes<'_>> = pieces.iter().map(Bytes::of).collect::<PyResult<_>>()?;
    let whole = joined(py, &pieces)?;
    call_method(inner, intern!(py, "write"), [whole.as_any()]).map(drop)
}

/// The inner transport has too much to send already.
fn pause_writing(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    TlsTransport::of(slf)?.with(slf.py(), |connection| {
        connection.inner_writing_paused = true;
    });
    Ok(none(slf.py()))
}

/// The inner transport has room again.
fn resume_writing(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let this = TlsTransport::of(slf)?;
    this.with(slf.py(), |connection| {
        connection.inner_writing_paused = false;
    });
    drain_and_flush(slf)?;
    Ok(none(slf.py()))
}

/// Makes records of what waits, and ends the connection if that is all that it waits for.
fn drain_and_flush(slf: &Bound<'_, PyAny>) -> PyResult<()> {
    let this = TlsTransport::of(slf)?;
    if let Err(error) = drain(slf, this) {
        shutdown::failed(slf, error)?;
    }
    if this.state(slf.py()) == State::Flushing {
        shutdown::flush(slf)?;
    }
    Ok(())
}

fn write_eof(_slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    Err(PyNotImplementedError::new_err(()))
}

#[expect(clippy::unnecessary_wraps, reason = "the signature of every method")]
fn can_write_eof(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    Ok(boolean(slf.py(), false))
}

pub(super) const METHODS: [Method; 7] = [
    Method {
        name: c"write",
        doc: c"write($self, data)\n--\n\nEncrypt and send bytes; what does not go at once is sent later, in order.",
        kind: raw_onename!(write, "write", "data"),
    },
    Method {
        name: c"writelines",
        doc: c"writelines($self, list_of_data)\n--\n\nEncrypt and send all of these bytes together.",
        kind: raw_onename!(writelines, "writelines", "list_of_data"),
    },
    Method {
        name: c"write_eof",
        doc: c"write_eof($self, /)\n--\n\nNot possible: TLS closes both directions together.",
        kind: raw_noargs!(write_eof),
    },
    Method {
        name: c"can_write_eof",
        doc: c"can_write_eof($self, /)\n--\n\nFalse: TLS closes both directions together.",
        kind: raw_noargs!(can_write_eof),
    },
    Method {
        name: c"pause_writing",
        doc: c"pause_writing($self, /)\n--\n\nFor the inner transport: it has too much to send.",
        kind: raw_noargs!(pause_writing),
    },
    Method {
        name: c"resume_writing",
        doc: c"resume_writing($self, /)\n--\n\nFor the inner transport: it has room again.",
        kind: raw_noargs!(resume_writing),
    },
    Method {
        name: c"_go_on",
        doc: c"_go_on($self, /)\n--\n\nFor the loop: send what had to wait for another thread.",
        kind: raw_noargs!(go_on),
    },
];
