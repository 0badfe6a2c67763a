//! The way out: sent at once if nothing waits before it, else queued until the kernel has room.

use std::ops::Deref;

use cloverleaf::{Sent, limits};
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyMemoryView};
use rustix::io::Errno;
use rustix::net::Shutdown;

use super::endpoint::Endpoint;
use super::kind::Kind;
use super::stream::{Phase, Stream, StreamTransport};
use super::{close, corked, flow, held, pieces, sendfile};
use crate::error::{errno_error, os_error};
use crate::ffi::{Bytes, KeptBytes, Method, Owned, Reach, raw_noargs, raw_onename, with_context};
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

/// The bytes of an argument that asyncio takes.
fn bytes_of<'a>(data: &'a Bound<'_, PyAny>) -> PyResult<Bytes<'a>> {
    check_bytes_like(data, wanted)?;
    Bytes::of(data)
}

/// What is to be done about a write that has been made.
#[derive(Clone, Copy)]
pub(super) enum Outcome {
    /// Nothing: all of it went or is held with what was, or nobody needs to know that it did not.
    Done,
    /// It is held until the event has been served, the first to be.
    Held,
    /// The kernel has it, and holds it back for the next one.
    Corked,
    /// Some of it waits.
    Queued,
    /// The connection is broken.
    Failed(Kind, Errno),
    /// The connection had been lost before, and the program goes on writing.
    Futile(Kind),
}

impl Stream {
    /// `kept` is the same bytes, if they can be kept where they are.
    fn write(&mut self, data: &[u8], kept: Option<KeptBytes>, moment: Moment) -> Outcome {
        if self.phase >= self.kind.writes_end_at() {
            return self.futile();
        }
        let expects_more = self.pieces.count(moment.turn);
        if self.is_held {
            return self.write_behind(&[data], moment);
        }
        if self.queue.is_empty() && self.may_hold(data.len(), moment) {
            self.queue.push_slice(data);
            self.is_held = true;
            return Outcome::Held;
        }
        if expects_more && self.queue.is_empty() && self.may_cork(data.len()) {
            return self.write_part(data);
        }
        let Some(fd) = self.endpoint.fd() else {
            return self.failed(Errno::BADF);
        };
        let mut rest = data;
        if self.queue.is_empty() {
            match self.kind.send(fd, data) {
                Ok(count) if count == data.len() => {
                    self.pieces.all_go();
                    return Outcome::Done;
                }
                Ok(count) => rest = &data[count..],
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(errno) => return self.failed(errno),
            }
        }
        match kept {
            Some(kept) => self
                .queue
                .push_shared(Box::new(kept), data.len() - rest.len()),
            None => self.queue.push_slice(rest),
        }
        Outcome::Queued
    }

    /// Writes what the kernel is to send with the next write.
    fn write_part(&mut self, data: &[u8]) -> Outcome {
        let Some(fd) = self.endpoint.fd() else {
            return self.failed(Errno::BADF);
        };
        match Kind::send_part(fd, data) {
            Ok(count) if count == data.len() => return Outcome::Corked,
            Ok(count) => self.queue.push_slice(&data[count..]),
            Err(Errno::AGAIN | Errno::INTR) => self.queue.push_slice(data),
            Err(errno) => return self.failed(errno),
        }
        // The kernel is full, and sends by itself.
        Outcome::Queued
    }

    /// Whether a write is to be held: a small one that answers an event which was answered before,
    /// or whose answers go together with those to others. Who knows the socket could tell the difference: by sending
    /// himself, or by closing it.
    fn may_hold(&mut self, len: usize, moment: Moment) -> bool {
        let may = self.could_hold(len, moment);
        self.wrote_for = moment.event;
        may
    }

    fn could_hold(&self, len: usize, moment: Moment) -> bool {
        let has_answered = self.wrote_for == moment.event;
        let holds = has_answered || moment.together;
        let is_ours_alone = matches!(self.endpoint, Endpoint::Native(_));
        holds && moment.event != 0 && is_ours_alone && self.has_hold_for(len)
    }

