//! Objects that only their one owner can reach.
//!
//! Most handles are never seen by anybody: `call_soon` returns one, its caller drops it, and the queue of the running
//! loop has the only reference. The collector need not know such an object. Whatever it refers to is alive for as long
//! as the loop runs, which is garbage to nobody; so it is made untracked, becomes known ([`reveal`]) when it leaves the
//! queue with another owner or when the run ends, and most never do.
//!
//! What nobody can reach is also called without taking references to the callback first, and used again without being
//! freed. Without the GIL none of this is done: nobody can tell then that an object is private.

use std::marker::PhantomData;

use pyo3::exceptions::PyAttributeError;
use pyo3::prelude::*;
use pyo3::{Borrowed, ffi};

use super::call::{INLINE_ARGS, call_borrowed, call_in_context};
use super::class::{Native, NativeClass, has_weak_references};
use super::context::{context_for_call, is_frozen, keep_context};
use super::object::{Owned, Slot, end_something};
use super::stay::Stay;

/// An object with one reference, which is this, that nobody else finds: no weak reference leads there, nor does the
/// collector.
#[derive(Debug)]
pub(crate) struct Private<'py, T> {
    object: Bound<'py, PyAny>,
    value: PhantomData<T>,
}

/// A call that lies ready in the slots of an object: the callback with its arguments up to the first empty place, or
/// with the tuple of them in the first one, and the context to run it in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slots<'a> {
    pub(crate) context: &'a Slot,
    pub(crate) callback: &'a Slot,
    pub(crate) args: [&'a Slot; INLINE_ARGS],
    pub(crate) in_tuple: bool,
    /// Whether the context is a [copy](super::CallContext::is_copy) that was made for this call.
    pub(crate) in_copy: bool,
}

impl Slots<'_> {
    /// Whether the call is to be made in a copy that is still to be made, in which the next one may follow.
    #[inline]
    fn may_be_followed(self) -> bool {
        let has_callback = !self.callback.peek().is_null();
        self.in_copy && is_frozen(self.context.peek()) && has_callback && !self.ends_something()
    }

    /// Whether an object goes with the call.
    #[inline]
    fn ends_something(self) -> bool {
        let [first, second, third] = self.args.map(Slot::peek);
        end_something([self.callback.peek(), first, second, third])
    }
}

impl NativeClass {
    /// A new object that the collector does not know until it is [revealed](reveal).
    ///
    /// # Errors
    /// `MemoryError`.
    #[inline]
    pub(crate) fn instantiate_private<'py, T: Native>(
        &self,
        py: Python<'py>,
        value: T,
    ) -> PyResult<Bound<'py, PyAny>> {
        if cfg!(Py_GIL_DISABLED) {
            self.instantiate(py, value)
        } else {
            self.instantiate_untracked(py, value)
        }
    }

    fn would_be_private(&self, object: &Bound<'_, PyAny>) -> bool {
        let pointer = object.as_ptr();
        !may_be_shared(object) && !has_weak_references(pointer) && self.base_is_empty(pointer)
    }
}

impl<'py, T: Native> Private<'py, T> {
    /// Makes an object private, if this is the only way to it and it is one of these.
    ///
    /// # Errors
    /// Gives the object back, as it was.
    #[inline]
    pub(crate) fn new(object: Bound<'py, PyAny>) -> Result<Self, Bound<'py, PyAny>> {
        if T::class().get::<T>(&object).is_none() || !T::class().would_be_private(&object) {
            return Err(object);
        }
        // SAFETY: the object is live and of a collected type; untracking twice is allowed.
        unsafe { ffi::PyObject_GC_UnTrack(object.as_ptr().cast()) };
        Ok(Self {
            object,
            value: PhantomData,
        })
    }

    /// Its value.
    #[inline]
    pub(crate) fn value(&self) -> &T {
        match T::class().get::<T>(&self.object) {
            Some(value) => value,
            None => unreachable!("invariant: `new` has asked"),
        }
    }

    /// Calls what lies in these slots of the value.
    ///
    /// # Errors
    /// What the call raises.
    #[inline]
    pub(crate) fn call(
        &self,
        stay: &mut Stay<'_>,
        slots: impl FnOnce(&T) -> Slots<'_>,
    ) -> PyResult<()> {
        let slots = slots(self.value());
        if !slots.may_be_followed() {
            stay.leave();
            return self.call_alone(slots);
        }
        let py = self.object.py();
        // SAFETY: the slot holds a reference, and stays as it is (see below).
        let variables = unsafe { Borrowed::from_ptr(py, slots.context.peek()) };
        let call = || {
            let args = slots.args.map(Slot::peek);
            // SAFETY: as below.
            unsafe { call_borrowed(py, slots.callback.peek(), args, slots.in_tuple) }.map(drop)
        };
        stay.call_in_copy(variables, call, || slots.ends_something())
            .map_err(|(error, context)| {
                if context.is_some() {
                    // Whoever hears of the error may ask for it.
                    drop(slots.context.replace(&self.object, context));
                }
                error
            })
    }

    /// Makes the call in a context that is entered for it alone, and goes when the call succeeds, if it is a copy.
    #[inline]
    fn call_alone(&self, slots: Slots<'_>) -> PyResult<()> {
        let copy = if slots.in_copy {
            context_for_call(slots.context, &self.object)?
        } else {
            None
        };
        let result = self.call_in(copy.as_ref(), slots);
        if let Some(copy) = copy {
            match result {
                // Others' contexts are not kept: there may be any number.
                Ok(()) => keep_context(copy),
                // Whoever hears of the error may ask for it.
                Err(_) => drop(slots.context.replace(&self.object, Some(copy))),
            }
        }
        result
    }

    #[inline]
    fn call_in(&self, copy: Option<&Owned>, slots: Slots<'_>) -> PyResult<()> {
        let py = self.object.py();
        let context = copy.map_or_else(|| slots.context.peek(), Owned::as_ptr);
        // SAFETY: `copy` is held, or the slot holds a reference or nothing, and stays as it is (see below).
        let context = unsafe { Borrowed::from_ptr_or_opt(py, context) };
        let Some(context) = context else {
            return Err(without_context());
        };
        if slots.callback.peek().is_null() {
            // Emptied in the same way: there is nothing to call.
            return Ok(());
        }
        let args = slots.args.map(Slot::peek);
        // SAFETY: slots change only by methods of their object, and nobody can call one: `self` has the only
        // reference and keeps it to itself. So they hold what they hold through the call.
        unsafe { call_in_context(py, context, slots.callback.peek(), args, slots.in_tuple) }
    }

    /// Makes the object known again.
    #[cold]
    pub(crate) fn into_revealed(self) -> Bound<'py, PyAny> {
        reveal(&self.object);
        self.object
    }

