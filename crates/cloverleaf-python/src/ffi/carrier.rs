//! The `StopIteration` that carries one result after the other, for as long as nobody but the interpreter sees it.
//!
//! To make such an exception and to free it takes as long as the rest of a read that finds its bytes. `await` takes the
//! value out, drops the exception and then what it has awaited. So when that goes, and the exception is ours alone and has
//! not been used, it is emptied and kept for the next result. Whoever has caught it keeps it: the next one is new. The GIL
//! guards all this; without it, and before Python 3.12, each result has a new one.

use std::mem::offset_of;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::ffi;
use pyo3::prelude::*;

/// An empty exception that is ours alone, or null; the reference is this place's.
static EMPTY: AtomicPtr<ffi::PyObject> = AtomicPtr::new(ptr::null_mut());
/// The exception that carries a result, or null; the reference is this place's.
static LOADED: AtomicPtr<ffi::PyObject> = AtomicPtr::new(ptr::null_mut());
/// The object whose result that is, which says when it is freed: so this is never another one at the same place.
static AWAITED: AtomicPtr<ffi::PyObject> = AtomicPtr::new(ptr::null_mut());

/// Where an exception has its arguments, and its value.
const ARGUMENTS: usize = offset_of!(ffi::PyStopIterationObject, args);
const VALUE: usize = offset_of!(ffi::PyStopIterationObject, value);
/// Where a tuple has its first object.
const FIRST: usize = offset_of!(ffi::PyTupleObject, ob_item);
/// The fields that are null unless somebody has used the exception.
const UNUSED: [usize; 5] = [
    offset_of!(ffi::PyStopIterationObject, dict),
    offset_of!(ffi::PyStopIterationObject, notes),
    offset_of!(ffi::PyStopIterationObject, traceback),
    offset_of!(ffi::PyStopIterationObject, context),
    offset_of!(ffi::PyStopIterationObject, cause),
];

/// Whether nobody but a frame that awaits it holds this object, which ends with a result.
///
/// From Python 3.14 on what lies on a frame's stack may be a variable's, without a reference of the stack's: it outlives the
/// call, and the exception, with all frames that its traceback holds, would be kept for as long.
#[inline]
pub(super) fn is_only_awaited(awaitable: *mut ffi::PyObject) -> bool {
    !cfg!(Py_GIL_DISABLED) && is_ours_alone(awaitable) && is_on_stack_alone(awaitable)
}

/// Whether the one reference to an object is the running frame's stack's.
#[cfg(Py_3_14)]
#[inline]
fn is_on_stack_alone(object: *mut ffi::PyObject) -> bool {
    // SAFETY: the caller has a live object, and the thread is attached.
    unsafe { ffi::PyUnstable_Object_IsUniqueReferencedTemporary(object) != 0 }
}

/// Whether the one reference to an object is the running frame's stack's.
#[cfg(not(Py_3_14))]
#[inline]
const fn is_on_stack_alone(_object: *mut ffi::PyObject) -> bool {
    true
}

/// Puts a reference into a place; what was there. Two steps, as nobody else has the GIL: one takes six times as long.
#[inline]
fn exchange(place: &AtomicPtr<ffi::PyObject>, new: *mut ffi::PyObject) -> *mut ffi::PyObject {
    let before = place.load(Ordering::Relaxed);
    place.store(new, Ordering::Relaxed);
    before
}

/// The exception that was used last, with this result; None if there is none to be used again.
#[inline]
pub(super) fn load<'py>(result: &Bound<'py, PyAny>) -> Option<Bound<'py, PyAny>> {
    let stop = exchange(&EMPTY, ptr::null_mut());
    // SAFETY: the reference was the place's, or it was empty.
    let stop = unsafe { Bound::from_owned_ptr_or_opt(result.py(), stop) }?;
    // Whoever looks at all objects there are has found it, too.
    if !is_unseen(stop.as_ptr()) {
        return None;
    }
    // SAFETY: the object is live.
    if unsafe { ffi::PyObject_IS_GC(result.as_ptr()) } != 0 {
        track(read(stop.as_ptr(), ARGUMENTS));
    }
    fill(
        stop.as_ptr(),
        [result.clone(), result.clone()].map(Bound::into_ptr),
    );
    Some(stop)
}

