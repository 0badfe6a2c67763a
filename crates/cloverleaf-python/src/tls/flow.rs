//! Back-pressure in both directions: the protocol towards us, and we towards the inner transport.

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::class::TlsTransport;
use super::state::{INCOMING_MARKS, Marks, OUTGOING_MARKS, Turn};
use crate::ffi::{Arguments, Method, Owned, Reach, int_from, raw_fastcall, raw_noargs};
use crate::transport::{self, boolean, marks_of, none};

/// Tells the protocol to pause or to go on writing, if it must know, when so many bytes of records wait.
///
/// # Errors
/// What no handler may have: `SystemExit` and `KeyboardInterrupt`.
pub(super) fn control_writing(slf: &Bound<'_, PyAny>, unsent: usize) -> PyResult<()> {
    let this = TlsTransport::of(slf)?;
    let turn = this.with(slf.py(), |connection| {
        let waiting = connection.backlog.len() + unsent;
        let turn = connection
            .outgoing_marks
            .turn(waiting, connection.writing_paused);
        if let Some(turn) = turn {
            connection.writing_paused = turn == Turn::Pause;
        }
        turn
    });
    match turn {
        Some(turn) => tell(slf, this, turn),
        None => Ok(()),
    }
}

#[cold]
fn tell(slf: &Bound<'_, PyAny>, this: &TlsTransport, turn: Turn) -> PyResult<()> {
    let py = slf.py();
    let Some(protocol) = this.protocol(py) else {
        return Ok(());
    };
    let turn = match turn {
        Turn::Pause => transport::Turn::Pause,
        Turn::Resume => transport::Turn::Resume,
    };
    transport::tell(slf, &this.event_loop.bind(py), &protocol, turn)
}

/// Pauses the inner transport's reading when too much waits to be read here, and lets it go on after that.
///
/// # Errors
/// What the inner transport raises.
pub(super) fn control_reading(slf: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = slf.py();
    let this = TlsTransport::of(slf)?;
    let Some(inner) = this.inner(py) else {
        return Ok(());
    };
    let waiting = this.unread(py)?;
    let turn = this.with(py, |connection| {
        let turn = connection
            .incoming_marks
            .turn(waiting, connection.inner_reading_paused);
        if let Some(turn) = turn {
            connection.inner_reading_paused = turn == Turn::Pause;
        }
        turn
    });
    let name = match turn {
        None => return Ok(()),
        Some(Turn::Pause) => intern!(py, "pause_reading"),
        Some(Turn::Resume) => intern!(py, "resume_reading"),
    };
    inner.reach0(name).map(drop)
}

/// `transport.pause_reading`.
fn pause_reading(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    TlsTransport::of(slf)?.with(slf.py(), |connection| connection.reading_paused = true);
    Ok(none(slf.py()))
}

/// `transport.resume_reading`.
fn resume_reading(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    let this = TlsTransport::of(slf)?;
    if this.with(py, |connection| {
        std::mem::take(&mut connection.reading_paused)
    }) {
        let go_on = slf.getattr(intern!(py, "_continue_reading"))?;
        this.soon(&go_on, &PyTuple::empty(py))?;
    }
    Ok(none(py))
}

fn is_reading(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let is_paused = TlsTransport::of(slf)?.with(slf.py(), |connection| connection.reading_paused);
    Ok(boolean(slf.py(), !is_paused))
}

pub(super) fn is_protocol_paused(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let is_paused = TlsTransport::of(slf)?.with(slf.py(), |connection| connection.writing_paused);
    Ok(boolean(slf.py(), is_paused))
}

fn set_write_buffer_limits(slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>) -> PyResult<Owned> {
    let (low, high) = marks_of(args, "set_write_buffer_limits", OUTGOING_MARKS.high)?;
    let this = TlsTransport::of(slf)?;
    this.with(slf.py(), |connection| {
        connection.outgoing_marks = Marks { low, high }
    });
    control_writing(slf, unsent(slf, this)?)?;
    Ok(none(slf.py()))
}

fn set_read_buffer_limits(slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>) -> PyResult<Owned> {
    let (low, high) = marks_of(args, "set_read_buffer_limits", INCOMING_MARKS.high)?;
    TlsTransport::of(slf)?.with(slf.py(), |connection| {
        connection.incoming_marks = Marks { low, high }
    });
    control_reading(slf)?;
    Ok(none(slf.py()))
}

fn get_write_buffer_limits(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let marks = TlsTransport::of(slf)?.with(slf.py(), |connection| connection.outgoing_marks);
    Ok((marks.low, marks.high).into_pyobject(slf.py())?.into())
}

fn get_read_buffer_limits(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let marks = TlsTransport::of(slf)?.with(slf.py(), |connection| connection.incoming_marks);
    Ok((marks.low, marks.high).into_pyobject(slf.py())?.into())
}

/// How many bytes of records wait for the inner transport to have room: none that only wait for the end of the event.
///
/// Nothing is sent to find that out, as whoever asks may be another thread than the loop's, which would overtake it.
fn unsent(slf: &Bound<'_, PyAny>, this: &TlsTransport) -> PyResult<usize> {
    let py = slf.py();
    if this.with(py, |connection| {
        connection.is_deferred && !connection.inner_writing_paused
    }) {
        Ok(0)
    } else {
        this.unsent(py)
    }
}

fn get_write_buffer_size(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let this = TlsTransport::of(slf)?;
    let backlog = this.with(slf.py(), |connection| connection.backlog.len());
    let size = backlog + unsent(slf, this)?;
    int_from(slf.py(), size as u64).map(Into::into)
}

fn get_read_buffer_size(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let size = TlsTransport::of(slf)?.unread(slf.py())?;
    int_from(slf.py(), size as u64).map(Into::into)
}

pub(super) const METHODS: [Method; 9] = [
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
    Method {
        name: c"set_write_buffer_limits",
        doc: c"set_write_buffer_limits($self, /, high=None, low=None)\n--\n\nSet how many bytes may wait before the \
             protocol is paused, and at how many it resumes; by default 512 KiB and a quarter of high.",
        kind: raw_fastcall!(set_write_buffer_limits),
    },
    Method {
        name: c"get_write_buffer_limits",
        doc: c"get_write_buffer_limits($self, /)\n--\n\nThe low and the high mark for writing, in bytes.",
        kind: raw_noargs!(get_write_buffer_limits),
    },
    Method {
        name: c"get_write_buffer_size",
        doc: c"get_write_buffer_size($self, /)\n--\n\nHow many bytes wait to be encrypted or sent.",
        kind: raw_noargs!(get_write_buffer_size),
    },
    Method {
        name: c"set_read_buffer_limits",
        doc: c"set_read_buffer_limits($self, /, high=None, low=None)\n--\n\nSet how many bytes may wait to be \
             decrypted before the inner transport is paused, and at how many it resumes; by default 256 KiB and a \
             quarter of high.",
        kind: raw_fastcall!(set_read_buffer_limits),
    },
    Method {
        name: c"get_read_buffer_limits",
        doc: c"get_read_buffer_limits($self, /)\n--\n\nThe low and the high mark for reading, in bytes.",
        kind: raw_noargs!(get_read_buffer_limits),
    },
    Method {
        name: c"get_read_buffer_size",
        doc: c"get_read_buffer_size($self, /)\n--\n\nHow many bytes wait to be decrypted.",
        kind: raw_noargs!(get_read_buffer_size),
    },
];