    /// Whether a write sends nothing now, as it is held, waits, or comes too late.
    fn sends_nothing(&self, len: usize, moment: Moment) -> bool {
        if self.phase >= self.kind.writes_end_at() {
            return true;
        }
        if self.is_held {
            return self.refused.is_some() || self.stays_held(len, moment);
        }
        !self.queue.is_empty() || self.could_hold(len, moment)
    }

    /// Whether a write joins what is held.
    fn stays_held(&self, len: usize, moment: Moment) -> bool {
        moment.event != 0 && self.has_hold_for(len) && !moment.is_late()
    }

    /// Whether so many bytes more can be held. Nobody must be told to pause because of what is held.
    fn has_hold_for(&self, len: usize) -> bool {
        len <= limits::LONGEST_HELD_WRITE_BYTES
            && self.queue.len() + len <= self.limits.high.min(limits::HELD_BYTES)
    }

    /// Writes behind what is held: is held as well, or goes with it.
    fn write_behind(&mut self, pieces: &[impl Deref<Target = [u8]>], moment: Moment) -> Outcome {
        if let Some(errno) = self.take_refusal() {
            return self.failed(errno);
        }
        let len = pieces.iter().map(|piece| piece.len()).sum();
        if self.stays_held(len, moment) {
            for piece in pieces {
                self.queue.push_slice(piece);
            }
            return Outcome::Done;
        }
        self.is_held = false;
        let Some((last, others)) = pieces.split_last() else {
            return self.send_queue(&[]);
        };
        for piece in others {
            self.queue.push_slice(piece);
        }
        self.send_queue(last)
    }

    /// Holds nothing any more if the kernel has refused it in the guard's hands.
    fn take_refusal(&mut self) -> Option<Errno> {
        let errno = self.refused.take()?;
        self.is_held = false;
        Some(errno)
    }

    /// Offers what is held to the kernel, which lets go of what it holds back; `None` if nothing is held.
    pub(super) fn offer_held(&mut self) -> Option<Outcome> {
        self.push();
        if let Some(errno) = self.take_refusal() {
            return Some(self.failed(errno));
        }
        if !std::mem::replace(&mut self.is_held, false) {
            return None;
        }
        if self.queue.is_empty() {
            // It has gone with what others held.
            return Some(Outcome::Done);
        }
        Some(self.send_queue(&[]))
    }

    /// Holds nothing any more, as the kernel refuses it.
    pub(super) fn fail_held(&mut self, errno: Errno) -> Option<Outcome> {
        std::mem::replace(&mut self.is_held, false).then(|| self.failed(errno))
    }

