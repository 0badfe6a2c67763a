//! A read as a coroutine: what `await`, tasks and debuggers ask of one.

use std::ffi::CStr;
use std::sync::TryLockError;

use pyo3::exceptions::{PyRuntimeError, PyStopIteration, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyType};

use super::feed::stop_waiting;
use super::reading::{CLASS, Phase, Reading};
use super::waiter;
use crate::coroutine::{Thrown, nothing, warn_unawaited};
use crate::ffi::{
    Arguments, Awaitable, Method, Native, NativeClass, Owned, Reach, Step, TypeSlot, Visitor,
    attach_methods, attach_property, awaitable_slots, raw_fastcall, raw_noargs, raw_onename,
};

impl Native for Reading {
    const NAME: &'static CStr = c"cloverleaf._cloverleaf.Reading";
    const SUBCLASSABLE: bool = false;
    const KEPT: usize = 256;
    const FINALIZE: Option<fn(&Bound<'_, PyAny>)> = None;
    const SLOTS: fn() -> Vec<TypeSlot> = awaitable_slots::<Self>;

    fn class() -> &'static NativeClass {
        &CLASS
    }

    fn traverse(&self, visitor: &mut Visitor) {
        visitor.object(&self.reader);
        let state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // In use, so not garbage; what is not shown is kept.
            Err(TryLockError::WouldBlock) => return,
        };
        match &state.phase {
            Phase::Waiting(wait) => {
                visitor.object(&wait.feed);
                visitor.object(&wait.waiter);
            }
            Phase::Handed(coroutine) => visitor.object(coroutine),
            Phase::Created | Phase::Running | Phase::Finished => {}
        }
    }

    fn clear(&self, _holder: &Bound<'_, PyAny>) {
        // One that nobody has awaited still has that to say.
        if matches!(self.state().phase, Phase::Created) {
            return;
        }
        drop(self.replace(Phase::Finished));
    }
}

