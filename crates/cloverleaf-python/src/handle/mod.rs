//! `Handle` and `TimerHandle`: a callback that waits for its turn and can be cancelled.
//!
//! Both derive from asyncio's classes of the same name and keep asyncio's private attributes readable, so that its
//! `repr()` and the tools that look into handles work. A cancelled handle lets go of its callback and arguments at once.

mod guard;
mod held;
mod methods;
mod run;

pub(crate) use guard::Guard;
pub(crate) use held::{Handle, TimerHandle, When};
pub(crate) use methods::add_to;
pub(crate) use run::{cancel, run, run_by_asyncio, run_queued};

use std::ffi::CStr;
use std::sync::atomic::Ordering;

use cloverleaf::{Time, TimerKey};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::event_loop::Loop;
use crate::ffi::{
    Arguments, BareCall, CallContext, Left, MOST_KEPT, Native, NativeClass, Owned, Reach, Visitor,
    copy_context, take_private,
};
use held::{HasParts, Inline, Parts};

static HANDLE: NativeClass = NativeClass::new();
static TIMER_HANDLE: NativeClass = NativeClass::new();

impl Native for Handle {
    const NAME: &'static CStr = c"cloverleaf.Handle";
    const SUBCLASSABLE: bool = false;
    const KEPT: usize = MOST_KEPT;
    const BASE_FIELDS: usize = held::HANDLE_FIELDS;
    const FINALIZE: Option<fn(&Bound<'_, PyAny>)> = None;

    fn class() -> &'static NativeClass {
        &HANDLE
    }

    fn traverse(&self, visitor: &mut Visitor) {
        self.parts().traverse(visitor);
    }

    fn clear(&self, holder: &Bound<'_, PyAny>) {
        self.parts().release(holder);
    }
}

impl Native for TimerHandle {
    const NAME: &'static CStr = c"cloverleaf.TimerHandle";
    const SUBCLASSABLE: bool = false;
    const KEPT: usize = MOST_KEPT;
    const BASE_FIELDS: usize = held::TIMER_FIELDS;
    const FINALIZE: Option<fn(&Bound<'_, PyAny>)> = None;

    fn class() -> &'static NativeClass {
        &TIMER_HANDLE
    }

    fn traverse(&self, visitor: &mut Visitor) {
        Self::traverse(self, visitor);
    }

    fn clear(&self, holder: &Bound<'_, PyAny>) {
        self.parts().release(holder);
    }
}

/// Either kind of handle in a Python object.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AnyHandle<'a> {
    /// What `call_soon` returns.
    Plain(&'a Handle),
    /// What `call_later` returns.
    Timer(&'a TimerHandle),
}

impl<'a> AnyHandle<'a> {
    /// The handle in an object, if there is one.
    #[inline]
    pub(crate) fn of(object: &'a Bound<'_, PyAny>) -> Option<Self> {
        match HANDLE.get::<Handle>(object) {
            Some(handle) => Some(Self::Plain(handle)),
            None => TIMER_HANDLE.get::<TimerHandle>(object).map(Self::Timer),
        }
    }

    fn required(object: &'a Bound<'_, PyAny>) -> PyResult<Self> {
        Self::of(object).ok_or_else(|| {
            pyo3::exceptions::PyTypeError::new_err("a cloverleaf handle was expected")
        })
    }

    #[inline]
    fn parts(self) -> Parts<'a> {
        match self {
            Self::Plain(handle) => handle.parts(),
            Self::Timer(timer) => timer.parts(),
        }
    }

    /// Has the processor fetch the memory of its context, which will be used soon.
    #[inline]
    pub(crate) fn fetch_context(self) {
        self.parts().held.context.fetch();
    }

    /// Whether it will not run any more.
    #[inline]
    pub(crate) fn is_cancelled(self) -> bool {
        self.parts().is_cancelled()
    }

    /// What is called, and its first argument; `None` once it is cancelled.
    pub(crate) fn callback_and_argument(
        self,
        holder: &Bound<'_, PyAny>,
    ) -> Option<(Owned, Option<Owned>)> {
        let call = self.parts().call(holder)?;
        let [first, ..] = call.args;
        Some((call.callable, first))
    }

    /// Notes that a timer has left the queue.
    #[inline]
    pub(crate) fn mark_fired(self) {
        if let Self::Timer(timer) = self {
            timer.scheduled.store(false, Ordering::Relaxed);
        }
    }
}

/// A new handle, to be queued by the caller, who [reveals](crate::ffi::reveal) it unless the loop runs.
///
/// # Errors
/// `MemoryError`.
#[inline]
pub(crate) fn new_handle<'py>(
    event_loop: &Bound<'py, PyAny>,
    callback: Borrowed<'_, 'py, PyAny>,
    args: &Arguments<'_, 'py>,
    context: CallContext,
    guard: Guard,
) -> PyResult<Bound<'py, PyAny>> {
    let py = event_loop.py();
    let args = match args.rest(1) {
        rest if rest.len() == 0 => Inline::none(),
        rest => Inline::new(py, rest)?,
    };
    let handle = Handle::new(event_loop, callback, args, context, guard);
    HANDLE.instantiate_private(py, handle)
}