    /// Sends what is in the queue and has not been offered before, and `last` behind it.
    fn send_queue(&mut self, last: &[u8]) -> Outcome {
        let Some(fd) = self.endpoint.fd() else {
            return self.failed(Errno::BADF);
        };
        match self.queue.send_with(fd, last) {
            Ok(_) if self.queue.is_empty() => {
                self.pieces.all_go();
                Outcome::Done
            }
            Ok(Sent::Bytes(_) | Sent::WouldBlock) => Outcome::Queued,
            Err(error) => self.failed(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
        }
    }

    /// A write after the end, to be counted.
    fn futile(&mut self) -> Outcome {
        self.lost_writes += 1;
        if self.lost_writes >= self.kind.first_warned_write() {
            Outcome::Futile(self.kind)
        } else {
            Outcome::Done
        }
    }

    /// A write that the kernel refuses.
    fn failed(&mut self, errno: Errno) -> Outcome {
        Outcome::Failed(self.count_failure(), errno)
    }

    /// Counts a write that the kernel refuses: on a pipe, it is the first futile one.
    fn count_failure(&mut self) -> Kind {
        if self.kind != Kind::Socket {
            self.lost_writes += 1;
        }
        self.kind
    }
}

/// `transport.write`.
fn write(slf: &Bound<'_, PyAny>, data: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    let this = StreamTransport::of(slf)?;
    let bytes = bytes_of(data)?;
    this.with(|stream| {
        if stream.wrote_eof {
            return Err(PyRuntimeError::new_err(
                "Cannot call write() after write_eof()",
            ));
        }
        sendfile::refuse_to("write", stream)
    })?;
    if !bytes.is_empty() {
        let moment = held::moment(this, py, bytes.len())?;
        let moment = send_others_before(slf, this, bytes.len(), moment)?;
        let kept = (bytes.len() >= limits::SHARED_WRITE_BYTES)
            .then(|| KeptBytes::of(data))
            .flatten();
        let outcome = this.with(|stream| stream.write(&bytes, kept, moment));
        drop(bytes);
        settle(slf, this, outcome)?;
    }
    Ok(super::info::none(py))
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

/// `transport.writelines`: all pieces in one gathered send.
fn writelines(slf: &Bound<'_, PyAny>, given: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    let this = StreamTransport::of(slf)?;
    this.with(|stream| {
        if stream.wrote_eof {
            return Err(PyRuntimeError::new_err(
                "Cannot call writelines() after write_eof()",
            ));
        }
        sendfile::refuse_to("writelines", stream)
    })?;
    let kind = this.with(|stream| stream.kind);
    let pieces = pieces::collect(kind, given)?;
    let bytes = pieces::bytes_of(kind, &pieces)?;
    if bytes.iter().all(|piece| piece.is_empty()) {
        return Ok(super::info::none(py));
    }
    let len = bytes.iter().map(|piece| piece.len()).sum();
    let moment = held::moment(this, py, len)?;
    let moment = send_others_before(slf, this, len, moment)?;
    let outcome = this.with(|stream| stream.write_pieces(&bytes, moment));
    drop(bytes);
    settle(slf, this, outcome)?;
    Ok(super::info::none(py))
}

impl Stream {
    fn write_pieces(&mut self, pieces: &[Bytes<'_>], moment: Moment) -> Outcome {
        if self.phase >= self.kind.writes_end_at() {
            return self.futile();
        }
        self.pieces.count(moment.turn);
        if self.is_held {
            return self.write_behind(pieces, moment);
        }
        let len = pieces.iter().map(|piece| piece.len()).sum();
        let waits = !self.queue.is_empty();
        let is_held = !waits && self.may_hold(len, moment);
        for piece in pieces {
            self.queue.push_slice(piece);
        }
        if is_held {
            self.is_held = true;
            return Outcome::Held;
        }
        if waits {
            // Its turn comes when there is room, and with it what is to be told of an empty queue.
            return Outcome::Queued;
        }
        self.send_queue(&[])
    }
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
/// What no handler may have: `SystemExit` and `KeyboardInterrupt`.
pub(super) fn write_ready(slf: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = slf.py();
    let this = StreamTransport::of(slf)?;
    let sent = this.with(|stream| {
        if stream.phase >= Phase::Lost || !stream.waits() {
            return None;
        }
        let fd = stream.endpoint.fd()?;
        Some(stream.queue.send_to(fd))
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
            this.with(|stream| {
                if stream.wrote_eof && stream.phase < Phase::Lost && stream.queue.is_empty() {
                    stream.shut_down_writing();
                }
            });
            sendfile::go_on(slf)
        }
        Next::Finish => {
            this.update_interest(slf)?;
            close::connection_lost(slf, slf.py().None().bind(slf.py()))
        }
    }
}

impl Stream {
    fn shut_down_writing(&self) {
        if let Some(fd) = self.endpoint.fd() {
            // The peer may have reset the connection already, which the next read tells.
            cloverleaf::ignore(rustix::net::shutdown(fd, Shutdown::Write));
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
    this.with(|stream| {
        if stream.is_closing() || stream.wrote_eof {
            return;
        }
        stream.wrote_eof = true;
        if stream.queue.is_empty() {
            stream.shut_down_writing();
        }
    });
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
