//! What the interpreter keeps of objects and classes: an instance's attributes, a class's version.

use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyType};

/// The attributes of an instance: its `__dict__`.
///
/// # Errors
/// `AttributeError` if it has none.
pub(crate) fn instance_dict<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    // SAFETY: the object is live and the thread is attached; no context is asked for.
    let dict = unsafe { ffi::PyObject_GenericGetDict(object.as_ptr(), std::ptr::null_mut()) };
    // SAFETY: the call gave a new reference, or null with an exception set.
    let dict = unsafe { Bound::from_owned_ptr_or_err(object.py(), dict) }?;
    Ok(dict.cast_into::<PyDict>()?)
}

/// Gives an instance other attributes instead of those that it has.
///
/// It assigns `__dict__`: `PyObject_GenericSetDict` leaves CPython 3.13.0 with both the new dict and the values that lie in
/// the object, and a store finds a place in these.
///
/// # Errors
/// `AttributeError` if it can have none.
pub(crate) fn replace_instance_dict(
    object: &Bound<'_, PyAny>,
    dict: &Bound<'_, PyDict>,
) -> PyResult<()> {
    object.setattr(intern!(object.py(), "__dict__"), dict)
}

/// An attribute as objects have it whose classes say nothing else.
///
/// # Errors
/// `AttributeError` if there is none, and what a property raises.
pub(crate) fn generic_attribute<'py>(
    object: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: both are live, and the thread is attached.
    let value = unsafe { ffi::PyObject_GenericGetAttr(object.as_ptr(), name.as_ptr()) };
    // SAFETY: the call gave a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(object.py(), value) }
}

/// Sets an attribute as objects do whose classes say nothing else, or deletes it.
///
/// # Errors
/// `AttributeError` if it cannot be set, or deleted; `TypeError` if the name is not a string.
pub(crate) fn set_generic_attribute(
    object: &Bound<'_, PyAny>,
    name: &Bound<'_, PyAny>,
    value: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    let value = value.map_or(std::ptr::null_mut(), Bound::as_ptr);
    // SAFETY: all are live, but for a null value, which stands for deleting; the thread is attached.
    let set = unsafe { ffi::PyObject_GenericSetAttr(object.as_ptr(), name.as_ptr(), value) };
    if set != 0 {
        return Err(PyErr::fetch(object.py()));
    }
    Ok(())
}

/// Whether the objects of a class have their attributes looked up as any object has, without a method for it.
pub(crate) fn has_plain_attributes(class: &Bound<'_, PyType>) -> bool {
    let [own, plain] = [class, &class.py().get_type::<PyAny>()].map(|class| {
        // SAFETY: a class is live, and its slot is a word that is read whole.
        let slot = unsafe { (*class.as_type_ptr()).tp_getattro };
        slot.map(|slot| slot as usize)
    });
    own == plain
}

/// The number that the interpreter has given to a class as it is now, with its bases: it changes when any of their
/// attributes does. Zero if it has given none.
pub(crate) fn class_version(class: &Bound<'_, PyType>) -> u32 {
    let class = class.as_type_ptr();
    // SAFETY: a class is live and its fields stay where they are.
    let version = unsafe { &raw mut (*class).tp_version_tag };
    // SAFETY: the field is an aligned 32-bit number, which without the GIL is read and written atomically.
    unsafe { AtomicU32::from_ptr(version) }.load(Ordering::Relaxed)
}
