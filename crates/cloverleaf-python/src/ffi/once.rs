//! Values that are made when they are first needed, and names among them.
//!
//! PyO3's cells let go of Python while they are locked. A child that is forked in that moment finds the cell locked by a
//! thread that it has not got, and waits for ever. Here nothing is locked while a value is made. Where several threads
//! make one, that of the first to be done is everybody's.

use std::sync::OnceLock;

use pyo3::prelude::*;
use pyo3::types::{PyString, PyType};

use super::made::{name_from, text_from};
use super::memory::no_memory;

/// A value that is made once, or several times at once, and then stays.
#[derive(Debug)]
pub(crate) struct Once<T>(OnceLock<T>);

impl<T> Once<T> {
    /// Nothing yet.
    pub(crate) const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// The value, if it has been made.
    #[inline]
    pub(crate) fn get(&self, _py: Python<'_>) -> Option<&T> {
        self.0.get()
    }

    /// The value, made by `make` if nobody has made it.
    #[inline]
    pub(crate) fn get_or_init(&self, py: Python<'_>, make: impl FnOnce() -> T) -> &T {
        match self.0.get() {
            Some(value) => value,
            None => self.begin(py, make),
        }
    }

    /// The same, where it may not succeed.
    ///
    /// # Errors
    /// What `make` returns; it is tried again the next time.
    #[inline]
    pub(crate) fn get_or_try_init<E>(
        &self,
        py: Python<'_>,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<&T, E> {
        match self.0.get() {
            Some(value) => Ok(value),
            None => self.try_to_begin(py, make),
        }
    }

    /// Keeps a value.
    ///
    /// # Errors
    /// The value, if there is one already.
    pub(crate) fn set(&self, _py: Python<'_>, value: T) -> Result<(), T> {
        // Locked for a move, in which no thread lets go of Python.
        self.0.set(value)
    }

    #[cold]
    fn begin(&self, py: Python<'_>, make: impl FnOnce() -> T) -> &T {
        self.keep(py, make())
    }

    #[cold]
    fn try_to_begin<E>(
        &self,
        py: Python<'_>,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<&T, E> {
        make().map(|value| self.keep(py, value))
    }

    /// Keeps a value unless there is one by now, and drops it then; the one that is kept.
    fn keep(&self, py: Python<'_>, value: T) -> &T {
        drop(self.set(py, value));
        self.0.get().expect("invariant: what is kept stays")
    }
}

impl Once<Py<PyType>> {
    /// A class of a module, which is imported the first time.
    ///
    /// # Errors
    /// What the import raises; `TypeError` if it is no class.
    #[inline]
    pub(crate) fn import<'py>(
        &self,
        py: Python<'py>,
        module: &str,
        class: &str,
    ) -> PyResult<&Bound<'py, PyType>> {
        let make = || {
            let class = py
                .import(text_from(py, module)?)?
                .getattr(text_from(py, class)?)?;
            PyResult::Ok(class.cast_into()?.unbind())
        };
        Ok(self.get_or_try_init(py, make)?.bind(py))
    }
}

/// What `intern!` expands to: a name as a Python string.
pub(crate) struct Interned {
    text: &'static str,
    made: Once<Py<PyString>>,
}

impl Interned {
    /// Made when it is first asked for.
    pub(crate) const fn new(text: &'static str) -> Self {
        Self {
            text,
            made: Once::new(),
        }
    }

    /// The string.
    #[inline]
    pub(crate) fn get<'py>(&self, py: Python<'py>) -> &Bound<'py, PyString> {
        let make = || match name_from(py, self.text) {
            Ok(name) => name.unbind(),
            Err(_) => no_memory(),
        };
        self.made.get_or_init(py, make).bind(py)
    }
}

/// A Python string for a name in the code, made once for each place.
macro_rules! intern {
    ($py:expr, $text:expr) => {{
        static INTERNED: $crate::ffi::Interned = $crate::ffi::Interned::new($text);
        INTERNED.get($py)
    }};
}
