//! `add_reader`, `add_writer` and their opposites: a user's callbacks for a user's descriptor.
//!
//! The descriptor stays as it is, blocking or not. If it was closed without being removed and its number is in use
//! again, the old registration is found dead and gives way. A file object that was closed without being removed still
//! names its registration, as in asyncio.

use std::os::fd::RawFd;

use cloverleaf::{Interest, Token};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyTuple};

use super::Loop;
use crate::error::os_error;
use crate::ffi::{Owned, Reach, borrow_fd};
use crate::handle;
use crate::source::{Direction, Source, Watch};
use crate::state::LoopState;

/// The number of a descriptor, given as such or by an object with `fileno()`; negative once that is closed.
fn any_number_of(file: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    let py = file.py();
    let number = match file.extract::<RawFd>() {
        Ok(number) => Ok(number),
        Err(_) => file
            .reach0(intern!(py, "fileno"))
            .and_then(|number| number.extract::<RawFd>()),
    };
    match number {
        Ok(number) => Ok(number),
        Err(_) => Err(PyValueError::new_err(format!(
            "Invalid file object: {}",
            file.repr()?
        ))),
    }
}

fn number_of(file: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    match any_number_of(file)? {
        number if number < 0 => Err(invalid(number)),
        number => Ok(number),
    }
}

fn invalid(number: RawFd) -> PyErr {
    PyValueError::new_err(format!("Invalid file descriptor: {number}"))
}

fn refuse_transports(slf: &Bound<'_, Loop>, file: &Bound<'_, PyAny>, fd: RawFd) -> PyResult<()> {
    let py = slf.py();
    let owner = slf.get().state().with(|state| state.served(py, fd))?;
    let Some(owner) = owner.map(|hold| hold.object(py)).transpose()?.flatten() else {
        return Ok(());
    };
    if owner.hasattr(intern!(py, "is_closing"))?
        && owner.reach0(intern!(py, "is_closing"))?.is_truthy()?
    {
        return Ok(());
    }
    Err(PyRuntimeError::new_err(format!(
        "File descriptor {} is used by transport {}",
        file.repr()?,
        owner.repr()?
    )))
}

/// `add_reader` or `add_writer`, for a program.
///
/// # Errors
/// `RuntimeError` if the loop is closed or a transport owns the descriptor, `ValueError` if it is none, `OSError` if
/// the kernel cannot report on it.
pub(super) fn add_public<'py>(
    slf: &Bound<'py, Loop>,
    file: &Bound<'py, PyAny>,
    direction: Direction,
    callback: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
) -> PyResult<()> {
    let fd = number_of(file)?;
    refuse_transports(slf, file, fd)?;
    add(slf, fd, direction, callback, args)?;
    let file = (!file.is_instance_of::<PyInt>()).then(|| file.clone().into());
    let old = slf.get().state().with(|state| state.name_watch(fd, file))?;
    drop(old);
    Ok(())
}

/// `remove_reader` or `remove_writer`, for a program.
///
/// # Errors
/// `RuntimeError` if a transport owns the descriptor, `ValueError` if it is none.
pub(super) fn remove_public(
    slf: &Bound<'_, Loop>,
    file: &Bound<'_, PyAny>,
    direction: Direction,
) -> PyResult<bool> {
    let fd = any_number_of(file)?;
    if fd < 0 {
        return remove_closed(slf, file, direction)?.ok_or_else(|| invalid(fd));
    }
    refuse_transports(slf, file, fd)?;
    remove(slf, fd, direction)
}

/// Takes a callback for a closed file object away; `None` if the object is not known.
fn remove_closed(
    slf: &Bound<'_, Loop>,
    file: &Bound<'_, PyAny>,
    direction: Direction,
) -> PyResult<Option<bool>> {
    let this = slf.get();
    let removed = this.state().with(|state| {
        let fd = state.watch_of(file)?;
        Some(state.remove_watch(fd, direction, Kernel::HasForgotten))
    })?;
    let Some(removed) = removed else {
        return Ok(None);
    };
    finish_removal(slf, removed).map(Some)
}

/// Registers a callback, in place of the one before it, and returns its handle.
///
/// # Errors
/// `RuntimeError` if the loop is closed, `OSError` if the kernel cannot report on the descriptor.
pub(super) fn add<'py>(
    slf: &Bound<'py, Loop>,
    fd: RawFd,
    direction: Direction,
    callback: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = slf.py();
    let this = slf.get();
    this.check_open()?;
    let handle = handle::new_bound_handle(slf.as_any(), callback, args)?;
    let added = this
        .state()
        .with(|state| state.add_watch(py, fd, direction, &handle))?;
    let replaced = added.map_err(|error| os_error(py, &error))?;
    drop(replaced.source);
    for old in replaced.handles.into_iter().flatten() {
        handle::cancel(&old.into_bound(py))?;
    }
    Ok(handle)
}

/// Takes a callback away; `false` if there is none.
///
/// # Errors
/// What cancelling a handle raises in debug mode.
pub(super) fn remove(slf: &Bound<'_, Loop>, fd: RawFd, direction: Direction) -> PyResult<bool> {
    let removed = slf
        .get()
        .state()
        .with(|state| state.remove_watch(fd, direction, Kernel::Knows))?;
    finish_removal(slf, removed)
}

/// What was taken out of a registration, to be dropped when nothing is borrowed: the handle, and the whole source if
/// that was its last.
type Removed = Option<(Owned, Option<Source>)>;

