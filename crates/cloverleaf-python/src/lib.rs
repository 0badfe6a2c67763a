//! The native half of the Python package `cloverleaf`.

mod child;
mod error;
mod event_loop;
mod ffi;
mod file;
mod future;
mod handle;
mod job;
mod listener;
mod owner;
mod report;
mod source;
mod state;
mod tls;
mod transport;

use pyo3::prelude::*;

/// The native half of the Python package `cloverleaf`.
#[pymodule]
fn _cloverleaf(module: &Bound<'_, PyModule>) -> PyResult<()> {
    report::prepare(module.py())?;
    handle::add_to(module)?;
    event_loop::add_to(module)?;
    transport::add_to(module)?;
    tls::add_to(module)?;
    file::add_to(module)
}
