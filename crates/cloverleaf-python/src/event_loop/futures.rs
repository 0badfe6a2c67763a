//! `create_future`: asyncio's own futures, made for a loop.
//!
//! They are told of their loop by name, and so are tasks. Of names the interpreter makes a `dict` for each call of a class
//! in C; so a loop has one ready for all of them while it runs.

use pyo3::exceptions::PyImportError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use super::Loop;
use crate::ffi::{Once, Owned, call_in_full, call_with_names, new_dict, tuple_from};

/// asyncio's Future class, as it was found once.
struct FutureClass {
    class: Py<PyAny>,
    /// Whether it is the one that is written in C.
    is_native: bool,
    /// The name of its one argument.
    names: Py<PyTuple>,
}

impl Loop {
    /// Has `{"loop": slf}` ready until the run ends. The collector need not see it: a loop that runs is no garbage.
    ///
    /// # Errors
    /// `MemoryError`.
    pub(super) fn name_itself(&self, slf: &Bound<'_, Self>) -> PyResult<()> {
        let named = new_dict(slf.py())?;
        named.set_item(intern!(slf.py(), "loop"), slf)?;
        let none = self
            .itself
            .replace(slf.as_any(), Some(named.into_any().into()));
        drop(none);
        Ok(())
    }

    /// Lets go of it at the end of a run, in which somebody else holds the loop.
    pub(super) fn forget_itself(&self, slf: &Bound<'_, Self>) {
        drop(self.itself.take(slf.as_any()));
    }

    /// That `dict`, for a class that `only_reads` what it is called with; none while the loop does not run.
    #[inline]
    pub(super) fn itself_by_name<'py>(
        &self,
        slf: &Bound<'py, PyAny>,
        only_reads: bool,
    ) -> Option<Bound<'py, PyDict>> {
        if !only_reads {
            return None;
        }
        let named = self.itself.get(slf)?.into_bound(slf.py());
        named.cast_into_exact().ok()
    }
}

/// The class of this name that is written in C; none where asyncio has to do without, as a program may have it.
///
/// # Errors
/// What importing raises, but for `ImportError`.
pub(super) fn class_in_c(
    py: Python<'_>,
    name: &Bound<'_, PyString>,
) -> PyResult<Option<Py<PyAny>>> {
    match py.import(intern!(py, "_asyncio")) {
        Ok(module) => module.getattr(name).map(|class| Some(class.unbind())),
        Err(error) if error.is_instance_of::<PyImportError>(py) => Ok(None),
        Err(error) => Err(error),
    }
}

static FUTURE: Once<FutureClass> = Once::new();

impl FutureClass {
    fn find(py: Python<'_>) -> PyResult<Self> {
        let class = py
            .import(intern!(py, "asyncio.futures"))?
            .getattr(intern!(py, "Future"))?;
        let native = class_in_c(py, intern!(py, "Future"))?;
        Ok(Self {
            is_native: native.is_some_and(|native| class.is(&native)),
            class: class.unbind(),
            names: tuple_from(py, [intern!(py, "loop").as_any().clone()])?.unbind(),
        })
    }
}

/// A new `asyncio.Future` of this loop.
///
/// # Errors
/// What making one raises.
pub(crate) fn create_future(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    let future = FUTURE.get_or_try_init(py, || FutureClass::find(py))?;
    let class = future.class.bind(py);
    let made = match Loop::of(slf)?.itself_by_name(slf, future.is_native) {
        Some(named) => call_in_full(class, &PyTuple::empty(py), &named),
        None => call_with_names(class, [slf], future.names.bind(py)),
    };
    made.map(Into::into)
}
