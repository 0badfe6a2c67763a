//! What a read or a connection waits for: a future of asyncio's, or what passes for one as long as only a task looks.
//!
//! A task asks three things of a future: whether it was yielded to be waited for, of which loop it is, and to be called
//! back. A `Waiter` answers these, and queues the task's callback when it is woken. Whoever asks for more, the task
//! that is cancelled included, is answered by a real future, which is made then and takes the callback over.

use std::ffi::CStr;

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyString, PyTuple};

use super::{CLASSES, classes};
use crate::event_loop::{create_future, has_own_methods, is_plain, queue_callback};
use crate::ffi::{
    Access, Arguments, AttachedCell, Callable, Called, Native, NativeClass, Once, Owned, Reach,
    StandIn, TypeSlot, Visitor, awaited_stand_in_slots, call_method, call_with_names,
    callable_slots, is_wakeup_of_task, tuple_from,
};
use crate::future;

/// The names with which asyncio's tasks hand a context over.
static CONTEXT: Once<Py<PyTuple>> = Once::new();

/// What is known of who waits.
#[derive(Debug, Default)]
struct State {
    /// The task's callback and the context to run it in.
    callback: Option<(Owned, Owned)>,
    /// It was yielded, and whoever drives the coroutine has not seen it yet.
    is_blocking: bool,
    is_woken: bool,
    /// The real future, once somebody has asked for it.
    real: Option<Owned>,
}

#[derive(Debug)]
#[repr(C)]
pub(super) struct Waiter {
    /// It is its own `get_loop` and `add_done_callback`, so that neither need be bound.
    called: Called,
    event_loop: Owned,
    state: AttachedCell<State>,
}

static CLASS: NativeClass = NativeClass::new();

impl Native for Waiter {
    const NAME: &'static CStr = c"cloverleaf._cloverleaf.Waiter";
    const SUBCLASSABLE: bool = false;
    const KEPT: usize = 256;
    const FINALIZE: Option<fn(&Bound<'_, PyAny>)> = None;
    const CALLED_AT: Option<usize> = Some(std::mem::offset_of!(Self, called));
    const SLOTS: fn() -> Vec<TypeSlot> = || {
        let mut slots = awaited_stand_in_slots::<Self>();
        slots.extend(callable_slots());
        slots
    };

    fn class() -> &'static NativeClass {
        &CLASS
    }

    fn traverse(&self, visitor: &mut Visitor) {
        visitor.object(&self.event_loop);
        let Some(state) = self.state.seen_by(visitor) else {
            // In use, so not garbage; what is not shown is kept.
            return;
        };
        if let Some((callback, context)) = &state.callback {
            visitor.object(callback);
            visitor.object(context);
        }
        if let Some(real) = &state.real {
            visitor.object(real);
        }
    }

    fn clear(&self, holder: &Bound<'_, PyAny>) {
        let old = {
            let mut state = self.state(holder.py());
            (state.callback.take(), state.real.take())
        };
        drop(old);
    }
}

impl Waiter {
    #[inline]
    fn of<'a>(object: &'a Bound<'_, PyAny>) -> PyResult<&'a Self> {
        CLASS
            .get(object)
            .ok_or_else(|| PyTypeError::new_err("a waiter was expected"))
    }

    /// No Python code may run, and no object be dropped, while this is held.
    #[inline]
    fn state<'a>(&'a self, py: Python<'a>) -> Access<'a, State> {
        self.state.get(py)
    }

    /// The real future, which takes over what waits here.
    fn real<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let known = self.state(py).real.as_ref().map(|real| real.clone_ref(py));
        if let Some(real) = known {
            return Ok(real.into_bound(py));
        }
        let new = create_future(&self.event_loop.bind(py))?;
        let (real, callback, is_woken) = {
            let mut state = self.state(py);
            let is_first = state.real.is_none();
            let real = state.real.get_or_insert(new).clone_ref(py);
            let callback = if is_first {
                state.callback.take()
            } else {
                None
            };
            (real, callback, is_first && state.is_woken)
        };
        let real = real.into_bound(py);
        if is_woken {
            future::set_result(&real, py.None().bind(py))?;
        }
        if let Some((callback, context)) = callback {
            add_callback(&real, &callback.bind(py), &context.bind(py))?;
        }
        Ok(real)
    }
}

/// Has a real future call back.
fn add_callback(
    real: &Bound<'_, PyAny>,
    callback: &Bound<'_, PyAny>,
    context: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let py = real.py();
    let names = tuple_from(py, [intern!(py, "context").as_any().clone()])?;
    let method = real.getattr(intern!(py, "add_done_callback"))?;
    call_with_names(&method, [callback, context], &names).map(drop)
}

impl StandIn for Waiter {
    #[inline]
    fn attribute(slf: &Bound<'_, PyAny>, name: &Bound<'_, PyString>) -> PyResult<Owned> {
        let py = slf.py();
        let this = Self::of(slf)?;
        if name.is(intern!(py, "_asyncio_future_blocking")) {
            let is_blocking = this.state(py).is_blocking;
            return Ok(PyBool::new(py, is_blocking).to_owned().into());
        }
        if name.is(intern!(py, "get_loop")) || name.is(intern!(py, "add_done_callback")) {
            return Ok(slf.clone().into());
        }
        Ok(Self::other(slf)?.getattr(name)?.into())
    }

    #[inline]
    fn change(
        slf: &Bound<'_, PyAny>,
        name: &Bound<'_, PyString>,
        value: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        match value {
            Some(value) if name.is(intern!(py, "_asyncio_future_blocking")) => {
                let is_blocking = value.is_truthy()?;
                Self::of(slf)?.state(py).is_blocking = is_blocking;
                Ok(())
            }
            Some(value) => Self::other(slf)?.setattr(name, value),
            None => Self::other(slf)?.delattr(name),
        }
    }

