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
use crate::dotted::Dotted;
use crate::error::os_error;
use crate::ffi::{
    Arguments, Method, Once, Owned, audit_getaddrinfo, int_from, new_dict, new_list, raw_attached,
    signed_from, text_from, tuple_from,
};
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
    numbers: [i32; 4],
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
    let (Ok(host), Ok(port)) = (text.to_str(), port) else {
        // Whatever is wrong with them, the socket module says so.
        return Ok(None);
    };
    let Some(found) = literal(host, port, numbers) else {
        return Ok(None);
    };
    this.check_open()?;
    let address = match found.address {
        // An address of this family is spelt in one way only.
        SocketAddr::V4(v4) => {
            let port = int_from(py, v4.port().into())?;
            tuple_from(py, [text.as_any().clone(), port.into_any()])?.into_any()
        }
        SocketAddr::V6(_) => socket_address(py, found.address)?,
    };
    let list = new_list(py)?;
    list.append(address_info(py, &found, address)?)?;
    Ok(Some(list))
}

/// What stands for a number that is not given.
static ZERO: Once<Py<PyAny>> = Once::new();

/// An argument as C takes it; None for what the socket module must judge.
#[inline]
pub(super) fn number(argument: &Bound<'_, PyAny>) -> Option<i32> {
    let py = argument.py();
    // Most are not given, and so the very same object.
    if argument.is(ZERO.get_or_init(py, || PyInt::new(py, 0).into_any().unbind())) {
        return Some(0);
    }
    argument.cast::<PyInt>().ok()?.extract().ok()
}

/// `_numeric_address(host, port, family, kind, proto, flags)`: what `getaddrinfo` answers for an address; None for a name.
fn numeric_address(slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>) -> PyResult<Owned> {
    answer_numeric(slf, &args, false)
}

/// `_numeric_getaddrinfo(host, port, family, kind, proto, flags)`: the same for `getaddrinfo` itself, which is audited; None
/// in debug mode, too, where it is reported.
fn numeric_getaddrinfo(slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>) -> PyResult<Owned> {
    if Loop::of(slf)?.debug() {
        return Ok(slf.py().None().into_bound(slf.py()).into());
    }
    answer_numeric(slf, &args, true)
}

#[inline]
fn answer_numeric(
    slf: &Bound<'_, PyAny>,
    args: &Arguments<'_, '_>,
    is_audited: bool,
) -> PyResult<Owned> {
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
            "an address was asked for with too few arguments",
        ));
    };
    let py = slf.py();
    let nothing = || Ok(py.None().into_bound(py).into());
    let numbers = [
        number(&family),
        number(&kind),
        number(&proto),
        number(&flags),
    ];
    let [Some(family), Some(kind), Some(proto), Some(flags)] = numbers else {
        return nothing();
    };
    let numbers = [family, kind, proto, flags];
    let Some(found) = numeric(Loop::of(slf)?, &host, &port, numbers)? else {
        return nothing();
    };
    if is_audited {
        audit_getaddrinfo(&host, &port, [family, kind, proto])?;
    }
    Ok(found.into())
}

pub(super) const METHODS: [Method; 2] = [
    Method {
        name: c"_numeric_address",
        doc: c"_numeric_address($self, host, port, family, kind, proto, flags, /)\n--\n\nWhat getaddrinfo answers for an \
             address, or None for a name.",
        kind: raw_attached!(numeric_address),
    },
    Method {
        name: c"_numeric_getaddrinfo",
        doc: c"_numeric_getaddrinfo($self, host, port, family, kind, proto, flags, /)\n--\n\nThe same for getaddrinfo \
             itself: audited, and None in debug mode.",
        kind: raw_attached!(numeric_getaddrinfo),
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
        // What cannot be made an object is the waiter's error: nobody else tells it that the end has come.
        Ok(found) => match addresses(py, found) {
            Ok(found) => future::set_result(waiter, found.as_any()),
            Err(error) => future::set_exception(waiter, &error),
        },
        Err(error) => {
            let error = exception(py, error).unwrap_or_else(|instead| instead);
            future::set_exception(waiter, &error)
        }
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

/// The members of an enumeration by their numbers, and the first few at once.
struct Members {
    by_number: Py<PyDict>,
    first: [Option<Py<PyAny>>; FIRST_MEMBERS],
}

/// As many as hold what sockets of the Internet are made with: `AF_INET6` is 10 on Linux.
const FIRST_MEMBERS: usize = 11;

static FAMILIES: Once<Members> = Once::new();
static KINDS: Once<Members> = Once::new();

impl Members {
    fn of(py: Python<'_>, enumeration: &str) -> PyResult<Self> {
        let by_number = new_dict(py)?;
        let mut first = [const { None }; FIRST_MEMBERS];
        for member in py
            .import(intern!(py, "socket"))?
            .getattr(enumeration)?
            .try_iter()?
        {
            let member = member?;
            let number = member.extract::<i32>()?;
            if let Ok(index) = usize::try_from(number)
                && let Some(place) = first.get_mut(index)
            {
                *place = Some(member.clone().unbind());
            }
            by_number.set_item(number, member)?;
        }
        Ok(Self {
            by_number: by_number.unbind(),
            first,
        })
    }
}

/// A number as the socket module shows it: a member of its enumeration, or itself if there is none.
fn member<'py>(
    py: Python<'py>,
    members: &'static Once<Members>,
    enumeration: &str,
    number: i32,
) -> PyResult<Bound<'py, PyAny>> {
    let members = members.get_or_try_init(py, || Members::of(py, enumeration))?;
    if let Ok(index) = usize::try_from(number)
        && let Some(Some(member)) = members.first.get(index)
    {
        return Ok(member.bind(py).clone());
    }
    let number = signed_from(py, number.into())?;
    match members.by_number.bind(py).get_item(&number)? {
        Some(member) => Ok(member),
        None => Ok(number.into_any()),
    }
}

fn addresses(py: Python<'_>, found: Vec<Resolved>) -> PyResult<Bound<'_, PyList>> {
    let list = new_list(py)?;
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
    let protocol = signed_from(py, found.protocol.into())?.into_any();
    let canonname = text_from(py, canonname)?.into_any();
    tuple_from(py, [family, kind, protocol, canonname, address])
}

/// An IP address as the socket module shows it.
///
/// # Errors
/// `MemoryError`.
pub(crate) fn socket_address(py: Python<'_>, address: SocketAddr) -> PyResult<Bound<'_, PyAny>> {
    let host = match address {
        SocketAddr::V4(v4) => text_from(py, Dotted::of(*v4.ip()).as_str()),
        SocketAddr::V6(v6) => text_from(py, &v6.ip().to_string()),
    }?
    .into_any();
    let port = int_from(py, address.port().into())?.into_any();
    match address {
        SocketAddr::V4(_) => Ok(tuple_from(py, [host, port])?.into_any()),
        SocketAddr::V6(v6) => {
            let flowinfo = int_from(py, v6.flowinfo().into())?.into_any();
            let scope_id = int_from(py, v6.scope_id().into())?.into_any();
            Ok(tuple_from(py, [host, port, flowinfo, scope_id])?.into_any())
        }
    }
}
