//! `Request`: something that may have to wait for a disk, to be performed once, by a loop or on the spot.

use std::ffi::CString;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cloverleaf::Note;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use super::whole::Course;
use super::work::{Answer, Work};
use crate::error::os_error;
use crate::ffi::{int_from, spared};

/// What a thread has brought for a loop that was closed meanwhile. Whoever may still bring it has a share in it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Left(Arc<Mutex<Option<Answer>>>);

impl Left {
    /// Does the work; its answer is left here if it reaches nobody.
    pub(crate) fn perform(self, work: Work) -> Ended {
        Ended {
            result: Some(work.perform()),
            left: self,
        }
    }

    fn slot(&self) -> MutexGuard<'_, Option<Answer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of work, on its way to the loop.
#[derive(Debug)]
pub(crate) struct Ended {
    result: Option<io::Result<Answer>>,
    left: Left,
}

impl Ended {
    /// What came of the work.
    pub(crate) fn into_result(mut self) -> io::Result<Answer> {
        self.result.take().unwrap_or(Ok(Answer::Nothing))
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        // A file that nobody gets is closed, and an error is nobody's.
        if let Some(Ok(answer)) = self.result.take()
            && !matches!(answer, Answer::File(..) | Answer::Failed(..))
        {
            *self.left.slot() = Some(answer);
        }
    }
}

/// What work looks at, to know whether it was given up.
#[derive(Debug)]
enum Heeded {
    /// Between its pieces.
    Stop(Arc<AtomicBool>),
    /// Before it changes anything, and between its pieces.
    Course(Arc<Course>),
}

/// Work that nobody has begun.
#[pyclass(frozen, immutable_type, module = "cloverleaf._cloverleaf")]
#[derive(Debug)]
pub(crate) struct Request {
    work: Mutex<Option<Work>>,
    /// What a ring, or a thread of an executor, has written.
    note: Note,
    left: Left,
    heeded: Option<Heeded>,
}

impl Request {
    pub(super) fn new(work: Work) -> Self {
        Self {
            work: Mutex::new(Some(work)),
            note: Note::default(),
            left: Left::default(),
            heeded: None,
        }
    }

    /// The same for work that looks, between its pieces, whether it was given up.
    pub(super) fn heeding(self, is_given_up: Arc<AtomicBool>) -> Self {
        Self {
            heeded: Some(Heeded::Stop(is_given_up)),
            ..self
        }
    }

    /// The same for work that has such a course.
    pub(super) fn on_course(self, course: Arc<Course>) -> Self {
        Self {
            heeded: Some(Heeded::Course(course)),
            ..self
        }
    }

    /// Where a ring that does the work notes how much went through.
    pub(crate) const fn note(&self) -> &Note {
        &self.note
    }

    /// Where a thread that does the work leaves what nobody is told of.
    pub(crate) fn left(&self) -> Left {
        self.left.clone()
    }

    fn slot(&self) -> MutexGuard<'_, Option<Work>> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The work, once.
    ///
    /// # Errors
    /// `RuntimeError` if somebody has taken it.
    pub(crate) fn take(&self) -> PyResult<Work> {
        let work = self.slot().take();
        work.ok_or_else(|| PyRuntimeError::new_err("the request was performed already"))
    }
}

#[pymethods]
impl Request {
    /// Whether a thread or a ring may do the work yet, or is at it, after its loop was closed. Who has not begun it by
    /// now never does.
    fn is_under_way(&self) -> bool {
        let unbegun = self.slot().take();
        drop(unbegun);
        let is_shared = self.note.is_shared() || Arc::strong_count(&self.left.0) > 1;
        // What was left before a share was let go is seen from here on.
        fence(Ordering::Acquire);
        is_shared
    }

    /// What came of the work, if the loop was closed before it heard of that, and it is known.
    fn take_left<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let answer = self.left.slot().take();
        spared(py, || match answer {
            None => {
                let count = self.note.get();
                count
                    .map(|count| Ok(int_from(py, count)?.into_any()))
                    .transpose()
            }
            Some(answer) => answer.into_object(py).map(Some),
        })
    }

    /// Has the work end with the piece that it is at, if it is done in pieces; whether it surely changes nothing any more.
    fn give_up(&self) -> bool {
        match &self.heeded {
            None => false,
            Some(Heeded::Stop(is_given_up)) => {
                is_given_up.store(true, Ordering::Relaxed);
                false
            }
            Some(Heeded::Course(course)) => course.give_up(),
        }
    }

    /// Does the work on this thread, while others may run Python.
    fn run<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        // Before the work is taken: who looks meanwhile sees one or the other.
        let note = self.note.clone();
        spared(py, || {
            let work = self.take()?.ready(py)?;
            let _held = work.held();
            match py.detach(|| work.perform()) {
                Ok(answer) => {
                    if let Answer::Count(count) = &answer {
                        note.set(*count);
                    }
                    answer.into_object(py)
                }
                Err(error) => Err(os_error(py, &error)),
            }
        })
    }
}

/// A request for a new file: `open(2)` with these flags, and the mode of a file that is made.
#[pyfunction]
pub(super) fn opening(path: Vec<u8>, flags: i32, mode: u32) -> PyResult<Request> {
    let path = CString::new(path).map_err(|_| PyValueError::new_err("embedded null byte"))?;
    Ok(Request::new(Work::Open { path, flags, mode }))
}
