//! The way in: from a ready descriptor to the protocol.
//!
//! One receive an event, and a short one ends the reading: the kernel is never asked just to hear that it has nothing.
//! Small receives go through the loop's buffer and are copied into a `bytes` of their size; where the last one was
//! large, the next goes straight into a `bytes` object.

use std::os::fd::BorrowedFd;

use cloverleaf::{Interest, limits};
use pyo3::exceptions::{PyMemoryError, PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyTuple};
use rustix::io::Errno;

use super::early::Early;
use super::failure::method_failed;
use super::kind::Kind;
use super::state::{Phase, Stream};
use super::stream::StreamTransport;
use super::{close, early, pipe, unpolled, write};
use crate::error::errno_error;
use crate::event_loop::Loop;
use crate::ffi::{
    Method, Owned, Reach, borrow_fd, bytes_again, call_method, caught, fill_buffer, int_from,
    raw_noargs, recv_into_bytes, with_context,
};
use crate::{report, streams};

/// Serves an event of a transport: what came first, then room to send.
///
/// # Errors
/// What no handler may have: `SystemExit` and `KeyboardInterrupt`.
pub(super) fn serve(slf: &Bound<'_, PyAny>, heard: Interest) -> PyResult<()> {
    let py = slf.py();
    if heard.contains(Interest::READ) {
        match caught(py, || serve_read(slf)) {
            Ok(served) => served.or_else(|error| serving_failed(slf, "_read_ready", error))?,
            Err(error) => close::break_off(slf, error, Kind::read_failed)?,
        }
    }
    if heard.contains(Interest::WRITE) {
        match caught(py, || write::write_ready(slf)) {
            Ok(served) => served.or_else(|error| serving_failed(slf, "_write_ready", error))?,
            Err(error) => close::break_off(slf, error, Kind::write_failed)?,
        }
    }
    Ok(())
}

fn serve_read(slf: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = slf.py();
    let this = StreamTransport::of(slf)?;
    match this.with(|stream| Readable::of(py, stream)) {
        Readable::Nothing => Ok(()),
        Readable::Unpolled => unpolled::advance(slf),
        Readable::ReaderGone => pipe::reader_gone(slf),
        Readable::Bytes(reading) => read_ready(slf, this, &reading),
    }
}

/// Reports what the protocol has raised that does not end the connection, or that came with its end.
#[cold]
fn serving_failed(slf: &Bound<'_, PyAny>, method: &str, error: PyErr) -> PyResult<()> {
    let py = slf.py();
    let this = StreamTransport::of(slf)?;
    if error.is_instance_of::<PyMemoryError>(py) && this.with(|stream| stream.kind == Kind::Socket)
    {
        // Not the protocol's, which would have ended the connection: it could not be served.
        close::force_close(slf, Some(error.clone_ref(py)))?;
    }
    let called = (method, &PyTuple::empty(py));
    method_failed(&this.event_loop(py), slf, called, this.context(py)?, error)
}

/// What asyncio's loop calls by a handle, after which the handler's message is named.
fn py_read_ready(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    serve_read(slf)?;
    Ok(super::info::none(slf.py()))
}

/// The same for writing.
fn py_write_ready(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    write::write_ready(slf)?;
    Ok(super::info::none(slf.py()))
}

/// What every transport has, whichever way its bytes go.
pub(super) const READY: [Method; 2] = [
    Method {
        name: c"_read_ready",
        doc: c"_read_ready($self, /)\n--\n\nRead what there is, for the protocol.",
        kind: raw_noargs!(py_read_ready),
    },
    Method {
        name: c"_write_ready",
        doc: c"_write_ready($self, /)\n--\n\nSend what waits.",
        kind: raw_noargs!(py_write_ready),
    },
];

/// What a read needs to know.
struct Reading {
    kind: Kind,
    context: Owned,
    /// The protocol, if it lends its buffers.
    lender: Option<Owned>,
    room: usize,
    has_early: bool,
}

/// What there is to be done where there is something to read.
enum Readable {
    Nothing,
    /// A file's next piece.
    Unpolled,
    /// The other end of a pipe that is written was closed.
    ReaderGone,
    Bytes(Reading),
}

impl Readable {
    fn of(py: Python<'_>, stream: &Stream) -> Self {
        if stream.is_unpolled() {
            return Self::Unpolled;
        }
        if let Kind::WritePipe { hears_reader } = stream.kind {
            // A terminal hangs up when nobody has its other side open, which somebody may open again. What waits is
            // kept until a write fails.
            return if hears_reader {
                Self::ReaderGone
            } else {
                Self::Nothing
            };
        }
        match (&stream.read_context, &stream.protocol) {
            (Some(context), Some(protocol))
                if stream.registered.contains(Interest::READ) && stream.phase == Phase::Open =>
            {
                Self::Bytes(Reading {
                    kind: stream.kind,
                    context: context.clone_ref(py),
                    lender: stream.is_buffered.then(|| protocol.clone_ref(py)),
                    room: stream.expected.room(),
                    has_early: stream.early.is_some(),
                })
            }
            (Some(_) | None, Some(_) | None) => Self::Nothing,
        }
    }
}

