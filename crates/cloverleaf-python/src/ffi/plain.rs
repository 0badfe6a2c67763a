//! The descriptor of a plain `socket.socket`, read from its own field: asking the object takes as long as a system call.

use std::os::fd::RawFd;

use pyo3::exceptions::PyOSError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::once::Once;
use super::reach::Reach;
use super::socket::descriptor_field;

/// The class of which a socket must be, and nothing derived from it; None if its descriptor is not where we look.
static PLAIN: Once<Option<Py<PyType>>> = Once::new();

/// Python's class of sockets.
static LIBRARY: Once<Py<PyType>> = Once::new();

/// The open descriptor of a socket whose class is `socket.socket` itself: nothing about it was defined anew.
///
/// None for any other object, and for a socket that is closed.
///
/// # Errors
/// What importing the socket module raises.
#[inline]
pub(crate) fn plain_socket_fd(object: &Bound<'_, PyAny>) -> PyResult<Option<RawFd>> {
    let py = object.py();
    let class = match PLAIN.get_or_try_init(py, || plain_class(py)) {
        Ok(Some(class)) => class,
        Ok(None) => return Ok(None),
        // No socket could be made to look at: no descriptor is left, or a sandbox does not allow it.
        Err(error) if error.is_instance_of::<PyOSError>(py) => return Ok(None),
        Err(error) => return Err(error),
    };
    // SAFETY: the object is live.
    let own = unsafe { ffi::Py_TYPE(object.as_ptr()) };
    if own.cast::<ffi::PyObject>() != class.as_ptr() {
        return Ok(None);
    }
    Ok(Some(field(object)).filter(|fd| *fd >= 0))
}

/// `socket.socket`, if a socket of it has its descriptor where we look.
fn plain_class(py: Python<'_>) -> PyResult<Option<Py<PyType>>> {
    let plain = library_socket(py)?;
    // The family that asyncio's own loops need, which is allowed where no other one is.
    let probe = plain.invoke((libc::AF_UNIX, libc::SOCK_STREAM))?;
    let number: RawFd = probe.reach0(intern!(py, "fileno"))?.extract()?;
    let is_there = field(&probe) == number;
    probe.reach0(intern!(py, "close"))?;
    let shows_the_end = field(&probe) == -1;
    Ok((is_there && shows_the_end).then(|| plain.clone().unbind()))
}

/// The class that Python's library calls `socket.socket`, whatever a program has put in its place.
///
/// # Errors
/// What importing it raises.
pub(crate) fn library_socket(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    LIBRARY.import(py, "cloverleaf._later", "SOCKET")
}

/// What a socket itself holds as its descriptor.
#[inline]
fn field(socket: &Bound<'_, PyAny>) -> RawFd {
    // SAFETY: the object is alive and of a class derived from the built-in socket: both callers have asked that.
    unsafe { descriptor_field(socket.as_ptr()) }
}
