//! Calls into Python that may be this thread's last.
//!
//! When the interpreter shuts down, a daemon thread that asks for the GIL ends within that call: before Python 3.14
//! by `pthread_exit(3)`, which unwinds the stack. Frames of Rust cannot be unwound by a stranger: the process would
//! die of it. So whatever may run Python code is called from here, in a frame that can be, and that stops the
//! unwinding by waiting for ever, as Python 3.14 itself lets such threads do.

use std::ffi::CStr;

use pyo3::{Python, ffi};

mod raw {
    use std::ffi::{c_char, c_int};

    use pyo3::ffi::{Py_ssize_t, PyObject};

    /// A `ternaryfunc` that may be a thread's last.
    pub(super) type UnwindingTernary =
        unsafe extern "C-unwind" fn(*mut PyObject, *mut PyObject, *mut PyObject) -> *mut PyObject;

    unsafe extern "C-unwind" {
        pub(super) fn PyObject_Vectorcall(
            callable: *mut PyObject,
            args: *const *mut PyObject,
            nargsf: usize,
            kwnames: *mut PyObject,
        ) -> *mut PyObject;
        pub(super) fn PyObject_VectorcallMethod(
            name: *mut PyObject,
            args: *const *mut PyObject,
            nargsf: usize,
            kwnames: *mut PyObject,
        ) -> *mut PyObject;
        pub(super) fn PyObject_Call(
            callable: *mut PyObject,
            args: *mut PyObject,
            kwargs: *mut PyObject,
        ) -> *mut PyObject;
        pub(super) fn PyIter_Send(
            iterator: *mut PyObject,
            value: *mut PyObject,
            result: *mut *mut PyObject,
        ) -> pyo3::ffi::PySendResult;
        /// Variadic, like `Py_BuildValue`.
        pub(super) fn PySys_Audit(event: *const c_char, format: *const c_char, ...) -> c_int;
    }
    // The sizes that the declarations above take for granted.
    const _: () = assert!(size_of::<Py_ssize_t>() == size_of::<usize>());
}

/// Ends the unwinding of a thread, if it comes by here.
pub(super) struct Hang;

impl Drop for Hang {
    fn drop(&mut self) {
        loop {
            std::thread::park();
        }
    }
}

/// `PyObject_Vectorcall`
///
/// # Safety
/// That of the C function; the thread is attached.
#[inline]
pub(super) unsafe fn vectorcall(
    callable: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    nargsf: usize,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    let hang = Hang;
    // SAFETY: as the caller promises.
    let result = unsafe { raw::PyObject_Vectorcall(callable, args, nargsf, names) };
    std::mem::forget(hang);
    result
}

/// `PyObject_VectorcallMethod`
///
/// # Safety
/// That of the C function; the thread is attached.
#[inline]
pub(super) unsafe fn vectorcall_method(
    name: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    nargsf: usize,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    let hang = Hang;
    // SAFETY: as the caller promises.
    let result = unsafe { raw::PyObject_VectorcallMethod(name, args, nargsf, names) };
    std::mem::forget(hang);
    result
}

/// `PyObject_Call`; `names` is null where no argument is given by name.
///
/// # Safety
/// That of the C function; the thread is attached.
#[inline]
pub(super) unsafe fn call_tuple(
    callable: *mut ffi::PyObject,
    args: *mut ffi::PyObject,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    let hang = Hang;
    // SAFETY: as the caller promises.
    let result = unsafe { raw::PyObject_Call(callable, args, names) };
    std::mem::forget(hang);
    result
}

