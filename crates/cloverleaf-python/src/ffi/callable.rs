//! Native objects that can be called, without a tuple or a dict of the arguments.

use std::ffi::c_void;

use pyo3::ffi;
use pyo3::prelude::*;

use super::arguments::Arguments;
use super::class::{Native, TypeSlot, slot};
use super::method::call_attached;
use super::object::Owned;

/// An object that can be called. The place of its [`Called`] is the type's `CALLED_AT`.
pub(crate) trait Callable: Native {
    /// Answers a call. Drops no `Py`.
    ///
    /// # Errors
    /// What it raises.
    fn call(slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>) -> PyResult<Owned>;
}

/// The function by which an object is called, where the interpreter looks for it.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(crate) struct Called(ffi::vectorcallfunc);

impl Called {
    /// That of this class.
    pub(crate) const fn of<T: Callable>() -> Self {
        Self(vectorcall::<T>)
    }
}

/// The slots that make a type one of such objects.
pub(crate) fn callable_slots() -> Vec<TypeSlot> {
    vec![slot(ffi::Py_tp_call, ffi::PyVectorcall_Call as *mut c_void)]
}

unsafe extern "C" fn vectorcall<T: Callable>(
    slf: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    nargsf: usize,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the flag is masked off, nothing else is done with the number.
    let count = unsafe { ffi::PyVectorcall_NARGS(nargsf) };
    // SAFETY: the interpreter calls this with what it would hand to a METH_FASTCALL | METH_KEYWORDS method.
    unsafe { call_attached(slf, args, count, names, T::call) }
}