    /// Drops the object, and keeps its memory for the next one.
    #[inline]
    pub(crate) fn discard(self) {
        let pointer = self.object.into_ptr();
        // SAFETY: it is private, and this was its one reference.
        if !unsafe { T::class().recycle::<T>(pointer) } {
            // SAFETY: the reference was given up above, and is still there.
            unsafe { ffi::Py_DECREF(pointer) };
        }
    }
}

/// Somebody has emptied a field past our properties.
#[cold]
pub(crate) fn without_context() -> PyErr {
    PyAttributeError::new_err("'Handle' object has no attribute '_context'")
}

#[inline]
fn is_tracked(object: *mut ffi::PyObject) -> bool {
    // SAFETY: the object is live and of a collected type.
    unsafe { ffi::PyObject_GC_IsTracked(object) != 0 }
}

/// Makes an object known to the collector, if it is not: it may have another owner. No Python code runs.
#[inline]
pub(crate) fn reveal(object: &Bound<'_, PyAny>) {
    let pointer = object.as_ptr();
    if !cfg!(Py_GIL_DISABLED) && !is_tracked(pointer) {
        // SAFETY: the object is live, complete and not tracked.
        unsafe { ffi::PyObject_GC_Track(pointer.cast()) };
    }
}

/// An object that was private when something was taken out of it.
#[derive(Debug)]
pub(crate) struct Left<T> {
    pointer: *mut ffi::PyObject,
    value: PhantomData<T>,
}

/// What `take` finds in an object of this type, if the caller has the only reference to it and nobody else finds it: no
/// weak reference leads there, nor does the collector. What is left of it is to be [discarded](Left::discard).
#[inline]
pub(crate) fn take_private<T: Native, R>(
    object: Borrowed<'_, '_, PyAny>,
    take: impl FnOnce(&T) -> Option<R>,
) -> Option<(R, Left<T>)> {
    let value = T::class().get::<T>(&object)?;
    let pointer = object.as_ptr();
    if !T::class().would_be_private(&object) || is_tracked(pointer) {
        return None;
    }
    let value = take(value)?;
    let left = Left {
        pointer,
        value: PhantomData,
    };
    Some((value, left))
}

impl<T: Native> Left<T> {
    /// Drops the object and keeps its memory for the next one. Nothing has run since something was taken out of it.
    #[inline]
    pub(crate) fn discard(self, object: Bound<'_, PyAny>) {
        if object.as_ptr() == self.pointer && !may_be_shared(&object) {
            let value = PhantomData::<T>;
            Private { object, value }.discard();
        }
    }
}

/// Whether an object has, or may have, other owners than the one who asks.
#[inline]
fn may_be_shared(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: the object is live.
    cfg!(Py_GIL_DISABLED) || unsafe { ffi::Py_REFCNT(object.as_ptr()) > 1 }
}

/// Whether nobody but the one who asks has an object, or could find it by a weak reference.
#[inline]
pub(crate) fn is_ours_alone(object: &Bound<'_, PyAny>) -> bool {
    !may_be_shared(object) && !has_weak_references(object.as_ptr())
}

/// Whether an object has no other owners than the one who asks and so many more.
#[inline]
pub(crate) fn has_no_others(object: &Bound<'_, PyAny>, more: isize) -> bool {
    // SAFETY: the object is live.
    !cfg!(Py_GIL_DISABLED) && unsafe { ffi::Py_REFCNT(object.as_ptr()) } <= more + 1
}
