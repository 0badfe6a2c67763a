//! The connections of a server: who they are, without keeping them alive, and a word when the last one has gone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;
use pyo3::pyclass::{PyTraverseError, PyVisit};
use pyo3::types::{PyList, PyWeakrefReference};

use crate::ffi::{Owned, Reach, new_list};

/// Who is there: a `weakref.ref` for each transport, at the place that it was given.
#[derive(Debug, Default)]
struct Places {
    taken: Vec<Option<Owned>>,
    free: Vec<u32>,
    /// How many were accepted and have no transport yet.
    expected: usize,
    /// How often those without a transport were given up.
    given_up: u64,
}

impl Places {
    fn len(&self) -> usize {
        self.taken.len() - self.free.len() + self.expected
    }
}

/// The transports of a server's connections. Each is added when it begins and discarded when it ends or is forgotten.
#[pyclass(frozen, immutable_type, module = "cloverleaf._cloverleaf")]
#[derive(Debug)]
pub(crate) struct Clients {
    transports: Mutex<Places>,
    /// What is called when the last one has gone, once the server is closed.
    when_gone: Mutex<Option<Py<PyAny>>>,
    is_closed: AtomicBool,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Clients {
    /// Adds a transport, and says at which place.
    ///
    /// # Errors
    /// `MemoryError`.
    ///
    /// # Panics
    /// If there are four billion already.
    pub(crate) fn add(&self, transport: &Bound<'_, PyAny>) -> PyResult<u32> {
        let reference = Owned::from(PyWeakrefReference::new(transport)?);
        let mut places = locked(&self.transports);
        if let Some(place) = places.free.pop() {
            // A place that is free holds nothing that would be dropped here.
            places.taken[place as usize] = Some(reference);
            return Ok(place);
        }
        let place = u32::try_from(places.taken.len()).expect("invariant: descriptors are fewer");
        places.taken.push(Some(reference));
        Ok(place)
    }

    /// Whether the server is closed, so that it is told of the last one.
    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Discards the transport at a place, which is given to another from now on.
    ///
    /// # Errors
    /// What waking those raises who wait for the last one.
    pub(crate) fn discard(&self, py: Python<'_>, place: u32) -> PyResult<()> {
        let (old, is_last) = {
            let mut places = locked(&self.transports);
            let old = places.taken.get_mut(place as usize).and_then(Option::take);
            if old.is_some() {
                places.free.push(place);
            }
            (old, places.len() == 0)
        };
        drop(old);
        self.tell_if_gone(py, is_last)
    }

    /// Counts a client that was accepted and has no transport yet, until [`Self::settle`]. Says what
    /// [`Self::are_wanted`] is to be asked.
    pub(crate) fn expect(&self) -> u64 {
        let mut places = locked(&self.transports);
        places.expected += 1;
        places.given_up
    }

    /// Whether those that were expected then have not been given up since.
    pub(crate) fn are_wanted(&self, expected: u64) -> bool {
        locked(&self.transports).given_up == expected
    }

    /// A client that was expected has its transport, or gets none.
    ///
    /// # Errors
    /// As [`Self::discard`].
    pub(crate) fn settle(&self, py: Python<'_>) -> PyResult<()> {
        let is_last = {
            let mut places = locked(&self.transports);
            places.expected -= 1;
            places.len() == 0
        };
        self.tell_if_gone(py, is_last)
    }

    fn tell_if_gone(&self, py: Python<'_>, is_last: bool) -> PyResult<()> {
        if !is_last || !self.is_closed() {
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
            transports: Mutex::default(),
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
            .taken
            .iter()
            .flatten()
            .map(|reference| reference.clone_ref(py))
            .collect();
        let alive = new_list(py)?;
        for reference in references {
            let reference = reference.into_bound(py).cast_into::<PyWeakrefReference>()?;
            if let Some(transport) = reference.upgrade() {
                alive.append(transport)?;
            }
        }
        Ok(alive)
    }

    /// Closes those that were accepted and have no transport yet.
    fn give_up(&self) {
        locked(&self.transports).given_up += 1;
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
