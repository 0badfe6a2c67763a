//! Audit events (PEP 578) for what the socket module would raise them for.

use std::ffi::CStr;

use pyo3::prelude::*;

use super::guarded;

/// Raises an event with a socket and an address.
///
/// # Errors
/// What a hook raises.
#[inline]
pub(crate) fn audit_event(
    event: &CStr,
    sock: &Bound<'_, PyAny>,
    address: &Bound<'_, PyAny>,
) -> PyResult<()> {
    // SAFETY: both objects are held, and a `Bound` proves that the thread is attached.
    let is_permitted = unsafe { guarded::audit(event, sock.as_ptr(), address.as_ptr()) };
    if is_permitted {
        Ok(())
    } else {
        Err(PyErr::fetch(address.py()))
    }
}

/// Raises the event of `socket.getaddrinfo`: host, port, and the numbers of family, kind and protocol.
///
/// # Errors
/// What a hook raises.
#[inline]
pub(crate) fn audit_getaddrinfo(
    host: &Bound<'_, PyAny>,
    port: &Bound<'_, PyAny>,
    numbers: [i32; 3],
) -> PyResult<()> {
    // SAFETY: the objects are held, and a `Bound` proves that the thread is attached.
    if unsafe { guarded::audit_getaddrinfo(host.as_ptr(), port.as_ptr(), numbers) } {
        Ok(())
    } else {
        Err(PyErr::fetch(host.py()))
    }
}

/// Whether there is a hook, which is not called by this.
#[inline]
pub(crate) fn is_audited(py: Python<'_>) -> bool {
    guarded::is_audited(py)
}
