//! The version of a class: whether its attributes, or those of a class that it derives from, may have changed.

use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::prelude::*;
use pyo3::types::PyType;

/// A number that changes with the class; zero while it has none, which says nothing.
///
/// Python's own caches of attributes rely on it: an attribute that is set takes the number away, and a class that is
/// looked into gets a new one.
#[inline]
pub(crate) fn class_version(class: &Bound<'_, PyType>) -> u32 {
    let class = class.as_type_ptr();
    // SAFETY: `class` is a live type object, which keeps the field for as long as it lives.
    let field = unsafe { &raw mut (*class).tp_version_tag };
    // SAFETY: the field is aligned and live. Python without the GIL changes it atomically, and Python with it only on
    // the thread that is attached, which is this one.
    unsafe { AtomicU32::from_ptr(field) }.load(Ordering::Relaxed)
}
