//! `getaddrinfo` on threads of the loop's own, without the GIL; numeric addresses without any thread.

use crate::ffi::Reach;
use std::ffi::CString;
use std::net::SocketAddr;

use cloverleaf::{Query, ResolveError, Resolved, literal};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyInt, PyList, PyString, PyTuple};

use super::Loop;
use super::blocking::Wait;
use super::futures::create_future;
use crate::error::os_error;
use crate::ffi::{Arguments, Method, Once, Owned, raw_fastcall};
use crate::future;

/// A name or a number as `getaddrinfo(3)` takes it.
fn text_of(value: &Bound<'_, PyAny>) -> PyResult<Option<CString>> {
    if value.is_none() {
        return Ok(None);
    }
    let bytes = if let Ok(text) = value.cast::<PyString>() {
        text.to_str()?.as_bytes().to_vec()
    } else if let Ok(bytes) = value.cast::<PyBytes>() {
        bytes.as_bytes().to_vec()
    } else if let Ok(number) = value.extract::<i64>() {
        number.to_string().into_bytes()
    } else {
        return Err(PyTypeError::new_err(
            "getaddrinfo() takes a string, bytes, an integer or None",
        ));
    };
    let text = CString::new(bytes).map_err(|_| PyValueError::new_err("embedded null character"))?;
    Ok(Some(text))
}

/// What `socket.getaddrinfo` returns, if the host is an address and the port a number; else None.
///
/// # Errors
/// What making the answer raises; `RuntimeError` for an answer by a closed loop.
fn numeric<'py>(
    this: &Loop,
    host: &Bound<'py, PyAny>,
    port: &Bound<'py, PyAny>,
    sort: [&Bound<'py, PyAny>; 4],
) -> PyResult<Option<Bound<'py, PyList>>> {
    let py = host.py();
    let Ok(text) = host.cast_exact::<PyString>() else {
        return Ok(None);
    };
    let port = if port.is_none() {
        Ok(0)
    } else if port.is_exact_instance_of::<PyInt>() {
        port.extract::<u16>()
    } else {
        return Ok(None);
    };
    let numbers = sort.map(|number| match number.cast::<PyInt>() {
        Ok(number) => number.extract::<i32>().ok(),
        Err(_) => None,
    });
    let (Ok(host), Ok(port), [Some(family), Some(kind), Some(protocol), Some(flags)]) =
        (text.to_str(), port, numbers)
    else {
        // Whatever is wrong with them, the socket module says so.
        return Ok(None);
    };
    let Some(found) = literal(host, port, [family, kind, protocol, flags]) else {
        return Ok(None);
    };
    this.check_open()?;
    let address = match found.address {
        // An address of this family is spelt in one way only.
        SocketAddr::V4(v4) => (text, v4.port()).into_pyobject(py)?.into_any(),
        SocketAddr::V6(_) => socket_address(py, found.address)?,
    };
    PyList::new(py, [address_info(py, &found, address)?]).map(Some)
}

/// `_numeric_address(host, port, family, kind, proto, flags)`: what `getaddrinfo` answers for an address; None for a name.
fn numeric_address(slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>) -> PyResult<Owned> {
    let given: [Option<_>; 6] = std::array::from_fn(|index| args.get(index));
    let [
        Some(host),
        Some(port),
        Some(family),
        Some(kind),
        Some(proto),
        Some(flags),
    ] = given
    else {
        return Err(PyTypeError::new_err(
            "_numeric_address() was called with too few arguments",
        ));
    };
    let this = Loop::of(slf)?;
    let found = numeric(this, &host, &port, [&*family, &*kind, &*proto, &*flags])?;
    let py = slf.py();
    Ok(found.map_or_else(|| py.None().into_bound(py).into(), Into::into))
}

pub(super) const METHODS: [Method; 1] = [
    Method {
        name: c"_numeric_address",
        doc: c"_numeric_address($self, host, port, family, kind, proto, flags, /)\n--\n\nWhat getaddrinfo answers for an \
             address, or None for a name.",
        kind: raw_fastcall!(numeric_address),
    },
];