fn read_ready(slf: &Bound<'_, PyAny>, this: &StreamTransport, reading: &Reading) -> PyResult<()> {
    let py = slf.py();
    if reading.has_early {
        early::forget_if_forked(py, this)?;
    }
    with_context(py, reading.context.bind(py), || match &reading.lender {
        Some(protocol) => read_into_protocol(slf, this, &protocol.bind(py), reading.kind),
        None => read_bytes(slf, this, reading.kind, reading.room),
    })
}

fn receive<'py>(
    py: Python<'py>,
    this: &StreamTransport,
    kind: Kind,
    fd: BorrowedFd<'_>,
    room: usize,
) -> PyResult<Result<Bound<'py, PyBytes>, Errno>> {
    if room > 0 {
        return recv_into_bytes(py, fd, room, |fd, buffer| {
            kind.receive(fd, buffer).map(|(filled, _)| filled.len())
        });
    }
    let event_loop = this.event_loop(py);
    let through_buffer = Loop::of(&event_loop)?.state().with(|state| {
        let buffer = state.read_buffer();
        let count = kind.receive(fd, &mut *buffer)?;
        Ok(bytes_again(py, &buffer[..count]))
    })?;
    through_buffer.map_or_else(|errno| Ok(Err(errno)), |data| data.map(Ok))
}

fn read_bytes(
    slf: &Bound<'_, PyAny>,
    this: &StreamTransport,
    kind: Kind,
    room: usize,
) -> PyResult<()> {
    let py = slf.py();
    // The descriptor stays open: only this thread, which is busy here, closes it.
    let (fd, early) = this.with(|stream| (stream.endpoint.number(), stream.early.take()));
    if fd < 0 {
        return Ok(());
    }
    let (received, room) = match early {
        None => match receive(py, this, kind, borrow_fd(fd), room) {
            Ok(received) => (received, room),
            Err(error) => return close::break_off(slf, error, Kind::read_failed),
        },
        Some(Early::Data(data)) => {
            let data = data.into_bound(py).cast_into::<PyBytes>()?;
            (Ok(data), limits::ROOM_BYTES)
        }
        Some(Early::Failed(errno)) => (Err(errno), 0),
    };
    let data = match received {
        Ok(data) => data,
        Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
        Err(errno) => {
            return close::fatal_error(slf, errno_error(py, errno), kind.read_failed());
        }
    };
    deliver(slf, this, &data, room)
}

/// Hands bytes to the protocol, none of which mean the end, and learns how much there was for that room.
///
/// # Errors
/// What no handler may have, and for a pipe, whose connection such a failure does not end, what the protocol raises.
pub(super) fn deliver(
    slf: &Bound<'_, PyAny>,
    this: &StreamTransport,
    data: &Bound<'_, PyBytes>,
    room: usize,
) -> PyResult<()> {
    let py = slf.py();
    let count = data.as_bytes().len();
    if count == 0 {
        return end_of_file(slf, this);
    }
    let (kind, protocol) = this.with(|stream| {
        stream.stats.traffic.received(count);
        stream.expected.note(count, room);
        stream.large_reads = if count < limits::ROOM_BYTES {
            stream.large_reads.saturating_sub(1)
        } else {
            limits::READS_AFTER_A_LARGE_ONE
        };
        let protocol = stream.protocol.as_ref();
        (stream.kind, protocol.map(|protocol| protocol.clone_ref(py)))
    });
    let Some(protocol) = protocol else {
        return Ok(());
    };
    match streams::deliver(&protocol.bind(py), data) {
        Ok(()) => Ok(()),
        Err(error) if kind == Kind::ReadPipe => Err(error),
        Err(error) => close::fatal_error(
            slf,
            error,
            "Fatal error: protocol.data_received() call failed.",
        ),
    }
}

/// Asks the protocol where the next bytes go.
///
/// # Errors
/// What the protocol raises, and `RuntimeError` for an empty buffer.
pub(super) fn ask_for_buffer<'py>(protocol: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = protocol.py();
    let buffer = call_method(protocol, intern!(py, "get_buffer"), [&PyInt::new(py, -1)])?;
    if buffer.len()? == 0 {
        return Err(PyRuntimeError::new_err(
            "get_buffer() returned an empty buffer",
        ));
    }
    Ok(buffer)
}

/// Lets `receive` fill a buffer; what cannot be written is refused as `socket.recv_into` refuses it.
///
/// # Errors
/// That refusal, a `TypeError`.
pub(super) fn fill<R>(
    buffer: &Bound<'_, PyAny>,
    receive: impl FnOnce(&mut [u8]) -> R,
) -> PyResult<R> {
    fill_buffer(buffer, receive).map_err(|_| not_writable(buffer))
}

#[cold]
fn not_writable(buffer: &Bound<'_, PyAny>) -> PyErr {
    buffer.get_type().name().map_or_else(
        |error| error,
        |name| {
            PyTypeError::new_err(format!(
                "recv_into() argument 1 must be read-write bytes-like object, not {name}"
            ))
        },
    )
}

