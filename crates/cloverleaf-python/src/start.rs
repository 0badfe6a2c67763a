//! Programs that are started while the loop goes on, and how the loop hears whether they were executed.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cloverleaf::{Interest, Obstacle, Started, Token};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::pyclass::{PyTraverseError, PyVisit};
use pyo3::types::{PyBytes, PyInt, PyString, PyTuple};

use crate::error::os_error;
use crate::event_loop::Loop;
use crate::ffi::{
    Owned, Reach, file_name_from, is_audited, signed_from, spared, text_from, tuple_from,
};
use crate::future;
use crate::source::{Hold, Source};

/// A program that can be started, once.
#[pyclass(frozen, immutable_type, module = "cloverleaf._cloverleaf")]
#[derive(Debug)]
pub(crate) struct Program(Mutex<Option<cloverleaf::Program>>);

/// A child that has not told yet whether it could execute its program.
#[pyclass(frozen, immutable_type, module = "cloverleaf._cloverleaf")]
#[derive(Debug)]
pub(crate) struct Starting(Mutex<cloverleaf::Starting>);

/// Who hears what becomes of it.
#[pyclass(frozen, immutable_type, module = "cloverleaf._cloverleaf")]
#[derive(Debug)]
struct Report {
    event_loop: Py<PyAny>,
    starting: Py<Starting>,
    /// A future: its result is None if the program was executed, else the error number and what could not be done.
    told: Py<PyAny>,
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

/// A program's name, an argument or the like as the system takes it; None if it must be asked for its path or refused.
///
/// A plain path is asked as `os.fspath` asks it.
fn plain_string(string: &Bound<'_, PyAny>) -> Option<CString> {
    if let Ok(text) = string.cast_exact::<PyString>() {
        plain_text(text)
    } else if let Ok(bytes) = string.cast_exact::<PyBytes>() {
        CString::new(bytes.as_bytes()).ok()
    } else if string.get_type().is(path_class(string.py())?) {
        let text = string.reach0(intern!(string.py(), "__fspath__")).ok()?;
        plain_text(text.cast_exact::<PyString>().ok()?)
    } else {
        None
    }
}

/// The class of plain paths, if they have been imported.
fn path_class(py: Python<'_>) -> Option<Bound<'_, PyAny>> {
    let sys = py.import(intern!(py, "sys")).ok()?;
    let modules = sys.getattr(intern!(py, "modules")).ok()?;
    let pathlib = modules.get_item(intern!(py, "pathlib")).ok()?;
    pathlib.getattr(intern!(py, "PosixPath")).ok()
}

fn plain_text(text: &Bound<'_, PyString>) -> Option<CString> {
    match text.to_str() {
        Ok(ascii) if ascii.is_ascii() => CString::new(ascii).ok(),
        _ => CString::new(file_name_from(text).ok()?.as_bytes()).ok(),
    }
}

/// What a plain program is asked for beside its command: its folder, the items of its environment, and whether it leads
/// a session of its own.
type Asked<'py> = (
    Option<Bound<'py, PyAny>>,
    Option<Vec<(Bound<'py, PyAny>, Bound<'py, PyAny>)>>,
    bool,
);

/// The strings of an environment, and the one of its variables that says where programs are.
///
/// None if a name is one that not every way to start a program takes, or `PATH` as bytes, beside which there may be
/// another.
fn plain_environment(
    items: &[(Bound<'_, PyAny>, Bound<'_, PyAny>)],
) -> Option<(Vec<CString>, Option<CString>)> {
    let mut strings = Vec::with_capacity(items.len());
    let mut path = None;
    for (name, value) in items {
        let known_as = plain_string(name)?;
        let value = plain_string(value)?;
        if known_as.is_empty() || known_as.as_bytes().contains(&b'=') {
            return None;
        }
        let string = [known_as.as_bytes(), value.as_bytes()].join(&b'=');
        strings.push(CString::new(string).ok()?);
        if known_as.as_bytes() == b"PATH" {
            name.cast_exact::<PyString>().ok()?;
            path = Some(value);
        }
    }
    Some((strings, path))
}

/// The paths under which a program may be found, as `os.path.join` makes them of the folders.
fn looked_up(path: &CStr, name: &CStr) -> Option<Vec<CString>> {
    let folders = path.to_bytes().split(|byte| *byte == b':');
    let paths = folders.map(|folder| {
        let separator: &[u8] = match folder.last() {
            None | Some(b'/') => b"",
            Some(_) => b"/",
        };
        CString::new([folder, separator, name.to_bytes()].concat()).ok()
    });
    paths.collect()
}

fn each_opened(fds: (RawFd, RawFd, RawFd)) -> [Option<RawFd>; 3] {
    <[RawFd; 3]>::from(fds).map(|fd| (fd != -1).then_some(fd))
}

#[pymethods]
impl Program {
    /// Takes what `subprocess.Popen` has been asked for, in the form in which it asks `_posixsubprocess.fork_exec`.
    ///
    /// What `subprocess` would refuse raises something, and it is for `subprocess` to say what.
    #[new]
    #[pyo3(signature = (
        arguments, executables, environment, folder, stdio, parents_ends, kept, closes_others, restores_signals,
        new_session, process_group, groups, group, user, umask, copies_memory, /
    ))]
    #[expect(
        clippy::too_many_arguments,
        clippy::fn_params_excessive_bools,
        clippy::needless_pass_by_value,
        reason = "the parameters of that function; to pass them as one value took a dictionary for each child"
    )]
    fn new(
        arguments: Vec<PyBackedBytes>,
        executables: Vec<PyBackedBytes>,
        environment: Option<Vec<PyBackedBytes>>,
        folder: Option<PyBackedBytes>,
        stdio: (RawFd, RawFd, RawFd),
        parents_ends: (RawFd, RawFd, RawFd),
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
    ) -> PyResult<Self> {
        let program = cloverleaf::Program {
            kept,
            parents_ends: each_opened(parents_ends).into_iter().flatten().collect(),
            stdio: each_opened(stdio),
            folder: folder.as_ref().map(c_string).transpose()?,
            umask: u32::try_from(umask).ok(),
            restores_signals,
            new_session,
            process_group: (process_group >= 0).then_some(process_group),
            groups,
            group,
            user,
            closes_others,
            executables: c_strings(&executables)?,
            arguments: c_strings(&arguments)?,
            environment: environment.as_deref().map(c_strings).transpose()?,
            copies_memory,
        };
        Ok(Self(Mutex::new(Some(program))))
    }

    /// Whether programs can be started on this system.
    #[staticmethod]
    fn can_start() -> bool {
        cloverleaf::Program::can_start()
    }

    /// A program of which little is known but its command, and for which `Popen`'s defaults hold otherwise.
    ///
    /// A name is looked up in the folders of `path`, or of its environment if that says where. None if the system lets nobody
    /// start it so, if somebody hears of audit events, and for what must be refused or asked for its path: there is another
    /// way for all of those.
    #[staticmethod]
    #[pyo3(signature = (command, path, copies_memory, asked=None, /))]
    fn plain(
        command: &Bound<'_, PyTuple>,
        path: Option<&Bound<'_, PyAny>>,
        copies_memory: bool,
        asked: Option<Asked<'_>>,
    ) -> Option<Self> {
        let (folder, environment, new_session) = asked.unwrap_or_default();
        let arguments = command.iter_borrowed().map(|it| plain_string(&it));
        let arguments: Vec<CString> = arguments.collect::<Option<_>>()?;
        let name = arguments.first().filter(|name| !name.is_empty())?;
        let folder = match folder {
            Some(folder) => Some(plain_string(&folder)?),
            None => None,
        };
        let (environment, own_path) = match environment {
            Some(items) => {
                let (strings, path) = plain_environment(&items)?;
                (Some(strings), path)
            }
            None => (None, None),
        };
        let executables = if name.as_bytes().contains(&b'/') {
            vec![name.clone()]
        } else {
            let path = plain_string(path?)?;
            looked_up(own_path.as_ref().unwrap_or(&path), name)?
        };
        if is_audited(command.py()) || !cloverleaf::Program::can_start() {
            return None;
        }
        Some(Self(Mutex::new(Some(cloverleaf::Program {
            folder,
            restores_signals: true,
            new_session,
            closes_others: true,
            executables,
            arguments,
            environment,
            copies_memory,
            ..Default::default()
        }))))
    }

    /// Makes the child, and does not wait for it.
    ///
    /// A plain program may be told only now what becomes its standard input, output and error, and which ends the child
    /// closes.
    #[pyo3(signature = (stdio=None, parents_ends=None, /))]
    fn start(
        &self,
        py: Python<'_>,
        stdio: Option<(RawFd, RawFd, RawFd)>,
        parents_ends: Option<(RawFd, RawFd, RawFd)>,
    ) -> PyResult<Starting> {
        let mut program = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
            .ok_or_else(|| PyRuntimeError::new_err("a program is started once"))?;
        if let Some(stdio) = stdio {
            program.stdio = each_opened(stdio);
        }
        if let Some(ends) = parents_ends {
            program.parents_ends = each_opened(ends).into_iter().flatten().collect();
        }
        // While this thread is attached, no other one forks by Python's means, and keeps an end of the report open.
        match program.start() {
            Ok(starting) => Ok(Starting(Mutex::new(starting))),
            Err(error) => spared(py, || Err(os_error(py, &error))),
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
    fn pid<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyInt>> {
        signed_from(py, self.child().id().into())
    }
}

/// Gives a future its result once it is known whether a program was executed.
///
/// # Errors
/// `OSError` if the kernel cannot report on it, `RuntimeError` from a thread that is not the loop's.
pub(crate) fn watch(
    event_loop: &Bound<'_, Loop>,
    starting: Py<Starting>,
    told: Py<PyAny>,
) -> PyResult<()> {
    let py = event_loop.py();
    let report = Report {
        event_loop: event_loop.clone().into_any().unbind(),
        starting,
        told,
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

/// Whether an object is a program that is being started.
pub(crate) fn is_report(object: &Bound<'_, PyAny>) -> bool {
    object.is_exact_instance_of::<Report>()
}

/// Serves the event of a child that has told something.
///
/// # Errors
/// What the future's methods raise.
fn serve(object: &Bound<'_, PyAny>, _heard: Interest) -> PyResult<()> {
    let py = object.py();
    let report = object.cast::<Report>()?.get();
    let started = report.starting.get().child().try_started();
    let Some(started) = started.map_err(|error| os_error(py, &error))? else {
        return Ok(());
    };
    report.forget(py)?;
    let failure = match started {
        Started::Executed => Ok(py.None().into_bound(py)),
        Started::Failed(errno, obstacle) => {
            let obstacle = match obstacle {
                Obstacle::Preparation => "preparation",
                Obstacle::Folder => "folder",
                Obstacle::Execution => "execution",
            };
            signed_from(py, errno.raw_os_error().into()).and_then(|errno| {
                let failure = [errno.into_any(), text_from(py, obstacle)?.into_any()];
                Ok(tuple_from(py, failure)?.into_any())
            })
        }
    };
    // What cannot be made an object is the waiter's error: nobody tells it again.
    match failure {
        Ok(failure) => future::set_result(report.told.bind(py), &failure),
        Err(error) => future::set_exception(report.told.bind(py), &error),
    }
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
        for object in [&self.event_loop, &self.told] {
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
    // For which there may be no memory when it is first needed.
    drop(module.py().get_type::<Report>());
    module.add_class::<Program>()?;
    module.add_class::<Starting>()
}