impl Awaitable for Reading {
    fn name(slf: &Bound<'_, PyAny>) -> &'static str {
        Self::of(slf).map_or("StreamReader.read", Self::name)
    }

    fn begin(slf: &Bound<'_, PyAny>) -> PyResult<()> {
        let is_awaited = matches!(
            Self::of(slf)?.state().phase,
            Phase::Waiting(_) | Phase::Handed(_) | Phase::Running
        );
        if is_awaited {
            return Err(PyRuntimeError::new_err(
                "coroutine is being awaited already",
            ));
        }
        Ok(())
    }

    #[inline]
    fn resume(slf: &Bound<'_, PyAny>) -> PyResult<Step> {
        let this = Self::of(slf)?;
        let phase = this.run()?;
        let stepped = this.step(slf.py(), phase);
        if stepped.is_err() {
            // What has ended the read says more than why some of it could not be kept.
            cloverleaf::ignore(this.put_back(slf.py()));
        }
        this.settle(stepped)
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if matches!(self.state().phase, Phase::Created) {
            Python::attach(|py| warn_unawaited(py, self.name()));
        }
    }
}

/// `send`: the value is of no use to a read, as to any coroutine that waits for futures.
fn send(slf: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<Owned> {
    if !value.is_none() && matches!(Reading::of(slf)?.state().phase, Phase::Created) {
        return Err(PyTypeError::new_err(
            "can't send non-None value to a just-started coroutine",
        ));
    }
    match Reading::resume(slf)? {
        Step::Waits(future) => Ok(future),
        Step::Done(result) => Err(stopped_with(result, slf.py())),
    }
}

fn stopped_with(result: Owned, py: Python<'_>) -> PyErr {
    PyStopIteration::new_err((result.into_bound(py).unbind(),))
}

/// `throw`: ends the read with an exception, unless asyncio's own coroutine does it.
fn throw(slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>) -> PyResult<Owned> {
    let py = slf.py();
    let thrown = Thrown::of(py, &args)?;
    let this = Reading::of(slf)?;
    match this.run()? {
        Phase::Handed(coroutine) => {
            let coroutine = coroutine.into_bound(py);
            let thrown = thrown.throw_into(&coroutine);
            let phase = match &thrown {
                Ok(_) => Phase::Handed(coroutine.into()),
                Err(_) => Phase::Finished,
            };
            drop(this.replace(phase));
            thrown.map(Into::into)
        }
        phase => {
            let error = thrown.exception();
            let did_wait = matches!(phase, Phase::Waiting(_));
            this.end(py, phase)?;
            let error = error?;
            if did_wait && let Some(line) = this.line_of(py, &error)? {
                return Err(stopped_with(line, py));
            }
            Err(error)
        }
    }
}

/// `close`: ends a read that nobody waits for any more.
fn close(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    let this = Reading::of(slf)?;
    if !matches!(this.state().phase, Phase::Finished) {
        match this.run()? {
            Phase::Handed(coroutine) => {
                let closed = coroutine.into_bound(py).reach0(intern!(py, "close"));
                drop(this.replace(Phase::Finished));
                closed?;
            }
            phase => this.end(py, phase)?,
        }
    }
    Ok(py.None().into_bound(py).into())
}

impl Reading {
    /// Ends a read without a result: the reader may be waited for again.
    ///
    /// # Errors
    /// Those of [`stop_waiting`].
    fn end(&self, py: Python<'_>, phase: Phase) -> PyResult<()> {
        let stopped = match &phase {
            Phase::Waiting(wait) => stop_waiting(&self.reader.bind(py), &wait.feed.bind(py)),
            Phase::Created | Phase::Handed(_) | Phase::Running | Phase::Finished => Ok(()),
        };
        drop(phase);
        let kept = self.put_back(py);
        drop(self.replace(Phase::Finished));
        stopped.and(kept)
    }
}

/// `cr_await`: what it waits for.
fn awaited(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    let awaited = match &Reading::of(slf)?.state().phase {
        Phase::Waiting(wait) => Some((wait.waiter.clone_ref(py), true)),
        Phase::Handed(coroutine) => Some((coroutine.clone_ref(py), false)),
        Phase::Created | Phase::Running | Phase::Finished => None,
    };
    match awaited {
        Some((waiter, true)) => waiter::shown(&waiter.into_bound(py)),
        Some((coroutine, false)) => Ok(coroutine),
        None => Ok(py.None().into_bound(py).into()),
    }
}

/// `cr_running`.
fn is_running(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let is_running = matches!(Reading::of(slf)?.state().phase, Phase::Running);
    Ok(pyo3::types::PyBool::new(slf.py(), is_running)
        .to_owned()
        .into())
}

/// `cr_suspended`.
fn is_suspended(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let is_suspended = matches!(
        Reading::of(slf)?.state().phase,
        Phase::Waiting(_) | Phase::Handed(_)
    );
    Ok(pyo3::types::PyBool::new(slf.py(), is_suspended)
        .to_owned()
        .into())
}

/// `cr_state`, which `inspect.getcoroutinestate` asks for from Python 3.15 on.
fn state_name(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let name = match Reading::of(slf)?.state().phase {
        Phase::Created => "CORO_CREATED",
        Phase::Running => "CORO_RUNNING",
        Phase::Waiting(_) | Phase::Handed(_) => "CORO_SUSPENDED",
        Phase::Finished => "CORO_CLOSED",
    };
    Ok(PyString::intern(slf.py(), name).into())
}

const METHODS: [Method; 3] = [
    Method {
        name: c"send",
        doc: c"send($self, arg, /)\n--\n\nGo on; raises StopIteration with the result.",
        kind: raw_onename!(send, "send", "arg"),
    },
    Method {
        name: c"throw",
        doc: c"throw($self, typ, val=None, tb=None, /)\n--\n\nRaise an exception where it waits.",
        kind: raw_fastcall!(throw),
    },
    Method {
        name: c"close",
        doc: c"close($self, /)\n--\n\nEnd it without a result.",
        kind: raw_noargs!(close),
    },
];

/// Makes the type.
///
/// # Errors
/// What making a type raises.
pub(super) fn prepare(py: Python<'_>) -> PyResult<()> {
    let class: Bound<'_, PyType> = CLASS.create::<Reading>(&py.get_type::<PyAny>())?;
    attach_methods(&class, &METHODS)?;
    attach_property(&class, c"cr_await", awaited)?;
    attach_property(&class, c"cr_running", is_running)?;
    attach_property(&class, c"cr_suspended", is_suspended)?;
    attach_property(&class, c"cr_state", state_name)?;
    for name in [c"cr_frame", c"cr_code", c"cr_origin"] {
        attach_property(&class, name, nothing)?;
    }
    Ok(())
}
