//! A file's way out: the transport writes nothing else meanwhile, and the file waits its turn and for room like bytes.
//!
//! The Python half leads: it begins, asks for each turn, sends a piece at a time, and ends, whatever happens between.

use pyo3::exceptions::{PyConnectionError, PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use rustix::io::Errno;

use super::held;
use super::state::{Phase, Stream};
use super::stream::StreamTransport;
use crate::error::errno_error;
use crate::event_loop::{Piece, create_future};
use crate::ffi::{Arguments, Method, Owned, borrow_fd, int_from, raw_fastcall, raw_noargs};
use crate::future;

/// A file that is being sent.
#[derive(Debug, Default)]
pub(super) struct Sending {
    /// The future of the turn that is waited for.
    waiter: Option<Owned>,
    /// The kernel had no more room when it was last asked.
    pub(super) needs_room: bool,
}

impl Sending {
    /// The future that is held, for the collector.
    pub(super) const fn held(&self) -> Option<&Owned> {
        self.waiter.as_ref()
    }
}

impl Stream {
    /// Takes the future of a turn that has come.
    fn take_turn(&mut self) -> Option<Owned> {
        let sending = self.sending()?;
        sending.needs_room = false;
        sending.waiter.take()
    }
}

fn lost() -> PyErr {
    PyConnectionError::new_err("Connection is closed by peer")
}

/// Refuses to write while a file is being sent.
///
/// # Errors
/// `RuntimeError` if one is.
#[inline]
pub(super) fn refuse_to(verb: &str, stream: &Stream) -> PyResult<()> {
    if stream.is_sending() {
        return Err(PyRuntimeError::new_err(format!(
            "unable to {verb}; sendfile is in progress"
        )));
    }
    Ok(())
}

/// Lets the file go on, if there is one: what was before it has been sent, and there is room.
///
/// # Errors
/// What completing a future raises.
pub(super) fn go_on(slf: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = slf.py();
    let this = StreamTransport::of(slf)?;
    match this.with(Stream::take_turn) {
        Some(waiter) => {
            this.update_interest(slf)?;
            future::set_result(&waiter.into_bound(py), py.None().bind(py))
        }
        None => Ok(()),
    }
}

/// Tells the file's sender that nothing more is sent.
///
/// # Errors
/// What completing a future raises.
pub(super) fn give_up(slf: &Bound<'_, PyAny>, error: Option<&PyErr>) -> PyResult<()> {
    let py = slf.py();
    match StreamTransport::of(slf)?.with(Stream::take_turn) {
        Some(waiter) => {
            let error = error.map_or_else(lost, |error| error.clone_ref(py));
            future::set_exception(&waiter.into_bound(py), &error)
        }
        None => Ok(()),
    }
}

/// `_begin_sendfile()`: from now on nothing else is written.
fn begin(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let this = StreamTransport::of(slf)?;
    // A task that begins at once runs in the midst of an event.
    held::flush_before(&this.event_loop(slf.py()))?;
    held::flush(slf, this)?;
    this.with(|stream| {
        refuse_to("sendfile", stream)?;
        stream.rare().sending = Some(Sending::default());
        PyResult::Ok(())
    })?;
    Ok(super::info::none(slf.py()))
}

/// `_end_sendfile()`: writing may go on.
fn end(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let this = StreamTransport::of(slf)?;
    let sending = this.with(|stream| stream.rare.as_mut()?.sending.take());
    let must_tell = sending.as_ref().is_some_and(|sending| sending.needs_room);
    drop(sending);
    if must_tell {
        this.update_interest(slf)?;
    }
    Ok(super::info::none(slf.py()))
}

/// `_sendfile_turn()`: a future that is done when the next piece may be sent.
fn turn(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    let this = StreamTransport::of(slf)?;
    let waiter = create_future(&this.event_loop(py))?.into_bound(py);
    let mut kept = Some(Owned::from(waiter.clone()));
    let phase = this.with(|stream| {
        let has_come = stream.queue.is_empty();
        let has_begun = stream.phase < Phase::Lost;
        if let Some(sending) = stream.sending()
            && has_begun
            && (sending.needs_room || !has_come)
        {
            std::mem::swap(&mut sending.waiter, &mut kept);
            return None;
        }
        Some(stream.phase)
    });
    drop(kept);
    match phase {
        None => this.update_interest(slf)?,
        Some(phase) if phase < Phase::Lost => {
            future::set_result(&waiter, py.None().bind(py))?;
        }
        Some(_) => future::set_exception(&waiter, &lost())?,
    }
    Ok(waiter.into())
}

/// `_send_file(file, offset, count)`: how many bytes of the file went; None if there is no room, and a turn must come.
fn send(slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>) -> PyResult<Owned> {
    let py = slf.py();
    let Some(piece) = Piece::parse(args, 0)? else {
        return Err(PyTypeError::new_err(
            "_send_file() was called with too few arguments",
        ));
    };
    let this = StreamTransport::of(slf)?;
    let fd = this.with(|stream| {
        if stream.phase < Phase::Lost {
            stream.endpoint.number()
        } else {
            -1
        }
    });
    if fd < 0 {
        return Err(lost());
    }
    // The descriptor stays open: only this thread, which is busy here, closes it.
    match piece.send(py, borrow_fd(fd)) {
        Ok(count) => {
            this.with(|stream| stream.stats.traffic.sent(count));
            int_from(py, count as u64).map(Into::into)
        }
        Err(Errno::AGAIN) => {
            this.with(|stream| {
                if let Some(sending) = stream.sending() {
                    sending.needs_room = true;
                }
            });
            Ok(super::info::none(py))
        }
        Err(errno) => Err(errno_error(py, errno)),
    }
}

pub(super) const METHODS: [Method; 4] = [
    Method {
        name: c"_begin_sendfile",
        doc: c"_begin_sendfile($self, /)\n--\n\nWrite nothing but a file from now on.",
        kind: raw_noargs!(begin),
    },
    Method {
        name: c"_end_sendfile",
        doc: c"_end_sendfile($self, /)\n--\n\nThe file has been sent, or was given up.",
        kind: raw_noargs!(end),
    },
    Method {
        name: c"_sendfile_turn",
        doc: c"_sendfile_turn($self, /)\n--\n\nA future that is done when the next piece may be sent.",
        kind: raw_noargs!(turn),
    },
    Method {
        name: c"_send_file",
        doc: c"_send_file($self, file, offset, count, /)\n--\n\nHow many bytes of the file went, or None if there is no \
             room.",
        kind: raw_fastcall!(send),
    },
];
