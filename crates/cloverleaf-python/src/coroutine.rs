//! What native coroutines have in common: the exceptions that are thrown into them, and the warning if nobody awaits
//! them.

use pyo3::exceptions::{PyBaseException, PyRuntimeWarning};
use pyo3::intern;
use pyo3::prelude::*;

use crate::ffi::{Arguments, Owned, Reach};

/// The arguments of `throw`.
pub(crate) struct Thrown<'py> {
    kind: Bound<'py, PyAny>,
    value: Bound<'py, PyAny>,
    traceback: Bound<'py, PyAny>,
}

impl<'py> Thrown<'py> {
    /// Those of this call.
    ///
    /// # Errors
    /// `TypeError` if they are others.
    pub(crate) fn of(py: Python<'py>, args: &Arguments<'_, 'py>) -> PyResult<Self> {
        let [kind, value, traceback] = args.bind("throw", ["typ", "val", "tb"], 1)?;
        let or_none = |given: Option<Borrowed<'_, 'py, PyAny>>| {
            given.map_or_else(|| py.None().into_bound(py), pyo3::Borrowed::to_owned)
        };
        Ok(Self {
            kind: or_none(kind),
            value: or_none(value),
            traceback: or_none(traceback),
        })
    }

    /// The exception that they mean.
    ///
    /// # Errors
    /// What making it raises.
    pub(crate) fn exception(&self) -> PyResult<PyErr> {
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
        } else {
            kind.invoke((value,))?
        };
        if !traceback.is_none() {
            made.setattr(intern!(made.py(), "__traceback__"), traceback)?;
        }
        Ok(PyErr::from_value(made))
    }

    /// Throws it into another coroutine; what that waits for then.
    ///
    /// # Errors
    /// What ends the coroutine.
    pub(crate) fn throw_into(&self, coroutine: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let method = coroutine.getattr(intern!(coroutine.py(), "throw"))?;
        if self.value.is_none() && self.traceback.is_none() {
            method.invoke((&self.kind,))
        } else {
            method.invoke((&self.kind, &self.value, &self.traceback))
        }
    }
}

/// Warns, as of any coroutine, of one that was dropped before anybody had awaited it.
#[cold]
pub(crate) fn warn_unawaited(py: Python<'_>, name: &str) {
    // An exception on its way through the code that dropped the object must arrive there unharmed.
    let raised = PyErr::take(py);
    let text = format!("coroutine '{name}' was never awaited");
    let category = py.get_type::<PyRuntimeWarning>();
    let warned = std::ffi::CString::new(text)
        .map_err(PyErr::from)
        .and_then(|text| PyErr::warn(py, &category, &text, 1));
    if let Err(error) = warned {
        error.write_unraisable(py, None);
    }
    if let Some(raised) = raised {
        raised.restore(py);
    }
}

/// What a coroutine without a frame of Python has none of.
#[expect(clippy::unnecessary_wraps, reason = "the signature of every property")]
pub(crate) fn nothing(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    Ok(slf.py().None().into_bound(slf.py()).into())
}
