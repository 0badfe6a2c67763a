//! `FileBase`: a descriptor that is closed once, and not before the last operation on it has ended.

use std::io;
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cloverleaf::limits::{AT_ONCE_BYTES, OPERATIONS_BETWEEN_PAUSES};
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyType};

use super::at_once;
use super::request::Request;
use super::work::{Work, is_direct};
use crate::error::{errno_error, os_error};
use crate::ffi::{Arguments, Content, Method, Owned, close_fd, own_fd, raw_fastcall};

/// What all objects of one open file share.
#[derive(Debug)]
struct Shared {
    fd: Mutex<Option<Arc<OwnedFd>>>,
    /// Operations that took no wait since others were last let run.
    spent: AtomicU32,
    /// The file goes past the page cache, so that nothing of it is ever at hand.
    is_direct: bool,
}

/// The native half of an open file. Another one made of it is the same file.
#[pyclass(frozen, subclass, module = "cloverleaf._cloverleaf")]
#[derive(Debug)]
pub(crate) struct FileBase {
    shared: Arc<Shared>,
}

impl FileBase {
    /// A file of this descriptor.
    pub(super) fn from_fd(fd: OwnedFd) -> Self {
        Self {
            shared: Arc::new(Shared {
                is_direct: is_direct(&fd),
                fd: Mutex::new(Some(Arc::new(fd))),
                spent: AtomicU32::new(0),
            }),
        }
    }

    fn slot(&self) -> MutexGuard<'_, Option<Arc<OwnedFd>>> {
        // Nothing under this lock can panic, or runs Python code.
        self.shared
            .fd
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The descriptor, held for as long as it is in use.
    ///
    /// # Errors
    /// `ValueError` if the file is closed.
    pub(super) fn fd(&self) -> PyResult<Arc<OwnedFd>> {
        let fd = self.slot().as_ref().map(Arc::clone);
        fd.ok_or_else(|| PyValueError::new_err("I/O operation on closed file."))
    }

    /// Counts an operation that takes no wait; `false` if others must run first.
    fn may_go_on(&self) -> bool {
        let spent = self.shared.spent.load(Ordering::Relaxed);
        let may = spent < OPERATIONS_BETWEEN_PAUSES;
        if may {
            self.shared.spent.store(spent + 1, Ordering::Relaxed);
        }
        may
    }

    fn request(
        slf: &Bound<'_, Self>,
        work: impl FnOnce(Arc<OwnedFd>) -> Work,
    ) -> PyResult<Request> {
        Ok(Request::new(work(slf.get().fd()?)))
    }
}

/// A number of bytes or an offset as the kernel takes it.
///
/// # Errors
/// `OSError` (`EINVAL`) if it is negative; `TypeError` or `OverflowError` if it is no such number.
fn natural(value: &Bound<'_, PyAny>) -> PyResult<u64> {
    let number: i64 = value.extract()?;
    u64::try_from(number).map_err(|_| errno_error(value.py(), rustix::io::Errno::INVAL))
}

fn size_of(value: &Bound<'_, PyAny>) -> PyResult<usize> {
    usize::try_from(natural(value)?).map_err(Into::into)
}

/// `_pread_at_once(size, offset)`: the bytes; None if they need a wait, or if others must run first.
fn pread_at_once(slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>) -> PyResult<Owned> {
    let py = slf.py();
    let (Some(size), Some(offset)) = (args.get(0), args.get(1)) else {
        return Err(PyTypeError::new_err(
            "_pread_at_once() was called with too few arguments",
        ));
    };
    let (size, offset) = (size_of(&size)?, natural(&offset)?);
    let this = slf.cast::<FileBase>()?.get();
    let fd = this.fd()?;
    let bytes = if !this.shared.is_direct && this.may_go_on() {
        at_once::read(py, fd.as_fd(), size, offset)?
    } else {
        None
    };
    Ok(bytes.map_or_else(|| py.None().into_bound(py).into(), Into::into))
}

const METHODS: [Method; 1] = [Method {
    name: c"_pread_at_once",
    doc: c"_pread_at_once($self, size, offset, /)\n--\n\nThe bytes, or None if they need a wait, or if others must run \
           first.",
    kind: raw_fastcall!(pread_at_once),
}];

/// Puts the methods on the class that are called without a detour.
///
/// # Errors
/// What setting an attribute of a type raises.
pub(super) fn attach(class: &Bound<'_, PyType>) -> PyResult<()> {
    crate::ffi::attach_methods(class, &METHODS)
}

#[pymethods]
impl FileBase {
    /// Takes a descriptor over, or is the same file as another one.
    #[new]
    fn new(file: &Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(other) = file.cast::<Self>() {
            let shared = Arc::clone(&other.get().shared);
            return Ok(Self { shared });
        }
        let fd: RawFd = file.extract().map_err(|_| {
            PyTypeError::new_err("a file descriptor or another file's native half was expected")
        })?;
        if fd < 0 {
            return Err(PyValueError::new_err("negative file descriptor"));
        }
        Ok(Self::from_fd(own_fd(fd)))
    }

