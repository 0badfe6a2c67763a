//! Transports and servers on sockets that are ready for them.

use crate::ffi::{Reach, int_from, spared};
use std::os::fd::{AsRawFd, RawFd};

use cloverleaf::Address;
use pyo3::prelude::*;
use pyo3::types::PyInt;

use super::Loop;
use super::connect::{Connected, Connecting};
use crate::clients::Clients;
use crate::listener::Listener;
use crate::transport::{self, Company, Correspondents, Endpoint, Peer};

/// A transport on a connection that was made natively, or on a connected, non-blocking Python socket, which it owns from
/// now on.
///
/// # Errors
/// `RuntimeError` if the loop is closed; what the socket, the protocol or the server raise.
pub(super) fn make_stream_transport<'py>(
    slf: &Bound<'py, Loop>,
    sock: &Bound<'py, PyAny>,
    protocol: &Bound<'py, PyAny>,
    company: Company<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    slf.get().check_open()?;
    let Ok(connecting) = sock.cast_exact::<Connecting>() else {
        let endpoint = Endpoint::of_socket(sock)?;
        endpoint.send_without_delay();
        return transport::start(slf.as_any(), (endpoint, None), protocol, Peer::Ask, company);
    };
    start_connected(slf, connecting.get().connected()?, protocol, company)
}

/// A transport on a connection that was made natively.
///
/// # Errors
/// What the protocol or the loop raise; the connection is closed then.
pub(super) fn start_connected<'py>(
    slf: &Bound<'py, Loop>,
    made: Connected,
    protocol: &Bound<'py, PyAny>,
    company: Company<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let peer = if made.remote.ip().to_canonical().is_unspecified() {
        // The kernel has chosen one of this machine's addresses.
        Peer::Ask
    } else {
        Peer::from(Address::Ip(made.remote))
    };
    let (number, place) = (made.socket.as_raw_fd(), made.place);
    let endpoint = Endpoint::Native(made.socket);
    endpoint.send_without_delay();
    let started = transport::start(slf.as_any(), (endpoint, place), protocol, peer, company);
    if let (Err(_), Some((token, registered))) = (&started, place) {
        let left = slf.get().state().with(|state| {
            let left = state.remove_source(number, token);
            if left.is_some() && !registered.is_none() {
                // Closed with the endpoint, before the transport had taken its place.
                state.note_forgotten(number);
            }
            left
        })?;
        drop(left);
    }
    started
}

/// A transport on a non-blocking Python socket for datagrams, which it owns from now on.
///
/// # Errors
/// `RuntimeError` if the loop is closed; what the socket or the protocol raise.
pub(super) fn make_datagram_transport<'py>(
    slf: &Bound<'py, Loop>,
    sock: &Bound<'py, PyAny>,
    protocol: &Bound<'py, PyAny>,
    correspondents: Correspondents<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    slf.get().check_open()?;
    transport::start_datagrams(slf.as_any(), sock, protocol, correspondents)
}

/// The company of a transport that no server knows of.
pub(super) const fn alone<'py>(
    waiter: Option<Bound<'py, PyAny>>,
    extra: Option<Bound<'py, PyAny>>,
) -> Company<'py> {
    Company {
        waiter,
        extra,
        server: None,
        context: None,
    }
}

/// Accepts the clients of a listening, non-blocking socket from now on. Says what [`stop_serving`] is to be told.
///
/// # Errors
/// `RuntimeError` if the loop is closed, `OSError` if the kernel cannot report on the socket.
pub(super) fn start_serving<'py>(
    slf: &Bound<'py, Loop>,
    protocol_factory: &Bound<'py, PyAny>,
    sock: &Bound<'py, PyAny>,
    server: &Bound<'py, Clients>,
    backlog: i64,
) -> PyResult<Bound<'py, PyInt>> {
    slf.get().check_open()?;
    Listener::start(slf, protocol_factory, sock, server, backlog)
}

/// Accepts no more clients of this server from this descriptor; the socket stays open. Nothing happens if it was not
/// accepting: the number may be another server's by now, if the program has closed the socket.
///
/// # Errors
/// `RuntimeError` from a thread that is not the loop's.
pub(super) fn stop_serving(
    slf: &Bound<'_, Loop>,
    fd: RawFd,
    server: &Bound<'_, Clients>,
) -> PyResult<()> {
    let py = slf.py();
    let this = slf.get();
    let listener = this.state().with(|state| state.served(py, fd))?;
    match listener.map(|hold| hold.object(py)).transpose()?.flatten() {
        Some(listener) => Listener::stop(&listener, Some(server)),
        None => Ok(()),
    }
}

/// Accepts who waits already at this descriptor, whether the kernel has reported it or not. Nothing happens if it is no
/// listener's.
///
/// # Errors
/// `RuntimeError` from a thread that is not the loop's, and what [`Listener`] raises when it serves an event.
#[pyfunction]
fn accept_waiting(event_loop: &Bound<'_, Loop>, fd: RawFd) -> PyResult<()> {
    let py = event_loop.py();
    spared(py, || {
        let listener = event_loop
            .get()
            .state()
            .with(|state| state.served(py, fd))?;
        match listener.map(|hold| hold.object(py)).transpose()?.flatten() {
            Some(listener) => Listener::accept_waiting(&listener),
            None => Ok(()),
        }
    })
}

/// The name under which a context shows a listener's socket.
///
/// # Errors
/// What importing asyncio raises.
pub(crate) fn transport_socket<'py>(sock: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = sock.py();
    let class = py
        .import(intern!(py, "asyncio.trsock"))?
        .getattr(intern!(py, "TransportSocket"))?;
    class.invoke((sock,))
}

/// The inode of the Unix socket at a path; None if something else is there.
///
/// Native, because the loop's thread asks: tools that look for blocking calls in Python code are right about those of
/// other files, and a look at one inode of a socket's directory is what every Unix server does at its start.
///
/// # Errors
/// `FileNotFoundError` if nothing is there; other `OSError`s of `stat(2)`.
#[pyfunction]
fn socket_inode<'py>(py: Python<'py>, path: &[u8]) -> PyResult<Option<Bound<'py, PyInt>>> {
    spared(py, || {
        let found = rustix::fs::stat(path).map_err(|errno| crate::error::errno_error(py, errno))?;
        let is_socket = rustix::fs::FileType::from_raw_mode(found.st_mode).is_socket();
        let inode = is_socket.then(|| int_from(py, found.st_ino));
        inode.transpose()
    })
}

/// Removes the Unix socket at a path; native for the same reason as [`socket_inode`].
///
/// # Errors
/// `FileNotFoundError` if nothing is there; other `OSError`s of `unlink(2)`.
#[pyfunction]
fn remove_socket(py: Python<'_>, path: &[u8]) -> PyResult<()> {
    spared(py, || {
        rustix::fs::unlink(path).map_err(|errno| crate::error::errno_error(py, errno))
    })
}

/// The functions of this file.
///
/// # Errors
/// What setting an attribute of a module raises.
pub(super) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(pyo3::wrap_pyfunction!(accept_waiting, module)?)?;
    module.add_function(pyo3::wrap_pyfunction!(socket_inode, module)?)?;
    module.add_function(pyo3::wrap_pyfunction!(remove_socket, module)?)
}
