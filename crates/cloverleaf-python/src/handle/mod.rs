//! `Handle` and `TimerHandle`: a callback that waits for its turn and can be cancelled.
//!
//! Both derive from asyncio's classes of the same name and keep asyncio's private attributes readable, so that its
//! `repr()` and the tools that look into handles work. A cancelled handle lets go of its callback and arguments at once.

mod guard;
mod methods;
mod run;

pub(crate) use guard::Guard;
pub(crate) use methods::add_to;
pub(crate) use run::{cancel, run, run_by_asyncio, run_queued};

use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use cloverleaf::{Time, TimerKey};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::event_loop::Loop;
use crate::ffi::{
    Arguments, Call, INLINE_ARGS, Native, NativeClass, Owned, Reach, Slot, Visitor, copy_context,
};

/// What a handle holds.
#[derive(Debug)]
pub(crate) struct Handle {
    callback: Slot,
    args: [Slot; INLINE_ARGS],
    in_tuple: bool,
    cancelled: AtomicBool,
    guard: Guard,
    context: Owned,
    event_loop: Owned,
    source_traceback: Slot,
    repr: Slot,
}

/// What a timer's handle holds.
#[derive(Debug)]
pub(crate) struct TimerHandle {
    handle: Handle,
    when: f64,
    age: AtomicU64,
    slot: AtomicU32,
    scheduled: AtomicBool,
}

static HANDLE: NativeClass = NativeClass::new();
static TIMER_HANDLE: NativeClass = NativeClass::new();

impl Native for Handle {
    const NAME: &'static CStr = c"cloverleaf.Handle";
    const SUBCLASSABLE: bool = false;
    const KEPT: usize = 1024;
    const FINALIZE: Option<fn(&Bound<'_, PyAny>)> = None;

    fn class() -> &'static NativeClass {
        &HANDLE
    }

    fn traverse(&self, visitor: &mut Visitor) {
        for slot in self
            .args
            .iter()
            .chain([&self.callback, &self.source_traceback, &self.repr])
        {
            visitor.slot(slot);
        }
        visitor.object(&self.context);
        visitor.object(&self.event_loop);
    }

    fn clear(&self, holder: &Bound<'_, PyAny>) {
        self.release(holder);
    }
}

impl Native for TimerHandle {
    const NAME: &'static CStr = c"cloverleaf.TimerHandle";
    const SUBCLASSABLE: bool = false;
    const KEPT: usize = 1024;
    const FINALIZE: Option<fn(&Bound<'_, PyAny>)> = None;

    fn class() -> &'static NativeClass {
        &TIMER_HANDLE
    }

    fn traverse(&self, visitor: &mut Visitor) {
        self.handle.traverse(visitor);
    }

    fn clear(&self, holder: &Bound<'_, PyAny>) {
        self.handle.release(holder);
    }
}

/// Either kind of handle, as a value.
trait HasHandle: Native {
    /// What both have.
    fn handle(&self) -> &Handle;
}

impl HasHandle for Handle {
    fn handle(&self) -> &Handle {
        self
    }
}

impl HasHandle for TimerHandle {
    fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Handle {
    /// A handle for a callback with these arguments, in this context.
    ///
    /// # Errors
    /// `MemoryError`.
    #[inline]
    fn new<'a, 'py: 'a>(
        event_loop: &Bound<'py, PyAny>,
        callback: Borrowed<'_, 'py, PyAny>,
        args: impl ExactSizeIterator<Item = Borrowed<'a, 'py, PyAny>>,
        context: Owned,
        guard: Guard,
    ) -> PyResult<Self> {
        let in_tuple = args.len() > INLINE_ARGS;
        let mut slots = [const { None }; INLINE_ARGS];
        if in_tuple {
            slots[0] = Some(PyTuple::new(event_loop.py(), args)?.into());
        } else {
            for (slot, arg) in slots.iter_mut().zip(args) {
                *slot = Some(arg.into());
            }
        }
        Ok(Self {
            callback: Slot::new(Some(callback.into())),
            args: slots.map(Slot::new),
            in_tuple,
            cancelled: AtomicBool::new(false),
            guard,
            context,
            event_loop: event_loop.clone().into(),
            source_traceback: Slot::default(),
            repr: Slot::default(),
        })
    }

    /// The call to make, with everything that it needs held; `None` once it is cancelled.
    #[inline]
    fn call(&self, holder: &Bound<'_, PyAny>) -> Option<Call> {
        let callable = self.callback.get(holder)?;
        let mut args = [const { None }; INLINE_ARGS];
        for (arg, slot) in args.iter_mut().zip(&self.args) {
            *arg = slot.get(holder);
            if arg.is_none() {
                break;
            }
        }
        Some(Call {
            callable,
            args,
            in_tuple: self.in_tuple,
        })
    }

    fn release(&self, holder: &Bound<'_, PyAny>) {
        // Taken first and dropped after, because a drop may run Python code that comes back here.
        let held = (
            self.callback.take(holder),
            self.args.each_ref().map(|slot| slot.take(holder)),
        );
        drop(held);
    }

    fn args_tuple<'py>(&self, holder: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyTuple>>> {
        let py = holder.py();
        let Some(call) = self.call(holder) else {
            return Ok(None);
        };
        let [first, second, third] = call.args;
        if call.in_tuple {
            return first
                .map(|tuple| tuple.into_bound(py).cast_into::<PyTuple>())
                .transpose()
                .map_err(Into::into);
        }
        let args = [first, second, third]
            .into_iter()
            .flatten()
            .map(|arg| arg.into_bound(py));
        PyTuple::new(py, args.collect::<Vec<_>>()).map(Some)
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
    const fn inner(self) -> &'a Handle {
        match self {
            Self::Plain(handle) => handle,
            Self::Timer(timer) => &timer.handle,
        }
    }

    /// Whether it will not run any more.
    #[inline]
    pub(crate) fn is_cancelled(self) -> bool {
        self.inner().cancelled.load(Ordering::Relaxed)
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
    context: Owned,
    guard: Guard,
) -> PyResult<Bound<'py, PyAny>> {
    let handle = Handle::new(event_loop, callback, args.rest(1), context, guard)?;
    HANDLE.instantiate_private(event_loop.py(), handle)
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
    let handle = Handle::new(
        event_loop,
        callback.as_borrowed(),
        args.iter_borrowed(),
        context,
        Guard::none(),
    )?;
    remember_origin(event_loop, HANDLE.instantiate(event_loop.py(), handle)?)
}

/// A new timer's handle, to be queued by the caller under the key that [`set_timer_key`] then stores.
///
/// # Errors
/// `MemoryError`.
#[inline]
pub(crate) fn new_timer_handle<'py>(
    event_loop: &Bound<'py, PyAny>,
    when: f64,
    callback: Borrowed<'_, 'py, PyAny>,
    args: &Arguments<'_, 'py>,
    context: Owned,
) -> PyResult<Bound<'py, PyAny>> {
    let handle = Handle::new(event_loop, callback, args.rest(2), context, Guard::none())?;
    let timer = TimerHandle {
        handle,
        when,
        age: AtomicU64::new(0),
        slot: AtomicU32::new(0),
        scheduled: AtomicBool::new(false),
    };
    remember_origin(
        event_loop,
        TIMER_HANDLE.instantiate(event_loop.py(), timer)?,
    )
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
                .inner()
                .source_traceback
                .replace(object, Some(traceback.into())),
        );
    }
    Ok(())
}
