//! `StreamTransportBase`: TCP and Unix stream sockets under a protocol, with asyncio's contract; and what the transports
//! of pipes share with it, which is nearly all.
//!
//! What a transport knows lies in one [`Stream`] (`state.rs`) behind a lock that is held for a few instructions, and
//! never while Python runs or a Python object is dropped. Reading, writing, flow control, closing and what it tells about itself
//! each have a file of their own.

use std::ffi::CStr;
use std::io;
use std::mem::offset_of;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use cloverleaf::{Interest, Token};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyType, PyWeakrefReference};

use super::buffered::is_buffered;
use super::endpoint::{Endpoint, Peer};
use super::kind::Kind;
use super::sendfile::{self, Sending};
use super::start::{Company, begin};
use super::state::{Phase, Stream};
use super::{close, datagram, extra, flow, info, pipe, read, shown_socket, unpolled, write};
use crate::event_loop::Loop;
use crate::ffi::{
    CallContext, Native, NativeClass, Owned, Visitor, attach_attribute, attach_methods,
    attach_property, caught, copy_context, freeze_context,
};
use crate::held::for_collector;
use crate::source::Hold;
use crate::streams;

/// A connected stream.
///
/// `repr(C)`, so that the loop lies beside what is needed first of the rest.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct StreamTransport {
    pub(super) event_loop: Owned,
    stream: Mutex<Stream>,
}

static CLASS: NativeClass = NativeClass::new();

impl Native for StreamTransport {
    const NAME: &'static CStr = c"cloverleaf._cloverleaf.StreamTransportBase";
    const SUBCLASSABLE: bool = true;
    const ALWAYS_HELD: Option<usize> = Some(offset_of!(Self, event_loop));
    const KEPT: usize = 0;
    const FINALIZE: Option<fn(&Bound<'_, PyAny>)> = Some(close::finalize);

    fn class() -> &'static NativeClass {
        &CLASS
    }

    fn traverse(&self, visitor: &mut Visitor) {
        visitor.object(&self.event_loop);
        let Some(stream) = for_collector(|| self.try_lock()) else {
            // In use, so not garbage; what is not shown is kept.
            return;
        };
        let held = [
            &stream.protocol,
            &stream.read_context,
            &stream.write_context,
            &stream.server,
            &stream.extra,
        ];
        for object in held.into_iter().flatten() {
            visitor.object(object);
        }
        if let Some(rare) = &stream.rare {
            let awaited = rare.sending.as_ref().and_then(Sending::held);
            let held = [&rare.shown, &rare.sockname, &rare.peername];
            for object in held.into_iter().flatten().chain(awaited) {
                visitor.object(object);
            }
        }
        match &stream.endpoint {
            Endpoint::Socket(socket) => visitor.object(socket.object()),
            Endpoint::Closed(_, Some(sock)) => visitor.object(sock),
            Endpoint::Native(_) | Endpoint::Closed(_, None) => {}
        }
    }

    fn clear(&self, _holder: &Bound<'_, PyAny>) {
        // The rest has no way back to this transport.
        let held = self.with(|stream| {
            (
                stream.protocol.take(),
                stream.server.take(),
                stream.extra.take(),
                stream.read_context.take(),
            )
        });
        drop(held);
    }
}

impl StreamTransport {
    /// The context for what is to be called later: the connection's own, or a copy of the one of now.
    ///
    /// # Errors
    /// `MemoryError`.
    pub(super) fn context(&self, py: Python<'_>) -> PyResult<Owned> {
        self.own_context(py).map_or_else(|| copy_context(py), Ok)
    }

    fn own_context(&self, py: Python<'_>) -> Option<Owned> {
        self.with(|stream| {
            let own = stream
                .read_context
                .as_ref()
                .filter(|_| stream.has_own_context);
            own.map(|own| own.clone_ref(py))
        })
    }

    /// The same for a single call, which makes a copy only when it runs.
    ///
    /// # Errors
    /// `MemoryError`.
    pub(super) fn context_for_call(&self, py: Python<'_>) -> PyResult<CallContext> {
        match self.own_context(py) {
            Some(context) => Ok(CallContext {
                context,
                is_copy: false,
            }),
            None => freeze_context(py),
        }
    }

    /// The transport in an object.
    ///
    /// # Errors
    /// `TypeError` if there is none.
    #[inline]
    pub(super) fn of<'a>(object: &'a Bound<'_, PyAny>) -> PyResult<&'a Self> {
        CLASS.get(object).map_or_else(|| Self::of_pipe(object), Ok)
    }

    #[cold]
    fn of_pipe<'a>(object: &'a Bound<'_, PyAny>) -> PyResult<&'a Self> {
        pipe::of(object)
            .ok_or_else(|| PyTypeError::new_err("a cloverleaf stream transport was expected"))
    }

