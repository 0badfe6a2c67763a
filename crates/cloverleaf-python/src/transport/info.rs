//! What a transport tells about itself: addresses, socket and protocol.
//!
//! Asked for late, as a server of many short connections never asks: the socket object is made at the first
//! question, and the addresses are kept when the connection ends.

use std::ffi::c_int;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use cloverleaf::Address;
use pyo3::Borrowed;
use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyString, PyType};

use super::buffered::is_buffered;
use super::endpoint::{Endpoint, Peer};
use super::extra::pretended;
use super::held;
use super::kind::Kind;
use super::shown_socket;
use super::stream::StreamTransport;
use crate::event_loop::socket_address;
use crate::ffi::{
    Arguments, Method, Once, Owned, Reach, bytes_from, new_dict, raw_fastcall, raw_noargs,
    raw_onename,
};

/// What asyncio wraps a transport's socket in.
static TRANSPORT_SOCKET: Once<Py<PyType>> = Once::new();

pub(crate) fn none(py: Python<'_>) -> Owned {
    py.None().into_bound(py).into()
}

pub(crate) fn boolean(py: Python<'_>, value: bool) -> Owned {
    PyBool::new(py, value).to_owned().into()
}

/// An address as the socket module shows it; `None` if only the socket module can.
///
/// # Errors
/// `MemoryError`.
pub(crate) fn shown<'py>(
    py: Python<'py>,
    address: &Address,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    match address {
        Address::Ip(address) => socket_address(py, *address).map(Some),
        Address::Unix(name) if name.first() == Some(&0) => {
            Ok(Some(bytes_from(py, name)?.into_any()))
        }
        Address::Unix(name) => {
            let path = py
                .import(intern!(py, "os"))?
                .reach(intern!(py, "fsdecode"), (bytes_from(py, name)?,))?;
            Ok(Some(path))
        }
        Address::Other => Ok(None),
    }
}

/// The Python socket of a transport, made at the first question: it owns the descriptor from then on. `None` if the
/// connection has ended without one.
///
/// # Errors
/// What making it raises.
pub(super) fn real_socket<'py>(slf: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = slf.py();
    let this = StreamTransport::of(slf)?;
    let fd = match this.with(|stream| socket_or_fd(py, &stream.endpoint)) {
        Ok(sock) => return Ok(sock.map(|sock| sock.into_bound(py))),
        Err(fd) => fd,
    };
    let sock = owning(py, fd)?;
    let mut endpoint = match Endpoint::of_socket(&sock) {
        Ok(endpoint) => Some(endpoint),
        Err(error) => {
            let_go(&sock);
            return Err(error);
        }
    };
    let (before, found) = this.with(|stream| match socket_or_fd(py, &stream.endpoint) {
        Err(_) => {
            let before = endpoint
                .take()
                .map(|endpoint| std::mem::replace(&mut stream.endpoint, endpoint));
            (before, None)
        }
        Ok(found) => (None, Some(found)),
    });
    if let Some(Endpoint::Native(fd)) = before {
        disown(fd);
    }
    let Some(found) = found else {
        return Ok(Some(sock));
    };
    // Another thread was first, or has closed the connection: the descriptor is no longer ours to give.
    sock.reach0(intern!(py, "detach"))?;
    Ok(found.map(|sock| sock.into_bound(py)))
}

