//! The example of docs/rust-futures.md: a module whose functions Python awaits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread;

use cloverleaf_futures::{Closed, Completer, future_into_py, into_future, promise};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// What the thread has to do.
struct Order {
    data: Vec<u8>,
    completer: Completer,
    is_cancelled: Arc<AtomicBool>,
}

impl Order {
    /// Does it, as far as somebody waits for it.
    fn sum(&self) -> u64 {
        let blocks = self.data.chunks(4096);
        let wanted = blocks.take_while(|_| !self.is_cancelled.load(Ordering::Relaxed));
        wanted.flatten().fold(0, |sum: u64, byte| {
            sum.wrapping_mul(31).wrapping_add(u64::from(*byte))
        })
    }
}

/// The thread that does the work, of this module's own; it never runs Python.
fn worker() -> &'static Sender<Order> {
    static WORKER: OnceLock<Sender<Order>> = OnceLock::new();
    WORKER.get_or_init(|| {
        let (sender, orders) = channel::<Order>();
        thread::spawn(move || {
            for order in orders {
                let sum = order.sum();
                // If the loop was closed meanwhile, nobody waits for it.
                let (Ok(()) | Err(Closed)) = order.completer.complete(Ok(sum));
            }
        });
        sender
    })
}

/// `await digest.checksum(data)`: by a thread.
#[pyfunction]
fn checksum(py: Python<'_>, data: Vec<u8>) -> PyResult<Bound<'_, PyAny>> {
    let (completer, awaitable) = promise(py)?;
    let is_cancelled = Arc::new(AtomicBool::new(false));
    let tell = Arc::clone(&is_cancelled);
    completer.on_cancel(move || tell.store(true, Ordering::Relaxed));
    let order = Order {
        data,
        completer,
        is_cancelled,
    };
    let sent = worker().send(order);
    sent.map_err(|_| PyRuntimeError::new_err("the thread has ended"))?;
    Ok(awaitable)
}

/// `await digest.joined(first, second)`: on the loop's thread; both are awaited in turn.
#[pyfunction]
fn joined<'py>(
    py: Python<'py>,
    first: &Bound<'py, PyAny>,
    second: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let (first, second) = (into_future(first)?, into_future(second)?);
    future_into_py(py, async move {
        let (first, second) = (first.await?, second.await?);
        Python::attach(|py| first.bind(py).add(second).map(Bound::unbind))
    })
}

#[pymodule]
fn digest(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(checksum, module)?)?;
    module.add_function(wrap_pyfunction!(joined, module)?)
}
