//! `_sock` of `get_extra_info('socket')`, while nobody does more than look.
//!
//! Servers ask every connection for its socket, to learn the peer's name and to turn off Nagle's algorithm. A
//! `ShownSocket` answers that, and needs no Python socket. Whoever asks for anything by which the stream could be acted
//! upon, `fileno` above all, is answered by the real one, which is made then; from then on the program knows the socket
//! (see `held.rs`, `early.rs`).
//!
//! What is held is sent before an option is looked at or changed.

use std::ffi::{CStr, c_int};
use std::os::fd::BorrowedFd;
use std::sync::OnceLock;

use cloverleaf::Address;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyList, PyString, PyType, PyWeakrefMethods, PyWeakrefReference};
use rustix::io::Errno;
use rustix::net::{getpeername, getsockname};

use super::endpoint::Endpoint;
use super::held;
use super::info;
use super::stream::StreamTransport;
use crate::error::errno_error;
use crate::ffi::{
    Arguments, Method, Native, NativeClass, Once, Owned, Reach, StandIn, TypeSlot, Visitor,
    attach_methods, generic_attribute, library_socket, raw_fastcall, raw_noargs, set_socket_option,
    socket_option, stand_in_slots,
};
use crate::original::Original;

/// A connection's socket, for those who look.
#[derive(Debug)]
pub(super) struct ShownSocket {
    /// A weak reference, so that the connection lives as long as without.
    transport: Owned,
    family: c_int,
    /// The real one, once somebody has asked for more.
    real: OnceLock<Owned>,
}

static CLASS: NativeClass = NativeClass::new();

/// Python's sockets.
struct Real {
    module: Py<PyModule>,
    /// Their class, and what we answer in its place.
    class: Original,
}

static REAL: Once<Real> = Once::new();

fn real(py: Python<'_>) -> PyResult<&Real> {
    REAL.get_or_try_init(py, || {
        let module = py.import(intern!(py, "socket"))?;
        let answered = ["getpeername", "getsockname", "getsockopt", "setsockopt"];
        let class = Original::new(library_socket(py)?, &PyList::new(py, answered)?)?;
        Ok(Real {
            module: module.unbind(),
            class,
        })
    })
}

/// The class of the sockets that we make: the program's own in the place of Python's, if it derives from that.
///
/// # Errors
/// What looking at the socket module raises.
pub(super) fn real_class(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let real = real(py)?;
    let class = real.module.bind(py).getattr(intern!(py, "socket"))?;
    let own = real.class.class(py);
    let derives = match class.cast::<PyType>() {
        Ok(class) => class.is_subclass(own)?,
        Err(_) => false,
    };
    Ok(if derives {
        class
    } else {
        own.clone().into_any()
    })
}

impl Native for ShownSocket {
    const NAME: &'static CStr = c"cloverleaf._cloverleaf.ShownSocketBase";
    const SUBCLASSABLE: bool = true;
    const ALWAYS_HELD: Option<usize> = Some(std::mem::offset_of!(Self, transport));
    const KEPT: usize = 0;
    const FINALIZE: Option<fn(&Bound<'_, PyAny>)> = None;
    const SLOTS: fn() -> Vec<TypeSlot> = stand_in_slots::<Self>;

    fn class() -> &'static NativeClass {
        &CLASS
    }

    fn traverse(&self, visitor: &mut Visitor) {
        visitor.object(&self.transport);
        if let Some(real) = self.real.get() {
            visitor.object(real);
        }
    }

    fn clear(&self, _holder: &Bound<'_, PyAny>) {
        // Neither has a way back here.
    }
}

impl StandIn for ShownSocket {
    fn attribute(slf: &Bound<'_, PyAny>, name: &Bound<'_, PyString>) -> PyResult<Owned> {
        let py = slf.py();
        let this = Self::of(slf)?;
        if let Some(real) = this.real.get() {
            return Ok(real.bind(py).getattr(name)?.into());
        }
        if name.is(intern!(py, "__class__")) {
            return Ok(real(py)?.class.class(py).clone().into_any().into());
        }
        if !is_intact(py)? {
            return Ok(Self::other(slf)?.getattr(name)?.into());
        }
        if name.is(intern!(py, "family")) {
            return constant(this.family_name(py));
        }
        if name.is(intern!(py, "type")) {
            return constant(intern!(py, "SOCK_STREAM"));
        }
        if name.is(intern!(py, "proto")) {
            let proto = this.ask(py, |fd| {
                socket_option(fd, libc::SOL_SOCKET, libc::SO_PROTOCOL)
            })?;
            if let Some(Ok(proto)) = proto {
                return Ok(proto.into_pyobject(py)?.into_any().into());
            }
        }
        let is_method = [
            intern!(py, "getpeername"),
            intern!(py, "getsockname"),
            intern!(py, "setsockopt"),
            intern!(py, "getsockopt"),
        ]
        .iter()
        .any(|method| name.is(method));
        if is_method {
            return Ok(generic_attribute(slf, name)?.into());
        }
        Ok(Self::other(slf)?.getattr(name)?.into())
    }

