//! Who may still attach to the interpreter, for loops that can be reached by Python alone.
//!
//! A thread that attaches while the interpreter is being torn down crashes the process, before Python 3.15 at least, and
//! asking first does not help: it may have to wait for the GIL in between. So nobody attaches any more once the functions
//! of `atexit` are called, which waits for those who are about to.

use std::process;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::thread;

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCFunction, PyDict};

use crate::offer::Aside;

static IS_ENDING: AtomicBool = AtomicBool::new(false);
static ATTACHING: AtomicUsize = AtomicUsize::new(0);
/// The process whose threads are counted.
static PROCESS: AtomicU32 = AtomicU32::new(0);

/// Has the interpreter say when its end begins.
///
/// # Errors
/// `RuntimeError` if it has begun, and what `atexit` raises.
pub(crate) fn prepare(py: Python<'_>) -> PyResult<()> {
    static PREPARED: PyOnceLock<()> = PyOnceLock::new();
    if IS_ENDING.load(Ordering::SeqCst) {
        return Err(PyRuntimeError::new_err("the interpreter is at its end"));
    }
    PREPARED
        .get_or_try_init(py, || {
            PROCESS.store(process::id(), Ordering::SeqCst);
            let forked = PyCFunction::new_closure(py, None, None, |_args, _| forked())?;
            let names = PyDict::new(py);
            names.set_item(intern!(py, "after_in_child"), forked)?;
            py.import(intern!(py, "os"))?.call_method(
                intern!(py, "register_at_fork"),
                (),
                Some(&names),
            )?;
            let end = PyCFunction::new_closure(py, None, None, |args, _| end(args.py()))?;
            py.import(intern!(py, "atexit"))?
                .call_method1(intern!(py, "register"), (end,))
                .map(drop)
        })
        .map(drop)
}

/// In a forked child, those who were about to attach are not there.
fn forked() {
    ATTACHING.store(0, Ordering::SeqCst);
    PROCESS.store(process::id(), Ordering::SeqCst);
}

fn end(py: Python<'_>) {
    IS_ENDING.store(true, Ordering::SeqCst);
    // Of a child that Python has not forked, nobody knows.
    if process::id() == PROCESS.load(Ordering::SeqCst) {
        py.detach(|| {
            while ATTACHING.load(Ordering::SeqCst) > 0 {
                thread::yield_now();
            }
        });
    }
}

/// One who is about to attach, or attached.
struct Attaching;

impl Attaching {
    fn new() -> Self {
        ATTACHING.fetch_add(1, Ordering::SeqCst);
        Self
    }
}

impl Drop for Attaching {
    fn drop(&mut self) {
        // The thread that forks may have been counted in the parent, and is not in the child.
        let less = |count: usize| Some(count.saturating_sub(1));
        let (Ok(_) | Err(_)) = ATTACHING.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
    }
}

/// Does something attached to Python, also where an exception is on its way; `None` if the interpreter is at its end.
pub(crate) fn attached<R>(body: impl FnOnce(Python<'_>) -> R) -> Option<R> {
    let _attaching = Attaching::new();
    // Either this sees that the end has begun, or the end sees this.
    if IS_ENDING.load(Ordering::SeqCst) {
        return None;
    }
    Python::try_attach(|py| {
        let _aside = Aside::new(py);
        body(py)
    })
}
