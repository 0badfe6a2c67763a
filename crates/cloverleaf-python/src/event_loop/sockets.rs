//! `sock_recv` and its kin: one attempt at each operation, and the wait before the next attempt.
//!
//! A wait takes nothing from the socket: whoever has waited tries again, so an operation that is cancelled has lost no
//! byte. An attempt says that the socket would block only if the kernel has just said so, which a wait relies on.
//!
//! Sockets of the class `socket.socket` itself are served without a detour; of any other, the methods are called.

use std::os::fd::{BorrowedFd, RawFd};

use cloverleaf::{limits, system_call};
use pyo3::exceptions::{PyBlockingIOError, PyInterruptedError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyInt, PyWeakrefReference};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendFlags};

use super::piece::Piece;
use super::{Loop, watch};
use crate::error::errno_error;
use crate::ffi::{
    Arguments, Bytes, Method, Owned, Reach, borrow_fd, bytes_from, fill_buffer, int_from,
    plain_socket_fd, raw_fastcall, recv_into_bytes, slice_from,
};
use crate::source::Direction;
use crate::transport::none;

/// Bytes that one receive asks for at most without a detour; beyond, memory may be short, and Python says so.
const LARGEST_RECEIVE_BYTES: usize = 1 << 30;

/// The exception for a call of ours that lacks an argument.
#[cold]
pub(super) fn missing(method: &str) -> PyErr {
    PyTypeError::new_err(format!("{method}() was called with too few arguments"))
}

/// The descriptor to be used without a detour; what asyncio refuses is refused.
///
/// # Errors
/// `TypeError` for a socket that encrypts; in debug mode, `ValueError` for one that blocks.
#[inline]
pub(super) fn checked_fd(
    slf: &Bound<'_, PyAny>,
    sock: &Bound<'_, PyAny>,
) -> PyResult<Option<RawFd>> {
    let fd = plain_socket_fd(sock)?;
    if fd.is_none() || Loop::of(slf)?.debug() {
        slf.reach(intern!(slf.py(), "_check_socket"), (sock,))?;
    }
    Ok(fd)
}

/// What a socket's own method answers; None if it would block.
///
/// # Errors
/// Every other one of its.
#[cold]
pub(super) fn answered<'py>(
    answer: PyResult<Bound<'py, PyAny>>,
    py: Python<'py>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error)
            if error.is_instance_of::<PyBlockingIOError>(py)
                || error.is_instance_of::<PyInterruptedError>(py) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// What the kernel answers; None if it would block.
///
/// # Errors
/// Every other one of its.
#[inline]
pub(super) fn unless_blocked<T>(py: Python<'_>, answer: Result<T, Errno>) -> PyResult<Option<T>> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(Errno::AGAIN) => Ok(None),
        Err(errno) => Err(errno_error(py, errno)),
    }
}

/// `_sock_recv(sock, nbytes)`: the bytes, or None if there are none yet.
fn sock_recv(slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>) -> PyResult<Owned> {
    let py = slf.py();
    let (Some(sock), Some(size)) = (args.get(0), args.get(1)) else {
        return Err(missing("_sock_recv"));
    };
    let fd = checked_fd(slf, &sock)?;
    let room = if size.is_exact_instance_of::<PyInt>() {
        size.extract::<usize>().ok()
    } else {
        None
    };
    let received = match (fd, room) {
        (Some(fd), Some(room @ 1..=LARGEST_RECEIVE_BYTES)) => {
            let answer = receive(slf, borrow_fd(fd), room)?;
            unless_blocked(py, answer)?.map(Bound::into_any)
        }
        _ => answered(sock.reach(intern!(py, "recv"), (size,)), py)?,
    };
    Ok(received.map_or_else(|| none(py), Into::into))
}

