//! `DatagramTransportBase`: UDP, Unix datagrams and every other family that Python's sockets know, with asyncio's
//! contract.
//!
//! As with streams, what a transport knows lies in one [`Datagrams`], of which each access takes a few instructions,
//! and none lasts while Python runs or a Python object is dropped. IP and Unix sockets are served natively; for the
//! addresses of other families, and for hosts' names, the Python socket's own methods are called.

mod address;
mod close;
mod info;
mod outbox;
mod queue;
mod receive;
mod send;
mod singles;
mod start;
mod tell;

pub(crate) use start::{Correspondents, start};

use std::collections::VecDeque;
use std::ffi::CStr;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::Arc;

use cloverleaf::{Interest, Stats, Token};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyType, PyWeakrefReference};

use self::outbox::Outbox;
use self::queue::Waiting;
use self::singles::Singles;
use super::endpoint::Endpoint;
use super::flow::Limits;
use super::state::Phase;
use crate::event_loop::Loop;
use crate::ffi::{AttachedCell, Native, NativeClass, Owned, Visitor, attach_methods};
use crate::source::Hold;

/// How a socket's datagrams are received, and its addresses shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    /// Natively; no datagram is longer than so many bytes.
    Native { domain: Domain, longest: usize },
    /// By the Python socket's own methods.
    Foreign,
}

/// The families whose addresses we convert.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Domain {
    Ipv4,
    Ipv6,
    Unix,
}

/// What a transport knows.
#[derive(Debug)]
struct Datagrams {
    /// What the loop has done, to which every receive and send adds.
    stats: Arc<Stats>,
    phase: Phase,
    endpoint: Endpoint,
    family: Family,
    token: Option<Token>,
    /// What the driver reports at present.
    registered: Interest,
    /// The kernel knows whom to send to.
    is_connected: bool,
    /// The one address that may be sent to, if there is such a one.
    address: Option<Owned>,
    /// Received, and not yet handed to the protocol: data and sender.
    inbox: VecDeque<(Owned, Owned)>,
    /// Sent by the protocol, and not yet offered to the kernel.
    outbox: Outbox,
    /// Refused by the kernel for want of room.
    queue: VecDeque<Waiting>,
    /// The size of the queue as its limits count it.
    queued: usize,
    limits: Limits,
    protocol: Option<Owned>,
    is_paused: bool,
    protocol_paused: bool,
    /// Sends after the end.
    lost_sends: u32,
    /// How many datagrams the last event has brought.
    last_count: usize,
    /// Events with one datagram only, after some of which it is asked whether there are more.
    singles: Singles,
    /// The address that was seen last, as it was shown.
    last_peer: Option<(SocketAddr, Owned)>,
    read_context: Option<Owned>,
    write_context: Option<Owned>,
}

/// An endpoint for datagrams.
#[derive(Debug)]
pub(crate) struct DatagramTransport {
    event_loop: Owned,
    datagrams: AttachedCell<Datagrams>,
}

static CLASS: NativeClass = NativeClass::new();

impl Native for DatagramTransport {
    const NAME: &'static CStr = c"cloverleaf._cloverleaf.DatagramTransportBase";
    const SUBCLASSABLE: bool = true;
    const ALWAYS_HELD: Option<usize> = Some(std::mem::offset_of!(Self, event_loop));
    const KEPT: usize = 0;
    const FINALIZE: Option<fn(&Bound<'_, PyAny>)> = Some(close::finalize);

    fn class() -> &'static NativeClass {
        &CLASS
    }

    fn traverse(&self, visitor: &mut Visitor) {
        visitor.object(&self.event_loop);
        let Some(datagrams) = self.datagrams.seen_by(visitor) else {
            // In use, so not garbage; what is not shown is kept.
            return;
        };
        // Data and the addresses that we have made ourselves lead nowhere.
        let held = [
            &datagrams.protocol,
            &datagrams.address,
            &datagrams.read_context,
            &datagrams.write_context,
        ];
        for object in held.into_iter().flatten() {
            visitor.object(object);
        }
        for object in datagrams.queue.iter().filter_map(Waiting::python_address) {
            visitor.object(object);
        }
        match &datagrams.endpoint {
            Endpoint::Socket(socket) => visitor.object(socket.object()),
            Endpoint::Closed(_, Some(sock)) => visitor.object(sock),
            Endpoint::Native(_) | Endpoint::Closed(_, None) => {}
        }
    }

    fn clear(&self, holder: &Bound<'_, PyAny>) {
        // The rest has no way back to this transport.
        let held = self.with(holder.py(), |datagrams| {
            (
                datagrams.protocol.take(),
                datagrams.address.take(),
                datagrams.read_context.take(),
                std::mem::take(&mut datagrams.queue),
            )
        });
        drop(held);
    }
}

/// Ends the event that a transport serves, if this is one, for what is held until then; what came with it, and was not
/// handed over, is handed over in a turn of its own.
///
/// # Errors
/// What no handler may have: `SystemExit` and `KeyboardInterrupt`.
pub(super) fn end_event(slf: &Bound<'_, PyAny>) -> PyResult<()> {
    match DatagramTransport::of(slf) {
        Ok(this) => {
            let closed = outbox::close(slf, this);
            closed.and(receive::go_on_later(slf, this))
        }
        Err(_) => Ok(()),
    }
}

