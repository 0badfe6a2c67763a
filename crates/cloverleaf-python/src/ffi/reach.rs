//! Calls that may run Python code, with whatever values as their arguments.
//!
//! PyO3's own `call_method` and its kin cannot be unwound when a daemon thread ends within them (see `guarded`), and panic
//! where there is no memory for a tuple of the arguments. Here none is made.

use pyo3::IntoPyObjectExt;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};

use super::call::{call_method, call_tuple, call_with};
use super::memory::caught;

/// The arguments of a call.
pub(crate) trait Values<'py> {
    /// Calls with them.
    ///
    /// # Errors
    /// What the call raises, and `MemoryError` if one of them cannot be made an object.
    fn give_to(self, callable: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>>;

    /// Calls a method with them, for which none is bound to the object if it is one of Python's or of C's.
    ///
    /// # Errors
    /// The same, and `AttributeError` if there is none.
    fn give_to_method(
        self,
        object: &Bound<'py, PyAny>,
        name: &Bound<'py, PyString>,
    ) -> PyResult<Bound<'py, PyAny>>;
}

impl<'py> Values<'py> for Bound<'py, PyTuple> {
    fn give_to(self, callable: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        call_tuple(callable, &self)
    }

    fn give_to_method(
        self,
        object: &Bound<'py, PyAny>,
        name: &Bound<'py, PyString>,
    ) -> PyResult<Bound<'py, PyAny>> {
        call_tuple(&object.getattr(name)?, &self)
    }
}

/// A value as an object.
#[inline]
fn as_object<'py>(py: Python<'py>, value: impl IntoPyObject<'py>) -> PyResult<Bound<'py, PyAny>> {
    // For a number or a text there may be no memory.
    caught(py, || value.into_bound_py_any(py))?
}

macro_rules! values {
    ($($kind:ident $value:ident),*) => {
        impl<'py, $($kind: IntoPyObject<'py>),*> Values<'py> for ($($kind,)*) {
            #[inline]
            fn give_to(self, callable: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
                let ($($value,)*) = self;
                $(let $value = as_object(callable.py(), $value)?;)*
                call_with(callable.as_borrowed(), [$(&$value),*])
            }

            #[inline]
            fn give_to_method(
                self,
                object: &Bound<'py, PyAny>,
                name: &Bound<'py, PyString>,
            ) -> PyResult<Bound<'py, PyAny>> {
                let ($($value,)*) = self;
                $(let $value = as_object(object.py(), $value)?;)*
                call_method(object, name, [$(&$value),*])
            }
        }
    };
}

values!(A a);
values!(A a, B b);
values!(A a, B b, C c);
values!(A a, B b, C c, D d);

/// Calls of an object and of its methods.
pub(crate) trait Reach<'py> {
    /// Calls the object without arguments.
    ///
    /// # Errors
    /// What it raises.
    fn invoke0(&self) -> PyResult<Bound<'py, PyAny>>;

    /// Calls the object with these arguments.
    ///
    /// # Errors
    /// What it raises.
    fn invoke(&self, args: impl Values<'py>) -> PyResult<Bound<'py, PyAny>>;

    /// Calls a method without arguments.
    ///
    /// # Errors
    /// What it raises, and `AttributeError` if there is none.
    fn reach0(&self, name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>>;

    /// Calls a method with these arguments.
    ///
    /// # Errors
    /// What it raises, and `AttributeError` if there is none.
    fn reach(
        &self,
        name: &Bound<'py, PyString>,
        args: impl Values<'py>,
    ) -> PyResult<Bound<'py, PyAny>>;
}

impl<'py, T> Reach<'py> for Bound<'py, T> {
    fn invoke0(&self) -> PyResult<Bound<'py, PyAny>> {
        call_with(self.as_any().as_borrowed(), [])
    }

    fn invoke(&self, args: impl Values<'py>) -> PyResult<Bound<'py, PyAny>> {
        args.give_to(self.as_any())
    }

    fn reach0(&self, name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
        call_method(self.as_any(), name, [])
    }

    fn reach(
        &self,
        name: &Bound<'py, PyString>,
        args: impl Values<'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        args.give_to_method(self.as_any(), name)
    }
}
