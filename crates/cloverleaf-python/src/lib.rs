//! The native half of the Python package `cloverleaf`.

// Its `intern!` is known to all that follow.
#[macro_use]
mod ffi;

mod allocator;
mod child;
mod clients;
mod coroutine;
mod dotted;
mod error;
mod event_loop;
mod file;
mod first_look;
mod future;
mod give_way;
mod handle;
mod held;
mod job;
mod listener;
mod original;
mod owner;
mod polling;
mod report;
mod source;
mod start;
mod state;
mod steering;
mod streams;
mod tls;
mod transport;

use pyo3::exceptions::PyImportError;
use pyo3::prelude::*;

/// The native half of the Python package `cloverleaf`.
#[pymodule(gil_used = false)]
fn _cloverleaf(module: &Bound<'_, PyModule>) -> PyResult<()> {
    // There the C API's way to attach a thread knows no other, and would wait for ever.
    if !cfg!(Py_3_12) && !ffi::is_main_interpreter(module.py()) {
        return Err(PyImportError::new_err(
            "cloverleaf can be imported only by the main interpreter before Python 3.12",
        ));
    }
    // The classes and what is kept of asyncio belong to the first one.
    if !ffi::is_first_interpreter(module.py())? {
        return Err(PyImportError::new_err(
            "cloverleaf is in use by another interpreter of this process",
        ));
    }
    // PyO3 looks once whether there is an interpreter, and must not do so first when a finalizer calls us at the
    // interpreter's end, where it would find none.
    Python::initialize();
    ffi::write_of_bugs_alone();
    report::prepare(module.py())?;
    ffi::learn_contexts(module.py())?;
    // Where asyncio's futures are somebody else's, nobody is told from others, and nothing is lost.
    cloverleaf::ignore(ffi::learn_names(module.py()));
    handle::add_to(module)?;
    event_loop::add_to(module)?;
    transport::add_to(module)?;
    tls::add_to(module)?;
    streams::add_to(module)?;
    clients::add_to(module)?;
    child::prepare(module.py());
    listener::prepare(module.py());
    file::add_to(module)?;
    start::add_to(module)
}
