//! `FileBase`: a descriptor that is closed once, and not before the last operation on it has ended.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use cloverleaf::fs::{has_position, may_ask};
use cloverleaf::limits::{AT_ONCE_BYTES, OPERATIONS_BETWEEN_PAUSES};
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyInt, PyTuple, PyType};
use rustix::io::Errno;

use super::at_once::{self, DETACH_BYTES, read_full_at_once};
use super::direct::is_direct;
use super::pread::pread;
use super::request::Request;
use super::work::Work;
use crate::error::{errno_error, os_error};
use crate::ffi::{
    Access, AttachedCell, Content, Known, Method, close_fd, cut_and_hold, int_from, own_fd,
    raw_attached, signed_from, spared, tuple_from, unfilled_again, value_of_int,
};

/// What all objects of one open file share.
#[derive(Debug)]
struct Shared {
    fd: AttachedCell<Option<Arc<OwnedFd>>>,
    /// Operations that took no wait since others were last let run.
    spent: AtomicU32,
    /// The file goes past the page cache, so that nothing of it is ever at hand.
    is_direct: bool,
    /// A server may have to be asked for what the kernel does not know of it: no ring takes its operations.
    may_ask: bool,
    /// A ring may take its reads and writes: it need ask no server before, and heeds their offsets.
    suits_ring: bool,
}

/// The native half of an open file. Another one made of it is the same file.
#[pyclass(frozen, subclass, module = "cloverleaf._cloverleaf")]
#[derive(Debug)]
pub(crate) struct FileBase {
    shared: Arc<Shared>,
}

impl FileBase {
    /// A file of this descriptor.
    pub(super) fn from_fd(fd: OwnedFd, may_ask: bool) -> Self {
        Self {
            shared: Arc::new(Shared {
                is_direct: is_direct(&fd),
                may_ask,
                suits_ring: !may_ask && has_position(fd.as_fd()),
                fd: AttachedCell::new(Some(Arc::new(fd))),
                spent: AtomicU32::new(0),
            }),
        }
    }

    #[inline]
    fn slot<'a>(&'a self, py: Python<'a>) -> Access<'a, Option<Arc<OwnedFd>>> {
        self.shared.fd.get(py)
    }

    /// The descriptor, held for as long as it is in use.
    ///
    /// # Errors
    /// `ValueError` if the file is closed.
    pub(super) fn fd(&self, py: Python<'_>) -> PyResult<Arc<OwnedFd>> {
        let fd = self.slot(py).as_ref().map(Arc::clone);
        fd.ok_or_else(closed)
    }

    /// Counts an operation that takes no wait; `true` if others must run first, which the caller sees to.
    #[inline]
    fn pauses(&self) -> bool {
        let spent = self.shared.spent.load(Ordering::Relaxed);
        let pauses = spent >= OPERATIONS_BETWEEN_PAUSES;
        let spent = if pauses { 0 } else { spent + 1 };
        self.shared.spent.store(spent, Ordering::Relaxed);
        pauses
    }

    /// Reads from an offset on what is at hand.
    ///
    /// # Errors
    /// `ValueError` if the file is closed; those of [`natural`]; `MemoryError`.
    #[inline]
    pub(super) fn pread<'py>(
        &self,
        py: Python<'py>,
        size: &Bound<'py, PyAny>,
        offset: &Bound<'py, PyAny>,
    ) -> PyResult<AtOnce<'py>> {
        let (size, offset) = (size_of(size)?, natural(offset)?);
        // Whether nothing can be read there the kernel says, and it may have to ask.
        if self.shared.is_direct || size > AT_ONCE_BYTES || size == 0 {
            return self.fd(py).map(|_| AtOnce::Waits);
        }
        if self.pauses() {
            return self.fd(py).map(|_| AtOnce::OthersFirst);
        }
        let read = if size < DETACH_BYTES {
            self.read_small(py, size, offset)?
        } else {
            at_once::read(py, self.fd(py)?.as_fd(), size, offset)?
        };
        Ok(read.map_or(AtOnce::Waits, AtOnce::Bytes))
    }

    /// Reads little, without a share in the descriptor: nobody closes it meanwhile.
    #[inline]
    fn read_small<'py>(
        &self,
        py: Python<'py>,
        size: usize,
        offset: u64,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let mut bytes = unfilled_again(py, size)?;
        let filled = {
            let slot = self.slot(py);
            let fd = slot.as_ref().ok_or_else(closed)?;
            read_full_at_once(fd.as_fd(), bytes.room(), offset)
        };
        filled
            .map(|filled| cut_and_hold(bytes, py, filled))
            .transpose()
    }

    fn request(
        slf: &Bound<'_, Self>,
        work: impl FnOnce(Arc<OwnedFd>) -> Work,
    ) -> PyResult<Request> {
        Ok(Request::new(work(slf.get().fd(slf.py())?)))
    }
}

fn closed() -> PyErr {
    PyValueError::new_err("I/O operation on closed file.")
}

