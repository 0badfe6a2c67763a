//! What a TLS transport tells about itself, and whose it is.

use pyo3::Borrowed;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::class::TlsTransport;
use crate::ffi::{Arguments, Method, Owned, Reach, raw_fastcall, raw_noargs, raw_onename};
use crate::transport::{is_buffered, name_and_default, none};

/// What the `SSLObject` tells by a method of its own, once the handshake is done.
const ASKED_LATE: [(&str, &str); 3] = [
    ("peercert", "getpeercert"),
    ("cipher", "cipher"),
    ("compression", "compression"),
];

fn get_extra_info(slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>) -> PyResult<Owned> {
    let py = slf.py();
    let this = TlsTransport::of(slf)?;
    let (name, default) = name_and_default(&args)?;
    if let Some(value) = known(py, this, &name)? {
        return Ok(value.into());
    }
    let default = default.map_or_else(|| py.None().into_bound(py), Borrowed::to_owned);
    match this.inner(py) {
        Some(inner) => {
            let arguments = (name, default);
            Ok(inner
                .reach(intern!(py, "get_extra_info"), arguments)?
                .into())
        }
        None => Ok(default.into()),
    }
}

fn known<'py>(
    py: Python<'py>,
    this: &TlsTransport,
    name: &Bound<'py, PyAny>,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let extra = this.extra.bind(py);
    if extra.contains(name)? {
        return extra.get_item(name).map(Some);
    }
    let Ok(text) = name.cast::<PyString>() else {
        return Ok(None);
    };
    let text = text.to_str().unwrap_or_default();
    let Some((_, method)) = ASKED_LATE.iter().find(|(known, _)| *known == text) else {
        return Ok(None);
    };
    let key = intern!(py, "ssl_object");
    if !extra.contains(key)? {
        return Ok(None);
    }
    let value = extra.get_item(key)?.reach0(&PyString::intern(py, method))?;
    extra.set_item(name, &value)?;
    Ok(Some(value))
}

fn set_protocol(slf: &Bound<'_, PyAny>, protocol: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let is_buffered = is_buffered(protocol)?;
    let new = Owned::from(protocol.clone());
    let old = TlsTransport::of(slf)?.with(slf.py(), |connection| {
        connection.is_buffered = is_buffered;
        connection.protocol.replace(new)
    });
    drop(old);
    Ok(none(slf.py()))
}

fn get_protocol(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    Ok(TlsTransport::of(slf)?
        .protocol(py)
        .map_or_else(|| none(py), Into::into))
}

fn get_loop(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    Ok(TlsTransport::of(slf)?.event_loop.clone_ref(slf.py()))
}

fn get_inner(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    Ok(TlsTransport::of(slf)?
        .inner(py)
        .map_or_else(|| none(py), Into::into))
}

pub(super) const METHODS: [Method; 5] = [
    Method {
        name: c"get_extra_info",
        doc: c"get_extra_info($self, name, default=None)\n--\n\nWhat is known under this name: 'sslcontext'; once \
             the handshake is done 'ssl_object', 'peercert', 'cipher' and 'compression'; what the inner transport \
             knows; else the default.",
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
        name: c"_get_loop",
        doc: c"_get_loop($self, /)\n--\n\nThe loop of this transport.",
        kind: raw_noargs!(get_loop),
    },
    Method {
        name: c"_get_inner",
        doc: c"_get_inner($self, /)\n--\n\nThe transport that carries the records, or None.",
        kind: raw_noargs!(get_inner),
    },
];