/// Has an exception taken back when this object is freed, whose result it carries.
#[inline]
pub(super) fn note(awaitable: *mut ffi::PyObject, stop: &Bound<'_, PyAny>) {
    let before = exchange(&LOADED, stop.clone().into_ptr());
    AWAITED.store(awaitable, Ordering::Relaxed);
    // SAFETY: the reference was the place's, or it was empty.
    unsafe { ffi::Py_XDECREF(before) };
}

/// Takes back the exception that carries the result of this object, which is being freed.
#[inline]
pub(super) fn take_back(freed: *mut ffi::PyObject) {
    if AWAITED.load(Ordering::Relaxed) == freed {
        AWAITED.store(ptr::null_mut(), Ordering::Relaxed);
        keep(exchange(&LOADED, ptr::null_mut()));
    }
}

/// Empties an exception and keeps it, if it is as it was when it was made; gives it up otherwise.
#[inline]
fn keep(stop: *mut ffi::PyObject) {
    if !is_unseen(stop) || !EMPTY.load(Ordering::Relaxed).is_null() {
        // SAFETY: the reference was the place's.
        unsafe { ffi::Py_DECREF(stop) };
        return;
    }
    // SAFETY: the thread is attached.
    let none = unsafe { ffi::Py_None() };
    let results = fill(stop, [none, none]);
    EMPTY.store(stop, Ordering::Relaxed);
    for result in results {
        // SAFETY: the reference was the exception's. What this runs finds everything in its place.
        unsafe { ffi::Py_DECREF(result) };
    }
}

/// Makes a tuple known to the collector, which forgets those in which there is nothing for it.
#[inline]
fn track(tuple: *mut ffi::PyObject) {
    // SAFETY: the caller has a live tuple.
    if unsafe { ffi::PyObject_GC_IsTracked(tuple) } == 0 {
        // SAFETY: the tuple is whole.
        unsafe { ffi::PyObject_GC_Track(tuple.cast()) };
    }
}

/// Whether an exception is ours alone, and nobody has used it.
#[inline]
fn is_unseen(stop: *mut ffi::PyObject) -> bool {
    let flag = stop.wrapping_byte_add(offset_of!(ffi::PyStopIterationObject, suppress_context));
    // SAFETY: an object of this class has such a field, a `char` of C's.
    let is_suppressing = unsafe { flag.cast::<u8>().read() } != 0;
    let arguments = read(stop, ARGUMENTS);
    is_ours_alone(stop)
        && !is_suppressing
        && UNUSED.iter().all(|field| read(stop, *field).is_null())
        && is_ours_alone(arguments)
        // SAFETY: the arguments of an exception are a live tuple.
        && unsafe { ffi::Py_SIZE(arguments) } == 1
        && read(arguments, FIRST) == read(stop, VALUE)
}

#[inline]
fn is_ours_alone(object: *mut ffi::PyObject) -> bool {
    // SAFETY: the caller has a live object.
    let references = unsafe { ffi::Py_REFCNT(object) };
    references == 1
}

/// Puts a value, of which the references are given, into both its places; returns what was there, with its references.
#[inline]
fn fill(stop: *mut ffi::PyObject, value: [*mut ffi::PyObject; 2]) -> [*mut ffi::PyObject; 2] {
    let arguments = read(stop, ARGUMENTS);
    #[cfg(Py_3_14)]
    {
        let hash = arguments.wrapping_byte_add(offset_of!(ffi::PyTupleObject, ob_hash));
        // SAFETY: the field is within the tuple, which is ours alone; this is "not known yet".
        unsafe { hash.cast::<ffi::Py_hash_t>().write(-1) };
    }
    let places = [(stop, VALUE), (arguments, FIRST)];
    std::array::from_fn(|place| {
        let (object, field) = places[place];
        let field: *mut *mut ffi::PyObject = object.wrapping_byte_add(field).cast();
        // SAFETY: the field is within the object, which is ours alone and whole.
        unsafe { field.replace(value[place]) }
    })
}

/// What a field of an object holds.
#[inline]
fn read(object: *mut ffi::PyObject, field: usize) -> *mut ffi::PyObject {
    let field: *mut *mut ffi::PyObject = object.wrapping_byte_add(field).cast();
    // SAFETY: the caller has a live object that has a reference there, or null.
    unsafe { field.read() }
}
