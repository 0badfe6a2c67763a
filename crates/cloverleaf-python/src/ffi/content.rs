//! `bytes` that threads without Python fill, or read.

use std::mem::MaybeUninit;
use std::ops::Deref;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

/// A new `bytes` that nobody has seen, to be filled by any thread.
///
/// Dropped without Python, it is freed when a thread is attached the next time.
pub(crate) struct Unfilled {
    bytes: Py<PyBytes>,
    start: NonNull<MaybeUninit<u8>>,
    len: usize,
}

// SAFETY: the only reference to the object is in here, so whoever has this has the memory for himself; `Py` may be
// dropped on any thread.
unsafe impl Send for Unfilled {}

impl std::fmt::Debug for Unfilled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Unfilled").field(&self.len).finish()
    }
}

impl Unfilled {
    /// Room for `len` bytes.
    ///
    /// # Errors
    /// `MemoryError`.
    pub(crate) fn new(py: Python<'_>, len: usize) -> PyResult<Self> {
        let size = ffi::Py_ssize_t::try_from(len).unwrap_or(ffi::Py_ssize_t::MAX);
        // SAFETY: a null source asks for an uninitialised object of this size; the thread is attached.
        let object = unsafe { ffi::PyBytes_FromStringAndSize(std::ptr::null(), size) };
        // SAFETY: the pointer is owned by us, or null with an exception set.
        let object = unsafe { Bound::from_owned_ptr_or_err(py, object) }?;
        // SAFETY: it was made as a bytes object above.
        let bytes: Bound<'_, PyBytes> = unsafe { object.cast_into_unchecked() };
        Ok(Self::of(bytes, len))
    }

    /// A `bytes` of `len` bytes that had been seen, to be filled again.
    ///
    /// # Safety
    /// This is the only reference to it.
    #[cfg(not(Py_GIL_DISABLED))]
    pub(super) unsafe fn again(bytes: Bound<'_, PyBytes>, len: usize) -> Self {
        let object: *mut ffi::PyBytesObject = bytes.as_ptr().cast();
        // SAFETY: a bytes object has this field.
        #[expect(deprecated, reason = "the hash must be forgotten with the content")]
        let hash = unsafe { &raw mut (*object).ob_shash };
        // SAFETY: nobody else has the object.
        unsafe { hash.write(-1) };
        Self::of(bytes, len)
    }

    /// How many bytes there is room for.
    #[cfg(not(Py_GIL_DISABLED))]
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// The room.
    pub(crate) fn room(&mut self) -> &mut [MaybeUninit<u8>] {
        // SAFETY: the object has room for `len` bytes, is alive since `self` holds it, and nobody else has seen it (an
        // empty one is shared, but has no room either).
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }

    /// The `bytes`, cut to the first `filled`, which were filled.
    ///
    /// # Errors
    /// `MemoryError`.
    pub(crate) fn cut(self, py: Python<'_>, filled: usize) -> PyResult<Bound<'_, PyBytes>> {
        if filled >= self.len {
            return Ok(self.bytes.into_bound(py));
        }
        Ok(self.resized(py, filled)?.bytes.into_bound(py))
    }

    /// With room for `len` bytes, and with what is in them already.
    ///
    /// # Errors
    /// `MemoryError`; it is freed then.
    pub(super) fn resized(self, py: Python<'_>, len: usize) -> PyResult<Self> {
        let mut pointer = self.bytes.into_ptr();
        let size = ffi::Py_ssize_t::try_from(len).unwrap_or(ffi::Py_ssize_t::MAX);
        // SAFETY: we own the only reference, as this call demands; on failure it frees the object and sets null.
        if unsafe { _PyBytes_Resize(&raw mut pointer, size) } != 0 {
            return Err(PyErr::fetch(py));
        }
        // SAFETY: the pointer is to the bytes object that we own, possibly moved by the resize.
        let bytes = unsafe { Bound::from_owned_ptr(py, pointer) };
        // SAFETY: it is a bytes object still.
        Ok(Self::of(unsafe { bytes.cast_into_unchecked() }, len))
    }

    /// Around a `bytes` of `len` bytes that nobody has seen.
    fn of(bytes: Bound<'_, PyBytes>, len: usize) -> Self {
        // SAFETY: `bytes` is a bytes object.
        let start = unsafe { ffi::PyBytes_AsString(bytes.as_ptr()) };
        Self {
            bytes: bytes.unbind(),
            // SAFETY: the content of a bytes object is never at null.
            start: unsafe { NonNull::new_unchecked(start.cast()) },
            len,
        }
    }
}

/// A `bytes`, or a `str`'s UTF-8, that any thread may read.
pub(crate) struct Content {
    held: Py<PyAny>,
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the content of a `bytes` and the UTF-8 of a `str` never change, and stay for as long as `held` is; `Py` may be
// dropped on any thread.
unsafe impl Send for Content {}

// SAFETY: nothing of it ever changes.
unsafe impl Sync for Content {}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Content").field(&self.len).finish()
    }
}

