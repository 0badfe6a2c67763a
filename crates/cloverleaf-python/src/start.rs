//! Programs that are started while the loop goes on, and how the loop hears whether they were executed.

use std::ffi::CString;
use std::os::fd::{AsFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cloverleaf::{Interest, Obstacle, Started, Token};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::pyclass::{PyTraverseError, PyVisit};

use crate::error::os_error;
use crate::event_loop::Loop;
use crate::ffi::{Owned, Reach, copy_context, with_context};
use crate::source::{Hold, Source};

/// What `subprocess.Popen` has been asked for, in the form in which it asks `_posixsubprocess.fork_exec`.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the parameters of that function"
)]
struct Wish {
    arguments: Vec<PyBackedBytes>,
    executables: Vec<PyBackedBytes>,
    environment: Option<Vec<PyBackedBytes>>,
    folder: Option<PyBackedBytes>,
    stdio: [RawFd; 3],
    parents_ends: [RawFd; 3],
    kept: Vec<RawFd>,
    closes_others: bool,
    restores_signals: bool,
    new_session: bool,
    process_group: i32,
    groups: Option<Vec<u32>>,
    group: Option<u32>,
    user: Option<u32>,
    umask: i32,
    copies_memory: bool,
}

/// A program that can be started, once.
#[pyclass(frozen, module = "cloverleaf._cloverleaf")]
#[derive(Debug)]
pub(crate) struct Program(Mutex<Option<cloverleaf::Program>>);

/// A child that has not told yet whether it could execute its program.
#[pyclass(frozen, module = "cloverleaf._cloverleaf")]
#[derive(Debug)]
pub(crate) struct Starting(Mutex<cloverleaf::Starting>);

/// Who hears what becomes of it.
#[pyclass(frozen, module = "cloverleaf._cloverleaf")]
#[derive(Debug)]
struct Report {
    event_loop: Py<PyAny>,
    starting: Py<Starting>,
    /// Called without an error number if the program was executed, else with one and with what could not be done.
    callback: Py<PyAny>,
    context: Py<PyAny>,
    token: Mutex<Option<Token>>,
}

/// # Errors
/// `ValueError` if there is a zero byte inside.
fn c_strings(strings: &[PyBackedBytes]) -> PyResult<Vec<CString>> {
    strings.iter().map(c_string).collect()
}

/// # Errors
/// `ValueError` if there is a zero byte inside.
fn c_string(string: &PyBackedBytes) -> PyResult<CString> {
    Ok(CString::new(&**string)?)
}

fn opened(fd: RawFd) -> Option<RawFd> {
    (fd != -1).then_some(fd)
}

#[pymethods]
impl Program {
    /// Takes what is wished for. A wish that `subprocess` would refuse raises something, and it is for `subprocess` to
    /// say what.
    #[new]
    fn new(wish: Wish) -> PyResult<Self> {
        let program = cloverleaf::Program {
            kept: wish.kept,
            parents_ends: wish.parents_ends.into_iter().filter_map(opened).collect(),
            stdio: wish.stdio.map(opened),
            folder: wish.folder.as_ref().map(c_string).transpose()?,
            umask: u32::try_from(wish.umask).ok(),
            restores_signals: wish.restores_signals,
            new_session: wish.new_session,
            process_group: (wish.process_group >= 0).then_some(wish.process_group),
            groups: wish.groups,
            group: wish.group,
            user: wish.user,
            closes_others: wish.closes_others,
            executables: c_strings(&wish.executables)?,
            arguments: c_strings(&wish.arguments)?,
            environment: wish.environment.as_deref().map(c_strings).transpose()?,
            copies_memory: wish.copies_memory,
        };
        Ok(Self(Mutex::new(Some(program))))
    }

    /// Whether programs can be started on this system.
    #[staticmethod]
    fn can_start() -> bool {
        cloverleaf::Program::can_start()
    }

