//! `add_reader` and `add_writer` of another thread than the one that runs the loop.
//!
//! The loop registers what it is handed in its next turn, or before its own thread asks for anything of the kind: so all
//! of it happens in the order in which it was asked for. What the kernel says of the descriptor is asked at once. Of one that
//! is closed before its turn comes, and of what has got its number since, the kernel is not asked any more; the program
//! finds it registered, as if it had been closed afterwards.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use pyo3::prelude::*;
use pyo3::types::{PyInt, PyTuple};

use super::{Loop, watch};
use crate::ffi::{Owned, Reach};
use crate::handle;
use crate::owner::Refused;
use crate::source::{Direction, Party};

/// What other threads have asked for, in their order, and the loop has not registered; the jobs that will do it own it.
#[derive(Debug, Default)]
pub(super) struct Handed {
    waiting: Mutex<Vec<Weak<Watch>>>,
    /// Somebody has added to them since they were last taken.
    is_any: AtomicBool,
}

impl Handed {
    fn waiting(&self) -> MutexGuard<'_, Vec<Weak<Watch>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Watch {
    fd: RawFd,
    /// An epoll that has been told of the descriptor: only it can say later whether the number is of the same file still. By
    /// device and inode all of eventfd(2) and its kin are one.
    epoll: Owned,
    direction: Direction,
    handle: Owned,
    file: Option<Owned>,
}

/// Whether another thread runs the loop.
pub(super) fn is_foreign(this: &Loop) -> bool {
    matches!(this.state().with(|_| ()), Err(Refused::Foreign))
}

/// Hands a registration over to the loop.
///
/// # Errors
/// `RuntimeError` if the loop is closed, `OSError` if the kernel cannot report on the descriptor.
pub(super) fn add<'py>(
    slf: &Bound<'py, Loop>,
    file: &Bound<'py, PyAny>,
    fd: RawFd,
    direction: Direction,
    (callback, args): (&Bound<'py, PyAny>, &Bound<'py, PyTuple>),
) -> PyResult<()> {
    let py = slf.py();
    let this = slf.get();
    this.check_open()?;
    // An epoll that is made first would get the number of a descriptor that is closed.
    py.import(intern!(py, "os"))?
        .reach(intern!(py, "fstat"), (fd,))?;
    let epoll = epoll_of(py, fd)?;
    let handle = handle::new_bound_handle(slf.as_any(), callback, args)?;
    let watch = Arc::new(Watch {
        fd,
        epoll: epoll.into(),
        direction,
        handle: handle.into(),
        file: (!file.is_instance_of::<PyInt>()).then(|| file.clone().into()),
    });
    hand_over(slf, watch)
}

fn hand_over(slf: &Bound<'_, Loop>, watch: Arc<Watch>) -> PyResult<()> {
    let this = slf.get();
    let mut waiting = this.handed.waiting();
    waiting.push(Arc::downgrade(&watch));
    this.handed.is_any.store(true, Ordering::Release);
    drop(waiting);
    let event_loop = slf.clone().unbind();
    this.push_call(event_loop, move |py, event_loop| {
        let landed = land(event_loop.bind(py));
        drop(watch);
        landed
    })
}

/// Registers what was handed over; in the loop's thread, or where nobody runs the loop.
///
/// # Errors
/// `RuntimeError` if the loop is closed. What goes wrong with a registration the loop reports later.
#[inline]
pub(super) fn land(slf: &Bound<'_, Loop>) -> PyResult<()> {
    let this = slf.get();
    if !this.handed.is_any.load(Ordering::Acquire) || is_foreign(this) {
        return Ok(());
    }
    land_all(slf)
}

#[cold]
fn land_all(slf: &Bound<'_, Loop>) -> PyResult<()> {
    let this = slf.get();
    let mut waiting = this.handed.waiting();
    let taken = std::mem::take(&mut *waiting);
    this.handed.is_any.store(false, Ordering::Release);
    drop(waiting);
    for watch in taken.iter().filter_map(Weak::upgrade) {
        match land_one(slf, &watch) {
            Ok(()) => {}
            // A thread has begun to run the loop meanwhile.
            Err(_) if is_foreign(this) => hand_over(slf, watch)?,
            Err(error) => this.push_call((), move |_, ()| Err(error))?,
        }
    }
    Ok(())
}

fn land_one(slf: &Bound<'_, Loop>, watch: &Watch) -> PyResult<()> {
    let py = slf.py();
    let epoll = watch.epoll.clone_ref(py).into_bound(py);
    let party = Party::Handle(watch.handle.clone_ref(py));
    if epoll.reach(intern!(py, "modify"), (watch.fd, 0)).is_ok() {
        watch::refuse_transports(slf, watch.fd.into_pyobject(py)?.as_any(), watch.fd)?;
        watch::put(slf, watch.fd, watch.direction, party, None)?;
    } else {
        watch::put_closed(slf, watch.fd, watch.direction, party)?;
    }
    let file = watch.file.as_ref().map(|file| file.clone_ref(py));
    let old = slf
        .get()
        .state()
        .with(|state| state.name_watch(watch.fd, file))?;
    drop(old);
    Ok(())
}

/// Asks the kernel as the loop will.
fn epoll_of(py: Python<'_>, fd: RawFd) -> PyResult<Bound<'_, PyAny>> {
    let epoll = py
        .import(intern!(py, "select"))?
        .reach0(intern!(py, "epoll"))?;
    epoll.reach(intern!(py, "register"), (fd, 0))?;
    Ok(epoll)
}
