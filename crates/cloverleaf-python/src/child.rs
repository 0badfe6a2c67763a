//! A child process's end: reaped once, on the loop's thread, without a signal handler and from whatever thread runs.
//!
//! The kernel reports the end by a pidfd (`pidfd_open(2)`, since Linux 5.3). Where it gives none, a thread waits until
//! the child can be reaped and leaves the reaping to the loop, so that a child's number is its own until then.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cloverleaf::{Interest, Token};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pyclass::{PyTraverseError, PyVisit};
use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, WaitId, WaitIdOptions, WaitOptions, WaitStatus, pidfd_open, waitid, waitpid,
};

use crate::error::{errno_error, os_error};
use crate::event_loop::Loop;
use crate::ffi::{Owned, Reach, copy_context, signed_from, with_context};
use crate::source::{Hold, Source};

/// A child that is waited for.
#[pyclass(frozen, immutable_type, module = "cloverleaf._cloverleaf")]
#[derive(Debug)]
struct Child {
    event_loop: Py<PyAny>,
    /// Called with the exit code, or with None if somebody else has reaped the child.
    callback: Py<PyAny>,
    context: Py<PyAny>,
    pid: Pid,
    pidfd: Option<OwnedFd>,
    token: Mutex<Option<Token>>,
}

/// How a child has ended.
#[derive(Clone, Copy, Debug)]
enum End {
    /// With this exit code.
    Reaped(i32),
    /// Somebody else has reaped it.
    Lost,
}

/// Waits for a child's end, reaps it and calls back with its exit code.
///
/// # Errors
/// `ValueError` for a number that no child can have, `OSError` if the kernel cannot report on it, `RuntimeError` from a
/// thread that is not the loop's.
pub(crate) fn watch(event_loop: &Bound<'_, Loop>, pid: i32, callback: Py<PyAny>) -> PyResult<()> {
    let py = event_loop.py();
    let pid = Some(pid)
        .filter(|pid| *pid > 0)
        .and_then(Pid::from_raw)
        .ok_or_else(|| PyValueError::new_err("a child's number is positive"))?;
    let child = Child {
        event_loop: event_loop.clone().into_any().unbind(),
        callback,
        context: copy_context(py)?.into_bound(py).unbind(),
        pid,
        // The kernel or a filter knows no such call, descriptors have run out, or the child is reaped already.
        pidfd: pidfd_open(pid, PidfdFlags::empty()).ok(),
        token: Mutex::new(None),
    };
    let child = Bound::new(py, child)?;
    let token = register(event_loop, &child)?;
    if child.get().pidfd.is_none() {
        event_loop.get().run_waiting(token, move || wait(pid))?;
    }
    Ok(())
}

fn register(event_loop: &Bound<'_, Loop>, child: &Bound<'_, Child>) -> PyResult<Token> {
    let this = child.get();
    let source = Source::Served(Hold::Strong(Owned::from(child.clone().into_any())), serve);
    let (token, told) = event_loop.get().state().with(|state| {
        let token = state.reactor.insert(source);
        let told = this.pidfd.as_ref().map_or(Ok(()), |pidfd| {
            state.set_interest(pidfd.as_fd(), token, Interest::NONE, Interest::READ)
        });
        (
            token,
            told.map_err(|error| (error, state.reactor.remove(token))),
        )
    })?;
    told.map_err(|(error, source)| {
        drop(source);
        os_error(child.py(), &error)
    })?;
    *this.token() = Some(token);
    Ok(token)
}

/// Whether an object is a child that is waited for.
pub(crate) fn is_child(object: &Bound<'_, PyAny>) -> bool {
    object.is_exact_instance_of::<Child>()
}

/// Sleeps until a child can be reaped.
fn wait(pid: Pid) {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    let waited = rustix::io::retry_on_intr(|| waitid(WaitId::Pid(pid), options));
    // A child that somebody else has reaped cannot be waited for (ECHILD), which the loop finds out, too.
    cloverleaf::ignore(waited);
}

/// Serves the event of a child that may have ended.
///
/// # Errors
/// What the callback raises.
fn serve(object: &Bound<'_, PyAny>, _heard: Interest) -> PyResult<()> {
    let py = object.py();
    let child = object.cast::<Child>()?.get();
    let Some(end) = child.reap(py)? else {
        return Ok(());
    };
    child.forget(py)?;
    let code = match end {
        End::Reaped(code) => Some(code),
        End::Lost => None,
    };
    tell(object.cast::<Child>()?, code)
}

/// Tells of an end, which nobody can ask the kernel for again: where there is no memory for its number, later.
fn tell(object: &Bound<'_, Child>, code: Option<i32>) -> PyResult<()> {
    let py = object.py();
    let child = object.get();
    let Ok(number) = code.map(|code| signed_from(py, code.into())).transpose() else {
        let object = object.clone().unbind();
        let event_loop = child.event_loop.bind(py);
        return Loop::of(event_loop)?
            .push_call(object, move |py, object| tell(object.bind(py), code));
    };
    with_context(py, child.context.bind(py).as_borrowed(), || {
        child.callback.bind(py).invoke((number,)).map(drop)
    })
}

/// What the system says of an end, as Python's `subprocess` has it: minus the number of the signal that ended it.
fn exit_code(status: WaitStatus) -> i32 {
    match status.exit_status() {
        Some(code) => code,
        None => -status.terminating_signal().unwrap_or(0),
    }
}

impl Child {
    fn token(&self) -> MutexGuard<'_, Option<Token>> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it has ended, if it has.
    fn reap(&self, py: Python<'_>) -> PyResult<Option<End>> {
        match rustix::io::retry_on_intr(|| waitpid(Some(self.pid), WaitOptions::NOHANG)) {
            Ok(ended) => Ok(ended.map(|(_, status)| End::Reaped(exit_code(status)))),
            Err(Errno::CHILD) => Ok(Some(End::Lost)),
            Err(errno) => Err(errno_error(py, errno)),
        }
    }

    /// Ends the registration.
    fn forget(&self, py: Python<'_>) -> PyResult<()> {
        let Some(token) = self.token().take() else {
            return Ok(());
        };
        let event_loop = self.event_loop.bind(py);
        let (told, source) = Loop::of(event_loop)?.state().with(|state| {
            let told = self.pidfd.as_ref().map_or(Ok(()), |pidfd| {
                state.set_interest(pidfd.as_fd(), token, Interest::READ, Interest::NONE)
            });
            (told, state.reactor.remove(token))
        })?;
        drop(source);
        told.map_err(|error| os_error(py, &error))
    }
}

#[pymethods]
impl Child {
    /// Its number.
    #[getter]
    fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        for object in [&self.event_loop, &self.callback, &self.context] {
            visit.call(object)?;
        }
        Ok(())
    }
}

/// Makes the class of this file, for which there may be no memory when it is first needed.
pub(crate) fn prepare(py: Python<'_>) {
    drop(py.get_type::<Child>());
}
