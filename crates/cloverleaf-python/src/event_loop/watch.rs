//! `add_reader`, `add_writer` and their opposites: a user's callbacks for a user's descriptor; and waits for a socket.
//!
//! The descriptor stays as it is, blocking or not. If it was closed without being removed and its number is in use
//! again, the old registration is found dead and gives way. A file object that was closed without being removed still
//! names its registration, as in asyncio. What was registered for a wait stays registered for the next one on the same
//! socket, until a transport takes the descriptor over or the program closes it.

use std::io;
use std::os::fd::RawFd;

use cloverleaf::Token;
use pyo3::exceptions::{
    PyAttributeError, PyOverflowError, PyRuntimeError, PyTypeError, PyValueError,
};
use pyo3::prelude::*;
use pyo3::types::{PyInt, PyTuple, PyWeakrefReference};

use super::futures::create_future;
use super::registrations::{Kernel, Removed, Request};
use super::{Loop, handed};
use crate::error::os_error;
use crate::ffi::{Owned, Reach};
use crate::listener::Listener;
use crate::source::{Direction, Hold, Party};
use crate::state::LoopState;
use crate::{future, handle, transport};

/// What a program has given as a descriptor.
enum Named<'py> {
    /// A number that a descriptor may have.
    Descriptor(RawFd),
    /// A number below zero, as of a closed socket.
    Negative(Bound<'py, PyInt>),
    /// A number that is too large for any descriptor.
    TooLarge,
}

/// The descriptor that is given by its number, or by an object with `fileno()`.
///
/// # Errors
/// `ValueError` if it is neither, what `fileno()` raises if that is none of the errors that say the same.
fn named<'py>(file: &Bound<'py, PyAny>) -> PyResult<Named<'py>> {
    let number = match file.cast::<PyInt>() {
        Ok(number) => number.clone(),
        Err(_) => asked(file)?,
    };
    match number.extract::<RawFd>() {
        Ok(fd) if fd >= 0 => Ok(Named::Descriptor(fd)),
        Err(_) if number.gt(0)? => Ok(Named::TooLarge),
        _ => Ok(Named::Negative(number)),
    }
}

/// What a file object says of its descriptor.
fn asked<'py>(file: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyInt>> {
    let py = file.py();
    let asked = file.reach0(intern!(py, "fileno")).and_then(|number| {
        number.cast_into::<PyInt>().or_else(|error| {
            let number = py.get_type::<PyInt>().invoke((error.into_inner(),))?;
            Ok(number.cast_into::<PyInt>()?)
        })
    });
    match asked {
        Err(error)
            if error.is_instance_of::<PyAttributeError>(py)
                || error.is_instance_of::<PyTypeError>(py)
                || error.is_instance_of::<PyValueError>(py) =>
        {
            let text = format!("Invalid file object: {}", file.repr()?);
            Err(PyValueError::new_err(text))
        }
        asked => asked,
    }
}

fn invalid(number: &Bound<'_, PyInt>) -> PyErr {
    PyValueError::new_err(format!("Invalid file descriptor: {number}"))
}

pub(super) fn refuse_transports(
    slf: &Bound<'_, Loop>,
    file: &Bound<'_, PyAny>,
    fd: RawFd,
) -> PyResult<()> {
    refuse_owner(slf, file, fd, is_closing)
}

fn is_closing(owner: &Bound<'_, PyAny>) -> PyResult<bool> {
    let name = intern!(owner.py(), "is_closing");
    Ok(owner.hasattr(name)? && owner.reach0(name)?.is_truthy()?)
}

