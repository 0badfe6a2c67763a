//! The floor of the callback benchmarks: a queue of calls and nothing else.
//!
//! `call_soon` and `run_forever` as the workloads use them, with a context only for callbacks that are given one (asyncio's
//! contract demands one for each). There are no handles, no cancelling, no exception handler, no timers and no I/O, so
//! this is a bound and not a loop. A callback that raises ends the run.

mod queue;

use pyo3::prelude::*;

/// A queue of calls, for Python's benchmarks only.
#[pymodule(gil_used = false)]
mod cloverleaf_floor {
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::queue::add_to(module)
    }
}
