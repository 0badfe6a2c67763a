//! Connecting to one address: a socket that no Python object stands for until somebody asks for it.

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cloverleaf::{Interest, Token, literal, system_call};
use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::pyclass::{PyTraverseError, PyVisit};
use pyo3::types::{PyInt, PyString, PyTuple};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, socket_with, sockopt};

use super::Loop;
use super::futures::create_future;
use super::resolve::number;
use crate::error::{errno_error, os_error};
use crate::ffi::{Owned, int_from, is_audited, tuple_from};
use crate::future;

/// A connection that is being made; the transport that it becomes takes it over.
#[pyclass(frozen, immutable_type, module = "cloverleaf._cloverleaf")]
#[derive(Debug)]
pub(crate) struct Connecting {
    event_loop: Py<PyAny>,
    /// As it was given: it is part of an error's text.
    address: Py<PyAny>,
    remote: SocketAddr,
    /// Done when the connection is there; None if it was there at once.
    future: Option<Py<PyAny>>,
    attempt: Mutex<Option<Attempt>>,
}

/// What an attempt owns until it has failed, or a transport takes it.
#[derive(Debug)]
struct Attempt {
    socket: OwnedFd,
    token: Token,
    /// What the driver reports: room to write as long as it is connecting.
    registered: Interest,
}

/// A connection that was there at once, or one that is being made.
#[derive(Debug)]
pub(super) enum Begun {
    /// A connected socket, of which the loop does not know yet, and whom it is connected to.
    There(OwnedFd, SocketAddr),
    /// A [`Connecting`].
    Pending(Owned),
}

/// A connected socket.
#[derive(Debug)]
pub(crate) struct Connected {
    /// The socket.
    pub(crate) socket: OwnedFd,
    /// Whom it is connected to.
    pub(crate) remote: SocketAddr,
    /// The token under which the driver reports it, and what it reports, if the loop knows of it already.
    pub(crate) place: Option<(Token, Interest)>,
}

/// The address that these mean, if they are all that there is to it: a host's number and a port.
fn address_of(address: &Bound<'_, PyAny>, sort: [i32; 3]) -> Option<SocketAddr> {
    let address = address.cast_exact::<PyTuple>().ok()?;
    let [family, kind, proto] = sort;
    let host = address.get_item(0).ok()?;
    let port = address.get_item(1).ok()?;
    let is_plain = match address.len() {
        2 => family == libc::AF_INET,
        // A flow label or a scope is the socket module's.
        4 => family == libc::AF_INET6 && zero(address, 2) && zero(address, 3),
        _ => false,
    };
    if !is_plain || !port.is_exact_instance_of::<PyInt>() {
        return None;
    }
    let port = port.extract().ok()?;
    let host = host.cast_exact::<PyString>().ok()?;
    let found = literal(host.to_str().ok()?, port, [family, kind, proto, 0])?;
    Some(found.address)
}

fn zero(address: &Bound<'_, PyTuple>, place: usize) -> bool {
    address
        .get_item(place)
        .and_then(|part| part.extract::<u32>())
        .is_ok_and(|part| part == 0)
}

/// Begins to connect to an address; None if only Python's socket knows what it means, or somebody is to be told of it.
///
/// # Errors
/// `OSError` if the kernel refuses at once.
pub(super) fn begin<'py>(
    slf: &Bound<'py, Loop>,
    sort: [i32; 3],
    address: &Bound<'py, PyAny>,
) -> PyResult<Option<Bound<'py, Connecting>>> {
    let [_, kind, proto] = sort;
    let is_tcp = kind == libc::SOCK_STREAM && matches!(proto, 0 | libc::IPPROTO_TCP);
    // Audit events name the socket, which must exist in Python then.
    match address_of(address, sort).filter(|_| is_tcp && !is_audited(slf.py())) {
        Some(remote) => connect(slf, remote, address.clone()).map(Some),
        None => Ok(None),
    }
}