/// Refuses a descriptor that belongs to somebody, unless `may_be_disturbed` says of them that it does not matter.
fn refuse_owner(
    slf: &Bound<'_, Loop>,
    file: &Bound<'_, PyAny>,
    fd: RawFd,
    may_be_disturbed: fn(&Bound<'_, PyAny>) -> PyResult<bool>,
) -> PyResult<()> {
    let py = slf.py();
    let owner = slf.get().state().with(|state| state.served(py, fd))?;
    let Some(owner) = owner.map(|hold| hold.object(py)).transpose()?.flatten() else {
        return Ok(());
    };
    if Listener::end_if_closed(&owner)? || may_be_disturbed(&owner)? {
        return Ok(());
    }
    Err(PyRuntimeError::new_err(format!(
        "File descriptor {} is used by transport {}",
        file.repr()?,
        owner.repr()?
    )))
}

/// Refuses a descriptor that a transport owns, by its number or an object with `fileno()`; also that of one which still
/// sends before it closes the descriptor, as the kernel takes two of them for one.
///
/// # Errors
/// `RuntimeError` if one does, `ValueError` if the object is no file.
pub(super) fn refuse_served(slf: &Bound<'_, Loop>, file: &Bound<'_, PyAny>) -> PyResult<()> {
    match named(file)? {
        Named::Descriptor(fd) => refuse_owner(slf, file, fd, |owner| {
            Ok(is_closing(owner)? && !transport::is_draining(owner))
        }),
        Named::Negative(_) | Named::TooLarge => Ok(()),
    }
}

/// `add_reader` or `add_writer`, for a program; another thread than the loop's hands it over.
///
/// # Errors
/// `RuntimeError` if the loop is closed or a transport owns the descriptor, `ValueError` or `OverflowError` if it is none,
/// `OSError` if the kernel cannot report on it.
pub(super) fn add_public<'py>(
    slf: &Bound<'py, Loop>,
    file: &Bound<'py, PyAny>,
    direction: Direction,
    callback: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
) -> PyResult<()> {
    let fd = match named(file)? {
        Named::Descriptor(fd) => fd,
        Named::Negative(number) => return Err(invalid(&number)),
        Named::TooLarge => {
            return Err(PyOverflowError::new_err(
                "Python int too large to convert to C int",
            ));
        }
    };
    match add_named(slf, file, fd, direction, (callback, args)) {
        Err(_) if handed::is_foreign(slf.get()) => {
            handed::add(slf, file, fd, direction, (callback, args))
        }
        added => added,
    }
}

fn add_named<'py>(
    slf: &Bound<'py, Loop>,
    file: &Bound<'py, PyAny>,
    fd: RawFd,
    direction: Direction,
    (callback, args): (&Bound<'py, PyAny>, &Bound<'py, PyTuple>),
) -> PyResult<()> {
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
    let fd = match named(file)? {
        Named::Descriptor(fd) => fd,
        Named::Negative(number) => {
            return remove_closed(slf, file, direction)?.ok_or_else(|| invalid(&number));
        }
        Named::TooLarge => return Ok(false),
    };
    refuse_transports(slf, file, fd)?;
    remove(slf, fd, direction)
}

/// Takes a callback for a closed file object away; `None` if the object is not known.
fn remove_closed(
    slf: &Bound<'_, Loop>,
    file: &Bound<'_, PyAny>,
    direction: Direction,
) -> PyResult<Option<bool>> {
    handed::land(slf)?;
    let this = slf.get();
    let removed = this.state().with(|state| {
        let fd = state.watch_of(file)?;
        Some(state.remove_party(fd, direction, Kernel::HasForgotten))
    })?;
    let Some(removed) = removed else {
        return Ok(None);
    };
    finish_removal(slf, removed).map(Some)
}

/// Tells a loop of a transport of asyncio's own, whose descriptor no program may watch; None takes it back.
///
/// # Errors
/// `TypeError` if it cannot be referred to weakly, `RuntimeError` from a thread that is not the loop's.
#[pyfunction]
fn note_foreign(
    event_loop: &Bound<'_, Loop>,
    fd: RawFd,
    transport: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    let hold = transport
        .map(|transport| PyWeakrefReference::new(transport).map(|weak| Hold::Weak(weak.into())))
        .transpose()?;
    let old = event_loop.get().state().with(|state| match hold {
        Some(hold) => state.foreign.insert(fd, hold),
        None => state.foreign.remove(&fd),
    })?;
    drop(old);
    Ok(())
}

/// Lets such a transport hear of its descriptor; without a callback, no longer. Says whether somebody is or was told.
///
/// # Errors
/// Those of [`add`] and [`remove`].
#[pyfunction]
#[pyo3(signature = (event_loop, fd, writes, callback, *args))]
fn watch_foreign<'py>(
    event_loop: &Bound<'py, Loop>,
    fd: RawFd,
    writes: bool,
    callback: Option<&Bound<'py, PyAny>>,
    args: &Bound<'py, PyTuple>,
) -> PyResult<bool> {
    let direction = if writes {
        Direction::Write
    } else {
        Direction::Read
    };
    match callback {
        Some(callback) => add(event_loop, fd, direction, callback, args).map(|_handle| true),
        None => remove(event_loop, fd, direction),
    }
}