    fn other<'py>(slf: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        Self::of(slf)?.real(slf.py())
    }
}

impl Callable for Waiter {
    /// `get_loop` has no arguments, and `add_done_callback` has some.
    #[inline]
    fn call(slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>) -> PyResult<Owned> {
        if args.get(0).is_none() && args.are_positional() {
            return Ok(Self::of(slf)?.event_loop.clone_ref(slf.py()));
        }
        add_done_callback(slf, args)
    }
}

fn add_done_callback(slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>) -> PyResult<Owned> {
    let py = slf.py();
    let this = Waiter::of(slf)?;
    if let (Some(callback), None) = (args.get(0), args.get(1))
        && let Some(context) = args.only_named(intern!(py, "context"), &CONTEXT)
        && !context.is_none()
        && is_wakeup_of_task(&callback)
    {
        let mut state = this.state(py);
        if state.real.is_none() && state.callback.is_none() && !state.is_woken {
            state.callback = Some((callback.into(), context.into()));
            return Ok(py.None().into_bound(py).into());
        }
    }
    let real = this.real(py)?;
    args.hand_on(&real, intern!(py, "add_done_callback"))
        .map(Into::into)
}

/// What a coroutine of this loop is to wait for, yielded already.
///
/// # Errors
/// What making a future raises.
#[inline]
pub(crate) fn yielded(event_loop: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = event_loop.py();
    if may_stand_in(event_loop)? {
        let waiter = Waiter {
            called: Called::of::<Waiter>(),
            event_loop: event_loop.clone().into(),
            state: AttachedCell::new(State {
                is_blocking: true,
                ..State::default()
            }),
        };
        return Ok(CLASS.instantiate(py, waiter)?.into());
    }
    let future = call_method(event_loop, intern!(py, "create_future"), [])?;
    future.setattr(intern!(py, "_asyncio_future_blocking"), true)?;
    Ok(future.into())
}

/// Whether nobody has put methods of their own in place of the loop's, which would hear of a real future.
#[inline]
fn may_stand_in(event_loop: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = event_loop.py();
    Ok(is_plain(event_loop)
        && !has_own_methods(event_loop)
        && match CLASSES.get(py) {
            Some(classes) => classes.event_loop.is_intact(py)?,
            None => false,
        })
}

/// Wakes who waits, as `set_result(None)` does; nobody, if the wait was given up.
///
/// # Errors
/// `RuntimeError` if the loop is closed.
#[inline]
pub(crate) fn wake(object: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = object.py();
    let Some(waiter) = CLASS.get::<Waiter>(object) else {
        return future::set_result(object, py.None().bind(py));
    };
    let event_loop = waiter.event_loop.bind(py);
    if !may_stand_in(&event_loop)? {
        // The loop's `call_soon` was replaced while it waited, and is to hear of it.
        let real = waiter.real(py)?;
        waiter.state(py).is_woken = true;
        return future::set_result(&real, py.None().bind(py));
    }
    let (real, callback) = {
        let mut state = waiter.state(py);
        state.is_woken = true;
        let real = state.real.as_ref().map(|real| real.clone_ref(py));
        (real, state.callback.take())
    };
    if let Some(real) = real {
        return future::set_result(&real.into_bound(py), py.None().bind(py));
    }
    match callback {
        Some((callback, context)) => {
            let done = classes(py).done.bind(py).clone();
            queue_callback(&event_loop, callback, done.into(), context)
        }
        None => Ok(()),
    }
}

/// What the program sees of it: a future of asyncio's.
///
/// # Errors
/// What making one raises.
pub(crate) fn shown(object: &Bound<'_, PyAny>) -> PyResult<Owned> {
    match CLASS.get::<Waiter>(object) {
        Some(waiter) => Ok(waiter.real(object.py())?.into()),
        None => Ok(object.clone().into()),
    }
}

/// Whether the wait is over; if not, it is to be yielded again, which is noted.
///
/// # Errors
/// The exception that was given to who waits; `RuntimeError` if whoever drives the coroutine has not even looked.
#[inline]
pub(crate) fn is_over(object: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = object.py();
    let Some(waiter) = CLASS.get::<Waiter>(object) else {
        return is_future_over(object, object);
    };
    let real = {
        let mut state = waiter.state(py);
        match &state.real {
            Some(real) => real.clone_ref(py),
            None if state.is_woken => return Ok(true),
            None if state.is_blocking => return Err(not_woken()),
            None => {
                state.is_blocking = true;
                return Ok(false);
            }
        }
    };
    is_future_over(object, &real.into_bound(py))
}

/// The same of a real future, which was yielded as `object`.
fn is_future_over(object: &Bound<'_, PyAny>, future: &Bound<'_, PyAny>) -> PyResult<bool> {
    let py = future.py();
    match future.reach0(intern!(py, "result")) {
        Ok(_) => Ok(true),
        Err(error) if future::is_done(future)? => Err(error),
        Err(_) => {
            let name = intern!(py, "_asyncio_future_blocking");
            if object.getattr(name)?.is_truthy()? {
                return Err(not_woken());
            }
            object.setattr(name, true)?;
            Ok(false)
        }
    }
}

#[cold]
fn not_woken() -> PyErr {
    PyRuntimeError::new_err("await wasn't used with future")
}

/// Makes the type.
///
/// # Errors
/// What making a type raises.
pub(super) fn prepare(py: Python<'_>) -> PyResult<()> {
    CLASS.create::<Waiter>(&py.get_type::<PyAny>()).map(drop)
}