/// The address of a host that is given by its number; None if a resolver must be asked, or Python's socket.
fn literal_of<'py>(
    host: &Bound<'py, PyAny>,
    port: &Bound<'py, PyAny>,
    hints: [&Bound<'py, PyAny>; 3],
) -> Option<SocketAddr> {
    if is_audited(host.py()) || !port.is_exact_instance_of::<PyInt>() {
        return None;
    }
    let text = host.cast_exact::<PyString>().ok()?.to_str().ok()?;
    // asyncio asks for none of them here, and has a word of its own for each where it does.
    let [Some(family), Some(proto), Some(flags)] = hints.map(number) else {
        return None;
    };
    let sort = [family, libc::SOCK_STREAM, proto, flags];
    let found = literal(text, port.extract().ok()?, sort)?.address;
    match found {
        SocketAddr::V6(address) if address.scope_id() != 0 || address.flowinfo() != 0 => None,
        SocketAddr::V4(_) | SocketAddr::V6(_) => Some(found),
    }
}

/// As the socket module names it.
fn named<'py>(
    remote: SocketAddr,
    host: &Bound<'py, PyAny>,
    port: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = host.py();
    let (host, port) = (host.clone(), port.clone());
    let zero = || PyResult::Ok(int_from(py, 0)?.into_any());
    Ok(match remote {
        SocketAddr::V4(_) => tuple_from(py, [host, port])?.into_any(),
        SocketAddr::V6(_) => tuple_from(py, [host, port, zero()?, zero()?])?.into_any(),
    })
}

/// Begins to connect to a host that is given by its number; None if a resolver must be asked, or Python's socket.
///
/// # Errors
/// Those of [`begin`].
pub(super) fn begin_literal<'py>(
    slf: &Bound<'py, Loop>,
    host: &Bound<'py, PyAny>,
    port: &Bound<'py, PyAny>,
    hints: [&Bound<'py, PyAny>; 3],
) -> PyResult<Option<Bound<'py, Connecting>>> {
    match literal_of(host, port, hints) {
        Some(remote) => connect(slf, remote, named(remote, host, port)?).map(Some),
        None => Ok(None),
    }
}

/// The same, for who takes a connection that is there at once as it is.
///
/// # Errors
/// Those of [`begin`].
pub(super) fn attempt_literal<'py>(
    slf: &Bound<'py, Loop>,
    host: &Bound<'py, PyAny>,
    port: &Bound<'py, PyAny>,
    hints: [&Bound<'py, PyAny>; 3],
) -> PyResult<Option<Begun>> {
    let Some(remote) = literal_of(host, port, hints) else {
        return Ok(None);
    };
    let (socket, is_there) = call(slf, remote)?;
    Ok(Some(if is_there {
        Begun::There(socket, remote)
    } else {
        let address = named(remote, host, port)?;
        Begun::Pending(register(slf, (socket, false), remote, address)?.into())
    }))
}

fn connect<'py>(
    slf: &Bound<'py, Loop>,
    remote: SocketAddr,
    address: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, Connecting>> {
    let called = call(slf, remote)?;
    register(slf, called, remote, address)
}

