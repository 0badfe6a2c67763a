//! `SSLTransportBase`: what a TLS transport holds, and how it is made.
//!
//! What changes lies in one [`Connection`], which is reached for a few instructions, and never while Python runs or a
//! Python object is dropped.

use std::ffi::CStr;
use std::sync::Arc;

use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyType};

use super::connection::{Connection, Waiter};
use super::records::Records;
use super::state::State;
use super::{flow, handshake, incoming, info, outgoing, shutdown};
use crate::event_loop::Loop;
use crate::ffi::{
    AttachedCell, Native, NativeClass, Owned, Reach, Visitor, attach_methods, attach_property,
    float_from, new_dict,
};
use crate::handle;
use crate::job::Job;
use crate::streams;

/// asyncio's default for `ssl_handshake_timeout`.
const HANDSHAKE_SECS: f64 = 60.0;
/// asyncio's default for `ssl_shutdown_timeout`.
const SHUTDOWN_SECS: f64 = 30.0;

/// A TLS transport.
#[derive(Debug)]
pub(crate) struct TlsTransport {
    pub(super) event_loop: Owned,
    /// What `get_extra_info` knows, beside what the inner transport does.
    pub(super) extra: Owned,
    pub(super) handshake_timeout: Owned,
    pub(super) shutdown_timeout: Owned,
    connection: AttachedCell<Connection>,
}

static CLASS: NativeClass = NativeClass::new();

impl Native for TlsTransport {
    const NAME: &'static CStr = c"cloverleaf._cloverleaf.SSLTransportBase";
    const SUBCLASSABLE: bool = true;
    const ALWAYS_HELD: Option<usize> = Some(std::mem::offset_of!(Self, event_loop));
    const KEPT: usize = 0;
    const FINALIZE: Option<fn(&Bound<'_, PyAny>)> = Some(shutdown::finalize);

    fn class() -> &'static NativeClass {
        &CLASS
    }

    fn traverse(&self, visitor: &mut Visitor) {
        for object in [
            &self.event_loop,
            &self.extra,
            &self.handshake_timeout,
            &self.shutdown_timeout,
        ] {
            visitor.object(object);
        }
        // In use, it is not garbage; what is not shown is kept.
        let Some(connection) = self.connection.seen_by(visitor) else {
            return;
        };
        let held = [
            &connection.inner,
            &connection.protocol,
            &connection.waiter,
            &connection.handshake_timer,
            &connection.shutdown_timer,
        ];
        for object in held.into_iter().flatten() {
            visitor.object(object);
        }
        if let Some(records) = &connection.records {
            records.traverse(visitor);
        }
    }

    fn clear(&self, holder: &Bound<'_, PyAny>) {
        let py = holder.py();
        // The rest has no way back to this transport but by objects that the collector clears themselves.
        let held = self.with(py, |connection| {
            (
                connection.inner.take(),
                connection.protocol.take(),
                connection.waiter.take(),
                connection.handshake_timer.take(),
                connection.shutdown_timer.take(),
            )
        });
        drop(held);
    }
}

impl TlsTransport {
    /// The transport in an object.
    ///
    /// # Errors
    /// `TypeError` if there is none.
    #[inline]
    pub(super) fn of<'a>(object: &'a Bound<'_, PyAny>) -> PyResult<&'a Self> {
        CLASS
            .get(object)
            .ok_or_else(|| PyTypeError::new_err("a cloverleaf TLS transport was expected"))
    }

    /// Looks at, or changes, the connection. No Python code may run in `access`.
    #[inline]
    pub(super) fn with<R>(&self, py: Python<'_>, access: impl FnOnce(&mut Connection) -> R) -> R {
        access(&mut self.connection.get(py))
    }

    /// How far the connection has come.
    #[inline]
    pub(super) fn state(&self, py: Python<'_>) -> State {
        self.with(py, |connection| connection.state)
    }

    /// What makes and reads the records.
    ///
    /// # Errors
    /// `RuntimeError` once the connection is lost, which no caller comes to.
    pub(super) fn records(&self, py: Python<'_>) -> PyResult<Arc<Records>> {
        self.with(py, |connection| connection.records.clone())
            .ok_or_else(|| PyRuntimeError::new_err("the TLS connection is lost"))
    }

    /// How many bytes of records there are for the peer.
    ///
    /// # Errors
    /// None in practice.
    pub(super) fn unsent(&self, py: Python<'_>) -> PyResult<usize> {
        self.with(py, |connection| connection.records.clone())
            .map_or(Ok(0), |records| records.unsent(py))
    }

    /// How many bytes of the peer's records have not been looked at.
    ///
    /// # Errors
    /// None in practice.
    pub(super) fn unread(&self, py: Python<'_>) -> PyResult<usize> {
        self.with(py, |connection| connection.records.clone())
            .map_or(Ok(0), |records| records.unread(py))
    }

