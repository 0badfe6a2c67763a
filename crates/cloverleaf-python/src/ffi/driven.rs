//! The methods by which a coroutine is driven by hand, for any type of ours.

use pyo3::ffi;
use pyo3::prelude::*;

use super::arguments::Arguments;
use super::method::{Answer, Method, MethodKind, call_fastcall, call_noargs};

/// An object that is driven by hand.
pub(crate) trait Driven: 'static {
    /// Goes on.
    ///
    /// # Errors
    /// `StopIteration` with the result; what else ends it.
    fn send(slf: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> Answer;

    /// Goes on with an exception.
    ///
    /// # Errors
    /// Those of [`Driven::send`].
    fn throw(slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>) -> Answer;

    /// Ends it without a result.
    ///
    /// # Errors
    /// What ending it raises.
    fn close(slf: &Bound<'_, PyAny>) -> Answer;
}

/// The methods of such a type.
pub(crate) fn driven_methods<T: Driven>() -> [Method; 3] {
    [
        Method {
            name: c"send",
            doc: c"send($self, arg, /)\n--\n\nGo on; raises StopIteration with the result.",
            kind: MethodKind::Fastcall(send::<T>),
        },
        Method {
            name: c"throw",
            doc:
                c"throw($self, typ, val=None, tb=None, /)\n--\n\nRaise an exception where it waits.",
            kind: MethodKind::Fastcall(throw::<T>),
        },
        Method {
            name: c"close",
            doc: c"close($self, /)\n--\n\nEnd it without a result.",
            kind: MethodKind::NoArgs(close::<T>),
        },
    ]
}

unsafe extern "C" fn send<T: Driven>(
    slf: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    let body =
        |slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>| T::send(slf, &*args.only("send", "arg")?);
    // SAFETY: the interpreter calls this as a METH_FASTCALL | METH_KEYWORDS method.
    unsafe { call_fastcall(slf, args, count, names, body) }
}

unsafe extern "C" fn throw<T: Driven>(
    slf: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this as a METH_FASTCALL | METH_KEYWORDS method.
    unsafe { call_fastcall(slf, args, count, names, T::throw) }
}

unsafe extern "C" fn close<T: Driven>(
    slf: *mut ffi::PyObject,
    _: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: the interpreter calls this as a METH_NOARGS method.
    unsafe { call_noargs(slf, T::close) }
}
