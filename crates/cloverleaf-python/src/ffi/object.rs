//! References to Python objects that cost a count and nothing else.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::prelude::*;
use pyo3::{Borrowed, ffi};

/// A strong reference, like [`Py`], whose drop does not ask first whether the thread is attached.
///
/// It is made on attached threads, and lives in objects and queues that only attached threads drop: native objects are
/// freed by their deallocator, and the loop's queues by the loop's.
#[derive(Debug)]
pub(crate) struct Owned(NonNull<ffi::PyObject>);

// SAFETY: an object may be used by any thread that is attached, and the methods below ask for that proof.
unsafe impl Send for Owned {}
// SAFETY: as above; sharing gives nothing but the address and, with the proof, a new reference.
unsafe impl Sync for Owned {}

impl Owned {
    /// A reference of this thread's.
    pub(crate) fn bind<'py>(&self, py: Python<'py>) -> Borrowed<'_, 'py, PyAny> {
        // SAFETY: the pointer is to a live object, since `self` holds a reference for as long as it is borrowed.
        unsafe { Borrowed::from_ptr(py, self.0.as_ptr()) }
    }

    /// One more reference to the same object.
    #[inline]
    pub(crate) fn clone_ref(&self, _py: Python<'_>) -> Self {
        // SAFETY: the object is alive, since `self` holds a reference, and the thread is attached.
        unsafe { ffi::Py_INCREF(self.0.as_ptr()) };
        Self(self.0)
    }

    /// Has the processor fetch the memory of the object, which will be used soon.
    #[inline]
    pub(crate) fn fetch(&self) {
        fetch(self.0.as_ptr());
    }

    /// The same for the header and so many bytes behind it.
    #[inline]
    pub(crate) fn fetch_value(&self, bytes: usize) {
        let object = self.0.as_ptr();
        fetch_lines(object, size_of::<ffi::PyObject>() + bytes);
    }

    /// Whether both are references to the same object.
    #[inline]
    pub(crate) fn is(&self, other: &Self) -> bool {
        self.0 == other.0
    }

    /// Where the object is, which tells it from others as long as it lives.
    #[inline]
    pub(crate) fn address(&self) -> usize {
        self.0.as_ptr().addr()
    }

    /// Hands the reference over.
    #[inline]
    pub(crate) fn into_bound(self, py: Python<'_>) -> Bound<'_, PyAny> {
        // SAFETY: the reference that `into_raw` gives up is the one that the result owns.
        unsafe { Bound::from_owned_ptr(py, self.into_raw()) }
    }

    /// The pointer, whose reference is the caller's from now on.
    #[inline]
    pub(super) fn into_raw(self) -> *mut ffi::PyObject {
        let pointer = self.0.as_ptr();
        std::mem::forget(self);
        pointer
    }

    /// The pointer, whose reference stays here.
    #[inline]
    pub(super) const fn as_ptr(&self) -> *mut ffi::PyObject {
        self.0.as_ptr()
    }
}

/// Whether an object goes with these references, each of which is held or null, or may go. Several may be to the same.
#[inline]
pub(super) fn end_something<const N: usize>(held: [*mut ffi::PyObject; N]) -> bool {
    held.iter().any(|object| {
        if object.is_null() || cfg!(Py_GIL_DISABLED) {
            return !object.is_null();
        }
        // SAFETY: the object is live, as the caller has a reference.
        let references = unsafe { ffi::Py_REFCNT(*object) }.cast_unsigned();
        let ours = || held.iter().filter(|other| *other == object).count();
        references <= N && references <= ours()
    })
}

impl Drop for Owned {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the reference is ours, and the thread is attached (see the type's contract).
        unsafe { ffi::Py_DECREF(self.0.as_ptr()) };
    }
}

impl<T> From<Bound<'_, T>> for Owned {
    #[inline]
    fn from(object: Bound<'_, T>) -> Self {
        // SAFETY: a `Bound` never holds a null pointer.
        Self(unsafe { NonNull::new_unchecked(object.into_ptr()) })
    }
}

impl From<Borrowed<'_, '_, PyAny>> for Owned {
    #[inline]
    fn from(object: Borrowed<'_, '_, PyAny>) -> Self {
        Self::from(object.to_owned())
    }
}

/// A place for a reference that may be empty; part of a native object, which guards it.
///
/// With the GIL, a holder's slots are guarded by the GIL. Without, by the holder's critical section.
#[derive(Debug, Default)]
pub(crate) struct Slot(AtomicPtr<ffi::PyObject>);

