//! A `bytes` that C code fills at once, lent through an object that is made once and not for each.
//!
//! Whoever fills it is expected to fill all of it, which can be told from more: behind the content of a `bytes` there is
//! a byte of zero, and that is lent, too.

use std::ffi::c_int;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::content::Unfilled;
use super::refill::{cut_and_hold, unfilled_again};

/// What lends the memory of a `bytes` while it is filled, and nothing else.
#[pyclass(frozen, immutable_type, module = "cloverleaf._cloverleaf")]
#[derive(Debug)]
pub(crate) struct Window {
    /// What is lent; null while nothing is.
    start: AtomicPtr<u8>,
    len: AtomicUsize,
    /// How many have it.
    borrowers: AtomicUsize,
}

#[pymethods]
impl Window {
    /// Lends what is to be filled.
    ///
    /// # Safety
    /// As Python calls it, with room for a description.
    unsafe fn __getbuffer__(
        slf: &Bound<'_, Self>,
        view: *mut ffi::Py_buffer,
        flags: c_int,
    ) -> PyResult<()> {
        let this = slf.get();
        let Some(start) = NonNull::new(this.start.load(Ordering::Relaxed)) else {
            return Err(PyBufferError::new_err("nothing is to be filled"));
        };
        let len = ffi::Py_ssize_t::try_from(this.len.load(Ordering::Relaxed))?;
        // SAFETY: there is so much room, which stays for as long as anybody has it, see `Open`; Python gives room for the
        // description.
        let result = unsafe {
            ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start.as_ptr().cast(), len, 0, flags)
        };
        if result != 0 {
            return Err(PyErr::fetch(slf.py()));
        }
        this.borrowers.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Takes one back.
    ///
    /// # Safety
    /// As Python calls it, for what [`__getbuffer__`](Self::__getbuffer__) lent.
    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {
        self.borrowers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A `bytes` that is lent. Never freed if somebody keeps it.
struct Open<'a> {
    window: &'a Window,
    bytes: Option<Unfilled>,
}

impl<'a> Open<'a> {
    /// Begins it.
    ///
    /// # Errors
    /// `BufferError` if another thread fills something through this window, which would get these places.
    fn new(window: &'a Window, mut bytes: Unfilled) -> PyResult<Self> {
        let room = bytes.room();
        let len = room.len() + 1;
        let start = room.as_mut_ptr().cast();
        // Not `store`: whoever has begun would have these bytes filled, and take its own for filled.
        if window
            .start
            .compare_exchange(null_mut(), start, Ordering::Relaxed, Ordering::Relaxed)
            .is_err()
        {
            return Err(PyBufferError::new_err("something is being filled already"));
        }
        window.len.store(len, Ordering::Relaxed);
        Ok(Self {
            window,
            bytes: Some(bytes),
        })
    }

    /// Ends it.
    ///
    /// # Errors
    /// `BufferError` if somebody keeps it.
    fn close(mut self) -> PyResult<Unfilled> {
        self.take_back()
            .ok_or_else(|| PyBufferError::new_err("what was lent to be filled is kept"))
    }

    fn take_back(&mut self) -> Option<Unfilled> {
        self.window.start.store(null_mut(), Ordering::Relaxed);
        let bytes = self.bytes.take()?;
        if self.window.borrowers.load(Ordering::Relaxed) == 0 {
            return Some(bytes);
        }
        std::mem::forget(bytes);
        None
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        drop(self.take_back());
    }
}

impl Window {
    /// One that lends nothing yet.
    ///
    /// # Errors
    /// `MemoryError`.
    pub(crate) fn new(py: Python<'_>) -> PyResult<Bound<'_, Self>> {
        let window = Self {
            start: AtomicPtr::new(null_mut()),
            len: AtomicUsize::new(0),
            borrowers: AtomicUsize::new(0),
        };
        Bound::new(py, window)
    }

    /// A `bytes` of what `fill` puts into this window, of which `expected` bytes are, not none: it keeps no part of that,
    /// does not fill it through this window again, and says how many bytes it has filled. `true` if it has filled one more
    /// than was expected, so that there may be more still.
    ///
    /// # Errors
    /// `MemoryError`; `BufferError` if something is filled through it already, or if `fill` has kept it all the same: the
    /// bytes are never freed then.
    pub(crate) fn fill<'py>(
        &self,
        py: Python<'py>,
        expected: usize,
        fill: impl FnOnce() -> usize,
    ) -> PyResult<(Bound<'py, PyBytes>, bool)> {
        debug_assert!(expected > 0, "the empty `bytes` is everybody's");
        let open = Open::new(self, unfilled_again(py, expected)?)?;
        let filled = fill();
        let mut bytes = open.close()?;
        let behind: *mut u8 = bytes.room().as_mut_ptr_range().end.cast();
        // SAFETY: behind the content of a `bytes` is one byte more, which is zero, and nobody else has this one.
        let one_more = unsafe { behind.replace(0) };
        if filled <= expected {
            return Ok((cut_and_hold(bytes, py, filled)?, false));
        }
        let mut bytes = bytes.resized(py, expected + 1)?;
        if let Some(last) = bytes.room().last_mut() {
            last.write(one_more);
        }
        Ok((bytes.cut(py, expected + 1)?, true))
    }
}
