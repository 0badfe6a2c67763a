//! `pread` as a coroutine without a frame of Python, for as long as nothing has to be waited for.
//!
//! It reads when it is awaited, straight into the `bytes` that it gives; every so-many-th read lets others run first.
//! What needs a wait is left to a coroutine of Python's, `_pread_on`.

use std::ffi::CStr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyString};

use super::base::{AtOnce, FileBase};
use crate::coroutine::{Thrown, nothing, warn_unawaited};
use crate::ffi::{
    Arguments, Awaitable, Method, Native, NativeClass, Owned, Reach, Step, TypeSlot, Visitor,
    attach_methods, attach_property, awaitable_slots, call_method, raw_fastcall, raw_noargs,
    raw_onename, resume_other,
};

/// Nobody has awaited it.
const CREATED: u8 = 0;
/// It is being resumed.
const RUNNING: u8 = 1;
/// Others run first.
const PAUSED: u8 = 4;
/// A coroutine of Python's does it.
const HANDED: u8 = 2;
/// It has its result or its exception.
const FINISHED: u8 = 3;

const NAME: &str = "File.pread";

static CLASS: NativeClass = NativeClass::new();

/// One read at an offset.
#[derive(Debug)]
struct Pread {
    file: Owned,
    size: Owned,
    offset: Owned,
    phase: AtomicU8,
    /// What does it, if it was handed on.
    rest: Mutex<Option<Owned>>,
}

impl Pread {
    fn of<'a>(object: &'a Bound<'_, PyAny>) -> PyResult<&'a Self> {
        CLASS
            .get(object)
            .ok_or_else(|| PyTypeError::new_err("a read was expected"))
    }

    fn is(&self, phase: u8) -> bool {
        self.phase.load(Ordering::Acquire) == phase
    }

    fn set(&self, phase: u8) {
        self.phase.store(phase, Ordering::Release);
    }

    /// No Python code may run, and no object be dropped, while this is held.
    fn rest(&self) -> MutexGuard<'_, Option<Owned>> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the read over, with what does it if it was handed on: it is running from now on.
    ///
    /// # Errors
    /// Those of a coroutine that runs, or is over.
    #[inline]
    fn run(&self) -> PyResult<Option<Owned>> {
        match self.phase.swap(RUNNING, Ordering::AcqRel) {
            CREATED | PAUSED => Ok(None),
            HANDED => Ok(self.rest().take()),
            RUNNING => Err(PyValueError::new_err("coroutine already executing")),
            _ => {
                self.set(FINISHED);
                Err(PyRuntimeError::new_err(
                    "cannot reuse already awaited coroutine",
                ))
            }
        }
    }

    /// Notes what goes on with a read that runs.
    fn hand_on(&self, coroutine: Bound<'_, PyAny>) {
        *self.rest() = Some(coroutine.into());
        self.set(HANDED);
    }

    #[inline]
    fn at_once<'py>(&self, py: Python<'py>) -> PyResult<AtOnce<'py>> {
        let file = self.file.bind(py);
        let (size, offset) = (self.size.bind(py), self.offset.bind(py));
        file.cast::<FileBase>()?.get().pread(py, &size, &offset)
    }

    /// What goes on with the read in Python.
    #[cold]
    fn on<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let arguments = [&*self.size.bind(py), &*self.offset.bind(py)];
        call_method(&self.file.bind(py), intern!(py, "_pread_on"), arguments)
    }
}

impl Native for Pread {
    const NAME: &'static CStr = c"cloverleaf._cloverleaf.Pread";
    const SUBCLASSABLE: bool = false;
    const KEPT: usize = 64;
    const FINALIZE: Option<fn(&Bound<'_, PyAny>)> = None;
    const SLOTS: fn() -> Vec<TypeSlot> = awaitable_slots::<Self>;

    fn class() -> &'static NativeClass {
        &CLASS
    }

    fn traverse(&self, visitor: &mut Visitor) {
        visitor.object(&self.file);
        visitor.object(&self.size);
        visitor.object(&self.offset);
        // In use, it is no garbage; what is not shown is kept.
        if let Ok(rest) = self.rest.try_lock()
            && let Some(coroutine) = &*rest
        {
            visitor.object(coroutine);
        }
    }

    fn clear(&self, _holder: &Bound<'_, PyAny>) {
        // One that nobody has awaited still has that to say.
        let rest = self.rest().take();
        if rest.is_some() {
            self.set(FINISHED);
        }
        drop(rest);
    }
}