/// Receives through the loop's buffer, or where the last receive was large, straight into a `bytes`.
///
/// # Errors
/// `MemoryError`; within, what the kernel says.
fn receive<'py>(
    slf: &Bound<'py, PyAny>,
    fd: BorrowedFd<'_>,
    room: usize,
) -> PyResult<Result<Bound<'py, PyBytes>, Errno>> {
    let py = slf.py();
    let recv = |buffer: &mut [u8]| {
        let answer = system_call(|| rustix::net::recv(fd, buffer, RecvFlags::DONTWAIT));
        answer.map(|(count, _)| count)
    };
    let through_buffer = Loop::of(slf).ok().and_then(|this| {
        let tried = this.state().with(|state| {
            let is_large = state.last_receive >= limits::DIRECT_READ_BYTES;
            let buffer = state.read_buffer();
            if is_large || room > buffer.len() {
                return None;
            }
            let answer = retry_on_intr(|| recv(&mut buffer[..room]));
            Some(answer.map(|count| bytes_from(py, &buffer[..count])))
        });
        tried.ok().flatten()
    });
    let received = match through_buffer {
        Some(Ok(received)) => received?,
        Some(Err(errno)) => return Ok(Err(errno)),
        None => {
            let received = recv_into_bytes(py, fd, room, |fd, buffer| {
                retry_on_intr(|| {
                    let answer =
                        system_call(|| rustix::net::recv(fd, &mut *buffer, RecvFlags::DONTWAIT));
                    answer.map(|((filled, _), _)| filled.len())
                })
            })?;
            match received {
                Ok(received) => received,
                Err(errno) => return Ok(Err(errno)),
            }
        }
    };
    let count = received.as_bytes().len();
    if let Ok(this) = Loop::of(slf) {
        // A loop that runs in another thread guesses by its own receives.
        cloverleaf::ignore(this.state().with(|state| state.last_receive = count));
    }
    Ok(Ok(received))
}

/// `_sock_recv_into(sock, buf)`: how many bytes came, or None if there are none yet.
fn sock_recv_into(slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>) -> PyResult<Owned> {
    let py = slf.py();
    let (Some(sock), Some(target)) = (args.get(0), args.get(1)) else {
        return Err(missing("_sock_recv_into"));
    };
    let received = checked_fd(slf, &sock)?.map(|_| {
        fill_buffer(&target, |room| {
            // Whoever lends may have closed the socket, whose number another file may have by now.
            let fd = plain_socket_fd(&sock).ok().flatten().ok_or(Errno::BADF)?;
            retry_on_intr(|| {
                if room.is_empty() {
                    return Ok(0);
                }
                let flags = RecvFlags::DONTWAIT;
                let received = system_call(|| rustix::net::recv(borrow_fd(fd), &mut *room, flags));
                received.map(|(count, _)| count)
            })
        })
    });
    // What cannot be lent is refused by the socket, in its own words.
    let Some(Ok(answer)) = received else {
        let answer = sock.reach(intern!(py, "recv_into"), (target,));
        return Ok(answered(answer, py)?.map_or_else(|| none(py), Into::into));
    };
    Ok(match unless_blocked(py, answer)? {
        Some(count) => int_from(py, count as u64)?.into(),
        None => none(py),
    })
}

/// `_sock_send(sock, data, start)`: None if all from `start` on has been sent, else how much has been from the very
/// beginning, and the socket would block.
fn sock_send(slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>) -> PyResult<Owned> {
    let py = slf.py();
    let (Some(sock), Some(data), Some(start)) = (args.get(0), args.get(1), args.get(2)) else {
        return Err(missing("_sock_send"));
    };
    let fd = checked_fd(slf, &sock)?;
    let start: usize = start.extract()?;
    let bytes = match fd {
        // What has no bytes is refused by the socket, in its own words.
        Some(_) => Bytes::of(&data).ok(),
        None => None,
    };
    // Whoever lends them may have closed the socket, whose number another file may have by now.
    let bytes = plain_socket_fd(&sock)?.zip(bytes);
    let Some((fd, bytes)) = bytes else {
        return send_by_method(&sock, &data, start);
    };
    let mut sent = start;
    loop {
        let rest = bytes.get(sent..).unwrap_or_default();
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let answer =
            retry_on_intr(|| system_call(|| rustix::net::send(borrow_fd(fd), rest, flags)));
        let Some(count) = unless_blocked(py, answer)? else {
            return Ok(int_from(py, sent as u64)?.into());
        };
        sent += count;
        if sent >= bytes.len() {
            return Ok(none(py));
        }
    }
}

