//! A read as a coroutine: how far it has come, and how it ends before its result is there.

use std::ffi::CStr;

use pyo3::prelude::*;

use super::feed::stop_waiting;
use super::reading::{CLASS, Phase, Reading, Wait, What};
use super::waiter;
use crate::coroutine::{Coroutine, Progress, Turn, dropped};
use crate::ffi::{Native, NativeClass, Owned, Step, TypeSlot, Visitor, awaitable_slots};

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
        let Some(state) = self.state.seen_by(visitor) else {
            // In use, so not garbage; what is not shown is kept.
            return;
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

    fn clear(&self, holder: &Bound<'_, PyAny>) {
        let py = holder.py();
        // One that nobody has awaited still has that to say.
        if matches!(self.state(py).phase, Phase::Created) {
            return;
        }
        drop(self.replace(py, Phase::Finished));
    }
}

impl Coroutine for Reading {
    /// What it waited for; nothing if it has not begun.
    type From = Option<Wait>;

    fn name(&self) -> &'static str {
        match self.what {
            What::Line => "StreamReader.readline",
            What::Until(_) => "StreamReader.readuntil",
            What::Exactly(_) => "StreamReader.readexactly",
            What::UpTo(_) | What::All => "StreamReader.read",
            What::Drain => "StreamWriter.drain",
        }
    }

    #[inline]
    fn progress(&self, py: Python<'_>) -> Progress {
        self.state(py).phase.progress()
    }

    fn awaited(&self, py: Python<'_>) -> PyResult<Option<Owned>> {
        let (awaited, is_handed) = match &self.state(py).phase {
            Phase::Waiting(wait) => (wait.waiter.clone_ref(py), false),
            Phase::Handed(coroutine) => (coroutine.clone_ref(py), true),
            Phase::Created | Phase::Running | Phase::Finished => return Ok(None),
        };
        if is_handed {
            return Ok(Some(awaited));
        }
        waiter::shown(&awaited.into_bound(py)).map(Some)
    }

    #[inline]
    fn run(&self, py: Python<'_>) -> PyResult<Turn<Option<Wait>>> {
        let mut state = self.state(py);
        match std::mem::replace(&mut state.phase, Phase::Running) {
            Phase::Created => Ok(Turn::Own(None)),
            Phase::Waiting(wait) => Ok(Turn::Own(Some(wait))),
            Phase::Handed(coroutine) => Ok(Turn::Handed(coroutine)),
            Phase::Running => Err(Progress::Running.refusal()),
            Phase::Finished => {
                state.phase = Phase::Finished;
                Err(Progress::Finished.refusal())
            }
        }
    }

    #[inline]
    fn step(&self, py: Python<'_>, from: Option<Wait>) -> PyResult<Step> {
        let stepped = self.go_on_from(py, from);
        if stepped.is_err() {
            // What has ended the read says more than why some of it could not be kept.
            cloverleaf::ignore(self.put_back(py));
        }
        stepped
    }

    fn note_handed(&self, py: Python<'_>, coroutine: Owned) {
        drop(self.replace(py, Phase::Handed(coroutine)));
    }

    #[inline]
    fn note_finished(&self, py: Python<'_>) {
        drop(self.replace(py, Phase::Finished));
    }

    /// The reader may be waited for again, and has what was gathered of it.
    fn give_up(&self, py: Python<'_>, from: Option<Wait>) -> PyResult<()> {
        let stopped = match from {
            Some(wait) => stop_waiting(&self.reader.bind(py), &wait.feed.bind(py)),
            None => Ok(()),
        };
        stopped.and(self.put_back(py))
    }

    fn end_by(&self, py: Python<'_>, from: Option<Wait>, error: PyErr) -> PyResult<Owned> {
        let did_wait = from.is_some();
        self.give_up(py, from)?;
        if did_wait && let Some(line) = self.line_of(py, &error)? {
            return Ok(line);
        }
        Err(error)
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        let phase = std::mem::replace(&mut self.state.get_mut().phase, Phase::Finished);
        dropped(self, phase.progress());
        // One that waits is closed by whoever drops it, as a coroutine of Python's is.
        if let Phase::Waiting(wait) = phase {
            Python::attach(|py| {
                let raised = PyErr::take(py);
                cloverleaf::ignore(self.give_up(py, Some(wait)));
                if let Some(raised) = raised {
                    raised.restore(py);
                }
            });
        }
    }
}
