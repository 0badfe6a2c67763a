//! What Cloverleaf's module offers, in C's calling convention; a fence.
//!
//! The table is `crates/cloverleaf-python/src/ffi/offer.rs` of the module that is loaded, which may be of another
//! version and of another PyO3. Its first version has what is declared here.
#![expect(
    unsafe_code,
    reason = "a fence: functions and pointers of another library"
)]

use std::any::Any;
use std::ffi::{CStr, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::NonNull;
use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyCapsule, PyCapsuleMethods};
use pyo3::{ffi, intern};

use crate::outcome::panicked;

const NAME: &CStr = c"cloverleaf.api.1";
const VERSION: u32 = 1;

#[repr(C)]
struct Work {
    run: unsafe extern "C-unwind" fn(*mut c_void) -> c_int,
    discard: unsafe extern "C-unwind" fn(*mut c_void),
}

#[repr(C)]
struct Table {
    version: u32,
    size: u32,
    open: unsafe extern "C" fn(*mut ffi::PyObject) -> *const c_void,
    keep: unsafe extern "C" fn(*const c_void),
    release: unsafe extern "C" fn(*const c_void),
    post: unsafe extern "C" fn(*const c_void, *mut c_void, *const Work) -> c_int,
    call_in: unsafe extern "C-unwind" fn(
        *mut ffi::PyObject,
        unsafe extern "C-unwind" fn(*mut c_void) -> c_int,
        *mut c_void,
    ) -> c_int,
}

/// Something that is done once on the loop's thread, or dropped on any.
pub(crate) trait Job: Send + 'static {
    /// Does it.
    ///
    /// # Errors
    /// What the loop's exception handler is to hear of.
    fn run(self, py: Python<'_>) -> PyResult<()>;
}

/// A job that is one pointer.
pub(crate) trait Pointer: Job + Sized {
    /// The pointer, which owns the job.
    fn into_raw(self) -> *mut c_void;

    /// # Safety
    /// The pointer is from `into_raw`, and given back once.
    unsafe fn from_raw(pointer: *mut c_void) -> Self;
}

impl<T: 'static> Pointer for Box<T>
where
    Self: Job,
{
    fn into_raw(self) -> *mut c_void {
        Box::into_raw(self).cast()
    }

    unsafe fn from_raw(pointer: *mut c_void) -> Self {
        // SAFETY: as the caller promises.
        unsafe { Self::from_raw(pointer.cast()) }
    }
}

impl<T: 'static> Pointer for Arc<T>
where
    Self: Job,
{
    fn into_raw(self) -> *mut c_void {
        Arc::into_raw(self).cast_mut().cast()
    }

    unsafe fn from_raw(pointer: *mut c_void) -> Self {
        // SAFETY: as the caller promises.
        unsafe { Self::from_raw(pointer.cast_const().cast()) }
    }
}

/// The work of one kind of jobs.
struct Works<J>(std::marker::PhantomData<J>);

impl<J: Pointer> Works<J> {
    const WORK: &'static Work = &Work {
        run: run::<J>,
        discard: discard::<J>,
    };
}

/// Nothing Rust can catch leaves it.
unsafe extern "C-unwind" fn run<J: Pointer>(data: *mut c_void) -> c_int {
    // SAFETY: the loop gives back what it was given, once.
    let job = unsafe { J::from_raw(data) };
    // PyO3 counts who is attached, each copy for itself.
    let ran = catch_unwind(AssertUnwindSafe(|| {
        Python::try_attach(|py| match caught(|| job.run(py)) {
            Ok(()) => 0,
            Err(error) => {
                error.restore(py);
                -1
            }
        })
    }));
    // Where nobody can attach the interpreter is at its end, and nobody is told.
    ran.ok().flatten().unwrap_or(0)
}

unsafe extern "C-unwind" fn discard<J: Pointer>(data: *mut c_void) {
    // SAFETY: the loop gives back what it was given, once.
    let job = unsafe { J::from_raw(data) };
    drop_caught(job);
}