impl Awaitable for Pread {
    fn name(_slf: &Bound<'_, PyAny>) -> &'static str {
        NAME
    }

    fn begin(slf: &Bound<'_, PyAny>) -> PyResult<()> {
        let this = Self::of(slf)?;
        if [HANDED, RUNNING, PAUSED]
            .iter()
            .any(|phase| this.is(*phase))
        {
            return Err(PyRuntimeError::new_err(
                "coroutine is being awaited already",
            ));
        }
        Ok(())
    }

    #[inline]
    fn resume(slf: &Bound<'_, PyAny>) -> PyResult<Step> {
        let py = slf.py();
        let this = Self::of(slf)?;
        let coroutine = match this.run()? {
            Some(coroutine) => Ok(coroutine.into_bound(py)),
            None => match this.at_once(py) {
                Ok(AtOnce::Bytes(bytes)) => {
                    this.set(FINISHED);
                    return Ok(Step::Done(bytes.into()));
                }
                Ok(AtOnce::OthersFirst) => {
                    this.set(PAUSED);
                    return Ok(Step::Waits(py.None().into_bound(py).into()));
                }
                Ok(AtOnce::Waits) => this.on(py),
                Err(error) => Err(error),
            },
        };
        let stepped = coroutine.and_then(|coroutine| {
            let step = resume_other(&coroutine)?;
            if matches!(step, Step::Waits(_)) {
                this.hand_on(coroutine);
            } else {
                this.set(FINISHED);
            }
            Ok(step)
        });
        if stepped.is_err() {
            this.set(FINISHED);
        }
        stepped
    }
}

impl Drop for Pread {
    fn drop(&mut self) {
        if *self.phase.get_mut() == CREATED {
            Python::attach(|py| warn_unawaited(py, NAME));
        }
    }
}

/// `pread(size, offset)`: a coroutine of the bytes there.
pub(super) fn pread(slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>) -> PyResult<Owned> {
    let (size, offset) = match (args.are_positional(), args.get(0), args.get(1), args.get(2)) {
        (true, Some(size), Some(offset), None) => (size, offset),
        _ => match args.bind("File.pread", ["size", "offset"], 2)? {
            [Some(size), Some(offset)] => (size, offset),
            _ => unreachable!("invariant: required arguments are there"),
        },
    };
    let read = Pread {
        file: slf.clone().into(),
        size: size.to_owned().into(),
        offset: offset.to_owned().into(),
        phase: AtomicU8::new(CREATED),
        rest: Mutex::new(None),
    };
    Ok(CLASS.instantiate(slf.py(), read)?.into())
}

/// `send`: the value is of no use to a read, as to any coroutine that waits for futures.
fn send(slf: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<Owned> {
    if !value.is_none() && Pread::of(slf)?.is(CREATED) {
        return Err(PyTypeError::new_err(
            "can't send non-None value to a just-started coroutine",
        ));
    }
    match Pread::resume(slf)? {
        Step::Waits(future) => Ok(future),
        Step::Done(result) => Err(pyo3::exceptions::PyStopIteration::new_err((result
            .into_bound(slf.py())
            .unbind(),))),
    }
}

/// `throw`: ends the read with an exception, unless what it was handed on to goes on.
fn throw(slf: &Bound<'_, PyAny>, args: Arguments<'_, '_>) -> PyResult<Owned> {
    let py = slf.py();
    let thrown = Thrown::of(py, &args)?;
    let this = Pread::of(slf)?;
    let Some(coroutine) = this.run()? else {
        this.set(FINISHED);
        return Err(thrown.exception()?);
    };
    let coroutine = coroutine.into_bound(py);
    match thrown.throw_into(&coroutine) {
        Ok(future) => {
            this.hand_on(coroutine);
            Ok(future.into())
        }
        Err(error) => {
            this.set(FINISHED);
            Err(error)
        }
    }
}

/// `close`: ends a read that nobody waits for any more.
fn close(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    let this = Pread::of(slf)?;
    if !this.is(FINISHED) {
        let closed = this.run()?.map(|coroutine| {
            let coroutine = coroutine.into_bound(py);
            coroutine.reach0(intern!(py, "close"))
        });
        this.set(FINISHED);
        closed.transpose()?;
    }
    Ok(py.None().into_bound(py).into())
}

/// `cr_await`: what it waits for.
fn awaited(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    let awaited = Pread::of(slf)?
        .rest()
        .as_ref()
        .map(|rest| rest.clone_ref(py));
    Ok(awaited.unwrap_or_else(|| py.None().into_bound(py).into()))
}

/// `cr_running`.
fn is_running(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let is_running = Pread::of(slf)?.is(RUNNING);
    Ok(PyBool::new(slf.py(), is_running).to_owned().into())
}

/// `cr_suspended`.
fn is_suspended(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let this = Pread::of(slf)?;
    let is_suspended = this.is(HANDED) || this.is(PAUSED);
    Ok(PyBool::new(slf.py(), is_suspended).to_owned().into())
}

/// `cr_state`, which `inspect.getcoroutinestate` asks for from Python 3.15 on.
fn state_name(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let this = Pread::of(slf)?;
    let name = if this.is(RUNNING) {
        "CORO_RUNNING"
    } else if this.is(HANDED) || this.is(PAUSED) {
        "CORO_SUSPENDED"
    } else if this.is(FINISHED) {
        "CORO_CLOSED"
    } else {
        "CORO_CREATED"
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
    let class = CLASS.create::<Pread>(&py.get_type::<PyAny>())?;
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
