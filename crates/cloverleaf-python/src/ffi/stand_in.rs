//! Native objects that stand in for another one, which is made only when somebody asks for more than they know.

use std::ffi::{c_int, c_void};

use pyo3::Borrowed;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::class::{Native, TypeSlot, slot};
use super::method::{answer, answer_attached, change};
use super::object::Owned;

/// An object that answers for another one.
pub(crate) trait StandIn: Native {
    /// The value of an attribute. Drops no `Py`.
    ///
    /// # Errors
    /// `AttributeError`.
    fn attribute(slf: &Bound<'_, PyAny>, name: &Bound<'_, PyString>) -> PyResult<Owned>;

    /// Sets an attribute, or deletes it. Drops no `Py`.
    ///
    /// # Errors
    /// What the other object says.
    fn change(
        slf: &Bound<'_, PyAny>,
        name: &Bound<'_, PyString>,
        value: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()>;

    /// The other object.
    ///
    /// # Errors
    /// What making it raises.
    fn other<'py>(slf: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>>;
}

/// The slots that make a type one of such objects.
pub(crate) fn stand_in_slots<T: StandIn>() -> Vec<TypeSlot> {
    vec![
        slot(ffi::Py_tp_getattro, get::<T> as *mut c_void),
        slot(ffi::Py_tp_setattro, set::<T> as *mut c_void),
        slot(ffi::Py_tp_repr, repr::<T> as *mut c_void),
        slot(ffi::Py_tp_hash, hash::<T> as *mut c_void),
        slot(ffi::Py_tp_richcompare, compare::<T> as *mut c_void),
    ]
}

/// The same where the other object can be awaited.
pub(crate) fn awaited_stand_in_slots<T: StandIn>() -> Vec<TypeSlot> {
    let mut slots = stand_in_slots::<T>();
    slots.push(slot(ffi::Py_tp_iter, iterate::<T> as *mut c_void));
    slots.push(slot(ffi::Py_am_await, iterate::<T> as *mut c_void));
    slots
}

unsafe extern "C" fn get<T: StandIn>(
    slf: *mut ffi::PyObject,
    name: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter asks on attached threads only.
    let py = unsafe { Python::assume_attached() };
    answer_attached(py, |py| {
        // SAFETY: the interpreter passes a live object.
        let slf = unsafe { Borrowed::from_ptr(py, slf) };
        // SAFETY: as above.
        let name = unsafe { Borrowed::from_ptr(py, name) };
        T::attribute(&slf, &*name.cast::<PyString>()?)
    })
}

unsafe extern "C" fn set<T: StandIn>(
    slf: *mut ffi::PyObject,
    name: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
) -> c_int {
    // SAFETY: the interpreter asks on attached threads only.
    let py = unsafe { Python::assume_attached() };
    change(py, |py| {
        // SAFETY: the interpreter passes a live object.
        let slf = unsafe { Borrowed::from_ptr(py, slf) };
        // SAFETY: as above.
        let name = unsafe { Borrowed::from_ptr(py, name) };
        // SAFETY: a live object, or null to delete the attribute.
        let value = unsafe { Borrowed::from_ptr_or_opt(py, value) };
        T::change(&slf, &*name.cast::<PyString>()?, value.as_deref())
    })
}

unsafe extern "C" fn repr<T: StandIn>(slf: *mut ffi::PyObject) -> *mut ffi::PyObject {
    answer(|py| {
        // SAFETY: the interpreter passes a live object.
        let slf = unsafe { Borrowed::from_ptr(py, slf) };
        Ok(T::other(&slf)?.repr()?.into())
    })
}

/// That of the other object, as the two are equal.
unsafe extern "C" fn hash<T: StandIn>(slf: *mut ffi::PyObject) -> ffi::Py_hash_t {
    let mut hash = -1;
    // SAFETY: the interpreter asks on attached threads only.
    let py = unsafe { Python::assume_attached() };
    let failed = change(py, |py| {
        // SAFETY: the interpreter passes a live object.
        let slf = unsafe { Borrowed::from_ptr(py, slf) };
        hash = T::other(&slf)?.hash()?;
        Ok(())
    });
    if failed == 0 { hash } else { -1 }
}

unsafe extern "C" fn compare<T: StandIn>(
    slf: *mut ffi::PyObject,
    to: *mut ffi::PyObject,
    operation: c_int,
) -> *mut ffi::PyObject {
    answer(|py| {
        // SAFETY: the interpreter passes a live object.
        let slf = unsafe { Borrowed::from_ptr(py, slf) };
        let other = T::other(&slf)?;
        // SAFETY: both are live, and the operation is the interpreter's own.
        let result = unsafe { ffi::PyObject_RichCompare(other.as_ptr(), to, operation) };
        // SAFETY: the call gave a new reference, or null with an exception set.
        let result = unsafe { Bound::from_owned_ptr_or_err(py, result) }?;
        Ok(result.into())
    })
}

unsafe extern "C" fn iterate<T: StandIn>(slf: *mut ffi::PyObject) -> *mut ffi::PyObject {
    answer(|py| {
        // SAFETY: the interpreter passes a live object.
        let slf = unsafe { Borrowed::from_ptr(py, slf) };
        let other = T::other(&slf)?;
        let iterator = super::call::call_method(&other, intern!(py, "__await__"), [])?;
        Ok(iterator.into())
    })
}
