//! What a protocol has raised, on its way to the exception handler.
//!
//! asyncio's loop calls the methods of its transports by handles, and so its exception handler is given the handle, and
//! a message with the method's name. Ours calls without, and makes the handle when there is something to report.

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::ffi::Owned;
use crate::{error, handle, report};

/// The method that the loop calls, in asyncio's words, when a connection is lost.
pub(super) const CALL_CONNECTION_LOST: &str = "_call_connection_lost";

/// The one for a datagram socket that there is room in.
pub(super) const SENDTO_READY: &str = "_sendto_ready";

/// Reports what came out of a method of a transport's, as if a handle had called it with these arguments.
///
/// The exception handler runs in the context, which must not be entered.
///
/// # Errors
/// What no handler may have, and what it lets through: `SystemExit` and `KeyboardInterrupt`.
#[cold]
pub(super) fn method_failed(
    event_loop: &Bound<'_, PyAny>,
    transport: &Bound<'_, PyAny>,
    (name, args): (&str, &Bound<'_, PyTuple>),
    context: Owned,
    error: PyErr,
) -> PyResult<()> {
    if error::ends_the_run(event_loop.py(), &error) {
        return Err(error);
    }
    let method = transport.getattr(name)?;
    let handle = handle::new_bound_handle_in(event_loop, &method, args, context)?;
    report::callback_failed(event_loop, &handle, error)
}

/// What came of telling the protocol and of closing: as where Python code raises twice, the later exception knows of
/// the earlier one.
///
/// # Errors
/// Either.
pub(super) fn told_and_closed(
    py: Python<'_>,
    told: PyResult<()>,
    closed: PyResult<()>,
) -> PyResult<()> {
    match (told, closed) {
        (Err(told), Err(closed)) => {
            closed.set_cause(py, Some(told));
            Err(closed)
        }
        (told, closed) => told.and(closed),
    }
}