/// A future of what `socket.getaddrinfo` returns.
///
/// # Errors
/// `TypeError` or `ValueError` for arguments that are no names; the future gets `socket.gaierror`.
pub(super) fn getaddrinfo<'py>(
    slf: &Bound<'py, Loop>,
    host: &Bound<'py, PyAny>,
    port: &Bound<'py, PyAny>,
    [family, socktype, protocol, flags]: [i32; 4],
) -> PyResult<Bound<'py, PyAny>> {
    let py = slf.py();
    let this = slf.get();
    this.check_open()?;
    let query = Query {
        host: text_of(host)?,
        service: text_of(port)?,
        family,
        socktype,
        protocol,
        flags,
    };
    let waiter = create_future(slf.as_any())?.into_bound(py);
    if let Some(found) = query.numeric() {
        future::set_result(&waiter, addresses(py, found)?.as_any())?;
        return Ok(waiter);
    }
    this.answer_from_thread(Wait::NameServer, &waiter, move || query.resolve(), settle)?;
    Ok(waiter)
}

fn settle(waiter: &Bound<'_, PyAny>, answer: Result<Vec<Resolved>, ResolveError>) -> PyResult<()> {
    let py = waiter.py();
    match answer {
        Ok(found) => future::set_result(waiter, addresses(py, found)?.as_any()),
        Err(error) => future::set_exception(waiter, &exception(py, error)?),
    }
}

fn exception(py: Python<'_>, error: ResolveError) -> PyResult<PyErr> {
    if let Some(errno) = error.errno {
        return Ok(os_error(py, &std::io::Error::from_raw_os_error(errno)));
    }
    let class = py
        .import(intern!(py, "socket"))?
        .getattr(intern!(py, "gaierror"))?;
    Ok(PyErr::from_value(
        class.invoke((error.code, error.message))?,
    ))
}

/// The members of an enumeration by their numbers.
type Members = Once<Py<PyDict>>;

static FAMILIES: Members = Once::new();
static KINDS: Members = Once::new();

/// A number as the socket module shows it: a member of its enumeration, or itself if there is none.
fn member<'py>(
    py: Python<'py>,
    members: &'static Members,
    enumeration: &str,
    number: i32,
) -> PyResult<Bound<'py, PyAny>> {
    let members = members.get_or_try_init(py, || {
        let by_number = PyDict::new(py);
        for member in py
            .import(intern!(py, "socket"))?
            .getattr(enumeration)?
            .try_iter()?
        {
            let member = member?;
            by_number.set_item(member.extract::<i32>()?, member)?;
        }
        PyResult::Ok(by_number.unbind())
    })?;
    let number = number.into_pyobject(py)?;
    match members.bind(py).get_item(&number)? {
        Some(member) => Ok(member),
        None => Ok(number.into_any()),
    }
}

fn addresses(py: Python<'_>, found: Vec<Resolved>) -> PyResult<Bound<'_, PyList>> {
    let list = PyList::empty(py);
    for one in found {
        let address = socket_address(py, one.address)?;
        list.append(address_info(py, &one, address)?)?;
    }
    Ok(list)
}

/// One entry of what `socket.getaddrinfo` returns.
fn address_info<'py>(
    py: Python<'py>,
    found: &Resolved,
    address: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyTuple>> {
    let canonname = found.canonname.as_deref().unwrap_or_default();
    let family = member(py, &FAMILIES, "AddressFamily", found.family)?;
    let kind = member(py, &KINDS, "SocketKind", found.socktype)?;
    (family, kind, found.protocol, canonname, address).into_pyobject(py)
}

/// An IP address as the socket module shows it.
///
/// # Errors
/// `MemoryError`.
pub(crate) fn socket_address(py: Python<'_>, address: SocketAddr) -> PyResult<Bound<'_, PyAny>> {
    match address {
        SocketAddr::V4(v4) => Ok((v4.ip().to_string(), v4.port())
            .into_pyobject(py)?
            .into_any()),
        SocketAddr::V6(v6) => {
            let parts = (v6.ip().to_string(), v6.port(), v6.flowinfo(), v6.scope_id());
            Ok(parts.into_pyobject(py)?.into_any())
        }
    }
}