/// A Python socket that has this descriptor, and knows that it does not block: what it shares with a duplicate would be
/// changed otherwise.
///
/// # Errors
/// What making it raises; the descriptor is its owner's still.
fn owning(py: Python<'_>, fd: RawFd) -> PyResult<Bound<'_, PyAny>> {
    let class = shown_socket::real_class(py)?;
    let arguments = new_dict(py)?;
    arguments.set_item(intern!(py, "type"), libc::SOCK_STREAM | libc::SOCK_NONBLOCK)?;
    arguments.set_item(intern!(py, "fileno"), fd)?;
    let new = class.getattr(intern!(py, "__new__"))?;
    let sock = new.call((&class,), Some(&arguments))?;
    let begun = sock
        .getattr(intern!(py, "__init__"))
        .and_then(|init| init.call((), Some(&arguments)));
    match begun {
        Ok(_) => Ok(sock),
        Err(error) => {
            let_go(&sock);
            Err(error)
        }
    }
}

/// Has a socket that could not be made let go of its descriptor, by the built-in method: no Python runs that could be
/// interrupted.
fn let_go(sock: &Bound<'_, PyAny>) {
    let py = sock.py();
    let detach = || {
        py.import(intern!(py, "_socket"))?
            .getattr(intern!(py, "socket"))?
            .reach(intern!(py, "detach"), (sock,))
    };
    cloverleaf::ignore(detach());
}

/// The Python socket of an endpoint, or `None` if it is closed and has none; or the number that one is to be made of.
fn socket_or_fd(py: Python<'_>, endpoint: &Endpoint) -> Result<Option<Owned>, RawFd> {
    match endpoint {
        Endpoint::Socket(socket) => Ok(Some(socket.object().clone_ref(py))),
        Endpoint::Native(fd) => Err(fd.as_raw_fd()),
        Endpoint::Closed(_, sock) => Ok(sock.as_ref().map(|sock| sock.clone_ref(py))),
    }
}

/// Forgets a descriptor that its new Python socket owns.
fn disown(fd: OwnedFd) {
    use std::os::fd::IntoRawFd;
    let _number = fd.into_raw_fd();
}

/// The socket as a program sees it; after the end of the connection, a closed one.
fn transport_socket<'py>(slf: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = slf.py();
    let this = StreamTransport::of(slf)?;
    let shown = this.with(|stream| stream.told(py, |rare| rare.shown.as_ref()));
    if let Some(shown) = shown {
        return Ok(shown.into_bound(py));
    }
    let sock = socket_to_show(slf)?;
    let class = TRANSPORT_SOCKET.import(py, "asyncio.trsock", "TransportSocket")?;
    let shown = class.invoke((sock,))?;
    let kept = shown.clone().into();
    let old = this.with(|stream| stream.rare().shown.replace(kept));
    drop(old);
    Ok(shown)
}

/// What a program sees as the socket: a stand-in for as long as it only looks, if that will do.
fn socket_to_show<'py>(slf: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    if let Some(sock) = shown_socket::stand_in(slf)? {
        return Ok(sock);
    }
    // Whoever knows the socket could tell that something is held.
    held::flush(slf, StreamTransport::of(slf)?)?;
    match real_socket(slf)? {
        Some(sock) => Ok(sock),
        None => kept_closed_socket(slf),
    }
}

/// A closed socket of this family.
///
/// # Errors
/// What making it raises.
pub(super) fn closed_socket(py: Python<'_>, family: c_int) -> PyResult<Bound<'_, PyAny>> {
    let sock = shown_socket::real_class(py)?.invoke((family,))?;
    sock.reach0(intern!(py, "close"))?;
    Ok(sock)
}

/// A closed socket of the family that the transport had, made when somebody asks for it too late.
fn kept_closed_socket<'py>(slf: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = slf.py();
    let this = StreamTransport::of(slf)?;
    let family = match this.with(|stream| stream.peer.address()) {
        Some(Address::Unix(_)) => libc::AF_UNIX,
        Some(Address::Ip(address)) if address.is_ipv6() => libc::AF_INET6,
        _ => libc::AF_INET,
    };
    let sock = closed_socket(py, family)?;
    let made = Owned::from(sock.clone());
    let unused = this.with(|stream| match &mut stream.endpoint {
        Endpoint::Closed(_, kept @ None) => kept.replace(made),
        Endpoint::Native(_) | Endpoint::Socket(_) | Endpoint::Closed(..) => Some(made),
    });
    drop(unused);
    Ok(sock)
}

/// Keeps the peer's address of an outgoing connection, which the kernel forgets when the peer goes.
///
/// # Errors
/// `MemoryError`.
pub(super) fn remember_peer(slf: &Bound<'_, PyAny>) -> PyResult<()> {
    let this = StreamTransport::of(slf)?;
    if this.with(|stream| matches!(stream.peer, Peer::Ask)) {
        drop(peername(slf)?);
    }
    Ok(())
}