/// Says of a descriptor with a callback whether it is there only to end the loop's sleep; then a loop that is awake does
/// not ask for it.
///
/// # Errors
/// `RuntimeError` if the loop is closed.
#[pyfunction]
fn let_only_end_sleeps(event_loop: &Bound<'_, Loop>, fd: RawFd, only: bool) -> PyResult<()> {
    let this = event_loop.get();
    let change = move |state: &mut LoopState| state.let_only_end_sleeps(fd, only);
    if this.state().with(change).is_ok() {
        return Ok(());
    }
    // The loop runs in another thread.
    let event_loop = event_loop.clone().unbind();
    this.push_call(event_loop, move |py, event_loop| {
        Ok(event_loop.bind(py).get().state().with(change)?)
    })
}

/// Registers a callback, in place of whoever heard before, and returns its handle.
///
/// # Errors
/// `RuntimeError` if the loop is closed, `ValueError` for the number of a closed socket, `OSError` if the kernel cannot
/// report on the descriptor.
pub(super) fn add<'py>(
    slf: &Bound<'py, Loop>,
    fd: RawFd,
    direction: Direction,
    callback: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    slf.get().check_open()?;
    if fd < 0 {
        return Err(invalid(&fd.into_pyobject(slf.py())?));
    }
    handed::land(slf)?;
    let handle = handle::new_bound_handle(slf.as_any(), callback, args)?;
    let party = Party::Handle(handle.clone().into());
    put(slf, fd, direction, party, None)?;
    Ok(handle)
}

/// Lets a future be done when a socket's descriptor is ready next, in place of whoever would have heard of that.
///
/// The caller has just found that the descriptor would block. `socket` is the weak reference of the socket that has
/// the descriptor, if it can have one.
///
/// # Errors
/// `RuntimeError` if a transport owns the descriptor, `OSError` if the kernel cannot report on it.
pub(super) fn wait(
    slf: &Bound<'_, Loop>,
    fd: RawFd,
    direction: Direction,
    socket: Option<Owned>,
) -> PyResult<Owned> {
    let py = slf.py();
    let this = slf.get();
    handed::land(slf)?;
    if this.state().with(|state| state.is_served(fd))? {
        refuse_transports(slf, fd.into_pyobject(py)?.as_any(), fd)?;
    }
    let waiter = create_future(slf.as_any())?;
    let party = Party::Waiter(waiter.clone_ref(py), false);
    put(slf, fd, direction, party, socket)?;
    Ok(waiter)
}

/// Registers whoever is to hear, in place of whoever heard before.
///
/// # Errors
/// `RuntimeError` from a thread that is not the loop's and in a forked child, `OSError` if the kernel cannot report on the
/// descriptor.
pub(super) fn put(
    slf: &Bound<'_, Loop>,
    fd: RawFd,
    direction: Direction,
    party: Party,
    mut socket: Option<Owned>,
) -> PyResult<()> {
    let py = slf.py();
    let mut party = Some(party);
    // Neither the party nor the reference is dropped within, whatever happens.
    let put = slf.get().state().with(|state| {
        state.put_party(Request {
            fd,
            direction,
            party: &mut party,
            socket: &mut socket,
        })
    });
    drop((party, socket));
    let replaced = put?.map_err(|error| slf.get().refusal(py, &error))?;
    drop(replaced.source);
    for old in replaced.parties.into_iter().flatten() {
        // A waiter that is replaced is never done, as on asyncio.
        if let Party::Handle(handle) = old {
            handle::cancel(&handle.into_bound(py))?;
        }
    }
    Ok(())
}

