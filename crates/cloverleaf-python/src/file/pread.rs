//! `pread` as a coroutine without a frame of Python, for as long as nothing has to be waited for.
//!
//! It reads when it is awaited, straight into the `bytes` that it gives; every so-many-th read lets others run first.
//! What needs a wait is left to a coroutine of Python's, `_pread_on`.

use std::ffi::CStr;

use pyo3::prelude::*;

use super::base::{AtOnce, BINARY};
use crate::coroutine::{Coroutine, Progress, Turn, dropped, hand_on};
use crate::ffi::{
    Arguments, AttachedCell, Native, NativeClass, Owned, Step, TypeSlot, Visitor, awaitable_slots,
    call_method,
};

/// How far a read has come.
#[derive(Debug)]
enum Phase {
    /// Nobody has awaited it.
    Created,
    /// It is being resumed.
    Running,
    /// Others run first.
    Paused,
    /// This coroutine of Python's does it.
    Handed(Owned),
    /// It has its result or its exception.
    Finished,
}

impl Phase {
    #[inline]
    const fn progress(&self) -> Progress {
        match self {
            Self::Created => Progress::Created,
            Self::Running => Progress::Running,
            Self::Paused | Self::Handed(_) => Progress::Suspended,
            Self::Finished => Progress::Finished,
        }
    }
}

static CLASS: NativeClass = NativeClass::new();

/// One read at an offset.
#[derive(Debug)]
pub(super) struct Pread {
    file: Owned,
    size: Owned,
    offset: Owned,
    phase: AttachedCell<Phase>,
}

impl Pread {
    /// Notes how far it has come; how far it had come before.
    #[inline]
    fn replace(&self, py: Python<'_>, phase: Phase) -> Phase {
        std::mem::replace(&mut *self.phase.get(py), phase)
    }

    #[inline]
    fn at_once<'py>(&self, py: Python<'py>) -> PyResult<AtOnce<'py>> {
        let file = self.file.bind(py);
        let (size, offset) = (self.size.bind(py), self.offset.bind(py));
        BINARY.get(&file)?.pread(py, &size, &offset)
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
        if let Some(phase) = self.phase.seen_by(visitor)
            && let Phase::Handed(coroutine) = &*phase
        {
            visitor.object(coroutine);
        }
    }

    fn clear(&self, holder: &Bound<'_, PyAny>) {
        let py = holder.py();
        // One that nobody has awaited still has that to say.
        if matches!(*self.phase.get(py), Phase::Handed(_)) {
            drop(self.replace(py, Phase::Finished));
        }
    }
}

impl Coroutine for Pread {
    type From = ();

    fn name(&self) -> &'static str {
        "File.pread"
    }

    #[inline]
    fn progress(&self, py: Python<'_>) -> Progress {
        self.phase.get(py).progress()
    }

    fn awaited(&self, py: Python<'_>) -> PyResult<Option<Owned>> {
        Ok(match &*self.phase.get(py) {
            Phase::Handed(coroutine) => Some(coroutine.clone_ref(py)),
            Phase::Created | Phase::Running | Phase::Paused | Phase::Finished => None,
        })
    }

    #[inline]
    fn run(&self, py: Python<'_>) -> PyResult<Turn<()>> {
        let mut phase = self.phase.get(py);
        match std::mem::replace(&mut *phase, Phase::Running) {
            Phase::Created | Phase::Paused => Ok(Turn::Own(())),
            Phase::Handed(coroutine) => Ok(Turn::Handed(coroutine)),
            Phase::Running => Err(Progress::Running.refusal()),
            Phase::Finished => {
                *phase = Phase::Finished;
                Err(Progress::Finished.refusal())
            }
        }
    }

    #[inline]
    fn step(&self, py: Python<'_>, (): ()) -> PyResult<Step> {
        match self.at_once(py)? {
            AtOnce::Bytes(bytes) => Ok(Step::Done(bytes.into())),
            AtOnce::OthersFirst => {
                drop(self.replace(py, Phase::Paused));
                Ok(Step::Waits(py.None().into_bound(py).into()))
            }
            AtOnce::Waits => self.wait(py),
        }
    }

    fn note_handed(&self, py: Python<'_>, coroutine: Owned) {
        drop(self.replace(py, Phase::Handed(coroutine)));
    }

    #[inline]
    fn note_finished(&self, py: Python<'_>) {
        drop(self.replace(py, Phase::Finished));
    }

    /// Nothing waits for a read that has a turn of its own.
    fn give_up(&self, _py: Python<'_>, (): ()) -> PyResult<()> {
        Ok(())
    }
}

impl Drop for Pread {
    fn drop(&mut self) {
        let progress = self.phase.get_mut().progress();
        dropped(self, progress);
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
        phase: AttachedCell::new(Phase::Created),
    };
    Ok(CLASS.instantiate(slf.py(), read)?.into())
}