/// Connects a new socket, and says whether the connection is there at once.
fn call(slf: &Bound<'_, Loop>, remote: SocketAddr) -> PyResult<(OwnedFd, bool)> {
    let py = slf.py();
    slf.get().check_open()?;
    let family = match remote {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = open(family).map_err(|errno| errno_error(py, errno))?;
    match system_call(|| rustix::net::connect(&socket, &remote)) {
        // An interrupted connect goes on by itself.
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => {}
        Err(errno) => return Err(errno_error(py, errno)),
    }
    let is_there = remote.ip().is_loopback() && is_there(&socket);
    Ok((socket, is_there))
}

/// Has the loop hear of a socket that is connecting, and know of one that is there.
fn register<'py>(
    slf: &Bound<'py, Loop>,
    (socket, is_there): (OwnedFd, bool),
    remote: SocketAddr,
    address: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, Connecting>> {
    let py = slf.py();
    let this = slf.get();
    let registered = if is_there {
        Interest::NONE
    } else {
        Interest::WRITE
    };
    let future = if registered.is_none() {
        None
    } else {
        Some(create_future(slf.as_any())?.into_bound(py).unbind())
    };
    let connecting = Connecting {
        event_loop: slf.clone().into_any().unbind(),
        address: address.unbind(),
        remote,
        future,
        attempt: Mutex::new(None),
    };
    let connecting = Bound::new(py, connecting)?;
    let object = Owned::from(connecting.clone().into_any());
    let told = this.state().with(|state| {
        let token = state.add_source(socket.as_raw_fd(), object, serve);
        let told = state.set_interest(socket.as_fd(), token, Interest::NONE, registered);
        *connecting.get().attempt() = Some(Attempt {
            socket,
            token,
            registered,
        });
        told
    })?;
    if let Err(error) = told {
        drop(connecting.get().take(py)?);
        return Err(os_error(py, &error));
    }
    Ok(connecting)
}

/// Whether a connection is there already, as one within this machine mostly is when `connect(2)` returns, though that
/// says "in progress". A failure is left to be heard of.
fn is_there(socket: &OwnedFd) -> bool {
    let mut asked = [PollFd::new(socket, PollFlags::OUT)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    let answered = poll(&mut asked, Some(&now));
    matches!(answered, Ok(1)) && asked[0].revents() == PollFlags::OUT
}

fn open(family: AddressFamily) -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let protocol: Option<Protocol> = Some(rustix::net::ipproto::TCP);
    socket_with(family, SocketType::STREAM, flags, protocol)
}

impl Connecting {
    fn attempt(&self) -> MutexGuard<'_, Option<Attempt>> {
        self.attempt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the attempt from this and from the loop, which knows its descriptor no more.
    fn take(&self, py: Python<'_>) -> PyResult<Option<Attempt>> {
        let event_loop = self.event_loop.bind(py);
        let (attempt, source) = Loop::of(event_loop)?.state().with(|state| {
            let attempt = self.attempt().take();
            let source = attempt
                .as_ref()
                .and_then(|own| state.remove_source(own.socket.as_raw_fd(), own.token));
            (attempt, source)
        })?;
        drop(source);
        Ok(attempt)
    }

    /// Hands the connected socket over, with its place in the loop.
    ///
    /// # Errors
    /// `RuntimeError` if it was closed or handed over before.
    pub(crate) fn connected(&self) -> PyResult<Connected> {
        let attempt = self
            .attempt()
            .take()
            .ok_or_else(|| PyRuntimeError::new_err("the connection was closed"))?;
        Ok(Connected {
            socket: attempt.socket,
            remote: self.remote,
            place: Some((attempt.token, attempt.registered)),
        })
    }
}

/// Whether an object is a connection that is being made.
pub(super) fn is_connecting(object: &Bound<'_, PyAny>) -> bool {
    object.is_exact_instance_of::<Connecting>()
}

/// Serves the event of a socket that is connecting: it is connected, or has failed.
///
/// # Errors
/// What the future's methods raise.
fn serve(object: &Bound<'_, PyAny>, _heard: Interest) -> PyResult<()> {
    let py = object.py();
    let this = object.cast::<Connecting>()?.get();
    let Some(future) = this.future.as_ref().map(|future| future.bind(py)) else {
        return Ok(());
    };
    if future::is_done(future)? {
        // It waits for its transport, which hears of whatever happens meanwhile.
        return Ok(());
    }
    let result = this
        .attempt()
        .as_ref()
        .map(|own| sockopt::socket_error(&own.socket));
    match result {
        None => Ok(()),
        Some(Ok(Ok(()))) => future::set_result(future, py.None().bind(py)),
        Some(Ok(Err(errno)) | Err(errno)) => {
            this.close(py)?;
            let error = match this.address.bind(py).repr() {
                // OSError picks the subclass by the number.
                Ok(address) => PyOSError::new_err((
                    errno.raw_os_error(),
                    format!("Connect call failed {address}"),
                )),
                // It waits for an end, whatever is said of it.
                Err(error) => error,
            };
            future::set_exception(future, &error)
        }
    }
}

#[pymethods]
impl Connecting {
    /// A future that is done when the connection is there; None if it was there at once.
    #[getter]
    fn future(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.future.as_ref().map(|future| future.clone_ref(py))
    }

    /// Whom it is being made to, as it was given.
    #[getter]
    fn address(&self, py: Python<'_>) -> Py<PyAny> {
        self.address.clone_ref(py)
    }

    /// Gives the attempt up; nothing happens if a transport has taken it over.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let attempt = self.take(py)?;
        if let Some(attempt) = attempt.filter(|attempt| !attempt.registered.is_none()) {
            let event_loop = self.event_loop.bind(py);
            Loop::of(event_loop)?
                .state()
                .with(|state| state.forget(attempt.socket.as_fd()))?;
        }
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.event_loop)?;
        visit.call(&self.address)?;
        self.future
            .as_ref()
            .map_or(Ok(()), |future| visit.call(future))
    }
}
