//! The collector's hand: what each object that holds references shows to it.

use std::ffi::{c_int, c_void};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::pyclass::{PyTraverseError, PyVisit};

use super::object::{Owned, Slot};

/// The collector's hand: each reference is shown to it.
#[derive(Debug)]
pub(crate) struct Visitor {
    visit: ffi::visitproc,
    arg: *mut c_void,
    stopped: c_int,
}

impl Visitor {
    /// The hand that the collector has lent for one traversal.
    pub(super) const fn new(visit: ffi::visitproc, arg: *mut c_void) -> Self {
        Self {
            visit,
            arg,
            stopped: 0,
        }
    }

    /// What the collector is to be told at the end: zero, unless it has wished to stop.
    pub(super) const fn stopped(&self) -> c_int {
        self.stopped
    }

    /// Shows an object.
    pub(crate) fn object(&mut self, object: &Owned) {
        self.pointer(object.as_ptr());
    }

    /// Shows what a slot holds, if it holds anything.
    pub(crate) fn slot(&mut self, slot: &Slot) {
        self.pointer(slot.peek());
    }

    pub(super) fn pointer(&mut self, object: *mut ffi::PyObject) {
        if self.stopped == 0 && !object.is_null() {
            // SAFETY: this runs within `tp_traverse`, and the object is alive, since its holder is.
            self.stopped = unsafe { (self.visit)(object, self.arg) };
        }
    }
}

/// What holds references, each of which it shows.
pub(crate) trait Shown {
    /// Shows them.
    fn show(&self, visitor: &mut Visitor);
}

impl Shown for () {
    fn show(&self, _visitor: &mut Visitor) {}
}

impl Shown for Owned {
    fn show(&self, visitor: &mut Visitor) {
        visitor.object(self);
    }
}

impl<T> Shown for Py<T> {
    fn show(&self, visitor: &mut Visitor) {
        visitor.pointer(self.as_ptr());
    }
}

impl<T: Shown> Shown for Option<T> {
    fn show(&self, visitor: &mut Visitor) {
        if let Some(held) = self {
            held.show(visitor);
        }
    }
}

impl<A: Shown, B: Shown> Shown for (A, B) {
    fn show(&self, visitor: &mut Visitor) {
        self.0.show(visitor);
        self.1.show(visitor);
    }
}

impl<A: Shown, B: Shown, C: Shown> Shown for (A, B, C) {
    fn show(&self, visitor: &mut Visitor) {
        self.0.show(visitor);
        self.1.show(visitor);
        self.2.show(visitor);
    }
}

/// Shows what `show` shows to PyO3's visitor.
///
/// # Errors
/// The collector's wish to stop.
pub(crate) fn traverse_with(
    visit: &PyVisit<'_>,
    show: impl FnOnce(&mut Visitor),
) -> Result<(), PyTraverseError> {
    struct Bridge<'a, 'b> {
        visit: &'a PyVisit<'b>,
        result: Result<(), PyTraverseError>,
    }
    extern "C" fn hand_on(object: *mut ffi::PyObject, bridge: *mut c_void) -> c_int {
        // SAFETY: `traverse_with` passes a `Bridge` that lives through the traversal.
        let bridge = unsafe { &mut *bridge.cast::<Bridge<'_, '_>>() };
        // SAFETY: the visitor's holder has a reference to the object; `Py` is not dropped, so the count stays.
        let object = std::mem::ManuallyDrop::new(unsafe { borrowed_py(object) });
        bridge.result = bridge.visit.call(&*object);
        c_int::from(bridge.result.is_err())
    }
    let mut bridge = Bridge {
        visit,
        result: Ok(()),
    };
    show(&mut Visitor::new(hand_on, (&raw mut bridge).cast()));
    bridge.result
}

/// A `Py` for a reference that somebody else owns; it must not be dropped.
///
/// # Safety
/// The object is alive for as long as the result is used.
unsafe fn borrowed_py(object: *mut ffi::PyObject) -> Py<PyAny> {
    // SAFETY: `Py` is one non-null pointer, `repr(transparent)`, and the object is live.
    unsafe { std::mem::transmute::<*mut ffi::PyObject, Py<PyAny>>(object) }
}