    fn change(
        slf: &Bound<'_, PyAny>,
        name: &Bound<'_, PyString>,
        value: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let real = Self::other(slf)?;
        match value {
            Some(value) => real.setattr(name, value),
            None => real.delattr(name),
        }
    }

    fn other<'py>(slf: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = Self::of(slf)?;
        if let Some(real) = this.real.get() {
            return Ok(real.clone_ref(py).into_bound(py));
        }
        let real = match this.transport(py)? {
            Some(transport) => {
                held::flush(&transport, StreamTransport::of(&transport)?)?;
                info::real_socket(&transport)?
            }
            None => None,
        };
        let real = real.map_or_else(|| info::closed_socket(py, this.family), Ok)?;
        let mut made = Some(Owned::from(real));
        let kept = this.real.get_or_init(|| {
            made.take()
                .expect("invariant: a function is called once at most")
        });
        let kept = kept.clone_ref(py).into_bound(py);
        drop(made);
        Ok(kept)
    }
}

impl ShownSocket {
    fn of<'a>(object: &'a Bound<'_, PyAny>) -> PyResult<&'a Self> {
        CLASS
            .get(object)
            .ok_or_else(|| PyTypeError::new_err("a connection's socket was expected"))
    }

    /// The connection, unless nobody has it any more.
    fn transport<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let transport = self.transport.bind(py);
        Ok(transport.cast::<PyWeakrefReference>()?.upgrade())
    }

    fn family_name<'py>(&self, py: Python<'py>) -> &'py Bound<'py, PyString> {
        match self.family {
            libc::AF_INET => intern!(py, "AF_INET"),
            libc::AF_INET6 => intern!(py, "AF_INET6"),
            _ => intern!(py, "AF_UNIX"),
        }
    }

    /// What the kernel says of the descriptor; `None` if the connection has none any more.
    fn ask<T>(
        &self,
        py: Python<'_>,
        question: impl FnOnce(BorrowedFd<'_>) -> Result<T, Errno>,
    ) -> PyResult<Option<Result<T, Errno>>> {
        let Some(transport) = self.transport(py)? else {
            return Ok(None);
        };
        let this = StreamTransport::of(&transport)?;
        Ok(this.with(|stream| stream.endpoint.fd().map(question)))
    }

    /// Sends what the connection holds.
    fn send_held(&self, py: Python<'_>) -> PyResult<()> {
        match self.transport(py)? {
            Some(transport) => held::flush(&transport, StreamTransport::of(&transport)?),
            None => Ok(()),
        }
    }
}

/// Whether nobody has put a class of his own, or methods, in the place of Python's.
fn is_intact(py: Python<'_>) -> PyResult<bool> {
    let real = real(py)?;
    let class = real.module.bind(py).getattr(intern!(py, "socket"))?;
    Ok(class.is(real.class.class(py)) && real.class.is_intact(py)?)
}

/// A constant of the socket module.
fn constant(name: &Bound<'_, PyString>) -> PyResult<Owned> {
    let py = name.py();
    Ok(real(py)?.module.bind(py).getattr(name)?.into())
}

fn family_of(address: &Address) -> Option<c_int> {
    match address {
        Address::Ip(address) if address.is_ipv6() => Some(libc::AF_INET6),
        Address::Ip(_) => Some(libc::AF_INET),
        Address::Unix(_) => Some(libc::AF_UNIX),
        Address::Other => None,
    }
}

/// What is shown in place of a connection's socket; `None` if only the real one will do.
///
/// # Errors
/// `MemoryError`; what looking at the socket module raises.
pub(super) fn stand_in<'py>(slf: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = slf.py();
    let family = StreamTransport::of(slf)?.with(|stream| {
        let Endpoint::Native(fd) = &stream.endpoint else {
            return None;
        };
        match stream.peer.address() {
            Some(address) => family_of(&address),
            None => family_of(&getsockname(fd).ok()?.into()),
        }
    });
    let Some(family) = family else {
        return Ok(None);
    };
    if !is_intact(py)? {
        return Ok(None);
    }
    let shown = ShownSocket {
        transport: PyWeakrefReference::new(slf)?.into(),
        family,
        real: OnceLock::new(),
    };
    CLASS.instantiate(py, shown).map(Some)
}

/// An address that the kernel has told; `None` if only the real socket can tell it.
fn name<'py>(
    slf: &Bound<'py, PyAny>,
    answer: Option<Result<Option<Address>, Errno>>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    match answer {
        Some(Ok(Some(address))) => info::shown(slf.py(), &address),
        Some(Err(errno)) => Err(errno_error(slf.py(), errno)),
        Some(Ok(None)) | None => Ok(None),
    }
}

