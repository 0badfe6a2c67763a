//! The attributes of a reader of ours, for asyncio's own methods and for programs: read and changed where native methods
//! keep them.

use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyByteArray, PyDict, PyString, PyType};

use super::feed::{Buffer, Feed, Known, feed_of};
use super::fields::Fields;
use super::waiter;
use crate::ffi::{Getter, Owned, Setter, attach_attribute, new_dict, replace_instance_dict};

/// Their names, in the order of asyncio's `__init__`.
pub(super) const NAMES: [&str; 8] = [
    "_limit",
    "_loop",
    "_buffer",
    "_eof",
    "_waiter",
    "_exception",
    "_transport",
    "_paused",
];
const LIMIT: usize = 0;
const LOOP: usize = 1;
const BUFFER: usize = 2;
const EOF: usize = 3;
const WAITER: usize = 4;
const EXCEPTION: usize = 5;
const TRANSPORT: usize = 6;
const PAUSED: usize = 7;

/// Reads one.
fn get<const NAME: usize>(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    let found = feed_of(slf)?;
    let feed = found.as_ref().and_then(|(feed, _)| Feed::of(feed));
    let Some(feed) = feed else {
        // No transport has been given it: it has its attributes where asyncio puts them.
        let name = PyString::intern(py, NAMES[NAME]);
        return match Fields::of(slf)?.find(&name)? {
            Some(value) => Ok(value.into()),
            None => Err(missing(NAMES[NAME])),
        };
    };
    if NAME == BUFFER {
        return feed.buffer_shown(py);
    }
    let object = {
        let known = feed.known(py);
        match NAME {
            LIMIT => Some(known.limit_object.clone_ref(py)),
            LOOP => Some(known.event_loop.clone_ref(py)),
            WAITER => known.waiter.as_ref().map(|waiter| waiter.clone_ref(py)),
            EXCEPTION => known.exception.as_ref().map(|error| error.clone_ref(py)),
            TRANSPORT => known.transport.as_ref().map(|object| object.clone_ref(py)),
            EOF => Some(PyBool::new(py, known.eof).to_owned().into()),
            _ => Some(PyBool::new(py, known.paused).to_owned().into()),
        }
    };
    match object {
        Some(object) if NAME == WAITER => waiter::shown(&object.into_bound(py)),
        Some(object) => Ok(object),
        None => Ok(py.None().into_bound(py).into()),
    }
}

#[cold]
fn missing(name: &str) -> PyErr {
    PyAttributeError::new_err(format!("'StreamReader' object has no attribute '{name}'"))
}

/// Deletes one: from now on the reader has its attributes where asyncio puts them, and asyncio's methods.
#[cold]
fn delete(slf: &Bound<'_, PyAny>, name: &'static str) -> PyResult<()> {
    give_back_attributes(slf)?;
    let fields = Fields::of(slf)?;
    let key = PyString::intern(slf.py(), name);
    if fields.find(&key)?.is_none() {
        return Err(missing(name));
    }
    fields.dict().del_item(key)
}

/// Changes one, or deletes it.
fn set<const NAME: usize>(
    slf: &Bound<'_, PyAny>,
    value: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    let py = slf.py();
    let Some(value) = value else {
        return delete(slf, NAMES[NAME]);
    };
    let found = feed_of(slf)?;
    let feed = found.as_ref().and_then(|(feed, _)| Feed::of(feed));
    let Some(feed) = feed else {
        return Fields::of(slf)?.set(&PyString::intern(py, NAMES[NAME]), value);
    };
    match NAME {
        EOF | PAUSED => {
            let is_true = value.is_truthy()?;
            let mut known = feed.known(py);
            match NAME {
                EOF => known.eof = is_true,
                _ => known.paused = is_true,
            }
        }
        LIMIT => {
            let limit = value.extract().ok();
            let object = {
                let mut known = feed.known(py);
                known.limit = limit;
                std::mem::replace(&mut known.limit_object, value.clone().into())
            };
            drop(object);
        }
        LOOP => {
            let old = std::mem::replace(&mut feed.known(py).event_loop, value.clone().into());
            drop(old);
        }
        BUFFER => {
            let old = feed.known(py).set_buffer(buffer_of(value));
            drop(old);
        }
        _ => {
            let new = (!value.is_none()).then(|| Owned::from(value.clone()));
            let old = {
                let mut known = feed.known(py);
                std::mem::replace(place::<NAME>(&mut known), new)
            };
            drop(old);
        }
    }
    Ok(())
}

fn place<const NAME: usize>(known: &mut Known) -> &mut Option<Owned> {
    match NAME {
        WAITER => &mut known.waiter,
        EXCEPTION => &mut known.exception,
        _ => &mut known.transport,
    }
}

/// What a program puts in place of the buffer.
pub(super) fn buffer_of(value: &Bound<'_, PyAny>) -> Buffer {
    let object = value.clone().into();
    if value.is_exact_instance_of::<PyByteArray>() {
        Buffer::Array(object)
    } else {
        Buffer::Other(object)
    }
}

/// The attributes of a reader as asyncio has them in its `__dict__`.
///
/// # Errors
/// What reading the attributes raises.
#[pyfunction]
pub(super) fn attributes_of<'py>(reader: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    let Some((object, fields)) = feed_of(reader)? else {
        return Fields::of(reader)?.dict().copy();
    };
    let all = new_dict(reader.py())?;
    for name in NAMES {
        all.set_item(name, reader.getattr(name)?)?;
    }
    for (name, value) in fields.dict() {
        if !value.is(&object) && !all.contains(&name)? {
            all.set_item(name, value)?;
        }
    }
    Ok(all)
}

/// Puts what a reader knows where asyncio has it, before it becomes one of another class, or loses some of it.
///
/// # Errors
/// What reading the attributes raises.
#[pyfunction]
pub(super) fn give_back_attributes(reader: &Bound<'_, PyAny>) -> PyResult<()> {
    let Some((object, _)) = feed_of(reader)? else {
        return Ok(());
    };
    let all = attributes_of(reader)?;
    if let Some(feed) = Feed::of(&object) {
        // A read that waits hands over to asyncio's own when it goes on.
        feed.known(reader.py()).limit = None;
    }
    replace_instance_dict(reader, &all)
}

/// Puts them on the class.
///
/// # Errors
/// What setting an attribute of a type raises.
pub(super) fn attach(class: &Bound<'_, PyType>) -> PyResult<()> {
    let all: [(&std::ffi::CStr, Getter, Setter); 8] = [
        (c"_limit", get::<LIMIT>, set::<LIMIT>),
        (c"_loop", get::<LOOP>, set::<LOOP>),
        (c"_buffer", get::<BUFFER>, set::<BUFFER>),
        (c"_eof", get::<EOF>, set::<EOF>),
        (c"_waiter", get::<WAITER>, set::<WAITER>),
        (c"_exception", get::<EXCEPTION>, set::<EXCEPTION>),
        (c"_transport", get::<TRANSPORT>, set::<TRANSPORT>),
        (c"_paused", get::<PAUSED>, set::<PAUSED>),
    ];
    for (name, get, set) in all {
        attach_attribute(class, name, (get, set))?;
    }
    Ok(())
}
