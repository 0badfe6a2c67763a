//! What the interpreter keeps of objects and classes: an instance's attributes, a class's version.

use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::prelude::*;
use pyo3::sync::critical_section::with_critical_section;
use pyo3::types::{PyDict, PyString, PyType};
use pyo3::{Borrowed, ffi};

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

/// The first `N` attributes of an instance, if they have these names in this order, which is then that of its `__init__`;
/// and whether it has more.
///
/// One walk over them takes a fraction of as many look-ups.
#[inline]
pub(crate) fn first_attributes<'py, const N: usize>(
    dict: &Bound<'py, PyDict>,
    names: [&Bound<'py, PyString>; N],
) -> Option<([Bound<'py, PyAny>; N], bool)> {
    if cfg!(Py_GIL_DISABLED) {
        return with_critical_section(dict, || walk(dict, names));
    }
    walk(dict, names)
}

fn walk<'py, const N: usize>(
    dict: &Bound<'py, PyDict>,
    names: [&Bound<'py, PyString>; N],
) -> Option<([Bound<'py, PyAny>; N], bool)> {
    let mut place = 0;
    let mut values = [const { None }; N];
    for (value, name) in values.iter_mut().zip(names) {
        let mut key = std::ptr::null_mut();
        let mut found = std::ptr::null_mut();
        // SAFETY: the dict is live, nothing changes it during the walk, and the places for the answers are ours.
        let is_there = unsafe {
            ffi::PyDict_Next(dict.as_ptr(), &raw mut place, &raw mut key, &raw mut found)
        };
        if is_there == 0 || key != name.as_ptr() {
            return None;
        }
        // SAFETY: the dict holds the value, so it is live.
        *value = Some(unsafe { Borrowed::from_ptr(dict.py(), found) }.to_owned());
    }
    Some((
        values.map(|value| value.expect("invariant: each was found")),
        dict.len() > N,
    ))
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