/// Keeps the own address, while there is still a descriptor to ask.
///
/// # Errors
/// `MemoryError`.
pub(super) fn remember_sockname(slf: &Bound<'_, PyAny>) -> PyResult<()> {
    let is_kept = StreamTransport::of(slf)?.with(|stream| {
        let rare = stream.rare.as_ref();
        if rare.is_none_or(|rare| rare.sockname.is_none() && rare.own_address.is_none()) {
            let asked = stream.ask_own_address();
            stream.rare().own_address = asked;
        }
        let rare = stream.rare.as_ref();
        !rare.is_some_and(|rare| matches!(rare.own_address, Some(Address::Other)))
    });
    if !is_kept {
        // Only the socket module knows how to show it.
        drop(sockname(slf)?);
    }
    Ok(())
}

fn sockname<'py>(slf: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = slf.py();
    let this = StreamTransport::of(slf)?;
    if let Some(known) = this.with(|stream| stream.told(py, |rare| rare.sockname.as_ref())) {
        return Ok(Some(known.into_bound(py)));
    }
    let address = this.with(|stream| {
        let kept = stream.rare.as_ref();
        kept.and_then(|rare| rare.own_address.clone())
            .or_else(|| stream.ask_own_address())
    });
    let Some(address) = address else {
        return Ok(None);
    };
    let name = match shown(py, &address)? {
        Some(name) => Some(name),
        None => real_socket(slf)?
            .map(|sock| sock.reach0(intern!(py, "getsockname")))
            .transpose()?,
    };
    if let Some(name) = &name {
        let old = this.with(|stream| stream.rare().sockname.replace(name.clone().into()));
        drop(old);
    }
    Ok(name)
}

fn peername<'py>(slf: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = slf.py();
    let this = StreamTransport::of(slf)?;
    if let Some(known) = this.with(|stream| stream.told(py, |rare| rare.peername.as_ref())) {
        return Ok(Some(known.into_bound(py)));
    }
    let address = this.with(|stream| {
        stream.peer.address().or_else(|| {
            let asked = stream.endpoint.fd().map(rustix::net::getpeername);
            asked
                .and_then(Result::ok)
                .map(|address| address.map_or(Address::Unix(Vec::new()), Address::from))
        })
    });
    let Some(address) = address else {
        return Ok(None);
    };
    let name = match shown(py, &address)? {
        Some(name) => Some(name),
        None => real_socket(slf)?
            .map(|sock| sock.reach0(intern!(py, "getpeername")))
            .transpose()?,
    };
    if let Some(name) = &name {
        let old = this.with(|stream| stream.rare().peername.replace(name.clone().into()));
        drop(old);
    }
    Ok(name)
}

/// The arguments of `get_extra_info`.
///
/// # Errors
/// `TypeError` if there is no name, or another argument.
pub(crate) fn name_and_default<'a, 'py>(
    args: &Arguments<'a, 'py>,
) -> PyResult<(Borrowed<'a, 'py, PyAny>, Option<Borrowed<'a, 'py, PyAny>>)> {
    match args.bind("get_extra_info", ["name", "default"], 1)? {
        [Some(name), default] => Ok((name, default)),
        [None, _] => unreachable!("invariant: a required argument is there"),
    }
}

fn get_extra_info(slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>) -> PyResult<Owned> {
    let py = slf.py();
    let (name, default) = name_and_default(&args)?;
    if let Some(value) = pretended(slf, &name, default.as_deref())? {
        return Ok(value.into());
    }
    match known(slf, &name, default.as_deref())? {
        Some(value) => Ok(value.into()),
        None => Ok(default.map_or_else(|| none(py), Into::into)),
    }
}

fn known<'py>(
    slf: &Bound<'py, PyAny>,
    name: &Bound<'py, PyAny>,
    default: Option<&Bound<'py, PyAny>>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = slf.py();
    let (kind, is_whole, extra) = StreamTransport::of(slf)?.with(|stream| {
        let extra = stream.extra.as_ref();
        let extra = extra.map(|extra| extra.clone_ref(py));
        (stream.kind, stream.extra_is_whole, extra)
    });
    if let Some(extra) = extra {
        let extra = extra.into_bound(py);
        if is_whole {
            return extra.reach(intern!(py, "get"), (name, default)).map(Some);
        }
        if extra.contains(name)? {
            return extra.get_item(name).map(Some);
        }
    }
    let Ok(text) = name.cast::<PyString>() else {
        // asyncio looks it up in a dict.
        return name.hash().map(|_| None);
    };
    if kind != Kind::Socket {
        return Ok(None);
    }
    match text.to_str().unwrap_or_default() {
        "socket" => transport_socket(slf).map(Some),
        "sockname" => sockname(slf),
        "peername" => peername(slf),
        _ => Ok(None),
    }
}

