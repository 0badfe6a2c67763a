//! The table of functions by which other extensions reach a loop, in C's calling convention, and the capsule it is in.
//!
//! Those extensions may be built with another PyO3, or with none. So nothing crosses here but C's types, pointers that
//! only their maker looks into, and Python objects. The layout of what is here never changes; what is new goes behind
//! it, and `size` tells.

use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::Arc;

use pyo3::exceptions::PySystemError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyCapsule;

use super::call::with_context;
use super::guarded::Hang;
use super::memory::caught;

/// The capsule's name, which an extension asks for.
const NAME: &CStr = c"cloverleaf.api.1";
const VERSION: u32 = 1;

/// What is done with the data of a [`Posted`], either of them, and once. Neither lets a panic or an exception of C++ out.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Work {
    /// Does it, on the loop's thread, which is attached; nonzero with an exception set if that failed.
    run: unsafe extern "C-unwind" fn(data: *mut c_void) -> c_int,
    /// Drops it, on any thread, attached or not.
    discard: unsafe extern "C-unwind" fn(data: *mut c_void),
}

/// Something that another extension wants done on the loop's thread.
#[derive(Debug)]
pub(crate) struct Posted {
    data: *mut c_void,
    work: &'static Work,
}

// SAFETY: whoever posts promises that the data may be used and dropped by any thread, one at a time.
unsafe impl Send for Posted {}

impl Posted {
    /// Does it.
    ///
    /// # Errors
    /// The exception that it has set.
    pub(crate) fn run(self, py: Python<'_>) -> PyResult<()> {
        let (data, work) = (self.data, self.work);
        std::mem::forget(self);
        let hang = Hang;
        // SAFETY: whoever has posted it promises that this is sound once, on a thread that is attached, as `py` proves.
        let failed = unsafe { (work.run)(data) } != 0;
        std::mem::forget(hang);
        if !failed {
            return Ok(());
        }
        Err(PyErr::take(py).unwrap_or_else(|| {
            PySystemError::new_err("what was posted to the loop failed and set no exception")
        }))
    }

    /// Gives the data back to whoever has it posted.
    fn give_back(self) {
        std::mem::forget(self);
    }
}

impl Drop for Posted {
    fn drop(&mut self) {
        let hang = Hang;
        // SAFETY: whoever has posted it promises that this is sound once on any thread; it was not run.
        unsafe { (self.work.discard)(self.data) };
        std::mem::forget(hang);
    }
}

/// What another extension has of a loop.
pub(crate) trait Offered: Send + Sync + Sized + 'static {
    /// That of this object; none if it is no loop of ours, or one that its user has changed.
    ///
    /// # Errors
    /// What asking raises.
    fn of(event_loop: &Bound<'_, PyAny>) -> PyResult<Option<Arc<Self>>>;

    /// Has something done on the loop's thread; any thread may ask for it.
    ///
    /// # Errors
    /// Gives it back if the loop is closed, or not of this process.
    fn post(&self, posted: Posted) -> Result<(), Posted>;
}

/// The table. An extension sees `link` as a pointer to something unknown.
#[repr(C)]
struct Table {
    version: u32,
    /// The size of the table, in bytes.
    size: u32,
    /// What reaches a loop, for the caller to release; null if the object is no loop of ours, and also with an exception
    /// set. The thread is attached.
    open: unsafe extern "C" fn(event_loop: *mut ffi::PyObject) -> *const c_void,
    /// Counts one more owner of a link. Any thread.
    keep: unsafe extern "C" fn(link: *const c_void),
    /// Counts one less. Any thread, attached or not.
    release: unsafe extern "C" fn(link: *const c_void),
    /// Has `work` done with `data`: zero. Nonzero if the loop is closed: nothing is done, and `data` is still the
    /// caller's. Any thread, attached or not; a loop that sleeps is woken.
    post: unsafe extern "C" fn(link: *const c_void, data: *mut c_void, work: *const Work) -> c_int,
    /// Calls `inside` with a `contextvars.Context` entered, and gives what it gives; nonzero with an exception set if the
    /// context cannot be entered. The thread is attached.
    call_in: unsafe extern "C-unwind" fn(
        context: *mut ffi::PyObject,
        inside: unsafe extern "C-unwind" fn(data: *mut c_void) -> c_int,
        data: *mut c_void,
    ) -> c_int,
}

unsafe extern "C" fn open<L: Offered>(event_loop: *mut ffi::PyObject) -> *const c_void {
    // SAFETY: the table says that the thread is attached.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: the caller has a reference to the object, which it asks about.
    let event_loop = unsafe { Bound::from_borrowed_ptr(py, event_loop) };
    match caught(py, || L::of(&event_loop)).and_then(|found| found) {
        Ok(Some(link)) => Arc::into_raw(link).cast(),
        Ok(None) => ptr::null(),
        Err(error) => {
            error.restore(py);
            ptr::null()
        }
    }
}

unsafe extern "C" fn keep<L: Offered>(link: *const c_void) {
    // SAFETY: the caller has a link that `open` gave, which is such a pointer.
    unsafe { Arc::increment_strong_count(link.cast::<L>()) };
}

unsafe extern "C" fn release<L: Offered>(link: *const c_void) {
    // SAFETY: as above, and the caller gives its count up.
    unsafe { Arc::decrement_strong_count(link.cast::<L>()) };
}

unsafe extern "C" fn post<L: Offered>(
    link: *const c_void,
    data: *mut c_void,
    work: *const Work,
) -> c_int {
    // SAFETY: the caller keeps the link for the time of the call.
    let link = unsafe { &*link.cast::<L>() };
    // SAFETY: the table asks for a `Work` that lives as long as the process.
    let work = unsafe { &*work };
    match link.post(Posted { data, work }) {
        Ok(()) => 0,
        Err(posted) => {
            posted.give_back();
            1
        }
    }
}

unsafe extern "C-unwind" fn call_in(
    context: *mut ffi::PyObject,
    inside: unsafe extern "C-unwind" fn(data: *mut c_void) -> c_int,
    data: *mut c_void,
) -> c_int {
    // SAFETY: the table says that the thread is attached.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: the caller has a reference to the object.
    let context = unsafe { Bound::from_borrowed_ptr(py, context) };
    // SAFETY: the caller says that its function may be called with its data, once and here.
    let called = with_context(py, context.as_borrowed(), || Ok(unsafe { inside(data) }));
    called.unwrap_or_else(|error| {
        error.restore(py);
        -1
    })
}

/// The table of one kind of links. A program has one kind.
struct Tables<L>(std::marker::PhantomData<L>);

impl<L: Offered> Tables<L> {
    const TABLE: &'static Table = &Table {
        version: VERSION,
        #[expect(clippy::cast_possible_truncation, reason = "it is a few dozen bytes")]
        size: size_of::<Table>() as u32,
        open: open::<L>,
        keep: keep::<L>,
        release: release::<L>,
        post: post::<L>,
        call_in,
    };
}

/// A capsule with the table of these links.
///
/// # Errors
/// `MemoryError`.
pub(crate) fn capsule_of<L: Offered>(py: Python<'_>) -> PyResult<Bound<'_, PyCapsule>> {
    let table: ptr::NonNull<Table> = ptr::NonNull::from(Tables::<L>::TABLE);
    // SAFETY: the table lives as long as the process, and has no destructor.
    unsafe { PyCapsule::new_with_pointer(py, table.cast(), NAME) }
}