    /// The descriptor's number, or -1 once the file is closed.
    fn _fileno(&self) -> RawFd {
        self.slot().as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }

    /// Counts an operation; whether others must run first, which the caller sees to.
    fn _pauses(&self) -> bool {
        let pauses = !self.may_go_on();
        if pauses {
            self.shared.spent.store(0, Ordering::Relaxed);
        }
        pauses
    }

    /// Closes the file now; operations that have begun end as if it were open.
    fn _close(&self, py: Python<'_>) -> PyResult<()> {
        let fd = self.slot().take();
        match fd.and_then(Arc::into_inner) {
            Some(fd) => close_fd(fd).map_err(|error| os_error(py, &error)),
            None => Ok(()),
        }
    }

    /// Gives the descriptor away; the file is closed after that.
    fn _release(&self) -> PyResult<RawFd> {
        let fd = self.slot().take();
        match fd.map(Arc::try_unwrap) {
            Some(Ok(fd)) => Ok(fd.into_raw_fd()),
            Some(Err(shared)) => {
                *self.slot() = Some(shared);
                Err(PyRuntimeError::new_err("an operation is under way"))
            }
            None => Err(PyValueError::new_err("I/O operation on closed file.")),
        }
    }

    fn _try_readinto(
        &self,
        py: Python<'_>,
        buffer: &Bound<'_, PyAny>,
        offset: u64,
    ) -> PyResult<Option<usize>> {
        if self.shared.is_direct {
            return Ok(None);
        }
        at_once::readinto(py, self.fd()?.as_fd(), buffer, offset)
    }

    fn _try_read<'py>(
        &self,
        py: Python<'py>,
        size: usize,
        offset: u64,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        if self.shared.is_direct {
            return Ok(None);
        }
        at_once::read(py, self.fd()?.as_fd(), size, offset)
    }

    fn _try_write(&self, data: &Bound<'_, PyBytes>, start: usize, offset: u64) -> PyResult<usize> {
        let rest = data.as_bytes().get(start..).unwrap_or_default();
        if rest.len() > AT_ONCE_BYTES || self.shared.is_direct {
            return Ok(0);
        }
        Ok(cloverleaf::fs::write_at_once(self.fd()?.as_fd(), rest, offset).unwrap_or(0))
    }

    /// Whether so many bytes from the offset on, or all up to the end of the file, can be read without a wait.
    fn _is_at_hand(&self, size: usize, offset: u64) -> PyResult<bool> {
        Ok(!self.shared.is_direct && at_once::is_at_hand(self.fd()?.as_fd(), size, offset))
    }

    fn _reading(slf: &Bound<'_, Self>, size: usize, offset: Option<u64>) -> PyResult<Request> {
        let is_direct = slf.get().shared.is_direct;
        Self::request(slf, |fd| Work::Read {
            fd,
            size,
            offset,
            is_direct,
        })
    }

    fn _warming(slf: &Bound<'_, Self>, size: usize, offset: u64) -> PyResult<Request> {
        Self::request(slf, |fd| Work::Warm { fd, size, offset })
    }

    fn _writing(
        slf: &Bound<'_, Self>,
        data: &Bound<'_, PyBytes>,
        start: usize,
        offset: Option<u64>,
    ) -> PyResult<Request> {
        let data = Content::of(data);
        let is_direct = slf.get().shared.is_direct;
        Self::request(slf, |fd| Work::Write {
            fd,
            data,
            start,
            offset,
            is_direct,
        })
    }

    fn _truncating(slf: &Bound<'_, Self>, size: i64) -> PyResult<Request> {
        Self::request(slf, |fd| Work::Truncate { fd, size })
    }

    fn _syncing(slf: &Bound<'_, Self>, only_data: bool) -> PyResult<Request> {
        Self::request(slf, |fd| Work::Sync { fd, only_data })
    }

    fn _copying(
        slf: &Bound<'_, Self>,
        target: &Bound<'_, Self>,
        offset: u64,
        target_offset: u64,
        count: usize,
    ) -> PyResult<Request> {
        let to = target.get().fd()?;
        Self::request(slf, |from| Work::Copy {
            from: (from, offset),
            to: (to, target_offset),
            count,
        })
    }

    /// A request that closes the file; to everybody else it is closed already.
    fn _closing(&self) -> Request {
        Request::new(Work::Close {
            fd: self.slot().take(),
        })
    }
}

/// Closes what is left of a file.
///
/// # Errors
/// See [`close_fd`].
pub(super) fn close(fd: Option<Arc<OwnedFd>>) -> io::Result<()> {
    fd.and_then(Arc::into_inner).map_or(Ok(()), close_fd)
}
