//! Whether a class of asyncio's, or of another module, is still as that has made it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::prelude::*;
use pyo3::types::{PyList, PyString, PySuper, PyType};

use crate::ffi::class_version;

/// A class of asyncio's, and those of its methods that ours replace or stand for.
#[derive(Debug)]
pub(crate) struct Original {
    class: Py<PyType>,
    /// Each by its name, once it has been seen to be asyncio's own.
    methods: Vec<(Py<PyString>, OnceLock<Py<PyAny>>)>,
    /// The version of the class at which its methods were last found to be asyncio's own; zero for none.
    looked_at: AtomicU32,
}

impl Original {
    /// The class, of which somebody may have replaced methods already.
    ///
    /// # Errors
    /// `AttributeError` if a method is missing.
    pub(crate) fn new(class: &Bound<'_, PyType>, names: &Bound<'_, PyList>) -> PyResult<Self> {
        let methods = names
            .iter()
            .map(|name| {
                let name = name.cast_into::<PyString>()?;
                class.getattr(&name)?;
                Ok((name.unbind(), OnceLock::new()))
            })
            .collect::<PyResult<_>>()?;
        Ok(Self {
            class: class.clone().unbind(),
            methods,
            looked_at: AtomicU32::new(0),
        })
    }

    /// The class.
    pub(crate) fn class<'py>(&self, py: Python<'py>) -> &Bound<'py, PyType> {
        self.class.bind(py)
    }

    /// Whether an object is of this very class.
    pub(crate) fn is_class_of(&self, object: &Bound<'_, PyAny>) -> bool {
        object.get_type().is(&self.class)
    }

    /// Whether nobody has put another method in the place of one of asyncio's.
    ///
    /// # Errors
    /// What looking at the class raises.
    #[inline]
    pub(crate) fn is_intact(&self, py: Python<'_>) -> PyResult<bool> {
        let version = class_version(self.class.bind(py));
        if version != 0 && version == self.looked_at.load(Ordering::Relaxed) {
            return Ok(true);
        }
        self.look(py)
    }

    #[cold]
    fn look(&self, py: Python<'_>) -> PyResult<bool> {
        let class = self.class.bind(py);
        for (name, known) in &self.methods {
            let method = class.getattr(name.bind(py))?;
            let is_original = match known.get() {
                Some(known) => method.is(known),
                None => is_genuine(class, &method)?,
            };
            if !is_original {
                self.looked_at.store(0, Ordering::Relaxed);
                return Ok(false);
            }
            known.get_or_init(|| method.unbind());
        }
        self.looked_at
            .store(class_version(class), Ordering::Relaxed);
        Ok(true)
    }
}

/// Whether a method is written in C, or in the package in which its class or one of its bases is.
///
/// A function knows the module that it was written in, whatever it was made to look like.
///
/// # Errors
/// What looking at them raises.
fn is_genuine(class: &Bound<'_, PyType>, method: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = class.py();
    // A wrapper that passes for what it wraps, `__class__` and all, is of a class of its own.
    if method.get_type().module()?.to_str()? != "builtins" {
        return Ok(false);
    }
    if method.getattr_opt(intern!(py, "__objclass__"))?.is_some() {
        return Ok(true);
    }
    let Some(globals) = method.getattr_opt(intern!(py, "__globals__"))? else {
        return Ok(false);
    };
    let package = |name: &str| name.split('.').next().map(str::to_owned);
    let written: String = globals.get_item(intern!(py, "__name__"))?.extract()?;
    for class in class.mro() {
        let module = class.cast::<PyType>()?.module()?;
        if package(&written) == package(module.to_str()?) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The method of this name that an object has by the classes above ours.
///
/// # Errors
/// `AttributeError` if there is none.
pub(crate) fn original<'py>(
    own: &Py<PyType>,
    object: &Bound<'py, PyAny>,
    name: &Bound<'py, PyString>,
) -> PyResult<Bound<'py, PyAny>> {
    PySuper::new(own.bind(object.py()), object)?.getattr(name)
}
