//! How asyncio's own C code calls `call_soon`: with a context, and with no eye for the handle that it gets.
//!
//! Its tasks and futures hand the context over by name, with one tuple of names that is always the same and that no code
//! in Python calls with. Who is called with that very tuple is called by them. Which tuple it is, is found out when the
//! module is made ([`learn_names`]), from a future of asyncio's whose loop is a stand-in that looks at what it is called
//! with; where asyncio's future is not what we expect, no tuple is known, and nobody is told from others.

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};
use pyo3::{Borrowed, ffi};

use super::arguments::Arguments;
use super::call::call_in_full;
use super::made::new_dict;
use super::method::{MethodKind, raw_fastcall};
use super::object::Owned;
use super::reach::Reach;

/// The tuple, kept for ever; null while it is not known.
static NAMES: AtomicPtr<ffi::PyObject> = AtomicPtr::new(ptr::null_mut());

impl<'a, 'py> Arguments<'a, 'py> {
    /// The context of a call by asyncio's own tasks and futures, which let go of the result without a look at it; `None`
    /// for every other call, and if they say that there is none.
    #[inline]
    pub(crate) fn context_of_unseen(&self) -> Option<Borrowed<'a, 'py, PyAny>> {
        if self.names.is_null() || self.names != NAMES.load(Ordering::Relaxed) {
            return None;
        }
        // It is a tuple of one name, so this is the value that goes with it.
        self.values
            .get(self.positional)
            .map(|pointer| self.borrow(*pointer))
            .filter(|context| !context.is_none())
    }
}

/// What the stand-in does when it is asked to call back.
fn note(slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>) -> PyResult<Owned> {
    let py = slf.py();
    // SAFETY: null, or the tuple of names that the interpreter hands over.
    let names = unsafe { Borrowed::from_ptr_or_opt(py, args.names) };
    if let Some(names) = names
        && let Ok(tuple) = names.cast_exact::<PyTuple>()
        && tuple.len() == 1
        && tuple.get_item(0)?.eq("context")?
    {
        // Kept for ever, so that no other tuple is ever found at its address.
        NAMES.store(names.to_owned().into_ptr(), Ordering::Relaxed);
    }
    Ok(py.None().into_bound(py).into())
}

fn stand_in(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let MethodKind::Fastcall(function) = raw_fastcall!(note) else {
        unreachable!("invariant: the macro makes no other kind")
    };
    let definition = Box::leak(Box::new(ffi::PyMethodDef {
        ml_name: c"call_soon".as_ptr(),
        ml_meth: ffi::PyMethodDefPointer {
            PyCFunctionFastWithKeywords: function,
        },
        ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        ml_doc: ptr::null(),
    }));
    let none = py.None();
    // SAFETY: the definition lives for ever, and the function takes a reference to what it is bound to.
    let call_soon = unsafe { ffi::PyCFunction_NewEx(definition, none.as_ptr(), ptr::null_mut()) };
    // SAFETY: the call gave a new reference, or null with an exception set.
    let call_soon = unsafe { Bound::from_owned_ptr_or_err(py, call_soon) }?;
    let attributes = new_dict(py)?;
    attributes.set_item(intern!(py, "call_soon"), call_soon)?;
    // Called with nothing, it says that debug mode is off.
    attributes.set_item(
        intern!(py, "get_debug"),
        py.get_type::<pyo3::types::PyBool>(),
    )?;
    let class = py
        .import(intern!(py, "types"))?
        .getattr(intern!(py, "SimpleNamespace"))?;
    call_in_full(&class, &PyTuple::empty(py), &attributes)
}

/// Whether a class has this method by C code of its own.
fn is_native(class: &Bound<'_, PyAny>, name: &Bound<'_, PyString>) -> PyResult<bool> {
    let method = class.getattr(name)?;
    // SAFETY: the object is live.
    let kind = unsafe { ffi::Py_TYPE(method.as_ptr()) };
    Ok(kind == &raw mut ffi::PyMethodDescr_Type)
}

/// Finds out which tuple it is.
///
/// # Errors
/// What asyncio raises when it is not as expected.
pub(crate) fn learn_names(py: Python<'_>) -> PyResult<()> {
    let class = py
        .import(intern!(py, "_asyncio"))?
        .getattr(intern!(py, "Future"))?;
    let (set_result, add_done_callback) =
        (intern!(py, "set_result"), intern!(py, "add_done_callback"));
    if !is_native(&class, set_result)? || !is_native(&class, add_done_callback)? {
        return Ok(());
    }
    let keywords = new_dict(py)?;
    keywords.set_item(intern!(py, "loop"), stand_in(py)?)?;
    let future = call_in_full(&class, &PyTuple::empty(py), &keywords)?;
    future.reach(set_result, (py.None(),))?;
    // It is done, so it calls back at once, by its loop.
    future.reach(add_done_callback, (py.get_type::<pyo3::types::PyBool>(),))?;
    Ok(())
}
