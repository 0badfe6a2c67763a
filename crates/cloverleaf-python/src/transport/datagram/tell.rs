//! What a protocol is told of datagrams, and what becomes of what it raises.

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::DatagramTransport;
use crate::ffi::{Reach, call_method, copy_context};
use crate::transport::failure::method_failed;

/// Hands a datagram to the protocol, if there is one still.
///
/// # Errors
/// What no handler may have: `SystemExit` and `KeyboardInterrupt`.
pub(super) fn deliver(
    slf: &Bound<'_, PyAny>,
    this: &DatagramTransport,
    data: &Bound<'_, PyAny>,
    from: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let py = slf.py();
    match this.protocol(py) {
        Some(protocol) => hand_over(slf, this, &protocol, [data, from]),
        None => Ok(()),
    }
}

/// Hands a datagram and its sender to the protocol.
///
/// # Errors
/// What no handler may have: `SystemExit` and `KeyboardInterrupt`.
#[inline]
pub(super) fn hand_over(
    slf: &Bound<'_, PyAny>,
    this: &DatagramTransport,
    protocol: &Bound<'_, PyAny>,
    datagram: [&Bound<'_, PyAny>; 2],
) -> PyResult<()> {
    let name = intern!(slf.py(), "datagram_received");
    match call_method(protocol, name, datagram) {
        Ok(_) => Ok(()),
        Err(error) => callback_failed(slf, this, "_read_ready", error),
    }
}

/// Reports what the protocol raised when this method of ours told it of something; the transport goes on.
///
/// # Errors
/// What no handler may have: `SystemExit` and `KeyboardInterrupt`.
#[cold]
pub(super) fn callback_failed(
    slf: &Bound<'_, PyAny>,
    this: &DatagramTransport,
    method: &str,
    error: PyErr,
) -> PyResult<()> {
    let py = slf.py();
    // The handler runs in the handle's context, and this one is entered.
    let context = copy_context(py)?;
    let called = (method, &PyTuple::empty(py));
    method_failed(&this.event_loop(py), slf, called, context, error)
}

/// Hands an error of the network to the protocol.
///
/// # Errors
/// What the protocol raises.
#[cold]
pub(super) fn tell_error(
    slf: &Bound<'_, PyAny>,
    this: &DatagramTransport,
    error: PyErr,
) -> PyResult<()> {
    let py = slf.py();
    if let Some(protocol) = this.protocol(py) {
        protocol.reach(intern!(py, "error_received"), (error.into_value(py),))?;
    }
    Ok(())
}
