//! Bytes that Python objects lend: to be read while they are sent, or to be filled by a receive.

use std::ops::{Deref, DerefMut};

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::object::Owned;

/// The bytes of an object, which stay where they are for as long as this is held.
#[derive(Debug)]
pub(crate) enum Bytes<'a> {
    /// Those of a `bytes`, which never change.
    Immutable(&'a [u8]),
    /// Those of another object, which cannot be resized while they are lent.
    Lent(Lent),
}

impl<'a> Bytes<'a> {
    /// The bytes of any object with a contiguous buffer.
    ///
    /// # Errors
    /// `TypeError` if it has none, `BufferError` if its bytes are not contiguous.
    #[inline]
    pub(crate) fn of(object: &'a Bound<'_, PyAny>) -> PyResult<Self> {
        match object.cast::<PyBytes>() {
            Ok(bytes) => Ok(Self::Immutable(bytes.as_bytes())),
            Err(_) => {
                Lent::of(Box::new(ffi::Py_buffer::new()), object, ffi::PyBUF_SIMPLE).map(Self::Lent)
            }
        }
    }
}

/// A `bytes` object, which never changes, kept for as long as it is needed.
///
/// Dropping it runs no Python code, whatever else is borrowed: it is of no class derived from `bytes`.
#[derive(Debug)]
pub(crate) struct KeptBytes {
    _object: Owned,
    start: *const u8,
    len: usize,
}

// SAFETY: the bytes of a `bytes` object never change, and its reference is an `Owned`, which may go to any thread.
unsafe impl Send for KeptBytes {}
// SAFETY: as above.
unsafe impl Sync for KeptBytes {}

impl KeptBytes {
    /// The object, if it is a `bytes` and no more.
    pub(crate) fn of(object: &Bound<'_, PyAny>) -> Option<Self> {
        let bytes = object.cast_exact::<PyBytes>().ok()?.as_bytes();
        Some(Self {
            start: bytes.as_ptr(),
            len: bytes.len(),
            _object: object.clone().into(),
        })
    }
}

impl AsRef<[u8]> for KeptBytes {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the object is held, and its bytes stay where they are, unchanged, for as long as it lives.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}

impl Deref for Bytes<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Immutable(bytes) => bytes,
            Self::Lent(lent) => lent.bytes(),
        }
    }
}

/// A buffer on loan; given back when dropped, which may run Python code.
///
/// The view of it lies where it does not move.
pub(crate) struct Lent<V: DerefMut<Target = ffi::Py_buffer> = Box<ffi::Py_buffer>>(V);

impl<V: DerefMut<Target = ffi::Py_buffer>> std::fmt::Debug for Lent<V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Lent").field(&self.0.len).finish()
    }
}

impl<V: DerefMut<Target = ffi::Py_buffer>> Lent<V> {
    #[inline]
    fn of(mut view: V, object: &Bound<'_, PyAny>, flags: std::ffi::c_int) -> PyResult<Self> {
        // SAFETY: the object is live, and `view` leads to a place for the answer that does not move: it is a box, or a
        // borrow that lasts until the release.
        if unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), &raw mut *view, flags) } != 0 {
            return Err(PyErr::fetch(object.py()));
        }
        Ok(Self(view))
    }

    fn len(&self) -> usize {
        usize::try_from(self.0.len).unwrap_or(0)
    }

    fn bytes(&self) -> &[u8] {
        if self.0.buf.is_null() {
            return &[];
        }
        // SAFETY: the owner has lent `len` contiguous bytes and keeps them where they are until the release. With the
        // GIL nobody changes them while this thread looks, as it does not let go of the GIL meanwhile; without, a
        // program that changes what it sends gets one or the other byte sent, as from the socket module.
        unsafe { std::slice::from_raw_parts(self.0.buf.cast(), self.len()) }
    }
}

impl<V: DerefMut<Target = ffi::Py_buffer>> Drop for Lent<V> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the view was filled by `PyObject_GetBuffer` and is released once, on an attached thread: it is held
        // by functions that have a `Bound`.
        unsafe { ffi::PyBuffer_Release(&raw mut *self.0) };
    }
}

/// Lets `fill` fill the buffer of an object, in which no Python code may run on this thread.
///
/// # Errors
/// `TypeError` if the object lends none, `BufferError` if it cannot be written or is not contiguous.
#[inline]
pub(crate) fn fill_buffer<R>(
    object: &Bound<'_, PyAny>,
    fill: impl FnOnce(&mut [u8]) -> R,
) -> PyResult<R> {
    let mut view = ffi::Py_buffer::new();
    let lent = Lent::of(&mut view, object, ffi::PyBUF_WRITABLE)?;
    if lent.0.buf.is_null() {
        return Ok(fill(&mut []));
    }
    let room = lent.0.buf.cast();
    // SAFETY: the owner has lent `len` contiguous bytes for writing. The slice lives for this call, in which no Python
    // code runs on this thread, and the system call that fills it does not look at what else it holds.
    Ok(fill(unsafe {
        std::slice::from_raw_parts_mut(room, lent.len())
    }))
}

/// Copies as many bytes as there is room for, and says how many.
pub(crate) fn copy_into(room: &mut [u8], bytes: &[u8]) -> usize {
    let count = room.len().min(bytes.len());
    room[..count].copy_from_slice(&bytes[..count]);
    count
}