/// What can be had of a read without a wait.
#[derive(Debug)]
pub(super) enum AtOnce<'py> {
    /// All that was asked for, or up to the end of the file.
    Bytes(Bound<'py, PyBytes>),
    /// Nothing yet: enough was read in a row for now.
    OthersFirst,
    /// Nothing: it needs a wait.
    Waits,
}

/// A number of bytes or an offset as the kernel takes it.
///
/// # Errors
/// `OSError` (`EINVAL`) if it is negative; `TypeError` or `OverflowError` if it is no such number.
#[inline]
fn natural(value: &Bound<'_, PyAny>) -> PyResult<u64> {
    let number = match value.cast_exact::<PyInt>() {
        Ok(int) => value_of_int(int.as_borrowed()),
        Err(_) => None,
    };
    let number = match number {
        Some(number) => number,
        None => value.extract()?,
    };
    u64::try_from(number).map_err(|_| errno_error(value.py(), Errno::INVAL))
}

fn size_of(value: &Bound<'_, PyAny>) -> PyResult<usize> {
    usize::try_from(natural(value)?).map_err(Into::into)
}

const METHODS: [Method; 1] = [
    Method {
        name: c"pread",
        doc: c"pread($self, size, offset)\n--\n\nReturn `size` bytes from `offset` on, fewer only at the end of the \
               file.\n\nThe position stays. What is still in a buffer is not looked at.",
        kind: raw_attached!(pread),
    },
];

/// The class of binary files.
pub(super) static BINARY: Known<FileBase> = Known::new();

/// Puts the methods on a class that are called without a detour.
///
/// # Errors
/// What setting an attribute of a type raises.
pub(super) fn attach(class: &Bound<'_, PyType>) -> PyResult<()> {
    crate::ffi::attach_methods(class, &METHODS)
}