    /// Looks at, or changes, what the transport knows. No Python code may run in `access`.
    #[inline]
    pub(super) fn with<R>(&self, access: impl FnOnce(&mut Stream) -> R) -> R {
        let mut stream: MutexGuard<'_, Stream> =
            self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        access(&mut stream)
    }

    /// Keeps what the transport knows for a while, unless somebody else does.
    #[inline]
    pub(super) fn try_lock(&self) -> Option<MutexGuard<'_, Stream>> {
        match self.stream.try_lock() {
            Ok(stream) => Some(stream),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// The loop of this transport.
    #[inline]
    pub(super) fn event_loop<'py>(&self, py: Python<'py>) -> pyo3::Borrowed<'_, 'py, PyAny> {
        self.event_loop.bind(py)
    }

    /// The protocol, until the connection is lost.
    #[inline]
    pub(super) fn protocol<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.with(|stream| {
            stream
                .protocol
                .as_ref()
                .map(|protocol| protocol.clone_ref(py))
        })
        .map(|protocol| protocol.into_bound(py))
    }

    /// The loop keeps a transport that hears of something; one that does not lives while the program wants it. What is
    /// lost is held as it was: the call of `connection_lost` keeps it, and then it is forgotten.
    fn hold_for(&self, slf: &Bound<'_, PyAny>) -> PyResult<Option<Hold>> {
        let (phase, wanted) = self.with(|stream| (stream.phase, stream.wanted()));
        if phase >= Phase::Lost {
            return Ok(None);
        }
        if wanted.is_none() {
            return Ok(Some(Hold::Weak(PyWeakrefReference::new(slf)?.into())));
        }
        Ok(Some(Hold::Strong(slf.clone().into())))
    }

    /// Tells the driver what to report now, if that has changed.
    ///
    /// From a thread that is not the loop's, the loop is asked to do so.
    ///
    /// # Errors
    /// `OSError` if the kernel refuses.
    pub(super) fn update_interest(&self, slf: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let event_loop = self.event_loop(py);
        let this = Loop::of(&event_loop)?;
        let mut hold = self.hold_for(slf)?;
        let told = this.state().with(|state| {
            self.with(|stream| {
                let wanted = stream.wanted();
                let (Some(token), Some(fd)) = (stream.token, stream.endpoint.fd()) else {
                    // Closed by the program: the kernel has forgotten it by itself.
                    return Ok(Told::Everything);
                };
                if stream.is_unpolled() {
                    hold = hold.take().map(|hold| state.hold_source(token, hold));
                    return Ok(Told::Unpolled);
                }
                let result = state.set_interest(fd, token, stream.registered, wanted);
                if result.is_ok() {
                    stream.registered = wanted;
                }
                hold = hold.take().map(|hold| state.hold_source(token, hold));
                result.map(|()| Told::Everything)
            })
        });
        drop(hold);
        match told {
            Ok(Ok(Told::Everything)) => return Ok(()),
            Ok(Ok(Told::Unpolled)) => return unpolled::go_on(slf),
            Ok(Err(error)) if self.must_be_read_unpolled(&error) => return unpolled::begin(slf),
            Ok(Err(error)) => return self.go_on_refused(slf, &error),
            Err(_) => {}
        }
        let slf = slf.clone().unbind();
        this.push_call(slf, move |py, slf| {
            let slf = slf.into_bound(py);
            Self::of(&slf)?.update_interest(&slf)
        })
    }

    /// Asks again if the descriptor had a program's callbacks, which have gone then.
    #[cold]
    fn go_on_refused(&self, slf: &Bound<'_, PyAny>, refusal: &io::Error) -> PyResult<()> {
        let event_loop = self.event_loop(slf.py());
        let fd = self.with(|stream| stream.endpoint.registered_number());
        let event_loop = event_loop.cast::<Loop>()?;
        if Loop::take_refused_away(&event_loop, fd, refusal)? {
            return self.update_interest(slf);
        }
        Err(event_loop.get().refusal(slf.py(), refusal))
    }

    /// Whether the driver's refusal means that it cannot report on such a file at all.
    fn must_be_read_unpolled(&self, refusal: &io::Error) -> bool {
        refusal.kind() == io::ErrorKind::PermissionDenied
            && self.with(|stream| stream.kind == Kind::ReadPipe)
    }
}

/// What the driver was told.
enum Told {
    /// Whatever there was to tell.
    Everything,
    /// Nothing: it cannot report on this descriptor.
    Unpolled,
}

/// Whether an object is the transport of a socket.
#[inline]
pub(crate) fn is_stream(object: &Bound<'_, PyAny>) -> bool {
    CLASS.get::<StreamTransport>(object).is_some()
}

/// Whether an object is the transport of a stream that closes when it has sent what waits.
pub(crate) fn is_draining(object: &Bound<'_, PyAny>) -> bool {
    StreamTransport::of(object).is_ok_and(|this| this.with(|stream| stream.phase == Phase::Closing))
}

