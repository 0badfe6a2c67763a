//! Attributes that are looked for where they were found the last time.
//!
//! Objects of one class have mostly got their attributes in one order. An entry of a dict that is looked at by its place
//! costs half of what it takes to find it by its name.

use std::ptr;
use std::sync::atomic::{AtomicIsize, AtomicU32, Ordering};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use super::once::Interned;

/// Of so many that were not where they were looked for, one is asked for its place: to find that out takes longer than
/// to find the attribute, and objects of two classes would take turns at it.
const ASKED_ONE_OF: u32 = 64;

/// An attribute's name, and where the last one was; made by `attribute!`, one for each place in the code.
pub(crate) struct Attribute {
    name: Interned,
    place: AtomicIsize,
    missed: AtomicU32,
}

/// An entry of a dict, whose references are the dict's, and the place behind it.
struct Entry {
    key: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
    next: isize,
}

impl Attribute {
    /// Nothing is known of its place.
    pub(crate) const fn new(name: &'static str) -> Self {
        Self {
            name: Interned::new(name),
            place: AtomicIsize::new(0),
            missed: AtomicU32::new(0),
        }
    }

    /// Its name.
    #[inline]
    pub(crate) fn name<'py>(&self, py: Python<'py>) -> &Bound<'py, PyString> {
        self.name.get(py)
    }

    /// The value of the attribute, if an object with these has it.
    ///
    /// # Errors
    /// `MemoryError`.
    #[inline]
    pub(crate) fn find<'py>(
        &self,
        dict: &Bound<'py, PyDict>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let name = self.name(dict.py());
        if cfg!(Py_GIL_DISABLED) {
            // Another thread could change the dict between the look and the reference, and all would count what they miss.
            return dict.get_item(name);
        }
        match entry_at(dict, self.place.load(Ordering::Relaxed)) {
            Some(entry) if entry.key == name.as_ptr() => {
                // SAFETY: the dict holds a reference, and nothing has run since it was asked.
                Ok(Some(unsafe {
                    Bound::from_borrowed_ptr(dict.py(), entry.value)
                }))
            }
            Some(_) | None => self.search(dict, name),
        }
    }

    #[cold]
    fn search<'py>(
        &self,
        dict: &Bound<'py, PyDict>,
        name: &Bound<'py, PyString>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        if self
            .missed
            .fetch_add(1, Ordering::Relaxed)
            .is_multiple_of(ASKED_ONE_OF)
        {
            self.learn_place(dict, name);
        }
        dict.get_item(name)
    }

    fn learn_place(&self, dict: &Bound<'_, PyDict>, name: &Bound<'_, PyString>) {
        let mut place = 0;
        while let Some(entry) = entry_at(dict, place) {
            if entry.key == name.as_ptr() {
                self.place.store(entry.next - 1, Ordering::Relaxed);
                return;
            }
            place = entry.next;
        }
    }
}

/// The first entry from a place on, which need not be one of this dict's. It is the dict's for as long as nobody else runs.
#[inline]
fn entry_at(dict: &Bound<'_, PyDict>, place: isize) -> Option<Entry> {
    let mut entry = Entry {
        key: ptr::null_mut(),
        value: ptr::null_mut(),
        next: place,
    };
    // SAFETY: the dict is live, the thread is attached, and the interpreter compares the place, which is never negative,
    // with the dict's size.
    let found = unsafe {
        ffi::PyDict_Next(
            dict.as_ptr(),
            &raw mut entry.next,
            &raw mut entry.key,
            &raw mut entry.value,
        )
    };
    (found != 0).then_some(entry)
}

/// An attribute that is looked for at this place in the code.
macro_rules! attribute {
    ($text:expr) => {{
        static ATTRIBUTE: $crate::ffi::Attribute = $crate::ffi::Attribute::new($text);
        &ATTRIBUTE
    }};
}
