//! Objects of our types that somebody makes past us.
//!
//! A value of ours lies only in objects that we have made, so the types refuse to be called. A program that sets another
//! `__new__` on a type comes past that, by `object.__new__`. A type that nobody derives from has no memory for such an
//! object. A class that Python code has derived has memory of Python's, which is empty: it lacks a reference that each
//! value has, and by that is told from ours. PyO3's types cannot be changed, if they are [frozen](freeze) when they are
//! complete.

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

use super::class::Native;

/// `tp_new` of our types.
pub(super) unsafe extern "C" fn refuse_new(
    class: *mut ffi::PyTypeObject,
    _args: *mut ffi::PyObject,
    _kwargs: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter hands a live type over.
    unsafe { refuse(class) }
}

/// `tp_alloc` of our types, though not of classes derived in Python.
pub(super) unsafe extern "C" fn refuse_memory(
    class: *mut ffi::PyTypeObject,
    _items: ffi::Py_ssize_t,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter hands a live type over.
    unsafe { refuse(class) }
}

/// # Safety
/// The class is live.
unsafe fn refuse(class: *mut ffi::PyTypeObject) -> *mut ffi::PyObject {
    Python::attach(|py| {
        // SAFETY: as the caller promises.
        let class = unsafe { pyo3::Borrowed::from_ptr(py, class.cast()) };
        PyTypeError::new_err(format!("cannot create {:?} instances", &*class)).restore(py);
        std::ptr::null_mut()
    })
}

/// Whether a value is at its place in an object.
///
/// # Safety
/// The object, whose type is that of the value or derived from it, is live or about to be freed.
#[inline]
pub(super) unsafe fn is_made<T: Native>(place: *const T) -> bool {
    let Some(offset) = T::ALWAYS_HELD else {
        return true;
    };
    let held: *const *mut ffi::PyObject = place.wrapping_byte_add(offset).cast();
    // SAFETY: the place is within the object, and aligned for the value, of which this word is a part. It was written
    // before anybody else saw the object, or is empty for ever.
    !unsafe { *held }.is_null()
}

/// The value at its place in an object, if it is there.
///
/// # Safety
/// As for [`is_made`]; the object lives as long as the reference, and its value was written before others saw it.
#[inline]
pub(super) unsafe fn value_at<'a, T: Native>(place: *const T) -> Option<&'a T> {
    // SAFETY: as the caller promises.
    if !unsafe { is_made(place) } {
        return None;
    }
    // SAFETY: the object was made by us, so the value is there, and stays until the object is freed.
    Some(unsafe { &*place })
}

/// Lets nobody change a type of PyO3's any more, whose bases cannot be changed either; classes that derive from it can.
///
/// # Errors
/// What the interpreter raises.
#[cfg_attr(
    not(Py_3_14),
    expect(clippy::unnecessary_wraps, reason = "later it may fail")
)]
pub(crate) fn freeze(class: &Bound<'_, PyType>) -> PyResult<()> {
    #[cfg(Py_3_14)]
    {
        // SAFETY: the type is live, and the thread attached.
        let frozen = unsafe { ffi::PyType_Freeze(class.as_type_ptr()) };
        if frozen < 0 {
            return Err(PyErr::fetch(class.py()));
        }
        Ok(())
    }
    #[cfg(not(Py_3_14))]
    {
        let class = class.as_type_ptr();
        // SAFETY: the type is live; nobody else knows of it while the module is being made.
        let flags = unsafe { &mut (*class).tp_flags };
        // 3.13t, on which we test what has no GIL.
        #[cfg(Py_GIL_DISABLED)]
        let flags = flags.get_mut();
        *flags |= ffi::Py_TPFLAGS_IMMUTABLETYPE;
        // SAFETY: as above.
        unsafe { ffi::PyType_Modified(class) };
        Ok(())
    }
}
