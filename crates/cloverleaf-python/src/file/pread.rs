//! `pread` as a coroutine without a frame of Python, for as long as nothing has to be waited for.
//!
//! It reads when it is awaited, straight into the `bytes` that it gives; every so-many-th read lets others run first.
//! What needs a wait is left to a coroutine of Python's, `_pread_on`.

use std::ffi::CStr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;

use super::base::{AtOnce, FileBase};
use crate::coroutine::{Coroutine, Progress, Turn, dropped, hand_on};
use crate::ffi::{
    Arguments, Native, NativeClass, Owned, Step, TypeSlot, Visitor, awaitable_slots, call_method,
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

static CLASS: NativeClass = NativeClass::new();

/// One read at an offset.
#[derive(Debug)]
pub(super) struct Pread {
    file: Owned,
    size: Owned,
    offset: Owned,
    phase: AtomicU8,
    /// What does it, if it was handed on.
    rest: Mutex<Option<Owned>>,
}

impl Pread {
    fn set(&self, phase: u8) {
        self.phase.store(phase, Ordering::Release);
    }

    /// How far it has come.
    #[inline]
    fn came(&self) -> Progress {
        match self.phase.load(Ordering::Acquire) {
            CREATED => Progress::Created,
            RUNNING => Progress::Running,
            FINISHED => Progress::Finished,
            _ => Progress::Suspended,
        }
    }

    /// No Python code may run, and no object be dropped, while this is held.
    fn rest(&self) -> MutexGuard<'_, Option<Owned>> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    fn at_once<'py>(&self, py: Python<'py>) -> PyResult<AtOnce<'py>> {
        let file = self.file.bind(py);
        let (size, offset) = (self.size.bind(py), self.offset.bind(py));
        file.cast::<FileBase>()?.get().pread(py, &size, &offset)
    }

    /// Goes on with the read in Python.
    #[cold]
    fn wait(&self, py: Python<'_>) -> PyResult<Step> {
        let arguments = [&*self.size.bind(py), &*self.offset.bind(py)];
        hand_on(
            self,
            call_method(&self.file.bind(py), intern!(py, "_pread_on"), arguments)?,
        )
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

impl Coroutine for Pread {
    type From = ();

    fn name(&self) -> &'static str {
        "File.pread"
    }

    #[inline]
    fn progress(&self, _py: Python<'_>) -> Progress {
        self.came()
    }

    fn awaited(&self, py: Python<'_>) -> PyResult<Option<Owned>> {
        Ok(self.rest().as_ref().map(|rest| rest.clone_ref(py)))
    }

    #[inline]
    fn run(&self, _py: Python<'_>) -> PyResult<Turn<()>> {
        match self.phase.swap(RUNNING, Ordering::AcqRel) {
            RUNNING => Err(Progress::Running.refusal()),
            FINISHED => {
                self.set(FINISHED);
                Err(Progress::Finished.refusal())
            }
            HANDED => Ok(self.rest().take().map_or(Turn::Own(()), Turn::Handed)),
            _ => Ok(Turn::Own(())),
        }
    }

    #[inline]
    fn step(&self, py: Python<'_>, (): ()) -> PyResult<Step> {
        match self.at_once(py)? {
            AtOnce::Bytes(bytes) => Ok(Step::Done(bytes.into())),
            AtOnce::OthersFirst => {
                self.set(PAUSED);
                Ok(Step::Waits(py.None().into_bound(py).into()))
            }
            AtOnce::Waits => self.wait(py),
        }
    }

    fn note_handed(&self, _py: Python<'_>, coroutine: Owned) {
        *self.rest() = Some(coroutine);
        self.set(HANDED);
    }

    #[inline]
    fn note_finished(&self, _py: Python<'_>) {
        self.set(FINISHED);
    }

    /// Nothing waits for a read that has a turn of its own.
    fn give_up(&self, _py: Python<'_>, (): ()) -> PyResult<()> {
        Ok(())
    }
}

impl Drop for Pread {
    fn drop(&mut self) {
        dropped(self, self.came());
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