impl Slot {
    /// A place with an object, or none.
    #[inline]
    pub(crate) fn new(object: Option<Owned>) -> Self {
        Self(AtomicPtr::new(
            object.map_or(std::ptr::null_mut(), Owned::into_raw),
        ))
    }

    /// A place with nothing.
    #[inline]
    pub(crate) const fn empty() -> Self {
        Self(AtomicPtr::new(std::ptr::null_mut()))
    }

    /// A new reference to what is here, guarded by `holder`, whose slot this is.
    #[inline]
    pub(crate) fn get(&self, holder: &Bound<'_, PyAny>) -> Option<Owned> {
        guarded(holder, || {
            let pointer = NonNull::new(self.0.load(Ordering::Relaxed))?;
            // SAFETY: the slot holds a reference, and nobody empties it while the holder is guarded.
            unsafe { ffi::Py_INCREF(pointer.as_ptr()) };
            Some(Owned(pointer))
        })
    }

    /// Puts an object here and gives back what was here.
    #[inline]
    pub(crate) fn replace(
        &self,
        holder: &Bound<'_, PyAny>,
        object: Option<Owned>,
    ) -> Option<Owned> {
        let new = object.map_or(std::ptr::null_mut(), Owned::into_raw);
        guarded(holder, || {
            let old = self.0.load(Ordering::Relaxed);
            self.0.store(new, Ordering::Relaxed);
            NonNull::new(old).map(Owned)
        })
    }

    /// Takes what is here.
    #[inline]
    pub(crate) fn take(&self, holder: &Bound<'_, PyAny>) -> Option<Owned> {
        self.replace(holder, None)
    }

    /// Whether this object is here.
    #[inline]
    pub(crate) fn holds(&self, object: &Bound<'_, PyAny>) -> bool {
        self.peek() == object.as_ptr()
    }

    /// Whether anything is here, as far as one can tell who does not guard it.
    #[inline]
    pub(crate) fn is_set(&self) -> bool {
        !self.0.load(Ordering::Relaxed).is_null()
    }

    /// Has the processor fetch the memory of what is here, which will be used soon.
    #[inline]
    pub(crate) fn fetch(&self) {
        fetch(self.peek());
    }

    /// What is here, for the collector, which has stopped every other thread.
    pub(super) fn peek(&self) -> *mut ffi::PyObject {
        self.0.load(Ordering::Relaxed)
    }
}

/// Has the processor fetch the memory of an object, to write to it: from the interpreter's and the collector's words
/// before it to what a handle has behind its header. The address need not be valid.
///
/// What another processor has written last is asked for once, and not a second time to be written here.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(super) fn fetch(object: *mut ffi::PyObject) {
    for offset in [-32, 32, 95] {
        fetch_line(object, offset);
    }
}

/// The same for so many bytes from the address on.
#[cfg(target_arch = "x86_64")]
#[inline]
fn fetch_lines(object: *mut ffi::PyObject, bytes: usize) {
    let end = bytes.cast_signed();
    for offset in (0..end).step_by(LINE_BYTES) {
        fetch_line(object, offset);
    }
    fetch_line(object, end - 1);
}

#[cfg(target_arch = "x86_64")]
const LINE_BYTES: usize = 64;

#[cfg(target_arch = "x86_64")]
#[inline]
fn fetch_line(object: *mut ffi::PyObject, offset: isize) {
    use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
    let line = object.cast::<i8>().wrapping_offset(offset);
    // SAFETY: fetching is allowed with any address, and changes nothing but the time that a later access takes.
    unsafe { _mm_prefetch::<_MM_HINT_ET0>(line) };
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) const fn fetch(_object: *mut ffi::PyObject) {}

#[cfg(not(target_arch = "x86_64"))]
const fn fetch_lines(_object: *mut ffi::PyObject, _bytes: usize) {}

impl Drop for Slot {
    #[inline]
    fn drop(&mut self) {
        if let Some(pointer) = NonNull::new(*self.0.get_mut()) {
            drop(Owned(pointer));
        }
    }
}

/// Keeps other threads from the slots of `holder`: the GIL does where there is one.
#[inline]
fn guarded<R>(holder: &Bound<'_, PyAny>, access: impl FnOnce() -> R) -> R {
    if cfg!(Py_GIL_DISABLED) {
        pyo3::sync::critical_section::with_critical_section(holder, access)
    } else {
        access()
    }
}