/// Does something that may panic, which is its error then.
///
/// # Errors
/// What it gives, or `PanicException`.
pub(crate) fn caught<R>(body: impl FnOnce() -> PyResult<R>) -> PyResult<R> {
    let body = || {
        let hang = Hang;
        let done = body();
        std::mem::forget(hang);
        done
    };
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| Err(panicked(&*panic)))
}

/// Ends the unwinding of a thread by `pthread_exit(3)`, as which a daemon thread ends in a call of Python's before 3.14 when
/// the interpreter is at its end. What catches panics may not catch that: the process would die of it.
struct Hang;

impl Drop for Hang {
    fn drop(&mut self) {
        while !std::thread::panicking() {
            std::thread::park();
        }
    }
}

/// Drops something whose drop may panic, of which Rust's hook has told.
pub(crate) fn drop_caught<T>(value: T) {
    let dropped: Result<(), Box<dyn Any + Send>> =
        catch_unwind(AssertUnwindSafe(|| std::mem::drop(value)));
    // The panic's own value may panic when it is dropped.
    if let Err(panic) = dropped {
        std::mem::forget(panic);
    }
}

/// PyO3 calls them deprecated from Python 3.12 on, before which there is nothing in their place.
mod raw {
    use pyo3::ffi::PyObject;

    unsafe extern "C" {
        pub(super) fn PyErr_Fetch(
            class: *mut *mut PyObject,
            value: *mut *mut PyObject,
            traceback: *mut *mut PyObject,
        );
        pub(super) fn PyErr_Restore(
            class: *mut PyObject,
            value: *mut PyObject,
            traceback: *mut PyObject,
        );
    }
}

/// An exception that is on its way, set aside until this is dropped: an object may be dropped under one, and what its drop
/// does must neither run with it set nor lose it. Not a `PyErr`, which panics if it is a `PanicException`.
pub(crate) struct Aside<'py> {
    parts: [*mut ffi::PyObject; 3],
    _attached: Python<'py>,
}

impl<'py> Aside<'py> {
    pub(crate) fn new(py: Python<'py>) -> Self {
        let mut parts = [std::ptr::null_mut(); 3];
        let [class, value, traceback] = &mut parts;
        // SAFETY: the thread is attached; each place takes a pointer.
        unsafe {
            raw::PyErr_Fetch(class, value, traceback);
        }
        Self {
            parts,
            _attached: py,
        }
    }
}

impl Drop for Aside<'_> {
    fn drop(&mut self) {
        let [class, value, traceback] = self.parts;
        // SAFETY: the thread is attached still; the references are those that were fetched.
        unsafe {
            raw::PyErr_Restore(class, value, traceback);
        }
    }
}

/// A way to a loop of Cloverleaf's, for any thread.
pub(crate) struct Link {
    table: &'static Table,
    link: NonNull<c_void>,
}

// SAFETY: the table says that any thread may use a link, attached or not.
unsafe impl Send for Link {}
// SAFETY: likewise, several at a time.
unsafe impl Sync for Link {}

impl Drop for Link {
    fn drop(&mut self) {
        // SAFETY: it is ours, and not used after this.
        unsafe { (self.table.release)(self.link.as_ptr()) };
    }
}

impl Link {
    /// That of this loop; none if it is not Cloverleaf's, or its user has put methods of its own in place.
    ///
    /// # Errors
    /// What asking raises.
    pub(crate) fn of(event_loop: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        let py = event_loop.py();
        let Some(table) = table(py)? else {
            return Ok(None);
        };
        // SAFETY: the object is live, and the thread attached.
        let link = unsafe { (table.open)(event_loop.as_ptr()) };
        match NonNull::new(link.cast_mut()) {
            Some(link) => Ok(Some(Self { table, link })),
            None => PyErr::take(py).map_or(Ok(None), Err),
        }
    }