impl Loop {
    /// Takes a program's callbacks for a descriptor away, of which a transport or a listener hears from now on; `false` if
    /// there are none.
    ///
    /// On asyncio it takes the place of the reader alone, and a writer is called for ever: nobody can remove it any more.
    ///
    /// # Errors
    /// What cancelling a handle raises in debug mode.
    pub(crate) fn take_callbacks_away(slf: &Bound<'_, Self>, fd: RawFd) -> PyResult<bool> {
        if !slf
            .get()
            .state()
            .with(|state| state.watches.contains_key(&fd))?
        {
            return Ok(false);
        }
        let had_reader = remove(slf, fd, Direction::Read)?;
        let had_writer = remove(slf, fd, Direction::Write)?;
        Ok(had_reader || had_writer)
    }

    /// Takes a program's callbacks away if that is why the kernel has refused a descriptor; else `false`.
    ///
    /// # Errors
    /// What cancelling a handle raises in debug mode.
    #[cold]
    pub(crate) fn take_refused_away(
        slf: &Bound<'_, Self>,
        fd: RawFd,
        refusal: &io::Error,
    ) -> PyResult<bool> {
        if refusal.raw_os_error() != Some(libc::EEXIST) {
            return Ok(false);
        }
        Self::take_callbacks_away(slf, fd)
    }

    /// Why nobody can hear of a descriptor: what the kernel says of it, or that the loop is of another process.
    #[cold]
    pub(crate) fn refusal(&self, py: Python<'_>, error: &io::Error) -> PyErr {
        let (its, own) = (self.process, std::process::id());
        if its == own {
            return os_error(py, error);
        }
        PyRuntimeError::new_err(format!(
            "This event loop was made in process {its} and cannot watch descriptors in process {own}, which was \
             forked from it; make a new event loop there"
        ))
    }
}

/// Notes whoever was to hear of a descriptor that was closed meanwhile, for those who take that away; unless a transport has
/// its number by now.
///
/// # Errors
/// `RuntimeError` from a thread that is not the loop's, what cancelling a handle raises in debug mode.
pub(super) fn put_closed(
    slf: &Bound<'_, Loop>,
    fd: RawFd,
    direction: Direction,
    party: Party,
) -> PyResult<()> {
    let mut party = Some(party);
    let before = slf.get().state().with(|state| {
        let is_noted = !state.is_served(fd);
        is_noted
            .then(|| party.take())
            .flatten()
            .and_then(|party| state.put_closed(fd, direction, party))
    });
    drop(party);
    match before? {
        Some(Party::Handle(handle)) => handle::cancel(&handle.into_bound(slf.py())),
        Some(Party::Waiter(..)) | None => Ok(()),
    }
}

/// Takes whoever hears of a direction away; `false` if there is nobody.
///
/// # Errors
/// What cancelling a handle raises in debug mode.
pub(super) fn remove(slf: &Bound<'_, Loop>, fd: RawFd, direction: Direction) -> PyResult<bool> {
    handed::land(slf)?;
    let removed = slf
        .get()
        .state()
        .with(|state| state.remove_party(fd, direction, Kernel::Knows))?;
    finish_removal(slf, removed)
}

fn finish_removal(slf: &Bound<'_, Loop>, removed: Removed) -> PyResult<bool> {
    let Some((party, leavings)) = removed else {
        return Ok(false);
    };
    drop(leavings);
    match party {
        Party::Handle(handle) => handle::cancel(&handle.into_bound(slf.py())).map(|()| true),
        // One that was cancelled is no longer there, as far as anybody knows.
        Party::Waiter(waiter, _) => future::is_done(&waiter.into_bound(slf.py())).map(|done| !done),
    }
}

/// Lets those go on whose wait is over.
///
/// # Errors
/// What completing a future raises.
pub(super) fn tell_waiters(slf: &Bound<'_, Loop>, token: Token) -> PyResult<()> {
    let py = slf.py();
    let (waiters, leavings) = slf.get().state().with(|state| state.take_waiters(token))?;
    drop(leavings);
    for waiter in waiters.into_iter().flatten() {
        future::set_result(&waiter.into_bound(py), py.None().bind(py))?;
    }
    Ok(())
}

/// The functions of this file.
///
/// # Errors
/// What setting an attribute of a module raises.
pub(super) fn add_to(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(pyo3::wrap_pyfunction!(note_foreign, module)?)?;
    module.add_function(pyo3::wrap_pyfunction!(watch_foreign, module)?)?;
    module.add_function(pyo3::wrap_pyfunction!(let_only_end_sleeps, module)?)
}