/// `_extra`, where asyncio keeps all that `get_extra_info` knows: once asked for it is where ours looks, too.
///
/// # Errors
/// `TypeError` if this is no transport; what asking for the socket raises.
pub(super) fn extra(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    let this = StreamTransport::of(slf)?;
    let (kind, is_whole, given) = this.with(|stream| {
        let given = stream.extra.as_ref().map(|given| given.clone_ref(py));
        (stream.kind, stream.extra_is_whole, given)
    });
    let all = new_dict(py)?;
    if let Some(given) = given {
        if is_whole || kind != Kind::Socket {
            return Ok(given);
        }
        all.update(given.into_bound(py).cast()?)?;
    }
    if kind == Kind::Socket {
        all.set_item(intern!(py, "socket"), transport_socket(slf)?)?;
        all.set_item(intern!(py, "sockname"), sockname(slf)?)?;
        if !all.contains(intern!(py, "peername"))? {
            all.set_item(intern!(py, "peername"), peername(slf)?)?;
        }
    }
    set_extra(slf, Some(all.as_any()))?;
    Ok(all.into_any().into())
}

/// Sets `_extra`, to all that is known from now on.
///
/// # Errors
/// `TypeError` if this is no transport, `AttributeError` if it is to be deleted.
pub(super) fn set_extra(slf: &Bound<'_, PyAny>, value: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
    let this = StreamTransport::of(slf)?;
    let value = value.ok_or_else(|| PyAttributeError::new_err("_extra"))?;
    let new = Owned::from(value.clone());
    let old = this.with(|stream| {
        stream.extra_is_whole = true;
        stream.extra.replace(new)
    });
    drop(old);
    Ok(())
}

fn set_protocol(slf: &Bound<'_, PyAny>, protocol: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let buffered = is_buffered(protocol)?;
    let new = Owned::from(protocol.clone());
    let old = StreamTransport::of(slf)?.with(|stream| {
        stream.is_buffered = buffered;
        stream.protocol.replace(new)
    });
    drop(old);
    Ok(none(slf.py()))
}

fn get_protocol(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    Ok(StreamTransport::of(slf)?
        .protocol(py)
        .map_or_else(|| none(py), Into::into))
}

fn shown_descriptor(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let shown = StreamTransport::of(slf)?.with(|stream| stream.endpoint.shown());
    Ok(shown.into_pyobject(slf.py())?.into())
}

fn get_loop(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    Ok(StreamTransport::of(slf)?.event_loop.clone_ref(slf.py()))
}

pub(super) const METHODS: [Method; 5] = [
    Method {
        name: c"get_extra_info",
        doc: c"get_extra_info($self, name, default=None)\n--\n\nWhat is known under this name: 'socket', 'sockname', \
             'peername' and what the transport was made with; else the default.",
        kind: raw_fastcall!(get_extra_info),
    },
    Method {
        name: c"set_protocol",
        doc: c"set_protocol($self, protocol)\n--\n\nHand everything that comes from now on to this protocol.",
        kind: raw_onename!(set_protocol, "set_protocol", "protocol"),
    },
    Method {
        name: c"get_protocol",
        doc: c"get_protocol($self, /)\n--\n\nThe protocol, or None once the connection is lost.",
        kind: raw_noargs!(get_protocol),
    },
    Method {
        name: c"_shown_descriptor",
        doc: c"_shown_descriptor($self, /)\n--\n\nThe number that the descriptor has or had, and whether it is closed.",
        kind: raw_noargs!(shown_descriptor),
    },
    Method {
        name: c"_get_loop",
        doc: c"_get_loop($self, /)\n--\n\nThe loop of this transport.",
        kind: raw_noargs!(get_loop),
    },
];