/// What the interpreter does for a call without arguments of an object that takes them in a tuple only, but for its look
/// at how deep calls lie in each other: the call is made by nobody else. `None` if the object takes them otherwise.
///
/// # Safety
/// `callable` is a live object, and `empty` an empty tuple; the thread is attached.
#[inline]
pub(super) unsafe fn call_by_slot(
    callable: *mut ffi::PyObject,
    empty: *mut ffi::PyObject,
) -> Option<*mut ffi::PyObject> {
    // SAFETY: a live object has a type.
    let class = unsafe { ffi::Py_TYPE(callable) };
    // SAFETY: the type lives as long as its object.
    let flags = unsafe { ffi::PyType_GetFlags(class) };
    if flags & ffi::Py_TPFLAGS_HAVE_VECTORCALL != 0 {
        return None;
    }
    // SAFETY: as above; a slot may change only while another thread is attached, or in a call.
    let slot = unsafe { (*class).tp_call }?;
    // SAFETY: a slot in C has the same convention whether it unwinds or not.
    let slot = unsafe { std::mem::transmute::<ffi::ternaryfunc, raw::UnwindingTernary>(slot) };
    let hang = Hang;
    // SAFETY: as the caller promises; no argument is given by name.
    let result = unsafe { slot(callable, empty, std::ptr::null_mut()) };
    std::mem::forget(hang);
    Some(result)
}

/// `PyIter_Send` of None
///
/// # Safety
/// That of the C function; the thread is attached.
#[inline]
pub(super) unsafe fn send_none(
    iterator: *mut ffi::PyObject,
    result: *mut *mut ffi::PyObject,
) -> ffi::PySendResult {
    // SAFETY: None lives for ever.
    let none = unsafe { ffi::Py_None() };
    let hang = Hang;
    // SAFETY: as the caller promises.
    let kind = unsafe { raw::PyIter_Send(iterator, none, result) };
    std::mem::forget(hang);
    kind
}

/// `PySys_Audit` of what `socket.getaddrinfo` tells of; says whether no hook has raised.
///
/// # Safety
/// That of the C function: the objects are live; the thread is attached.
#[inline]
pub(super) unsafe fn audit_getaddrinfo(
    host: *mut ffi::PyObject,
    port: *mut ffi::PyObject,
    [family, kind, protocol]: [std::ffi::c_int; 3],
) -> bool {
    let (event, format) = (c"socket.getaddrinfo".as_ptr(), c"OOiii".as_ptr());
    let hang = Hang;
    // SAFETY: the format announces two objects, which are live as the caller promises, and three of C's `int`.
    let result = unsafe { raw::PySys_Audit(event, format, host, port, family, kind, protocol) };
    std::mem::forget(hang);
    result == 0
}

/// `PySys_Audit` with two objects; says whether no hook has raised.
///
/// # Safety
/// That of the C function: both objects are live; the thread is attached.
#[inline]
pub(super) unsafe fn audit(
    event: &CStr,
    first: *mut ffi::PyObject,
    second: *mut ffi::PyObject,
) -> bool {
    let hang = Hang;
    // SAFETY: the format announces two objects, which are live as the caller promises.
    let result = unsafe { raw::PySys_Audit(event.as_ptr(), c"OO".as_ptr(), first, second) };
    std::mem::forget(hang);
    result == 0
}

/// Whether somebody hears of audit events, who are told of nothing by this.
///
/// The interpreter makes an event's arguments only for hooks. These cannot be made, and so the event ends there.
pub(super) fn is_audited(_py: Python<'_>) -> bool {
    unsafe extern "C" fn refuse(_object: *mut std::ffi::c_void) -> *mut ffi::PyObject {
        // SAFETY: the interpreter calls it on this thread, which is attached.
        unsafe { ffi::PyErr_NoMemory() }
    }
    let hang = Hang;
    let refuse: unsafe extern "C" fn(*mut std::ffi::c_void) -> *mut ffi::PyObject = refuse;
    // SAFETY: the format announces a function of this type and a pointer for it; a `Python` proves that the thread is
    // attached.
    let result = unsafe {
        raw::PySys_Audit(
            c"socket.connect".as_ptr(),
            c"(O&)".as_ptr(),
            refuse,
            std::ptr::null_mut::<std::ffi::c_void>(),
        )
    };
    std::mem::forget(hang);
    if result != 0 {
        // SAFETY: as above.
        unsafe { ffi::PyErr_Clear() };
    }
    result != 0
}