/// Sends by the socket's own `send`.
#[cold]
fn send_by_method(
    sock: &Bound<'_, PyAny>,
    data: &Bound<'_, PyAny>,
    start: usize,
) -> PyResult<Owned> {
    let py = sock.py();
    let mut rest = data.clone();
    let mut sent = start;
    loop {
        if sent > 0 {
            rest = data.get_item(slice_from(py, sent, data.len()?)?)?;
        }
        let answer = sock.reach(intern!(py, "send"), (&rest,));
        let Some(count) = answered(answer, py)? else {
            return Ok(int_from(py, sent as u64)?.into());
        };
        sent += count.extract::<usize>()?;
        if sent >= data.len()? {
            return Ok(none(py));
        }
    }
}

/// `_sock_sendfile(fd, file, offset, count)`: how many bytes of the file went, or None if the descriptor would block.
fn sock_sendfile(slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>) -> PyResult<Owned> {
    let py = slf.py();
    let (Some(fd), Some(piece)) = (args.get(0), Piece::parse(args, 1)?) else {
        return Err(missing("_sock_sendfile"));
    };
    let fd = fd.extract::<RawFd>()?;
    if fd < 0 {
        return Err(errno_error(py, Errno::BADF));
    }
    Ok(match unless_blocked(py, piece.send(py, borrow_fd(fd)))? {
        Some(count) => int_from(py, count as u64)?.into(),
        None => none(py),
    })
}

fn wait(slf: &Bound<'_, PyAny>, sock: &Bound<'_, PyAny>, direction: Direction) -> PyResult<Owned> {
    let py = slf.py();
    let event_loop = slf.cast::<Loop>()?;
    event_loop.get().check_open()?;
    let (fd, socket) = match plain_socket_fd(sock)? {
        Some(fd) => (fd, Some(PyWeakrefReference::new(sock)?.into())),
        // Nothing tells whether such an object has the same descriptor the next time.
        None => (
            sock.reach0(intern!(py, "fileno"))?.extract::<RawFd>()?,
            None,
        ),
    };
    if fd < 0 {
        return Err(PyValueError::new_err(format!(
            "Invalid file descriptor: {fd}"
        )));
    }
    watch::wait(event_loop, fd, direction, socket)
}

fn sock_readable(slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>) -> PyResult<Owned> {
    let sock = args.get(0).ok_or_else(|| missing("_sock_readable"))?;
    wait(slf, &sock, Direction::Read)
}

fn sock_writable(slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>) -> PyResult<Owned> {
    let sock = args.get(0).ok_or_else(|| missing("_sock_writable"))?;
    wait(slf, &sock, Direction::Write)
}

/// `_refuse_served(sock)`: whoever wants the socket for a transport must find it without one.
fn refuse_served(slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>) -> PyResult<Owned> {
    let sock = args.get(0).ok_or_else(|| missing("_refuse_served"))?;
    watch::refuse_served(slf.cast::<Loop>()?, &sock)?;
    Ok(none(slf.py()))
}

pub(super) const METHODS: [Method; 7] = [
    Method {
        name: c"_sock_recv",
        doc: c"_sock_recv($self, sock, nbytes, /)\n--\n\nThe bytes that came, or None if the socket would block.",
        kind: raw_fastcall!(sock_recv),
    },
    Method {
        name: c"_sock_recv_into",
        doc: c"_sock_recv_into($self, sock, buf, /)\n--\n\nHow many bytes came, or None if the socket would block.",
        kind: raw_fastcall!(sock_recv_into),
    },
    Method {
        name: c"_sock_send",
        doc: c"_sock_send($self, sock, data, start, /)\n--\n\nNone if all was sent; how much was, if the socket would \
             block.",
        kind: raw_fastcall!(sock_send),
    },
    Method {
        name: c"_sock_sendfile",
        doc: c"_sock_sendfile($self, fd, file, offset, count, /)\n--\n\nHow many bytes of the file went, or None if the \
             descriptor would block.",
        kind: raw_fastcall!(sock_sendfile),
    },
    Method {
        name: c"_sock_readable",
        doc: c"_sock_readable($self, sock, /)\n--\n\nA future that is done when there is something to read.",
        kind: raw_fastcall!(sock_readable),
    },
    Method {
        name: c"_sock_writable",
        doc: c"_sock_writable($self, sock, /)\n--\n\nA future that is done when there is room to write.",
        kind: raw_fastcall!(sock_writable),
    },
    Method {
        name: c"_refuse_served",
        doc: c"_refuse_served($self, sock, /)\n--\n\nRaise RuntimeError if the socket is a transport's.",
        kind: raw_fastcall!(refuse_served),
    },
];