/// Whether the kernel still has the registration; it drops that of a closed descriptor, whose number may name another
/// file by now.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kernel {
    Knows,
    HasForgotten,
}

fn finish_removal(slf: &Bound<'_, Loop>, removed: Removed) -> PyResult<bool> {
    let Some((handle, source)) = removed else {
        return Ok(false);
    };
    drop(source);
    handle::cancel(&handle.into_bound(slf.py()))?;
    Ok(true)
}

/// What a new registration has put out of work, to be dropped when nothing is borrowed.
#[derive(Default)]
struct Replaced {
    handles: [Option<Owned>; 2],
    source: Option<Source>,
}

impl LoopState {
    fn add_watch(
        &mut self,
        py: Python<'_>,
        fd: RawFd,
        direction: Direction,
        handle: &Bound<'_, PyAny>,
    ) -> std::io::Result<Replaced> {
        if let Some(token) = self.watches.get(&fd).copied() {
            match self.widen_watch(fd, token, direction) {
                Ok(()) => {
                    let handle = self.put_handle(token, direction, handle);
                    return Ok(Replaced {
                        handles: [handle, None],
                        source: None,
                    });
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                    // The number belongs to another file than the one that was registered.
                    let dead = self.drop_watch(fd, token);
                    self.new_watch(py, fd, direction, handle)?;
                    return Ok(dead);
                }
                Err(error) => return Err(error),
            }
        }
        self.new_watch(py, fd, direction, handle)?;
        Ok(Replaced::default())
    }

    fn new_watch(
        &mut self,
        py: Python<'_>,
        fd: RawFd,
        direction: Direction,
        handle: &Bound<'_, PyAny>,
    ) -> std::io::Result<()> {
        let mut watch = Watch {
            fd,
            file: None,
            reader: None,
            writer: None,
        };
        let handle = Owned::from(handle.clone());
        *watch.slot(direction) = Some(handle.clone_ref(py));
        let token = self.reactor.insert(Source::Watch(watch));
        if let Err(error) =
            self.set_interest(borrow_fd(fd), token, Interest::NONE, direction.interest())
        {
            // Two references are left: the caller's and `handle`, so nothing is freed here.
            drop(self.reactor.remove(token));
            return Err(error);
        }
        self.watches.insert(fd, token);
        Ok(())
    }

    fn widen_watch(
        &mut self,
        fd: RawFd,
        token: Token,
        direction: Direction,
    ) -> std::io::Result<()> {
        let Some(Source::Watch(watch)) = self.reactor.get(token) else {
            return Ok(());
        };
        let wanted = watch.interest().with(direction.interest());
        // Asked for even if nothing changes: this is how a dead registration is noticed.
        self.reactor.modify(borrow_fd(fd), token, wanted)
    }

    fn put_handle(
        &mut self,
        token: Token,
        direction: Direction,
        handle: &Bound<'_, PyAny>,
    ) -> Option<Owned> {
        match self.reactor.get_mut(token) {
            Some(Source::Watch(watch)) => watch.slot(direction).replace(handle.clone().into()),
            Some(Source::Served(..)) | None => None,
        }
    }

    /// Forgets a registration whose descriptor was closed and whose number is in use again.
    fn drop_watch(&mut self, fd: RawFd, token: Token) -> Replaced {
        self.watches.remove(&fd);
        self.note_forgotten();
        let mut source = self.reactor.remove(token);
        let handles = match &mut source {
            Some(Source::Watch(watch)) => [watch.reader.take(), watch.writer.take()],
            Some(Source::Served(..)) | None => [None, None],
        };
        Replaced { handles, source }
    }

    fn remove_watch(&mut self, fd: RawFd, direction: Direction, kernel: Kernel) -> Removed {
        let token = self.watches.get(&fd).copied()?;
        let Some(Source::Watch(watch)) = self.reactor.get_mut(token) else {
            return None;
        };
        let handle = watch.slot(direction).take()?;
        let left = watch.interest();
        if left.is_none() {
            self.watches.remove(&fd);
            if kernel == Kernel::Knows {
                self.forget(borrow_fd(fd));
            } else {
                self.note_forgotten();
            }
            return Some((handle, self.reactor.remove(token)));
        }
        if kernel == Kernel::Knows {
            // If the descriptor was closed, nothing is reported of it any more, which is what was asked for.
            cloverleaf::ignore(self.reactor.modify(borrow_fd(fd), token, left));
        }
        Some((handle, None))
    }

    /// Remembers the object that a descriptor was given as; gives back the one before it.
    fn name_watch(&mut self, fd: RawFd, file: Option<Owned>) -> Option<Owned> {
        let token = self.watches.get(&fd).copied();
        match token.and_then(|token| self.reactor.get_mut(token)) {
            Some(Source::Watch(watch)) => std::mem::replace(&mut watch.file, file),
            Some(Source::Served(..)) | None => file,
        }
    }

    /// The number under which this very object was registered.
    fn watch_of(&self, file: &Bound<'_, PyAny>) -> Option<RawFd> {
        let py = file.py();
        self.reactor.sources().find_map(|(_, source)| match source {
            Source::Watch(watch) => {
                let named = watch.file.as_ref()?.bind(py).is(file);
                named.then_some(watch.fd)
            }
            Source::Served(..) => None,
        })
    }
}