/// A handle for a call that had none, or has none any more.
///
/// # Errors
/// `MemoryError`.
pub(crate) fn new_handle_of<'py>(
    event_loop: &Bound<'py, PyAny>,
    call: BareCall,
) -> PyResult<Bound<'py, PyAny>> {
    HANDLE.instantiate(event_loop.py(), Handle::of_call(event_loop, call))
}

/// The same in debug mode, in which a handle knows where it was made.
///
/// # Errors
/// `MemoryError`, and what walking the stack raises.
#[cold]
pub(crate) fn new_known_handle<'py>(
    event_loop: &Bound<'py, PyAny>,
    call: BareCall,
) -> PyResult<Bound<'py, PyAny>> {
    remember_origin(event_loop, new_handle_of(event_loop, call)?)
}

/// The call of a handle that waits, if nobody can tell it from one without a handle; what is left of the handle is then to
/// be discarded. No Python code runs, and no object loses its last reference.
#[inline]
pub(crate) fn take_call(
    handle: Borrowed<'_, '_, PyAny>,
    event_loop: &Bound<'_, PyAny>,
) -> Option<(BareCall, Left<Handle>)> {
    take_private(handle, |value: &Handle| {
        value.parts().take_call(&handle, event_loop)
    })
}

/// A new handle for a callback with a tuple of arguments, in a copy of the current context.
///
/// # Errors
/// `MemoryError`.
pub(crate) fn new_bound_handle<'py>(
    event_loop: &Bound<'py, PyAny>,
    callback: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    let context = copy_context(event_loop.py())?;
    new_bound_handle_in(event_loop, callback, args, context)
}

/// A new handle for a callback with a tuple of arguments, in this context.
///
/// # Errors
/// `MemoryError`.
pub(crate) fn new_bound_handle_in<'py>(
    event_loop: &Bound<'py, PyAny>,
    callback: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
    context: Owned,
) -> PyResult<Bound<'py, PyAny>> {
    let py = event_loop.py();
    let args = Inline::new(py, args.iter_borrowed())?;
    let callback = callback.as_borrowed();
    let context = CallContext {
        context,
        is_copy: false,
    };
    let handle = Handle::new(event_loop, callback, args, context, Guard::none());
    remember_origin(event_loop, HANDLE.instantiate(py, handle)?)
}

/// A new timer's handle, to be queued by the caller under the key that [`set_timer_key`] then stores; the caller
/// [reveals](crate::ffi::reveal) it unless the loop runs.
///
/// # Errors
/// `MemoryError`.
#[inline]
pub(crate) fn new_timer_handle<'py>(
    event_loop: &Bound<'py, PyAny>,
    when: When,
    callback: Borrowed<'_, 'py, PyAny>,
    args: &Arguments<'_, 'py>,
    context: CallContext,
) -> PyResult<Bound<'py, PyAny>> {
    let py = event_loop.py();
    let args = Inline::new(py, args.rest(2))?;
    let handle = Handle::new(event_loop, callback, args, context, Guard::none());
    TIMER_HANDLE.instantiate_private(py, handle.due_at(when))
}

/// Stores under which key a timer waits.
#[inline]
pub(crate) fn set_timer_key(object: &Bound<'_, PyAny>, key: TimerKey) {
    if let Some(timer) = TIMER_HANDLE.get::<TimerHandle>(object) {
        let (age, slot) = key.to_parts();
        timer.age.store(age, Ordering::Relaxed);
        timer.slot.store(slot, Ordering::Relaxed);
        timer.scheduled.store(true, Ordering::Relaxed);
    }
}

/// Gives memory back that was of many handles: for a loop that is about to sleep.
#[inline]
pub(crate) fn give_back(py: Python<'_>) {
    HANDLE.give_back(py);
    TIMER_HANDLE.give_back(py);
}

/// When a timer is due; never earlier than its `when()`.
pub(crate) fn deadline(when: f64) -> Time {
    Time::from_secs_ceil(when)
}

/// In debug mode, remembers where the caller is, as asyncio's handles do.
#[inline]
fn remember_origin<'py>(
    event_loop: &Bound<'py, PyAny>,
    object: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    if Loop::of(event_loop)?.debug() {
        set_source_traceback(&object)?;
    }
    Ok(object)
}

/// Remembers where the caller is, as asyncio's handles do in debug mode.
///
/// # Errors
/// What walking the stack raises.
#[cold]
pub(crate) fn set_source_traceback(object: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = object.py();
    let frame = py
        .import(intern!(py, "sys"))?
        .reach(intern!(py, "_getframe"), (0,));
    // Without a frame, the callback was scheduled from outside of Python: there is nothing to remember.
    let Ok(frame) = frame else { return Ok(()) };
    let helpers = py.import(intern!(py, "asyncio.format_helpers"))?;
    let traceback = helpers.reach(intern!(py, "extract_stack"), (frame,))?;
    if let Some(handle) = AnyHandle::of(object) {
        drop(
            handle
                .parts()
                .held
                .source_traceback
                .replace(object, Some(traceback.into())),
        );
    }
    Ok(())
}
