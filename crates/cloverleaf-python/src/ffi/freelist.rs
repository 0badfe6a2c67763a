//! Objects without a value, kept for the next ones, and a bound on how deep frees may nest.

use pyo3::ffi;

#[cfg(not(Py_GIL_DISABLED))]
use super::object::fetch;

/// Objects of one type that are kept at most, for kinds of which very many may be alive at once. No more are kept than
/// were alive.
///
/// A thread that calls `call_soon_threadsafe` as fast as it can queues 60,000 before it must let the loop have the GIL,
/// and timers come in any number.
pub(crate) const MOST_KEPT: usize = 128 * 1024;
/// Objects of one type, 1 to 2.5 MiB, that are kept by a loop that has little to do.
#[cfg(not(Py_GIL_DISABLED))]
const KEPT_WHEN_IDLE: usize = 16 * 1024;
/// Objects of one type beyond those that are given back before each sleep: in 5 µs, so that nobody waits for it.
pub(super) const GIVEN_BACK: usize = 128;

/// How many takes before its own an object of a long list is fetched into the processor's cache.
#[cfg(not(Py_GIL_DISABLED))]
const FETCHED_AHEAD: usize = 8;
/// Objects of a longer list are not in the cache any more.
#[cfg(not(Py_GIL_DISABLED))]
const LONG: usize = 1024;

/// Objects of one type, whole but for their value: each has its type and one reference, which is the list's, and the
/// collector does not know it. Without the GIL nothing is kept: one list would be a point of contention.
#[derive(Debug)]
pub(super) struct FreeList {
    #[cfg(not(Py_GIL_DISABLED))]
    objects: std::cell::UnsafeCell<Vec<*mut ffi::PyObject>>,
}

// SAFETY: the GIL guards the list: both methods run on attached threads and let nobody else run meanwhile.
#[cfg(not(Py_GIL_DISABLED))]
unsafe impl Sync for FreeList {}
// SAFETY: as above.
#[cfg(not(Py_GIL_DISABLED))]
unsafe impl Send for FreeList {}

#[cfg(not(Py_GIL_DISABLED))]
impl FreeList {
    pub(super) const fn new() -> Self {
        Self {
            objects: std::cell::UnsafeCell::new(Vec::new()),
        }
    }

    /// An object, with the list's reference.
    #[inline]
    pub(super) fn take(&self) -> Option<*mut ffi::PyObject> {
        // SAFETY: guarded by the GIL; the borrow ends with this function, which runs nothing else.
        let objects = unsafe { &mut *self.objects.get() };
        let object = objects.pop();
        if objects.len() > LONG {
            fetch(objects[objects.len() - FETCHED_AHEAD]);
        }
        object
    }

    /// One of those that an idle list gives back, if it has any.
    pub(super) fn take_excess(&self) -> Option<*mut ffi::PyObject> {
        // SAFETY: guarded by the GIL; the borrow ends with this function, which runs nothing else.
        let objects = unsafe { &mut *self.objects.get() };
        if objects.len() <= KEPT_WHEN_IDLE {
            return None;
        }
        let object = objects.pop();
        if objects.len() == KEPT_WHEN_IDLE {
            objects.shrink_to_fit();
        }
        object
    }

    /// Whether one more may be kept, if `most` may be.
    #[inline]
    pub(super) fn has_room(&self, most: usize) -> bool {
        // SAFETY: guarded by the GIL; the borrow ends with this expression.
        unsafe { (*self.objects.get()).len() < most }
    }

    /// Keeps an object, and the caller's reference to it.
    #[inline]
    pub(super) fn keep(&self, object: *mut ffi::PyObject) {
        // SAFETY: guarded by the GIL; growing the vector runs no Python code.
        unsafe { (*self.objects.get()).push(object) };
    }
}

#[cfg(Py_GIL_DISABLED)]
impl FreeList {
    pub(super) const fn new() -> Self {
        Self {}
    }

    pub(super) fn take(&self) -> Option<*mut ffi::PyObject> {
        None
    }

    pub(super) fn take_excess(&self) -> Option<*mut ffi::PyObject> {
        None
    }

    pub(super) fn has_room(&self, _most: usize) -> bool {
        false
    }

    pub(super) fn keep(&self, _object: *mut ffi::PyObject) {
        unreachable!("invariant: there is no room in this list");
    }
}

/// How deep deallocators of ours nest on this thread, and those put off because it was too deep.
///
/// A handle may be an argument of the next one's callback, a hundred thousand times over.
pub(super) mod nesting {
    use std::cell::{Cell, RefCell};

    use pyo3::ffi;

    /// Below the interpreter's own limit of 50 for its containers, times a few of our frames.
    const DEEPEST: u32 = 40;

    type Free = unsafe fn(*mut ffi::PyObject);

    /// What every free looks at, in one place: to find a thread's own takes a call.
    struct Nesting {
        depth: Cell<u32>,
        has_put_off: Cell<bool>,
    }

    thread_local! {
        static NESTING: Nesting = const {
            Nesting {
                depth: Cell::new(0),
                has_put_off: Cell::new(false),
            }
        };
        static PUT_OFF: RefCell<Vec<(*mut ffi::PyObject, Free)>> = const { RefCell::new(Vec::new()) };
    }

    /// `true` if the object may be freed now; else it is put off.
    #[inline]
    pub(in crate::ffi) fn enter(object: *mut ffi::PyObject, free: Free) -> bool {
        NESTING.with(|nesting| {
            let depth = nesting.depth.get();
            if depth >= DEEPEST {
                put_off(nesting, object, free);
                return false;
            }
            nesting.depth.set(depth + 1);
            true
        })
    }

    #[cold]
    fn put_off(nesting: &Nesting, object: *mut ffi::PyObject, free: Free) {
        PUT_OFF.with_borrow_mut(|put_off| put_off.push((object, free)));
        nesting.has_put_off.set(true);
    }

    #[cold]
    fn take_put_off(nesting: &Nesting) -> Option<(*mut ffi::PyObject, Free)> {
        PUT_OFF.with_borrow_mut(|put_off| {
            let next = put_off.pop();
            nesting.has_put_off.set(!put_off.is_empty());
            next
        })
    }

    /// One that was put off, if this is the outermost; `None` ends the nesting.
    #[inline]
    pub(in crate::ffi) fn leave() -> Option<(*mut ffi::PyObject, Free)> {
        NESTING.with(|nesting| {
            let depth = nesting.depth.get();
            if depth == 1 && nesting.has_put_off.get() {
                let next = take_put_off(nesting);
                if next.is_some() {
                    return next;
                }
            }
            nesting.depth.set(depth - 1);
            None
        })
    }
}
