//! A Python socket or file whose descriptor we use, for as long as the object has it.
//!
//! A program may close or detach what it has given to a transport. The number may name another file a moment later, so
//! before each use we look whether the object still has it: a glance at its own field, as its own methods take.

use super::once::Once;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};

use pyo3::prelude::*;
use pyo3::types::PyType;

use super::attach::borrow_fd;
use super::object::Owned;
use super::reach::Reach;

/// The built-in type of all sockets.
static SOCKET_TYPE: Once<Py<PyType>> = Once::new();

/// The built-in type of all files without a buffer, such as `subprocess.Popen` makes of its pipes.
static FILE_TYPE: Once<Py<PyType>> = Once::new();

/// A socket, or a file, and the number of its descriptor.
#[derive(Debug)]
pub(crate) struct Socket {
    object: Owned,
    fd: RawFd,
    /// A descriptor of our own for the same, where the object's field cannot be trusted.
    own: Option<OwnedFd>,
}

impl Socket {
    /// A socket or file of Python's, or an object that has such a descriptor.
    ///
    /// # Errors
    /// `OSError` (`EBADF`) if it is closed; what its `fileno()` raises.
    pub(crate) fn of(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = object.py();
        let socket = Self {
            object: object.clone().into(),
            fd: number_of(object)?,
            own: None,
        };
        // By its real type: what only says that it is a socket has no such field.
        let class = object.get_type();
        let has_field = class.is_subclass(SOCKET_TYPE.import(py, "_socket", "socket")?)?
            || class.is_subclass(FILE_TYPE.import(py, "_io", "FileIO")?)?;
        if has_field && socket.field() == socket.fd {
            return Ok(socket);
        }
        Self::sharing(object)
    }

    /// The same, by a descriptor and so a number of our own.
    ///
    /// # Errors
    /// As for [`of`](Self::of), and `OSError` if there is no descriptor left.
    pub(crate) fn sharing(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = object.py();
        let fd = number_of(object)?;
        let own = rustix::io::fcntl_dupfd_cloexec(borrow_fd(fd), 0)
            .map_err(|errno| crate::error::errno_error(py, errno))?;
        Ok(Self {
            fd: own.as_raw_fd(),
            own: Some(own),
            object: object.clone().into(),
        })
    }

    /// The descriptor, unless the program has closed or detached the object.
    #[inline]
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.own {
            Some(own) => Some(own.as_fd()),
            None => (self.field() == self.fd).then(|| borrow_fd(self.fd)),
        }
    }

    /// The number that the descriptor has or had.
    pub(crate) const fn number(&self) -> RawFd {
        self.fd
    }

    /// The Python object.
    pub(crate) const fn object(&self) -> &Owned {
        &self.object
    }

    /// Closes the object.
    ///
    /// # Errors
    /// What its `close()` raises.
    pub(crate) fn close(self, py: Python<'_>) -> PyResult<()> {
        drop(self.own);
        self.object.bind(py).reach0(intern!(py, "close")).map(drop)
    }

    /// What a socket, or a file, itself holds as its descriptor. `of` has compared it with `fileno()` before anybody
    /// relies on it.
    #[inline]
    fn field(&self) -> RawFd {
        // SAFETY: the object is alive, since `self` holds it, and it is a socket or a file: `of` asks that first.
        unsafe { descriptor_field(self.object.as_ptr()) }
    }
}

/// The field behind the header of every object: the descriptor of sockets and files, in all of CPython 3.11 to 3.15.
///
/// # Safety
/// The object is alive, and of a class whose struct is larger than its header and an `int`.
#[inline]
pub(super) unsafe fn descriptor_field(object: *mut pyo3::ffi::PyObject) -> RawFd {
    let place = object.wrapping_add(1).cast::<RawFd>();
    // SAFETY: as the caller promises; without the GIL, another thread may close the object at the same time.
    let field = unsafe { AtomicI32::from_ptr(place) };
    field.load(Ordering::Relaxed)
}

/// The number of an object's descriptor.
fn number_of(object: &Bound<'_, PyAny>) -> PyResult<RawFd> {
    let py = object.py();
    let fd: RawFd = object.reach0(intern!(py, "fileno"))?.extract()?;
    if fd < 0 {
        return Err(crate::error::errno_error(py, rustix::io::Errno::BADF));
    }
    Ok(fd)
}