    /// The transport that carries the records, while there is one.
    pub(super) fn inner<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.with(py, |connection| {
            connection.inner.as_ref().map(|inner| inner.clone_ref(py))
        })
        .map(|inner| inner.into_bound(py))
    }

    /// The program's protocol, until the connection is lost.
    pub(super) fn protocol<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.with(py, |connection| {
            connection
                .protocol
                .as_ref()
                .map(|protocol| protocol.clone_ref(py))
        })
        .map(|protocol| protocol.into_bound(py))
    }

    /// Whether the loop's debug mode is on.
    pub(super) fn debug(&self, py: Python<'_>) -> bool {
        Loop::of(&self.event_loop.bind(py)).is_ok_and(Loop::debug)
    }

    /// Lets something be called in the next turn, in a copy of the context of now.
    ///
    /// # Errors
    /// `RuntimeError` if the loop is closed.
    pub(super) fn soon<'py>(
        &self,
        callable: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
    ) -> PyResult<()> {
        let event_loop = self.event_loop.bind(callable.py());
        let handle = handle::new_bound_handle(&event_loop, callable, args)?;
        Loop::of(&event_loop)?.push(Job::Callback(handle.into()))
    }

    /// Starts a timer that calls a method of this transport.
    ///
    /// # Errors
    /// `RuntimeError` if the loop is closed, `TypeError` if the delay is no number.
    pub(super) fn after(
        &self,
        slf: &Bound<'_, PyAny>,
        delay: &Owned,
        method: &str,
    ) -> PyResult<Owned> {
        let py = slf.py();
        let timer = self.event_loop.bind(py).reach(
            intern!(py, "call_later"),
            (delay.bind(py), slf.getattr(method)?),
        )?;
        Ok(timer.into())
    }
}

/// How a TLS transport is to be.
#[derive(Debug)]
pub(crate) struct Options<'py> {
    /// The program's `ssl.SSLContext`.
    pub(crate) context: Bound<'py, PyAny>,
    /// The name that the peer's certificate must bear.
    pub(crate) server_hostname: Option<Bound<'py, PyAny>>,
    /// Whether this is the end that was called.
    pub(crate) server_side: bool,
    /// Whether the protocol does not know its connection yet.
    pub(crate) is_new: bool,
    /// `ssl_handshake_timeout`.
    pub(crate) handshake_timeout: Option<Bound<'py, PyAny>>,
    /// `ssl_shutdown_timeout`.
    pub(crate) shutdown_timeout: Option<Bound<'py, PyAny>>,
    /// Who waits for the handshake.
    pub(crate) waiter: Waiter<'py>,
}

fn timeout<'py>(
    py: Python<'py>,
    name: &str,
    given: Option<&Bound<'py, PyAny>>,
    default: f64,
) -> PyResult<Owned> {
    match given {
        None => float_from(py, default).map(Into::into),
        Some(seconds) if seconds.le(0)? => Err(PyValueError::new_err(format!(
            "{name} should be a positive number, got {seconds}"
        ))),
        Some(seconds) => Ok(seconds.clone().into()),
    }
}

/// A transport for this protocol, which is itself to be made the protocol of the transport that carries the records.
///
/// # Errors
/// `ValueError` for a timeout that is not positive; what `SSLContext.wrap_bio` raises.
pub(crate) fn new_transport<'py>(
    event_loop: &Bound<'py, PyAny>,
    protocol: &Bound<'py, PyAny>,
    options: Options<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = event_loop.py();
    let handshake_timeout = timeout(
        py,
        "ssl_handshake_timeout",
        options.handshake_timeout.as_ref(),
        HANDSHAKE_SECS,
    )?;
    let shutdown_timeout = timeout(
        py,
        "ssl_shutdown_timeout",
        options.shutdown_timeout.as_ref(),
        SHUTDOWN_SECS,
    )?;
    let hostname = options.server_hostname.as_ref();
    let hostname = match hostname {
        Some(name) if !options.server_side && name.is_truthy()? => Some(name),
        _ => None,
    };
    let extra = new_dict(py)?;
    extra.set_item(intern!(py, "sslcontext"), &options.context)?;
    streams::adopt(event_loop, protocol)?;
    let mut connection = Connection::new(protocol, options.waiter, options.is_new)?;
    let records = Records::new(&options.context, options.server_side, hostname)?;
    connection.records = Some(Arc::new(records));
    CLASS.instantiate(
        py,
        TlsTransport {
            event_loop: event_loop.clone().into(),
            extra: extra.into(),
            handshake_timeout,
            shutdown_timeout,
            connection: AttachedCell::new(connection),
        },
    )
}

/// Makes the type and adds it to the module.
///
/// # Errors
/// What importing asyncio or making a type raises.
pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let base = py
        .import(intern!(py, "asyncio"))?
        .getattr(intern!(py, "Transport"))?
        .cast_into::<PyType>()?;
    let class = CLASS.create::<TlsTransport>(&base)?;
    attach_all(&class)?;
    shutdown::prepare(py);
    module.add("SSLTransportBase", class)?;
    module.add_function(pyo3::wrap_pyfunction!(set_ssl_transport_class, module)?)
}

fn attach_all(class: &Bound<'_, PyType>) -> PyResult<()> {
    attach_methods(class, &handshake::METHODS)?;
    attach_methods(class, &incoming::METHODS)?;
    attach_methods(class, &outgoing::METHODS)?;
    attach_methods(class, &flow::METHODS)?;
    attach_methods(class, &shutdown::METHODS)?;
    attach_methods(class, &info::METHODS)?;
    attach_property(class, c"_protocol_paused", flow::is_protocol_paused)
}

/// Makes this class, derived in Python, the one of all TLS transports; and says whether the time for their shutdown runs
/// until the connection is lost.
///
/// # Errors
/// `TypeError` if it does not derive from `SSLTransportBase`.
#[pyfunction]
fn set_ssl_transport_class(cls: &Bound<'_, PyType>, stays_limited: bool) -> PyResult<()> {
    shutdown::stay_limited(stays_limited);
    CLASS.set_instance_class(cls)?;
    // On the very class of an object, methods are called without a detour.
    attach_all(cls)
}
