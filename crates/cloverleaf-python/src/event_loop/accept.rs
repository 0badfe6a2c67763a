//! `sock_accept`: one attempt, whose connection is a Python socket that never blocks.

use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};

use cloverleaf::{Address, try_accept};
use pyo3::prelude::*;
use pyo3::types::PyModule;

use super::sockets::{answered, checked_fd, missing, unless_blocked};
use crate::ffi::{Arguments, Method, Once, Owned, Reach, borrow_fd, raw_fastcall};
use crate::transport::{none, shown};

/// The socket module; its class is asked for anew each time, as `socket.accept` does.
static MODULE: Once<Py<PyModule>> = Once::new();

/// `_sock_accept(sock)`: a connection and its peer's address, or None if nobody has called yet.
fn sock_accept(slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>) -> PyResult<Owned> {
    let py = slf.py();
    let sock = args.get(0).ok_or_else(|| missing("_sock_accept"))?;
    let fd = checked_fd(slf, &sock)?;
    let accepted = match fd {
        // One that blocks must do so without Python, which its own method sees to.
        Some(fd) if sock.reach0(intern!(py, "gettimeout"))?.eq(0)? => {
            unless_blocked(py, try_accept(borrow_fd(fd)))?
                .map(|(connection, peer)| with_peer(&sock, connection, &peer))
                .transpose()?
        }
        Some(_) | None => {
            let accepted = answered(sock.reach0(intern!(py, "accept")), py)?;
            if let Some(accepted) = &accepted {
                let connection = accepted.get_item(0)?;
                connection.reach(intern!(py, "setblocking"), (false,))?;
            }
            accepted
        }
    };
    Ok(accepted.map_or_else(|| none(py), Into::into))
}

/// What `socket.accept` makes of a connection; of the same family, type and protocol as the listener's.
fn with_peer<'py>(
    listener: &Bound<'py, PyAny>,
    connection: OwnedFd,
    peer: &Address,
) -> PyResult<Bound<'py, PyAny>> {
    let py = listener.py();
    let module = MODULE.get_or_try_init(py, || {
        PyResult::Ok(py.import(intern!(py, "socket"))?.unbind())
    })?;
    let class = module.bind(py).getattr(intern!(py, "socket"))?;
    let family = listener.getattr(intern!(py, "family"))?;
    let kind: i32 = listener.getattr(intern!(py, "type"))?.extract()?;
    // By this flag the socket knows that it never blocks, and need not tell the kernel again.
    let kind = (kind | libc::SOCK_NONBLOCK).into_pyobject(py)?;
    let proto = listener.getattr(intern!(py, "proto"))?;
    let fd = connection.as_raw_fd().into_pyobject(py)?;
    let sock = class.invoke((family, kind, proto, fd))?;
    // The socket's from now on.
    let _number = connection.into_raw_fd();
    let address = match shown(py, peer)? {
        Some(address) => address,
        None => sock.reach0(intern!(py, "getpeername"))?,
    };
    Ok((sock, address).into_pyobject(py)?.into_any())
}

pub(super) const METHODS: [Method; 1] = [Method {
    name: c"_sock_accept",
    doc: c"_sock_accept($self, sock, /)\n--\n\nA connection that never blocks and its peer's address, or None if the \
         socket would block.",
    kind: raw_fastcall!(sock_accept),
}];