    /// Has a job done on the loop's thread.
    ///
    /// # Errors
    /// Gives it back if the loop is closed.
    pub(crate) fn post<J: Pointer>(&self, job: J) -> Result<(), J> {
        let data = job.into_raw();
        // SAFETY: the link is kept for the time of the call; the work is of this job, and lives for ever.
        let refused = unsafe { (self.table.post)(self.link.as_ptr(), data, Works::<J>::WORK) };
        if refused == 0 {
            return Ok(());
        }
        // SAFETY: what is refused is still ours.
        Err(unsafe { J::from_raw(data) })
    }

    /// Does something with a context entered.
    ///
    /// # Errors
    /// `RuntimeError` if the context is entered already; else what it gives.
    pub(crate) fn call_in<F: FnOnce() -> PyResult<()>>(
        &self,
        context: &Bound<'_, PyAny>,
        inside: F,
    ) -> PyResult<()> {
        unsafe extern "C-unwind" fn call<F: FnOnce() -> PyResult<()>>(data: *mut c_void) -> c_int {
            // SAFETY: it is the pointer below, and nobody else uses what it leads to meanwhile.
            let (inside, result) = unsafe { &mut *data.cast::<(Option<F>, PyResult<()>)>() };
            if let Some(inside) = inside.take() {
                *result = caught(inside);
            }
            0
        }
        let mut passed: (Option<F>, PyResult<()>) = (Some(inside), Ok(()));
        let data = std::ptr::from_mut(&mut passed).cast();
        // SAFETY: the object is live, the thread attached, and the data outlives the call.
        if unsafe { (self.table.call_in)(context.as_ptr(), call::<F>, data) } != 0 {
            return Err(PyErr::fetch(context.py()));
        }
        passed.1
    }
}

/// The table of the module that is loaded; none if none is, which may change.
fn table(py: Python<'_>) -> PyResult<Option<&'static Table>> {
    static TABLE: PyOnceLock<&'static Table> = PyOnceLock::new();
    if let Some(table) = TABLE.get(py) {
        return Ok(Some(table));
    }
    let modules = py
        .import(intern!(py, "sys"))?
        .getattr(intern!(py, "modules"))?;
    let Ok(module) = modules.get_item(intern!(py, "cloverleaf._cloverleaf")) else {
        return Ok(None);
    };
    // None of a module that is being imported by another thread still, which may change, too.
    Ok(table_of(&module).map(|table| *TABLE.get_or_init(py, || table)))
}

/// The table of this module; none if it offers none that is known here.
fn table_of(module: &Bound<'_, PyAny>) -> Option<&'static Table> {
    let capsule = module.getattr(intern!(module.py(), "API")).ok()?;
    let capsule = capsule.cast_into::<PyCapsule>().ok()?;
    let pointer: NonNull<Table> = capsule.pointer_checked(Some(NAME)).ok()?.cast();
    // SAFETY: whoever gives a capsule this name promises such a table, for as long as the process lives.
    let table = unsafe { pointer.as_ref() };
    (table.version == VERSION && table.size as usize >= size_of::<Table>()).then_some(table)
}

/// A job whose kind is known to its work alone, for loops that are not Cloverleaf's.
pub(crate) struct Erased {
    data: *mut c_void,
    work: &'static Work,
}

// SAFETY: jobs are `Send`.
unsafe impl Send for Erased {}

impl Erased {
    pub(crate) fn new<J: Pointer>(job: J) -> Self {
        Self {
            data: job.into_raw(),
            work: Works::<J>::WORK,
        }
    }

    /// Does it.
    ///
    /// # Errors
    /// What the job gives.
    pub(crate) fn run(self, py: Python<'_>) -> PyResult<()> {
        let (data, work) = (self.data, self.work);
        std::mem::forget(self);
        // SAFETY: the data is of this work, and used once.
        if unsafe { (work.run)(data) } != 0 {
            return Err(PyErr::fetch(py));
        }
        Ok(())
    }
}

impl Drop for Erased {
    fn drop(&mut self) {
        // SAFETY: the data is of this work, and was not used.
        unsafe { (self.work.discard)(self.data) };
    }
}