    /// Makes the child, and does not wait for it.
    fn start(&self, py: Python<'_>) -> PyResult<Starting> {
        let program = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
            .ok_or_else(|| PyRuntimeError::new_err("a program is started once"))?;
        // While this thread is attached, no other one forks by Python's means, and keeps an end of the report open.
        match program.start() {
            Ok(starting) => Ok(Starting(Mutex::new(starting))),
            Err(error) => Err(os_error(py, &error)),
        }
    }
}

impl Starting {
    fn child(&self) -> MutexGuard<'_, cloverleaf::Starting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Starting {
    /// The child's number.
    #[getter]
    fn pid(&self) -> i32 {
        self.child().id()
    }
}

/// Calls back once it is known whether a program was executed.
///
/// # Errors
/// `OSError` if the kernel cannot report on it, `RuntimeError` from a thread that is not the loop's.
pub(crate) fn watch(
    event_loop: &Bound<'_, Loop>,
    starting: Py<Starting>,
    callback: Py<PyAny>,
) -> PyResult<()> {
    let py = event_loop.py();
    let report = Report {
        event_loop: event_loop.clone().into_any().unbind(),
        starting,
        callback,
        context: copy_context(py)?.into_bound(py).unbind(),
        token: Mutex::new(None),
    };
    let report = Bound::new(py, report)?;
    let this = report.get();
    let child = this.starting.get().child();
    let source = Source::Served(Hold::Strong(Owned::from(report.clone().into_any())), serve);
    let told = event_loop.get().state().with(|state| {
        let token = state.reactor.insert(source);
        let told = state.set_interest(child.as_fd(), token, Interest::NONE, Interest::READ);
        (
            token,
            told.map_err(|error| (error, state.reactor.remove(token))),
        )
    });
    drop(child);
    let (token, told) = told?;
    *this.token() = Some(token);
    told.map_err(|(error, source)| {
        drop(source);
        os_error(py, &error)
    })
}

/// Serves the event of a child that has told something.
///
/// # Errors
/// What the callback raises.
fn serve(object: &Bound<'_, PyAny>, _heard: Interest) -> PyResult<()> {
    let py = object.py();
    let report = object.cast::<Report>()?.get();
    let started = report.starting.get().child().try_started();
    let Some(started) = started.map_err(|error| os_error(py, &error))? else {
        return Ok(());
    };
    report.forget(py)?;
    let (errno, obstacle) = match started {
        Started::Executed => (None, None),
        Started::Failed(errno, obstacle) => (
            Some(errno.raw_os_error()),
            Some(match obstacle {
                Obstacle::Preparation => "preparation",
                Obstacle::Folder => "folder",
                Obstacle::Execution => "execution",
            }),
        ),
    };
    with_context(py, report.context.bind(py).as_borrowed(), || {
        report.callback.bind(py).invoke((errno, obstacle)).map(drop)
    })
}

impl Report {
    fn token(&self) -> MutexGuard<'_, Option<Token>> {
        self.token.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the registration.
    fn forget(&self, py: Python<'_>) -> PyResult<()> {
        let Some(token) = self.token().take() else {
            return Ok(());
        };
        let event_loop = self.event_loop.bind(py);
        let child = self.starting.get().child();
        let forgotten = Loop::of(event_loop)?.state().with(|state| {
            let told = state.set_interest(child.as_fd(), token, Interest::READ, Interest::NONE);
            (told, state.reactor.remove(token))
        });
        drop(child);
        let (told, source) = forgotten?;
        drop(source);
        told.map_err(|error| os_error(py, &error))
    }
}

#[pymethods]
impl Report {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.starting)?;
        for object in [&self.event_loop, &self.callback, &self.context] {
            visit.call(object)?;
        }
        Ok(())
    }
}

/// Adds the classes.
///
/// # Errors
/// What adding to a module raises.
pub(crate) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Program>()?;
    module.add_class::<Starting>()
}