fn read_into_protocol(
    slf: &Bound<'_, PyAny>,
    this: &StreamTransport,
    protocol: &Bound<'_, PyAny>,
    kind: Kind,
) -> PyResult<()> {
    let py = slf.py();
    let buffer = match ask_for_buffer(protocol) {
        Ok(buffer) => buffer,
        Err(error) => {
            return close::fatal_error(
                slf,
                error,
                "Fatal error: protocol.get_buffer() call failed.",
            );
        }
    };
    let received = fill(&buffer, |room| {
        this.with(|stream| {
            // The protocol may have closed the transport while it was asked for a buffer, which is filled all the same, if
            // the connection is not over by now.
            if let Some(received) = stream.fill_early(py, room) {
                return Some(received);
            }
            let fd = stream.endpoint.fd()?;
            Some((kind.receive(fd, room), None))
        })
    });
    let (received, early) = match received {
        Ok(received) => received.unzip(),
        Err(error) => {
            return close::fatal_error(slf, error, kind.read_failed());
        }
    };
    if early.flatten().is_some() {
        // There may be more of it.
        early::announce(slf, this)?;
    }
    let count = match received {
        Some(Ok(count)) => count,
        None | Some(Err(Errno::AGAIN | Errno::INTR)) => return Ok(()),
        Some(Err(errno)) => {
            return close::fatal_error(slf, errno_error(py, errno), kind.read_failed());
        }
    };
    if count == 0 {
        return end_of_file(slf, this);
    }
    this.with(|stream| stream.stats.traffic.received(count));
    let count = int_from(py, count as u64)?.into_any();
    match call_method(protocol, intern!(py, "buffer_updated"), [&count]) {
        Ok(_) => Ok(()),
        Err(error) => close::fatal_error(
            slf,
            error,
            "Fatal error: protocol.buffer_updated() call failed.",
        ),
    }
}

/// Tells the protocol that nothing will come any more.
///
/// # Errors
/// What no handler may have: `SystemExit` and `KeyboardInterrupt`.
pub(super) fn end_of_file(slf: &Bound<'_, PyAny>, this: &StreamTransport) -> PyResult<()> {
    let py = slf.py();
    if this.with(|stream| stream.kind == Kind::ReadPipe) {
        return pipe::ended(slf, this);
    }
    let Some(protocol) = this.protocol(py) else {
        return Ok(());
    };
    let keep_open = protocol
        .reach0(intern!(py, "eof_received"))
        .and_then(|answer| answer.is_truthy());
    match keep_open {
        Ok(true) => {
            this.with(|stream| stream.read_ended = true);
            this.update_interest(slf)
        }
        Ok(false) => close::close(slf),
        Err(error) => close::fatal_error(
            slf,
            error,
            "Fatal error: protocol.eof_received() call failed.",
        ),
    }
}

fn pause_reading(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let this = StreamTransport::of(slf)?;
    let changed = this.with(|stream| {
        let changed = !stream.is_closing() && !stream.is_paused;
        stream.is_paused |= changed;
        changed
    });
    if changed {
        this.update_interest(slf)?;
        let event_loop = this.event_loop(slf.py());
        report::note(&event_loop, slf, "debug", "%r pauses reading")?;
    }
    Ok(super::info::none(slf.py()))
}

fn resume_reading(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    let this = StreamTransport::of(slf)?;
    let mut context = Some(this.context(py)?);
    let (changed, old) = this.with(|stream| {
        let changed = !stream.is_closing() && stream.is_paused;
        if changed {
            stream.is_paused = false;
            // An end that was kept is told again: the protocol may be another one, as under `start_tls`.
            stream.read_ended = false;
            return (
                true,
                std::mem::replace(&mut stream.read_context, context.take()),
            );
        }
        (false, None)
    });
    drop((old, context));
    if changed {
        this.update_interest(slf)?;
        early::announce(slf, this)?;
        report::note(&this.event_loop(py), slf, "debug", "%r resumes reading")?;
    }
    Ok(super::info::none(py))
}

fn is_reading(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let is_reading =
        StreamTransport::of(slf)?.with(|stream| !stream.is_closing() && !stream.is_paused);
    Ok(super::info::boolean(slf.py(), is_reading))
}

pub(super) const METHODS: [Method; 3] = [
    Method {
        name: c"pause_reading",
        doc: c"pause_reading($self, /)\n--\n\nHand nothing to the protocol until resume_reading() is called.",
        kind: raw_noargs!(pause_reading),
    },
    Method {
        name: c"resume_reading",
        doc: c"resume_reading($self, /)\n--\n\nHand what comes to the protocol again.",
        kind: raw_noargs!(resume_reading),
    },
    Method {
        name: c"is_reading",
        doc: c"is_reading($self, /)\n--\n\nWhether what comes is handed to the protocol.",
        kind: raw_noargs!(is_reading),
    },
];
