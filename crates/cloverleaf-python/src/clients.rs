//! The connections of a server: who they are, without keeping them alive, and a word when the last one has gone.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::pyclass::{PyTraverseError, PyVisit};
use pyo3::types::{PyList, PyWeakrefReference};

use crate::ffi::{Owned, Reach};

/// The transports of a server's connections. Each is added when it begins and discarded when it ends or is forgotten.
#[pyclass(frozen, module = "cloverleaf._cloverleaf")]
#[derive(Debug)]
pub(crate) struct Clients {
    /// A `weakref.ref` for each transport, by its address.
    transports: Mutex<HashMap<usize, Owned>>,
    /// What is called when the last one has gone, once the server is closed.
    when_gone: Mutex<Option<Py<PyAny>>>,
    is_closed: AtomicBool,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Clients {
    /// Adds a transport.
    ///
    /// # Errors
    /// `MemoryError`.
    pub(crate) fn add(&self, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        let reference = Owned::from(PyWeakrefReference::new(transport)?);
        let key = transport.as_ptr().addr();
        let old = locked(&self.transports).insert(key, reference);
        drop(old);
        Ok(())
    }

    /// Discards a transport.
    ///
    /// # Errors
    /// What waking those raises who wait for the last one.
    pub(crate) fn discard(&self, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = transport.py();
        let (old, is_last) = {
            let mut transports = locked(&self.transports);
            let old = transports.remove(&transport.as_ptr().addr());
            (old, transports.is_empty())
        };
        drop(old);
        if !is_last || !self.is_closed.load(Ordering::Acquire) {
            return Ok(());
        }
        let when_gone = locked(&self.when_gone)
            .as_ref()
            .map(|callback| callback.clone_ref(py));
        if let Some(callback) = when_gone {
            callback.bind(py).invoke0()?;
        }
        Ok(())
    }
}

#[pymethods]
impl Clients {
    #[new]
    fn new(when_gone: Py<PyAny>) -> Self {
        Self {
            transports: Mutex::new(HashMap::new()),
            when_gone: Mutex::new(Some(when_gone)),
            is_closed: AtomicBool::new(false),
        }
    }

    fn __len__(&self) -> usize {
        locked(&self.transports).len()
    }

    /// The transports that are alive.
    fn alive<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let references: Vec<Owned> = locked(&self.transports)
            .values()
            .map(|reference| reference.clone_ref(py))
            .collect();
        let alive = PyList::empty(py);
        for reference in references {
            let reference = reference.into_bound(py).cast_into::<PyWeakrefReference>()?;
            if let Some(transport) = reference.upgrade() {
                alive.append(transport)?;
            }
        }
        Ok(alive)
    }

    /// Says that the server is closed: the last one that goes is told of.
    fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // A reference to a transport leads nowhere that the collector must know of.
        match self.when_gone.try_lock() {
            Ok(when_gone) => visit.call(&*when_gone),
            // In use, so not garbage.
            Err(_) => Ok(()),
        }
    }

    fn __clear__(&self) {
        let held = locked(&self.when_gone).take();
        drop(held);
    }
}

/// Adds the class to the module.
///
/// # Errors
/// What making a class raises.
pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Clients>()
}
