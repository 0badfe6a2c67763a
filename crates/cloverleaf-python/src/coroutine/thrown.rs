//! The arguments of a coroutine's `throw`, and the exception that they mean.

#[cfg(Py_3_12)]
use pyo3::exceptions::PyDeprecationWarning;
use pyo3::exceptions::{PyBaseException, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyTraceback, PyTuple, PyType};

use crate::ffi::{Arguments, Reach};

#[cfg(Py_3_12)]
const OLD_SIGNATURE: &std::ffi::CStr =
    c"the (type, exc, tb) signature of throw() is deprecated, use the single-arg signature instead.";

/// The arguments of `throw`.
pub(super) struct Thrown<'py> {
    kind: Bound<'py, PyAny>,
    value: Bound<'py, PyAny>,
    traceback: Bound<'py, PyAny>,
}

impl<'py> Thrown<'py> {
    /// Those of this call.
    ///
    /// # Errors
    /// `TypeError` if they are others, or none that can be thrown; the coroutine must be untouched then.
    pub(super) fn of(py: Python<'py>, args: &Arguments<'_, 'py>) -> PyResult<Self> {
        let given = args.bind("throw", ["typ", "val", "tb"], 1)?;
        #[cfg(Py_3_12)]
        if given[1].is_some() || given[2].is_some() {
            let category = py.get_type::<PyDeprecationWarning>();
            PyErr::warn(py, &category, OLD_SIGNATURE, 1)?;
        }
        let [kind, value, traceback] = given
            .map(|given| given.map_or_else(|| py.None().into_bound(py), pyo3::Borrowed::to_owned));
        if !traceback.is_none() && !traceback.is_instance_of::<PyTraceback>() {
            return Err(PyTypeError::new_err(
                "throw() third argument must be a traceback object",
            ));
        }
        if kind.is_instance_of::<PyBaseException>() {
            if !value.is_none() {
                return Err(PyTypeError::new_err(
                    "instance exception may not have a separate value",
                ));
            }
        } else if !is_exception_class(&kind)? {
            let class = kind.get_type();
            return Err(PyTypeError::new_err(format!(
                "exceptions must be classes or instances deriving from BaseException, not {}",
                class.name()?
            )));
        }
        Ok(Self {
            kind,
            value,
            traceback,
        })
    }

    /// The exception that they mean; what making it raises is thrown in its place.
    pub(super) fn exception(&self) -> PyErr {
        self.made().unwrap_or_else(|error| error)
    }

    fn made(&self) -> PyResult<PyErr> {
        let Self {
            kind,
            value,
            traceback,
        } = self;
        let made = if kind.is_instance_of::<PyBaseException>() {
            kind.clone()
        } else if value.is_instance(kind)? {
            value.clone()
        } else if value.is_none() {
            kind.invoke0()?
        } else if let Ok(arguments) = value.cast::<PyTuple>() {
            kind.invoke(arguments.clone())?
        } else {
            kind.invoke((value,))?
        };
        if !made.is_instance_of::<PyBaseException>() {
            return Err(PyTypeError::new_err(format!(
                "calling {} should have returned an instance of BaseException, not {}",
                kind.repr()?,
                made.get_type().name()?
            )));
        }
        if !traceback.is_none() {
            made.setattr(intern!(made.py(), "__traceback__"), traceback)?;
        }
        Ok(PyErr::from_value(made))
    }

    /// Throws it into another coroutine; what that waits for then.
    ///
    /// # Errors
    /// What ends the coroutine.
    pub(super) fn throw_into(&self, coroutine: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = coroutine.py();
        let method = coroutine.getattr(intern!(py, "throw"))?;
        method.invoke((self.exception().into_value(py),))
    }
}

fn is_exception_class(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    match object.cast::<PyType>() {
        Ok(class) => class.is_subclass_of::<PyBaseException>(),
        Err(_) => Ok(false),
    }
}
