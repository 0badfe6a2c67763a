//! Methods and properties in C's own calling conventions, put on a type when the module is made.
//!
//! A method is written as a safe function of Rust; `noargs!`-like constructors wrap it so that a panic becomes an
//! exception (a panic that crossed into C would end the process) and an error is raised.

use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pyo3::prelude::*;
use pyo3::types::PyType;
use pyo3::{Borrowed, ffi};

use super::arguments::Arguments;
use super::memory::{panicked, raise};
use super::object::Owned;

/// What a method answers.
pub(crate) type Answer = PyResult<Owned>;

#[inline]
pub(super) fn answer(body: impl FnOnce(Python<'_>) -> Answer) -> *mut ffi::PyObject {
    Python::attach(|py| answer_attached(py, body))
}

#[inline]
pub(super) fn answer_attached(
    py: Python<'_>,
    body: impl FnOnce(Python<'_>) -> Answer,
) -> *mut ffi::PyObject {
    match catch_unwind(AssertUnwindSafe(|| body(py))) {
        Ok(Ok(object)) => object.into_raw(),
        Ok(Err(error)) => raise(py, error),
        Err(panic) => raise(py, panicked(py, &*panic)),
    }
}

/// The same for a change, which has no result.
#[inline]
pub(super) fn change(
    py: Python<'_>,
    body: impl FnOnce(Python<'_>) -> PyResult<()>,
) -> std::ffi::c_int {
    let done = answer_attached(py, |py| {
        body(py)?;
        Ok(py.None().into_bound(py).into())
    });
    if done.is_null() {
        return -1;
    }
    // SAFETY: the reference is the one that was made above.
    unsafe { ffi::Py_DECREF(done) };
    0
}

/// Serves a call without arguments.
///
/// # Safety
/// `slf` is a live object and the thread is attached: what the interpreter guarantees to a method.
#[inline]
pub(crate) unsafe fn call_noargs(
    slf: *mut ffi::PyObject,
    body: impl FnOnce(&Bound<'_, PyAny>) -> Answer,
) -> *mut ffi::PyObject {
    answer(|py| {
        // SAFETY: the caller guarantees a live object.
        let slf = unsafe { Borrowed::from_ptr(py, slf) };
        body(&slf)
    })
}

/// The same, without telling PyO3 that the thread is attached; see [`call_attached`].
///
/// # Safety
/// That of [`call_noargs`].
#[inline]
pub(crate) unsafe fn call_noargs_attached(
    slf: *mut ffi::PyObject,
    body: impl FnOnce(&Bound<'_, PyAny>) -> Answer,
) -> *mut ffi::PyObject {
    // SAFETY: the caller guarantees that the thread is attached.
    let py = unsafe { Python::assume_attached() };
    answer_attached(py, |py| {
        // SAFETY: the caller guarantees a live object.
        let slf = unsafe { Borrowed::from_ptr(py, slf) };
        body(&slf)
    })
}

/// Serves a call with any arguments.
///
/// # Safety
/// What the interpreter guarantees to a `METH_FASTCALL | METH_KEYWORDS` method: `args` has `count` positional values
/// and one for each item of `names`, which is a tuple of strings or null; the thread is attached.
#[inline]
pub(crate) unsafe fn call_fastcall(
    slf: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
    body: impl FnOnce(&Bound<'_, PyAny>, Arguments<'_, '_>) -> Answer,
) -> *mut ffi::PyObject {
    // SAFETY: as the caller promises.
    answer(|py| unsafe { with_arguments(py, slf, (args, count), names, body) })
}

/// The same, without telling PyO3 that the thread is attached, which would cost as much as the rest of a call from
/// another thread.
///
/// PyO3 would put off the drop of a `Py` here. So `body` drops none: `Owned` and `Bound` do not ask.
///
/// # Safety
/// That of [`call_fastcall`].
#[inline]
pub(crate) unsafe fn call_attached(
    slf: *mut ffi::PyObject,
    args: *const *mut ffi::PyObject,
    count: ffi::Py_ssize_t,
    names: *mut ffi::PyObject,
    body: impl FnOnce(&Bound<'_, PyAny>, Arguments<'_, '_>) -> Answer,
) -> *mut ffi::PyObject {
    // SAFETY: the caller guarantees that the thread is attached.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: as the caller promises.
    answer_attached(py, |py| unsafe {
        with_arguments(py, slf, (args, count), names, body)
    })
}

/// Gives `body` the arguments of a call.
///
/// # Safety
/// That of [`call_fastcall`].
#[inline]
unsafe fn with_arguments(
    py: Python<'_>,
    slf: *mut ffi::PyObject,
    (args, count): (*const *mut ffi::PyObject, ffi::Py_ssize_t),
    names: *mut ffi::PyObject,
    body: impl FnOnce(&Bound<'_, PyAny>, Arguments<'_, '_>) -> Answer,
) -> Answer {
    let positional = usize::try_from(count).unwrap_or(0);
    let named = if names.is_null() {
        0
    } else {
        // SAFETY: the caller guarantees a tuple.
        usize::try_from(unsafe { ffi::PyTuple_GET_SIZE(names) }).unwrap_or(0)
    };
    let values = if positional + named == 0 {
        &[]
    } else {
        // SAFETY: the caller guarantees so many values.
        unsafe { std::slice::from_raw_parts(args, positional + named) }
    };
    // SAFETY: the caller guarantees a live object.
    let slf = unsafe { Borrowed::from_ptr(py, slf) };
    body(
        &slf,
        Arguments {
            values,
            positional,
            names,
            py,
        },
    )
}

/// How a method is called.
#[derive(Clone, Copy)]
pub(crate) enum MethodKind {
    /// `METH_NOARGS`
    NoArgs(unsafe extern "C" fn(*mut ffi::PyObject, *mut ffi::PyObject) -> *mut ffi::PyObject),
    /// `METH_FASTCALL | METH_KEYWORDS`
    Fastcall(ffi::PyCFunctionFastWithKeywords),
}

/// A method to be put on a type.
#[derive(Clone, Copy)]
pub(crate) struct Method {
    /// Its name in Python.
    pub(crate) name: &'static CStr,
    /// Its docstring, which begins with the signature as `inspect` reads it.
    pub(crate) doc: &'static CStr,
    /// Its function.
    pub(crate) kind: MethodKind,
}

/// Wraps a `fn(&Bound<PyAny>) -> PyResult<Owned>` as a method without arguments, called in this way.
macro_rules! raw_nothing {
    ($call:ident, $function:path) => {{
        #[expect(
            unsafe_code,
            reason = "part of the fence: C calls this, and it only hands the call on"
        )]
        unsafe extern "C" fn raw(
            slf: *mut pyo3::ffi::PyObject,
            _: *mut pyo3::ffi::PyObject,
        ) -> *mut pyo3::ffi::PyObject {
            // SAFETY: the interpreter calls this as a METH_NOARGS method.
            unsafe { crate::ffi::raw::$call(slf, $function) }
        }
        crate::ffi::MethodKind::NoArgs(raw)
    }};
}

/// Wraps a function as a method without arguments.
macro_rules! raw_noargs {
    ($function:path) => {
        crate::ffi::raw_nothing!(call_noargs, $function)
    };
}

/// Like `raw_noargs`, for what is called for every future or message and drops no `Py`.
macro_rules! raw_noargs_attached {
    ($function:path) => {
        crate::ffi::raw_nothing!(call_noargs_attached, $function)
    };
}

/// Wraps a `fn(&Bound<PyAny>, &Bound<PyAny>) -> PyResult<Owned>` as a method with one argument, which may be given
/// by its name.
macro_rules! raw_onename {
    ($function:path, $method:literal, $name:literal) => {{
        fn by_place_or_name(
            slf: &pyo3::Bound<'_, pyo3::PyAny>,
            args: crate::ffi::Arguments<'_, '_>,
        ) -> pyo3::PyResult<crate::ffi::Owned> {
            $function(slf, &*args.only($method, $name)?)
        }
        crate::ffi::raw_fastcall!(by_place_or_name)
    }};
}

/// Wraps a `fn(&Bound<PyAny>, Arguments) -> PyResult<Owned>` as a method with any arguments, called in this way.
macro_rules! raw_keywords {
    ($call:ident, $function:path) => {{
        #[expect(
            unsafe_code,
            reason = "part of the fence: C calls this, and it only hands the call on"
        )]
        unsafe extern "C" fn raw(
            slf: *mut pyo3::ffi::PyObject,
            args: *const *mut pyo3::ffi::PyObject,
            count: pyo3::ffi::Py_ssize_t,
            names: *mut pyo3::ffi::PyObject,
        ) -> *mut pyo3::ffi::PyObject {
            // SAFETY: the interpreter calls this as a METH_FASTCALL | METH_KEYWORDS method.
            unsafe { crate::ffi::raw::$call(slf, args, count, names, $function) }
        }
        crate::ffi::MethodKind::Fastcall(raw)
    }};
}

/// Wraps a function as a method with any arguments.
macro_rules! raw_fastcall {
    ($function:path) => {
        crate::ffi::raw_keywords!(call_fastcall, $function)
    };
}

/// Like `raw_fastcall`, for what runs for every callback or message and drops no `Py`.
macro_rules! raw_attached {
    ($function:path) => {
        crate::ffi::raw_keywords!(call_attached, $function)
    };
}

pub(crate) use {
    raw_attached, raw_fastcall, raw_keywords, raw_noargs, raw_noargs_attached, raw_nothing,
    raw_onename,
};

/// Puts methods on a type. On the very class of an object they are called without a detour by the interpreter's
/// specialised instructions; inherited ones cost 5 to 8 ns more.
///
/// # Errors
/// `MemoryError`, or what setting an attribute of the type raises.
pub(crate) fn attach_methods(class: &Bound<'_, PyType>, methods: &[Method]) -> PyResult<()> {
    for method in methods {
        let (pointer, flags) = match method.kind {
            MethodKind::NoArgs(function) => (
                ffi::PyMethodDefPointer {
                    PyCFunction: function,
                },
                ffi::METH_NOARGS,
            ),
            MethodKind::Fastcall(function) => (
                ffi::PyMethodDefPointer {
                    PyCFunctionFastWithKeywords: function,
                },
                ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
            ),
        };
        // The descriptor keeps a pointer to its definition, so the definition is never freed.
        let definition = Box::leak(Box::new(ffi::PyMethodDef {
            ml_name: method.name.as_ptr(),
            ml_meth: pointer,
            ml_flags: flags,
            ml_doc: method.doc.as_ptr(),
        }));
        // SAFETY: the type is live, and the definition lives for ever.
        let descriptor = unsafe { ffi::PyDescr_NewMethod(class.as_type_ptr(), definition) };
        // SAFETY: the call gave a new reference, or null with an exception set.
        let descriptor = unsafe { Bound::from_owned_ptr_or_err(class.py(), descriptor) }?;
        class.setattr(in_text(method.name), descriptor)?;
    }
    Ok(())
}

/// A name that we have written ourselves.
fn in_text(name: &'static CStr) -> &'static str {
    name.to_str().expect("invariant: our names are ASCII")
}

/// Puts a property that can only be read on a type.
///
/// # Errors
/// What building the property raises.
pub(crate) fn attach_property(
    class: &Bound<'_, PyType>,
    name: &'static CStr,
    get: Getter,
) -> PyResult<()> {
    let definition = Box::leak(Box::new(property(name, get)));
    // SAFETY: the type is live, and the definition lives for ever.
    let descriptor = unsafe { ffi::PyDescr_NewGetSet(class.as_type_ptr(), definition) };
    // SAFETY: the call gave a new reference, or null with an exception set.
    let descriptor = unsafe { Bound::from_owned_ptr_or_err(class.py(), descriptor) }?;
    class.setattr(in_text(name), descriptor)
}

/// What changes an attribute; None deletes it.
pub(crate) type Setter = fn(&Bound<'_, PyAny>, Option<&Bound<'_, PyAny>>) -> PyResult<()>;

/// Puts an attribute that is kept elsewhere on a type.
///
/// # Errors
/// What building the property raises.
pub(crate) fn attach_attribute(
    class: &Bound<'_, PyType>,
    name: &'static CStr,
    access: (Getter, Setter),
) -> PyResult<()> {
    // The descriptor keeps pointers to both, so neither is ever freed.
    let access = Box::leak(Box::new(access));
    let definition = Box::leak(Box::new(ffi::PyGetSetDef {
        name: name.as_ptr(),
        get: Some(attribute_getter),
        set: Some(attribute_setter),
        doc: std::ptr::null(),
        closure: std::ptr::from_mut(access).cast(),
    }));
    // SAFETY: the type is live, and the definition lives for ever.
    let descriptor = unsafe { ffi::PyDescr_NewGetSet(class.as_type_ptr(), definition) };
    // SAFETY: the call gave a new reference, or null with an exception set.
    let descriptor = unsafe { Bound::from_owned_ptr_or_err(class.py(), descriptor) }?;
    class.setattr(in_text(name), descriptor)
}

unsafe extern "C" fn attribute_getter(
    slf: *mut ffi::PyObject,
    closure: *mut std::ffi::c_void,
) -> *mut ffi::PyObject {
    // SAFETY: `attach_attribute` stored such a pair there, which lives for ever.
    let (get, _) = unsafe { *closure.cast::<(Getter, Setter)>() };
    // SAFETY: the interpreter calls this as a property's getter.
    unsafe { call_noargs(slf, get) }
}

unsafe extern "C" fn attribute_setter(
    slf: *mut ffi::PyObject,
    value: *mut ffi::PyObject,
    closure: *mut std::ffi::c_void,
) -> std::ffi::c_int {
    // SAFETY: `attach_attribute` stored such a pair there, which lives for ever.
    let (_, set) = unsafe { *closure.cast::<(Getter, Setter)>() };
    Python::attach(|py| {
        change(py, |py| {
            // SAFETY: the interpreter passes a live object.
            let slf = unsafe { Borrowed::from_ptr(py, slf) };
            // SAFETY: a live object, or null to delete the attribute.
            let value = unsafe { Borrowed::from_ptr_or_opt(py, value) };
            set(&slf, value.as_deref())
        })
    })
}

/// The definition of a property that can only be read.
pub(super) fn property(name: &'static CStr, get: Getter) -> ffi::PyGetSetDef {
    ffi::PyGetSetDef {
        name: name.as_ptr(),
        get: Some(property_getter),
        set: None,
        doc: std::ptr::null(),
        closure: get as *mut std::ffi::c_void,
    }
}

/// What reads a property.
pub(crate) type Getter = fn(&Bound<'_, PyAny>) -> Answer;

unsafe extern "C" fn property_getter(
    slf: *mut ffi::PyObject,
    closure: *mut std::ffi::c_void,
) -> *mut ffi::PyObject {
    // SAFETY: `attach_property` stored a `Getter` there, and a function pointer has the size of a data pointer on
    // every platform that CPython runs on.
    let get = unsafe { std::mem::transmute::<*mut std::ffi::c_void, Getter>(closure) };
    // SAFETY: the interpreter calls this as a property's getter.
    unsafe { call_noargs(slf, get) }
}