impl Content {
    /// Holds on to a `bytes`.
    pub(crate) fn of(bytes: &Bound<'_, PyBytes>) -> Self {
        Self::within(bytes.as_any(), bytes.as_bytes())
    }

    /// Holds on to a `str`, which keeps its UTF-8; if it is ASCII, that is the `str` itself, and nothing is copied.
    ///
    /// # Errors
    /// `UnicodeEncodeError` for surrogates, and `MemoryError`.
    pub(crate) fn of_text(text: &Bound<'_, PyString>) -> PyResult<Self> {
        Ok(Self::within(text.as_any(), text.to_str()?.as_bytes()))
    }

    /// Around an object with the bytes that it keeps, unchanged, for as long as it lives.
    fn within(held: &Bound<'_, PyAny>, content: &[u8]) -> Self {
        Self {
            start: NonNull::from(content).cast(),
            len: content.len(),
            held: held.clone().unbind(),
        }
    }

    /// What is in it.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        debug_assert!(!self.held.as_ptr().is_null(), "it is held");
        // SAFETY: the object is alive since `self` holds it, and what `of` and `of_text` have pointed to stays where and
        // what it is for as long.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

/// Receives into a new `bytes` of at most `room` bytes, which is cut to what came: no copy.
///
/// # Errors
/// `MemoryError`; within, what the receive says.
pub(crate) fn recv_into_bytes<'py>(
    py: Python<'py>,
    fd: BorrowedFd<'_>,
    room: usize,
    recv: impl FnOnce(BorrowedFd<'_>, &mut [MaybeUninit<u8>]) -> rustix::io::Result<usize>,
) -> PyResult<rustix::io::Result<Bound<'py, PyBytes>>> {
    let mut bytes = Unfilled::new(py, room)?;
    match recv(fd, bytes.room()) {
        Ok(received) => bytes.cut(py, received.min(room)).map(Ok),
        Err(errno) => Ok(Err(errno)),
    }
}

unsafe extern "C" {
    /// In every CPython from 3.11 to 3.15, though not among the documented calls.
    fn _PyBytes_Resize(bytes: *mut *mut ffi::PyObject, size: ffi::Py_ssize_t) -> std::ffi::c_int;
}

/// A `bytes` of all of these pieces, one after the other.
///
/// # Errors
/// `MemoryError`.
pub(crate) fn joined<'py>(
    py: Python<'py>,
    pieces: &[impl Deref<Target = [u8]>],
) -> PyResult<Bound<'py, PyBytes>> {
    let len = pieces.iter().map(|piece| piece.len()).sum();
    let mut whole = Unfilled::new(py, len)?;
    let mut rest = whole.room();
    for piece in pieces {
        let (places, behind) = rest.split_at_mut(piece.len());
        for (place, byte) in places.iter_mut().zip(piece.iter()) {
            place.write(*byte);
        }
        rest = behind;
    }
    whole.cut(py, len)
}
