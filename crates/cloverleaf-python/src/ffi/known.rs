//! The value in an instance of a class of PyO3's, found by one comparison.

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyType;

/// A class of PyO3's whose subclass is known: its instances are told by one comparison.
#[derive(Debug)]
pub(crate) struct Known<T> {
    class: AtomicPtr<ffi::PyTypeObject>,
    native: std::marker::PhantomData<fn() -> T>,
}

impl<T: pyo3::PyClass<Frozen = pyo3::pyclass::boolean_struct::True> + Sync> Known<T> {
    /// No subclass is known yet.
    pub(crate) const fn new() -> Self {
        Self {
            class: AtomicPtr::new(ptr::null_mut()),
            native: std::marker::PhantomData,
        }
    }

    /// Makes a subclass known, for ever.
    ///
    /// # Errors
    /// `TypeError` if it is no subclass.
    pub(crate) fn set(&self, class: &Bound<'_, PyType>) -> PyResult<()> {
        if !class.is_subclass_of::<T>()? {
            return Err(PyTypeError::new_err("not a subclass of the native class"));
        }
        self.class
            .store(class.clone().into_ptr().cast(), Ordering::Release);
        Ok(())
    }

    /// The subclass, once it is known.
    pub(crate) fn class<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyType>> {
        let class = self.class.load(Ordering::Acquire).cast::<ffi::PyObject>();
        // SAFETY: it is null, or a live object, since `set` has kept a reference for ever.
        let class = unsafe { Bound::from_borrowed_ptr_or_opt(py, class) }?;
        // SAFETY: `set` was given a type.
        Some(unsafe { class.cast_into_unchecked() })
    }

    /// Whether an object is of the known subclass itself, not of one derived from it.
    #[inline]
    pub(crate) fn is_exactly(&self, object: &Bound<'_, PyAny>) -> bool {
        // SAFETY: the object is live.
        let class = unsafe { ffi::Py_TYPE(object.as_ptr()) };
        class == self.class.load(Ordering::Relaxed)
    }

    /// The value in an instance.
    ///
    /// # Errors
    /// `TypeError` if it is no instance.
    #[inline]
    pub(crate) fn get<'a>(&self, object: &'a Bound<'_, PyAny>) -> PyResult<&'a T> {
        if self.is_exactly(object) {
            // SAFETY: `set` has checked that instances of this class are instances of `T`.
            let object = unsafe { object.cast_unchecked::<T>() };
            return Ok(object.get());
        }
        Self::search(object)
    }

    /// An instance, as one of its class.
    ///
    /// # Errors
    /// `TypeError` if it is none.
    #[inline]
    pub(crate) fn cast<'a, 'py>(
        &self,
        object: &'a Bound<'py, PyAny>,
    ) -> PyResult<&'a Bound<'py, T>> {
        if self.is_exactly(object) {
            // SAFETY: as in `get`.
            return Ok(unsafe { object.cast_unchecked() });
        }
        Ok(object.cast()?)
    }

    #[cold]
    fn search<'a>(object: &'a Bound<'_, PyAny>) -> PyResult<&'a T> {
        Ok(object.cast::<T>()?.get())
    }
}