fn py_getpeername(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    let ask = |fd: BorrowedFd<'_>| Ok(getpeername(fd)?.map(Address::from));
    let answer = ShownSocket::of(slf)?.ask(py, ask)?;
    if let Some(name) = name(slf, answer)? {
        return Ok(name.into());
    }
    let real = ShownSocket::other(slf)?;
    Ok(real.reach0(intern!(py, "getpeername"))?.into())
}

fn py_getsockname(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    let ask = |fd: BorrowedFd<'_>| Ok(Some(Address::from(getsockname(fd)?)));
    let answer = ShownSocket::of(slf)?.ask(py, ask)?;
    if let Some(name) = name(slf, answer)? {
        return Ok(name.into());
    }
    let real = ShownSocket::other(slf)?;
    Ok(real.reach0(intern!(py, "getsockname"))?.into())
}

/// Whether an option changes nothing of what is held or received before its turn: how the peer is watched, and when and
/// in which pieces the kernel sends what it has.
const fn is_harmless(level: c_int, option: c_int) -> bool {
    match level {
        libc::SOL_SOCKET => matches!(
            option,
            libc::SO_KEEPALIVE | libc::SO_SNDBUF | libc::SO_RCVBUF
        ),
        libc::IPPROTO_TCP => matches!(
            option,
            libc::TCP_NODELAY
                | libc::TCP_QUICKACK
                | libc::TCP_KEEPIDLE
                | libc::TCP_KEEPINTVL
                | libc::TCP_KEEPCNT
                | libc::TCP_USER_TIMEOUT
        ),
        _ => false,
    }
}

/// The arguments of a call, if they are so many numbers and nothing else.
fn numbers<const N: usize>(args: &Arguments<'_, '_>) -> Option<[c_int; N]> {
    if !args.are_positional() || args.get(N).is_some() {
        return None;
    }
    let mut numbers = [0; N];
    for (place, number) in numbers.iter_mut().enumerate() {
        *number = args.get(place)?.cast::<PyInt>().ok()?.extract().ok()?;
    }
    Some(numbers)
}

fn py_setsockopt(slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>) -> PyResult<Owned> {
    let py = slf.py();
    let this = ShownSocket::of(slf)?;
    if let Some([level, option, value]) = numbers(&args)
        && is_harmless(level, option)
    {
        this.send_held(py)?;
        match this.ask(py, |fd| set_socket_option(fd, level, option, value))? {
            Some(Ok(())) => return Ok(info::none(py)),
            Some(Err(errno)) => return Err(errno_error(py, errno)),
            None => {}
        }
    }
    let real = ShownSocket::other(slf)?;
    Ok(args.hand_on(&real, intern!(py, "setsockopt"))?.into())
}

fn py_getsockopt(slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>) -> PyResult<Owned> {
    let py = slf.py();
    let this = ShownSocket::of(slf)?;
    if let Some([level, option]) = numbers(&args)
        && matches!(level, libc::SOL_SOCKET | libc::IPPROTO_TCP)
    {
        this.send_held(py)?;
        match this.ask(py, |fd| socket_option(fd, level, option))? {
            Some(Ok(value)) => return Ok(value.into_pyobject(py)?.into_any().into()),
            Some(Err(errno)) => return Err(errno_error(py, errno)),
            None => {}
        }
    }
    let real = ShownSocket::other(slf)?;
    Ok(args.hand_on(&real, intern!(py, "getsockopt"))?.into())
}

const METHODS: [Method; 4] = [
    Method {
        name: c"getpeername",
        doc: c"getpeername($self, /)\n--\n\nThe address of the peer.",
        kind: raw_noargs!(py_getpeername),
    },
    Method {
        name: c"getsockname",
        doc: c"getsockname($self, /)\n--\n\nThe own address.",
        kind: raw_noargs!(py_getsockname),
    },
    Method {
        name: c"setsockopt",
        doc: c"setsockopt($self, /, *args)\n--\n\nSet an option, after what was written has been sent.",
        kind: raw_fastcall!(py_setsockopt),
    },
    Method {
        name: c"getsockopt",
        doc: c"getsockopt($self, /, *args)\n--\n\nWhat an option is set to.",
        kind: raw_fastcall!(py_getsockopt),
    },
];

/// Makes the type and adds it to the module.
///
/// # Errors
/// What making a type raises.
pub(super) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let own = CLASS.create::<ShownSocket>(&module.py().get_type::<PyAny>())?;
    attach_methods(&own, &METHODS)?;
    // Before a program, or a test, puts something else in its place.
    real(module.py())?;
    module.add("ShownSocketBase", own)
}

/// Makes this class the one of all such objects, if it derives from ours.
///
/// # Errors
/// `TypeError` if it changes the layout.
pub(super) fn set_class(class: &Bound<'_, PyType>) -> PyResult<bool> {
    let is_one = CLASS.is_base_of(class);
    if is_one {
        CLASS.set_instance_class(class)?;
    }
    Ok(is_one)
}
