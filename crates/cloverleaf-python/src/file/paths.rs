//! What is learned of a path without a wait, and what is changed by paths, without Python.

use std::ffi::CString;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use cloverleaf::fs::look_at_once;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyModule;
use rustix::fs::{AtFlags, CWD, Mode, mkdirat, renameat, unlinkat};

use super::request::Request;
use super::work::Work;
use crate::ffi::{Once, Reach, spared};

/// A change of names.
#[derive(Debug)]
pub(crate) enum Change {
    /// `unlink(2)`
    RemoveFile(CString),
    /// `rmdir(2)`
    RemoveFolder(CString),
    /// `mkdir(2)`
    MakeFolder(CString, u32),
    /// `rename(2)`
    Rename(CString, CString),
}

impl Change {
    /// Makes the change; may wait.
    pub(super) fn make(self) -> io::Result<()> {
        Ok(match self {
            Self::RemoveFile(path) => unlinkat(CWD, path, AtFlags::empty()),
            Self::RemoveFolder(path) => unlinkat(CWD, path, AtFlags::REMOVEDIR),
            Self::MakeFolder(path, mode) => mkdirat(CWD, path, Mode::from_raw_mode(mode)),
            Self::Rename(from, to) => renameat(CWD, from, CWD, to),
        }?)
    }
}

/// The module `os`, whose functions are looked up at each call: a program may replace them.
static OS: Once<Py<PyModule>> = Once::new();

/// What `os.stat`, or `os.lstat`, says of a path that the kernel has at hand; None if that needs a wait, or fails.
///
/// # Errors
/// What `os.fstat` raises.
#[pyfunction]
pub(super) fn stat_at_once<'py>(
    py: Python<'py>,
    path: &[u8],
    follows: bool,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    let Some(found) = look_at_once(path, follows) else {
        return Ok(None);
    };
    spared(py, || {
        let os = OS.get_or_try_init(py, || py.import(intern!(py, "os")).map(Bound::unbind))?;
        os.bind(py)
            .reach(intern!(py, "fstat"), (found.as_raw_fd(),))
            .map(Some)
    })
}

/// A request to remove a file's name.
#[pyfunction]
pub(super) fn removing_file(path: Vec<u8>) -> PyResult<Request> {
    Ok(changing(Change::RemoveFile(text(path)?)))
}

/// A request to remove an empty folder.
#[pyfunction]
pub(super) fn removing_folder(path: Vec<u8>) -> PyResult<Request> {
    Ok(changing(Change::RemoveFolder(text(path)?)))
}

/// A request to make a folder.
#[pyfunction]
pub(super) fn making_folder(path: Vec<u8>, mode: u32) -> PyResult<Request> {
    Ok(changing(Change::MakeFolder(text(path)?, mode)))
}

/// A request to give a file another name.
#[pyfunction]
pub(super) fn renaming(path: Vec<u8>, target: Vec<u8>) -> PyResult<Request> {
    Ok(changing(Change::Rename(text(path)?, text(target)?)))
}

fn changing(change: Change) -> Request {
    Request::new(Work::Change(change))
}

fn text(path: Vec<u8>) -> PyResult<CString> {
    CString::new(path).map_err(|_| PyValueError::new_err("embedded null byte"))
}