/// Makes the class of binary files known, and puts those methods on it as well.
///
/// # Errors
/// `TypeError` if the class does not derive from `FileBase`; what setting an attribute of a type raises.
#[pyfunction]
pub(super) fn attach_file_methods(cls: &Bound<'_, PyType>) -> PyResult<()> {
    BINARY.set(cls)?;
    attach(cls)
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
        let fd = own_fd(fd);
        let may_ask = may_ask(fd.as_fd());
        Ok(Self::from_fd(fd, may_ask))
    }

    /// The descriptor's number, or -1 once the file is closed.
    fn _fileno<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyInt>> {
        self.number(py)
    }

    /// Counts an operation; whether others must run first, which the caller sees to.
    fn _pauses(&self) -> bool {
        self.pauses()
    }

    /// Counts an operation that takes no wait, unless others must run first; `false` if so.
    fn _spend(&self) -> bool {
        let spent = self.shared.spent.load(Ordering::Relaxed);
        let may = spent < OPERATIONS_BETWEEN_PAUSES;
        if may {
            self.shared.spent.store(spent + 1, Ordering::Relaxed);
        }
        may
    }

    /// Closes the file now; operations that have begun end as if it were open.
    fn _close(&self, py: Python<'_>) -> PyResult<()> {
        let fd = self.slot(py).take();
        match fd.and_then(Arc::into_inner) {
            Some(fd) => close_fd(fd).map_err(|error| os_error(py, &error)),
            None => Ok(()),
        }
    }

    /// Gives the descriptor away; the file is closed after that.
    fn _release<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyInt>> {
        // First, so that nothing is given away without it.
        let number = self.number(py)?;
        // One access: a file that is closed meanwhile stays closed.
        let mut slot = self.slot(py);
        match slot.take().map(Arc::try_unwrap) {
            Some(Ok(fd)) => {
                // It is the receiver's from now on.
                std::mem::forget(fd);
                Ok(number)
            }
            Some(Err(shared)) => {
                *slot = Some(shared);
                Err(PyRuntimeError::new_err("an operation is under way"))
            }
            None => Err(PyValueError::new_err("I/O operation on closed file.")),
        }
    }

    fn _try_readinto<'py>(
        &self,
        py: Python<'py>,
        buffer: &Bound<'_, PyAny>,
        offset: Option<u64>,
    ) -> PyResult<Option<Bound<'py, PyInt>>> {
        spared(py, || {
            if self.shared.is_direct {
                return Ok(None);
            }
            let count = at_once::readinto(py, self.fd(py)?.as_fd(), buffer, offset)?;
            count.map(|count| int_from(py, count as u64)).transpose()
        })
    }

    fn _try_read<'py>(
        &self,
        py: Python<'py>,
        size: usize,
        offset: Option<u64>,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        spared(py, || {
            if self.shared.is_direct {
                return Ok(None);
            }
            let fd = self.fd(py)?;
            match offset {
                Some(offset) => at_once::read(py, fd.as_fd(), size, offset),
                None => at_once::read_along(py, fd.as_fd(), size),
            }
        })
    }

    fn _try_write<'py>(
        &self,
        data: &Bound<'py, PyBytes>,
        start: usize,
        offset: u64,
    ) -> PyResult<Bound<'py, PyInt>> {
        let py = data.py();
        spared(py, || {
            let rest = data.as_bytes().get(start..).unwrap_or_default();
            let may_be = rest.len() <= AT_ONCE_BYTES && !self.shared.is_direct;
            // First, so that nothing is written of which nobody hears.
            let all = int_from(py, rest.len() as u64)?;
            let count = if may_be {
                cloverleaf::fs::write_at_once(self.fd(py)?.as_fd(), rest, offset).unwrap_or(0)
            } else {
                0
            };
            if count == rest.len() {
                return Ok(all);
            }
            int_from(py, count as u64)
        })
    }

    /// Refuses what the kernel does not write at an offset; nothing is written.
    fn _check_write(&self, py: Python<'_>, offset: u64) -> PyResult<()> {
        match rustix::io::pwritev(self.fd(py)?, &[], offset) {
            Err(errno @ (Errno::SPIPE | Errno::BADF)) => Err(errno_error(py, errno)),
            // All else is for the write itself to find out.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// How many of so many bytes from the offset on can be read without a wait: all of them also if the file ends before.
    fn _at_hand<'py>(
        &self,
        py: Python<'py>,
        size: usize,
        offset: u64,
    ) -> PyResult<Bound<'py, PyInt>> {
        spared(py, || {
            let fd = self.fd(py)?;
            let count = if self.shared.is_direct {
                0
            } else {
                at_once::at_hand(fd.as_fd(), size, offset)
            };
            int_from(py, count as u64)
        })
    }

    fn _reading(slf: &Bound<'_, Self>, size: usize, offset: Option<u64>) -> PyResult<Request> {
        let shared = &slf.get().shared;
        Self::request(slf, |fd| Work::Read {
            fd,
            size,
            offset,
            is_direct: shared.is_direct,
            may_ask: shared.may_ask,
            suits_ring: shared.suits_ring,
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
        let data = Arc::new(Content::of(data));
        let shared = &slf.get().shared;
        Self::request(slf, |fd| Work::Write {
            fd,
            data,
            start,
            offset,
            is_direct: shared.is_direct,
            suits_ring: shared.suits_ring,
        })
    }

    /// The mode, the size of blocks, the length and whether a server may have to be asked for more, without a wait.
    fn _known<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        spared(py, || {
            let known = cloverleaf::fs::known_at_once(self.fd(py)?.as_fd());
            let known = known.map_err(|error| os_error(py, &error))?;
            let mode = int_from(py, known.mode.into())?.into_any();
            let block_size = int_from(py, known.block_size.into())?.into_any();
            let length = int_from(py, known.length)?.into_any();
            let may_ask = PyBool::new(py, self.shared.may_ask).to_owned().into_any();
            tuple_from(py, [mode, block_size, length, may_ask])
        })
    }

    /// The length, without a wait; what a server said last where one may have to be asked.
    fn _length<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyInt>> {
        spared(py, || {
            let length = cloverleaf::fs::length_at_once(self.fd(py)?.as_fd());
            int_from(py, length.map_err(|error| os_error(py, &error))?)
        })
    }

    fn _seeking(slf: &Bound<'_, Self>, offset: i64, whence: i32) -> PyResult<Request> {
        Self::request(slf, |fd| Work::Seek { fd, offset, whence })
    }

    fn _truncating(slf: &Bound<'_, Self>, size: i64) -> PyResult<Request> {
        Self::request(slf, |fd| Work::Truncate { fd, size })
    }

    fn _syncing(slf: &Bound<'_, Self>, only_data: bool) -> PyResult<Request> {
        let may_ask = slf.get().shared.may_ask;
        Self::request(slf, |fd| Work::Sync {
            fd,
            only_data,
            may_ask,
        })
    }

    fn _copying(
        slf: &Bound<'_, Self>,
        target: &Bound<'_, Self>,
        offset: u64,
        target_offset: u64,
        count: usize,
    ) -> PyResult<Request> {
        let to = target.get().fd(target.py())?;
        let is_given_up = Arc::default();
        let seen = Arc::clone(&is_given_up);
        let request = Self::request(slf, |from| Work::Copy {
            from: (from, offset),
            to: (to, target_offset),
            count,
            is_given_up,
        })?;
        Ok(request.heeding(seen))
    }

    /// A request that closes the file; to everybody else it is closed already.
    fn _closing(&self, py: Python<'_>) -> Request {
        Request::new(Work::Close {
            fd: self.slot(py).take(),
        })
    }
}

impl FileBase {
    fn number<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyInt>> {
        let number = self.slot(py).as_ref().map_or(-1, AsRawFd::as_raw_fd);
        signed_from(py, number.into())
    }
}

/// Closes what is left of a file.
///
/// # Errors
/// See [`close_fd`].
pub(super) fn close(fd: Option<Arc<OwnedFd>>) -> io::Result<()> {
    fd.and_then(Arc::into_inner).map_or(Ok(()), close_fd)
}