/// Has the processor fetch what an event needs of its transport; of any other object, as much.
#[inline]
pub(crate) fn fetch(object: &Owned) {
    /// The base's one field; the lock, and the alignment behind it.
    const BESIDE_BYTES: usize = 2 * size_of::<usize>();
    object.fetch_value(offset_of!(StreamTransport, stream) + BESIDE_BYTES + Stream::NEEDED_BYTES);
}

/// Has the processor fetch what an event needs beside its transport, if that is one of a socket.
#[inline]
pub(crate) fn fetch_company(transport: &Bound<'_, PyAny>) {
    let this = CLASS.get::<StreamTransport>(transport);
    if let Some(stream) = this.and_then(StreamTransport::try_lock) {
        for object in [&stream.protocol, &stream.read_context]
            .into_iter()
            .flatten()
        {
            object.fetch();
        }
    }
}

/// Makes a transport and schedules, in asyncio's order: `connection_made`, the start of reading, the waiter's result.
///
/// The driver may report something of the endpoint already, under this token.
///
/// # Errors
/// What the protocol's attributes, the server or the loop raise. A descriptor of ours is closed then, and a Python
/// socket its giver's again.
pub(crate) fn start<'py>(
    event_loop: &Bound<'py, PyAny>,
    (endpoint, place): (Endpoint, Option<(Token, Interest)>),
    protocol: &Bound<'py, PyAny>,
    peer: Peer,
    company: Company<'py>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = event_loop.py();
    let kind = Kind::Socket;
    let slf = caught(py, || {
        let transport = StreamTransport::new(event_loop, kind, endpoint, protocol, &company)?;
        transport.with(|stream| {
            stream.peer = peer;
            if let Some((token, registered)) = place {
                stream.token = Some(token);
                stream.registered = registered;
            }
        });
        CLASS.instantiate(py, transport)
    });
    let slf = slf.and_then(|slf| slf)?;
    if let Err(error) = caught(py, || info::remember_peer(&slf)).and_then(|known| known) {
        close::abandon(&slf)?;
        return Err(error);
    }
    begin(event_loop, &slf, protocol, company)?;
    Ok(slf)
}

impl StreamTransport {
    /// A transport that has not begun.
    ///
    /// # Errors
    /// What the protocol's class raises when it is asked whether it lends a buffer.
    pub(super) fn new(
        event_loop: &Bound<'_, PyAny>,
        kind: Kind,
        endpoint: Endpoint,
        protocol: &Bound<'_, PyAny>,
        company: &Company<'_>,
    ) -> PyResult<Self> {
        streams::adopt(event_loop, protocol)?;
        let stats = Arc::clone(Loop::of(event_loop)?.stats());
        let protocol = (protocol, is_buffered(protocol)?);
        let stream = Stream::new(kind, endpoint, protocol, company, stats);
        Ok(Self {
            event_loop: event_loop.clone().into(),
            stream: Mutex::new(stream),
        })
    }
}

/// Makes the type and adds it to the module.
///
/// # Errors
/// What importing asyncio or making a type raises.
pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    extra::prepare(py)?;
    let base = py
        .import(intern!(py, "asyncio"))?
        .getattr(intern!(py, "Transport"))?
        .cast_into::<PyType>()?;
    let class = CLASS.create::<StreamTransport>(&base)?;
    attach_all(&class)?;
    module.add("StreamTransportBase", class)?;
    pipe::add_to(module)?;
    datagram::add_to(module)?;
    shown_socket::add_to(module)?;
    module.add_function(pyo3::wrap_pyfunction!(set_transport_class, module)?)
}

fn attach_all(class: &Bound<'_, PyType>) -> PyResult<()> {
    attach_methods(class, &read::METHODS)?;
    attach_methods(class, &write::METHODS)?;
    attach_methods(class, &flow::METHODS)?;
    attach_methods(class, &sendfile::METHODS)?;
    attach_property(class, c"_protocol_paused", flow::is_protocol_paused)?;
    attach_attribute(class, c"_extra", (info::extra, info::set_extra))?;
    attach_methods(class, &read::READY)?;
    attach_methods(class, &close::METHODS)?;
    attach_methods(class, &[close::ABORT, close::FORCE_CLOSE])?;
    attach_methods(class, &info::METHODS)
}

/// Makes this class, derived in Python, the one of all transports, or shown sockets, of its native class.
///
/// # Errors
/// `TypeError` if it does not derive from one.
#[pyfunction]
fn set_transport_class(cls: &Bound<'_, PyType>) -> PyResult<()> {
    if pipe::set_class(cls)? || datagram::set_class(cls)? || shown_socket::set_class(cls)? {
        return Ok(());
    }
    CLASS.set_instance_class(cls)?;
    // On the very class of an object, methods are called without a detour.
    attach_all(cls)
}