impl DatagramTransport {
    /// The transport in an object.
    #[inline]
    fn of<'a>(object: &'a Bound<'_, PyAny>) -> PyResult<&'a Self> {
        CLASS
            .get(object)
            .ok_or_else(|| PyTypeError::new_err("a cloverleaf datagram transport was expected"))
    }

    /// Looks at, or changes, what the transport knows. No Python code may run in `access`.
    #[inline]
    fn with<R>(&self, py: Python<'_>, access: impl FnOnce(&mut Datagrams) -> R) -> R {
        access(&mut self.datagrams.get(py))
    }

    #[inline]
    fn event_loop<'py>(&self, py: Python<'py>) -> pyo3::Borrowed<'_, 'py, PyAny> {
        self.event_loop.bind(py)
    }

    /// The protocol, until `connection_lost`.
    #[inline]
    fn protocol<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.with(py, |datagrams| {
            datagrams
                .protocol
                .as_ref()
                .map(|protocol| protocol.clone_ref(py))
        })
        .map(|protocol| protocol.into_bound(py))
    }

    /// The Python socket, unless it was closed.
    fn socket<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.with(py, |datagrams| match &datagrams.endpoint {
            Endpoint::Socket(socket) => Some(socket.object().clone_ref(py)),
            Endpoint::Native(_) | Endpoint::Closed(..) => None,
        })
        .map(|sock| sock.into_bound(py))
    }

    /// The loop keeps a transport that hears of something; one that does not lives while the program wants it.
    fn hold_for(&self, slf: &Bound<'_, PyAny>) -> PyResult<Hold> {
        if self.with(slf.py(), |datagrams| datagrams.wanted().is_none()) {
            return Ok(Hold::Weak(PyWeakrefReference::new(slf)?.into()));
        }
        Ok(Hold::Strong(slf.clone().into()))
    }

    /// Tells the driver what to report now, if that has changed.
    ///
    /// From a thread that is not the loop's, the loop is asked to do so.
    fn update_interest(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let event_loop = self.event_loop(py);
        let this = Loop::of(&event_loop)?;
        let mut hold = Some(self.hold_for(slf)?);
        let told = this.state().with(|state| {
            self.with(py, |datagrams| {
                let wanted = datagrams.wanted();
                let (Some(token), Some(fd)) = (datagrams.token, datagrams.endpoint.fd()) else {
                    // Closed by the program: the kernel has forgotten it by itself.
                    return Ok(());
                };
                let result = state.set_interest(fd, token, datagrams.registered, wanted);
                if result.is_ok() {
                    datagrams.registered = wanted;
                }
                hold = hold.take().map(|hold| state.hold_source(token, hold));
                result
            })
        });
        drop(hold);
        match told {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => {
                let fd = self.with(py, |datagrams| datagrams.endpoint.number());
                let event_loop = event_loop.cast::<Loop>()?;
                if Loop::take_refused_away(&event_loop, fd, &error)? {
                    return self.update_interest(slf);
                }
                return Err(this.refusal(py, &error));
            }
            Err(_) => {}
        }
        let slf = slf.clone().unbind();
        this.push_call(slf, move |py, slf| {
            let slf = slf.into_bound(py);
            Self::of(&slf)?.update_interest(&slf)
        })
    }
}

impl Datagrams {
    /// What there is to hear of in this state.
    fn wanted(&self) -> Interest {
        let read = if self.may_deliver() {
            Interest::READ
        } else {
            Interest::NONE
        };
        let write = if self.phase < Phase::Lost && !self.queue.is_empty() {
            Interest::WRITE
        } else {
            Interest::NONE
        };
        read.with(write)
    }

    /// Whether the protocol may have a datagram now.
    #[inline]
    fn may_deliver(&self) -> bool {
        self.phase == Phase::Open && !self.is_paused
    }

    /// The descriptor to receive from, if the protocol may have a datagram now and the program has not closed it.
    fn source(&self) -> Option<RawFd> {
        let fd = self.endpoint.number();
        (self.may_deliver() && fd >= 0).then_some(fd)
    }

    fn is_closing(&self) -> bool {
        self.phase >= Phase::Closing
    }
}

/// Makes the type and adds it to the module.
///
/// # Errors
/// What importing asyncio or making a type raises.
pub(super) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let base = py
        .import(intern!(py, "asyncio"))?
        .getattr(intern!(py, "DatagramTransport"))?
        .cast_into::<PyType>()?;
    let class = CLASS.create::<DatagramTransport>(&base)?;
    attach_all(&class)?;
    module.add("DatagramTransportBase", class)
}

fn attach_all(class: &Bound<'_, PyType>) -> PyResult<()> {
    attach_methods(class, &receive::METHODS)?;
    attach_methods(class, &send::METHODS)?;
    attach_methods(class, &close::METHODS)?;
    attach_methods(class, &info::METHODS)
}

/// Makes this class, derived in Python, the one of all datagram transports; `false` if it is for others.
///
/// # Errors
/// `TypeError` if it changes the layout.
pub(super) fn set_class(class: &Bound<'_, PyType>) -> PyResult<bool> {
    if !CLASS.is_base_of(class) {
        return Ok(false);
    }
    CLASS.set_instance_class(class)?;
    // On the very class of an object, methods are called without a detour.
    attach_all(class)?;
    Ok(true)
}
