//! `getaddrinfo` on threads of the loop's own, without the GIL; numeric addresses without any thread.

use crate::ffi::Reach;
use std::ffi::CString;
use std::net::SocketAddr;
use std::sync::Arc;

use cloverleaf::{Query, ResolveError, Resolved};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyString};

use super::Loop;
use super::schedule::create_future;
use crate::error::os_error;
use crate::future;
use crate::job::{Internal, Job};

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

/// A future of what `socket.getaddrinfo` returns, with plain numbers for the enumerations.
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
    let injector = Arc::clone(&this.injector);
    let target = waiter.clone().unbind();
    let submitted = this.pool.submit(move || {
        let answer = query.resolve();
        let job = Job::Internal(Internal::Call(Box::new(move |py| {
            settle(&target.into_bound(py), answer)
        })));
        // A loop that was closed meanwhile has nobody left who waits.
        cloverleaf::ignore(injector.inject(job));
    });
    submitted.map_err(|error| pyo3::exceptions::PyRuntimeError::new_err(error.to_string()))?;
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

fn addresses(py: Python<'_>, found: Vec<Resolved>) -> PyResult<Bound<'_, PyList>> {
    let list = PyList::empty(py);
    for one in found {
        let address = socket_address(py, one.address)?;
        let canonname = one.canonname.unwrap_or_default();
        list.append((one.family, one.socktype, one.protocol, canonname, address))?;
    }
    Ok(list)
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
