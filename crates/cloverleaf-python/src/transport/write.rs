//! The way out, as Python sees it: `write`, `writelines`, the end of writing, and what waits until there is room.
//!
//! `send.rs` decides what becomes of the bytes, under the transport's lock; what the protocol and the program hear of
//! that is told here, without it.

use cloverleaf::{Sent, limits};
use pyo3::exceptions::{PyBufferError, PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView};
use rustix::io::Errno;
use rustix::net::Shutdown;

use super::kind::Kind;
use super::send::{Outcome, Place};
use super::state::{Phase, Stream};
use super::stream::StreamTransport;
use super::{close, corked, flow, held, pieces, sendfile};
use crate::error::{errno_error, os_error};
use crate::ffi::{
    Bytes, KeptBytes, Method, Owned, Reach, raw_noargs, raw_onename, room_for, with_context,
};
use crate::held::Moment;

/// Refuses what asyncio does not take for bytes, and says what is `wanted`.
///
/// # Errors
/// `TypeError`.
#[inline]
pub(super) fn check_bytes_like(
    data: &Bound<'_, PyAny>,
    wanted: fn(Python<'_>) -> &'static str,
) -> PyResult<()> {
    let is_bytes_like = data.is_instance_of::<PyBytes>()
        || data.is_instance_of::<PyByteArray>()
        || data.is_instance_of::<PyMemoryView>();
    if !is_bytes_like {
        let name = data.get_type().name()?;
        let wanted = wanted(data.py());
        return Err(PyTypeError::new_err(format!(
            "data argument must be a {wanted} object, not '{name}'"
        )));
    }
    Ok(())
}

/// What streams take, in the words of the running Python's asyncio (gh-138703).
#[cold]
fn wanted(py: Python<'_>) -> &'static str {
    let version = py.version_info();
    let is_exact = version >= (3, 14, 1) || (version >= (3, 13, 8) && version < (3, 14));
    if is_exact {
        "bytes, bytearray, or memoryview"
    } else {
        "bytes-like"
    }
}

/// `transport.write`.
fn write(slf: &Bound<'_, PyAny>, data: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    let this = StreamTransport::of(slf)?;
    check_bytes_like(data, wanted)?;
    let bytes = match Bytes::of(data) {
        Ok(bytes) => bytes,
        Err(error) => return without_bytes(slf, this, error),
    };
    if bytes.is_empty() {
        this.with(|stream| may_write(stream))?;
        return Ok(super::info::none(py));
    }
    let mut moment = held::moment(this, py, bytes.len())?;
    if moment.is_any_held || moment.is_any_corked {
        this.with(|stream| may_write(stream))?;
        moment = send_others_before(slf, this, bytes.len(), moment)?;
    }
    let mut place = place_for(&bytes, Some(data), limits::SHARED_WRITE_BYTES, || {
        room_from(this, bytes.len())
    })?;
    let outcome = this.with(|stream| {
        may_write(stream)?;
        PyResult::Ok(stream.write(&bytes, place.take(), moment))
    })?;
    drop(bytes);
    settle(slf, this, outcome)?;
    Ok(super::info::none(py))
}

/// Refuses what lends no bytes, after all that asyncio looks at before it; that they do not lie together it finds out
/// as it sends them, if it does.
///
/// # Errors
/// Those of [`may_write`], and `error` if there is somebody to write to.
#[cold]
fn without_bytes(slf: &Bound<'_, PyAny>, this: &StreamTransport, error: PyErr) -> PyResult<Owned> {
    let py = slf.py();
    let is_found_late = error.is_instance_of::<PyBufferError>(py);
    let outcome = this.with(|stream| {
        may_write(stream)?;
        let is_over = stream.phase >= stream.kind.writes_end_at();
        PyResult::Ok((is_found_late && is_over).then(|| stream.futile()))
    })?;
    settle(slf, this, outcome.ok_or(error)?)?;
    Ok(super::info::none(py))
}

/// From which size on a write gets its room before any of it is sent: much sooner if it waits for certain, and so is copied.
#[inline]
fn room_from(this: &StreamTransport, len: usize) -> usize {
    if len >= limits::COALESCE_BYTES && this.with(|stream| stream.waits()) {
        limits::COALESCE_BYTES
    } else {
        limits::LARGE_COPY_BYTES
    }
}

/// Where bytes may wait: in their `object`, if they are so many and it never changes. Much that must be copied gets its room
/// before any of it is sent, so that the write is made as a whole or not at all.
///
/// # Errors
/// `MemoryError`.
#[inline]
fn place_for(
    bytes: &[u8],
    object: Option<&Bound<'_, PyAny>>,
    shared_from: usize,
    room_from: impl FnOnce() -> usize,
) -> PyResult<Option<Place>> {
    if bytes.len() >= shared_from
        && let Some(kept) = object.and_then(KeptBytes::of)
    {
        return Ok(Some(Place::Kept(kept)));
    }
    if bytes.len() < room_from() {
        return Ok(None);
    }
    room_for(bytes.len()).map(|room| Some(Place::Room(room)))
}

/// Refuses a write that asyncio does not take.
///
/// # Errors
/// `RuntimeError`.
#[inline]
fn may_write(stream: &Stream) -> PyResult<()> {
    if stream.wrote_eof {
        return Err(PyRuntimeError::new_err(
            "Cannot call write() after write_eof()",
        ));
    }
    sendfile::refuse_to("write", stream)
}

/// Sends what is held, if this write is going to be sent at once: who sees it may count on what was written before. Gives
/// the moment of the write.
///
/// # Errors
/// What no handler may have: `SystemExit` and `KeyboardInterrupt`.
#[inline]
fn send_others_before(
    slf: &Bound<'_, PyAny>,
    this: &StreamTransport,
    len: usize,
    moment: Moment,
) -> PyResult<Moment> {
    if moment.is_any_corked {
        corked::push_others(slf, &this.event_loop(slf.py()))?;
    }
    if !moment.is_any_held || this.with(|stream| stream.sends_nothing(len, moment)) {
        return Ok(moment);
    }
    held::flush_before(&this.event_loop(slf.py()))?;
    Ok(moment.at_once())
}

/// Does what is to be done about a write.
///
/// # Errors
/// What no handler may have: `SystemExit` and `KeyboardInterrupt`.
#[inline]
pub(super) fn settle(
    slf: &Bound<'_, PyAny>,
    this: &StreamTransport,
    outcome: Outcome,
) -> PyResult<()> {
    match outcome {
        Outcome::Queued => wait_for_room(slf, this),
        Outcome::Held => held::keep(slf, this),
        Outcome::Corked => corked::keep(slf, this),
        Outcome::Failed(kind, errno) => {
            close::fatal_error(slf, errno_error(slf.py(), errno), kind.write_failed())
        }
        Outcome::Futile(kind) => warn_futile(slf.py(), kind),
        Outcome::Done => Ok(()),
    }
}

/// Remembers the context for what comes of this write.
///
/// # Errors
/// `MemoryError`.
pub(super) fn keep_context(py: Python<'_>, this: &StreamTransport) -> PyResult<()> {
    let mut context = Some(this.context(py)?);
    this.with(|stream| {
        if stream.write_context.is_none() {
            stream.write_context = context.take();
        }
    });
    drop(context);
    Ok(())
}

#[cold]
fn wait_for_room(slf: &Bound<'_, PyAny>, this: &StreamTransport) -> PyResult<()> {
    keep_context(slf.py(), this)?;
    this.update_interest(slf)?;
    flow::pause_if_full(slf)
}

/// Warns of a program that goes on writing after the end.
///
/// # Errors
/// What the logger's handlers raise.
#[cold]
pub(super) fn warn_futile(py: Python<'_>, kind: Kind) -> PyResult<()> {
    let logger = py
        .import(intern!(py, "asyncio.log"))?
        .getattr(intern!(py, "logger"))?;
    logger.reach(intern!(py, "warning"), (kind.futile_write(),))?;
    Ok(())
}

/// `transport.writelines`: all pieces in one send.
fn writelines(slf: &Bound<'_, PyAny>, given: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    let this = StreamTransport::of(slf)?;
    let (kind, is_over) = this.with(|stream| {
        if stream.wrote_eof {
            return Err(PyRuntimeError::new_err(
                "Cannot call writelines() after write_eof()",
            ));
        }
        sendfile::refuse_to("writelines", stream)?;
        Ok((stream.kind, stream.phase >= stream.kind.writes_end_at()))
    })?;
    if is_over && pieces::come_too_late(py, kind)? {
        if given.is_truthy()? {
            let outcome = this.with(Stream::futile);
            settle(slf, this, outcome)?;
        }
    } else if let Some(joined) = pieces::joined(given) {
        let outcome = write_together(slf, this, &joined, None)?;
        settle(slf, this, outcome)?;
    } else {
        let pieces = pieces::collect(kind, given)?;
        let bytes = pieces::bytes_of(kind, &pieces)?;
        gather(slf, this, &pieces, bytes)?;
    }
    Ok(super::info::none(py))
}

/// Writes pieces, each a `bytes`, as one call of `write` would all of them. Before they are on their way or wait, no
/// Python code runs and no object is made that the collector knows, unless what is held for others is refused.
///
/// # Errors
/// Those of `write`.
pub(crate) fn write_pieces(slf: &Bound<'_, PyAny>, given: &[Bound<'_, PyAny>]) -> PyResult<()> {
    let this = StreamTransport::of(slf)?;
    let kind = this.with(|stream| may_write(stream).map(|()| stream.kind))?;
    gather(slf, this, given, pieces::bytes_of(kind, given)?)
}

fn gather(
    slf: &Bound<'_, PyAny>,
    this: &StreamTransport,
    pieces: &[Bound<'_, PyAny>],
    bytes: Vec<Bytes<'_>>,
) -> PyResult<()> {
    if let ([piece], [only]) = (pieces, &*bytes) {
        let outcome = write_together(slf, this, only, Some(piece))?;
        drop(bytes);
        return settle(slf, this, outcome);
    }
    if bytes.iter().all(|piece| piece.is_empty()) {
        return Ok(());
    }
    let len: usize = bytes.iter().map(|piece| piece.len()).sum();
    let moment = held::moment(this, slf.py(), len)?;
    let moment = send_others_before(slf, this, len, moment)?;
    // Many pieces may need as much room together as a large one does.
    let room_from = if len < limits::LARGE_COPY_BYTES {
        limits::LARGE_COPY_BYTES
    } else {
        limits::COALESCE_BYTES
    };
    // What is large stays where it is, and goes to the kernel from there.
    let place = |(piece, bytes): (&Bound<'_, PyAny>, &Bytes<'_>)| {
        place_for(bytes, Some(piece), limits::SHARED_PIECE_BYTES, || room_from)
    };
    let places = pieces
        .iter()
        .zip(&bytes)
        .map(place)
        .collect::<PyResult<_>>()?;
    let outcome = this.with(|stream| stream.write_pieces(&bytes, places, moment));
    drop(bytes);
    settle(slf, this, outcome)
}

/// Writes what lies in one place, and is in `object` if that can keep it there.
fn write_together(
    slf: &Bound<'_, PyAny>,
    this: &StreamTransport,
    bytes: &[u8],
    object: Option<&Bound<'_, PyAny>>,
) -> PyResult<Outcome> {
    if bytes.is_empty() {
        return Ok(Outcome::Done);
    }
    let moment = held::moment(this, slf.py(), bytes.len())?;
    let moment = send_others_before(slf, this, bytes.len(), moment)?;
    let mut place = place_for(bytes, object, limits::SHARED_WRITE_BYTES, || {
        room_from(this, bytes.len())
    })?;
    Ok(this.with(|stream| stream.write_together(bytes, place.take(), moment)))
}

/// What is left to do when the queue has moved on.
enum Next {
    Nothing,
    Wait,
    Finish,
}

/// Sends what waits, now that there is room.
///
/// # Errors
/// What no handler may have: `SystemExit` and `KeyboardInterrupt`; that of `shutdown(2)`, when the last of it has gone.
pub(super) fn write_ready(slf: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = slf.py();
    let this = StreamTransport::of(slf)?;
    let sent = this.with(|stream| {
        if stream.phase >= Phase::Lost || !stream.waits() {
            return None;
        }
        let fd = stream.endpoint.fd()?;
        let sent = stream.queue.send_to(fd);
        if let Ok(Sent::Bytes(count)) = sent {
            stream.stats.traffic.sent(count);
        }
        Some(sent)
    });
    match sent {
        None => return sendfile::go_on(slf),
        Some(Ok(Sent::WouldBlock)) => return Ok(()),
        Some(Ok(Sent::Bytes(_))) => {}
        Some(Err(error)) => {
            let kind = this.with(Stream::count_failure);
            let error = os_error(py, &error);
            let reason = error.clone_ref(py);
            close::fatal_error(slf, error, kind.write_failed())?;
            return sendfile::give_up(slf, Some(&reason));
        }
    }
    let context = this.with(|stream| {
        stream
            .write_context
            .as_ref()
            .map(|context| context.clone_ref(py))
    });
    match context {
        Some(context) => with_context(py, context.bind(py), || after_sending(slf, this)),
        None => after_sending(slf, this),
    }
}

fn after_sending(slf: &Bound<'_, PyAny>, this: &StreamTransport) -> PyResult<()> {
    flow::resume_if_drained(slf)?;
    // What the protocol has answered to that goes before the end of a connection that is closing.
    held::flush(slf, this)?;
    let next = this.with(|stream| match stream.phase {
        _ if stream.waits() => Next::Wait,
        Phase::Closing => {
            stream.phase = Phase::Lost;
            Next::Finish
        }
        Phase::Starting | Phase::Open | Phase::Lost | Phase::Closed => Next::Nothing,
    });
    match next {
        Next::Wait => Ok(()),
        Next::Nothing => {
            let old = this.with(|stream| stream.write_context.take());
            drop(old);
            this.update_interest(slf)?;
            let ended = this.with(|stream| {
                let ends = stream.wrote_eof && stream.phase < Phase::Lost;
                stream.end_writing_if(ends && stream.queue.is_empty())
            });
            sendfile::go_on(slf)?;
            ended.map_err(|errno| errno_error(slf.py(), errno))
        }
        Next::Finish => {
            this.update_interest(slf)?;
            close::connection_lost(slf, slf.py().None().bind(slf.py()))
        }
    }
}

impl Stream {
    /// Tells the peer that nothing will come any more, which fails if the peer is gone: the next read tells that, too.
    fn end_writing_if(&self, is_time: bool) -> Result<(), Errno> {
        match self.endpoint.fd() {
            Some(fd) if is_time => rustix::net::shutdown(fd, Shutdown::Write),
            _ => Ok(()),
        }
    }
}

fn write_eof(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let this = StreamTransport::of(slf)?;
    if this.with(|stream| stream.kind != Kind::Socket) {
        // A pipe has one direction, and closing it is the only way to end that.
        close::close(slf)?;
        return Ok(super::info::none(slf.py()));
    }
    held::flush_before(&this.event_loop(slf.py()))?;
    held::flush(slf, this)?;
    let ended = this.with(|stream| {
        if stream.is_closing() || stream.wrote_eof {
            return Ok(());
        }
        stream.wrote_eof = true;
        stream.end_writing_if(stream.queue.is_empty())
    });
    ended.map_err(|errno| errno_error(slf.py(), errno))?;
    Ok(super::info::none(slf.py()))
}

#[expect(clippy::unnecessary_wraps, reason = "the signature of every method")]
fn can_write_eof(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    Ok(super::info::boolean(slf.py(), true))
}

pub(super) const METHODS: [Method; 4] = [
    Method {
        name: c"write",
        doc: c"write($self, data)\n--\n\nSend bytes; what the kernel does not take at once is sent later, in order.",
        kind: raw_onename!(write, "write", "data"),
    },
    Method {
        name: c"writelines",
        doc: c"writelines($self, list_of_data)\n--\n\nSend all of these bytes, gathered in one call to the kernel.",
        kind: raw_onename!(writelines, "writelines", "list_of_data"),
    },
    Method {
        name: c"write_eof",
        doc: c"write_eof($self, /)\n--\n\nEnd the writing once everything has been sent; reading goes on.",
        kind: raw_noargs!(write_eof),
    },
    Method {
        name: c"can_write_eof",
        doc: c"can_write_eof($self, /)\n--\n\nTrue: streams can be closed in one direction.",
        kind: raw_noargs!(can_write_eof),
    },
];
