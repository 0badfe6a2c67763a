//! `Request`: something that may have to wait for a disk, to be performed once, by a loop or on the spot.

use std::ffi::CString;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use super::whole::Course;
use super::work::{Answer, Work};
use crate::error::os_error;

/// How much went through, if that is known: of work that has ended on a thread.
#[derive(Debug, Clone)]
pub(crate) struct Count(Arc<AtomicU64>);

impl Count {
    const UNKNOWN: u64 = u64::MAX;

    /// Does the work, and notes how much went through.
    ///
    /// # Errors
    /// Those of the work.
    pub(crate) fn perform(&self, work: Work) -> io::Result<Answer> {
        let answer = work.perform();
        if let Ok(Answer::Count(count)) = &answer {
            let count = u64::try_from(*count).unwrap_or(Self::UNKNOWN);
            self.0.store(count, Ordering::Release);
        }
        answer
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
#[pyclass(frozen, module = "cloverleaf._cloverleaf")]
#[derive(Debug)]
pub(crate) struct Request {
    work: Mutex<Option<Work>>,
    count: Count,
    heeded: Option<Heeded>,
}

impl Request {
    pub(super) fn new(work: Work) -> Self {
        Self {
            work: Mutex::new(Some(work)),
            count: Count(Arc::new(AtomicU64::new(Count::UNKNOWN))),
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

    /// Where a thread that does the work notes how much went through.
    pub(crate) fn count(&self) -> Count {
        self.count.clone()
    }

    /// The work, once.
    ///
    /// # Errors
    /// `RuntimeError` if somebody has taken it.
    pub(crate) fn take(&self) -> PyResult<Work> {
        let work = self
            .work
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        work.ok_or_else(|| PyRuntimeError::new_err("the request was performed already"))
    }
}

#[pymethods]
impl Request {
    /// Whether a thread may do the work yet, or is at it.
    fn is_on_thread(&self) -> bool {
        let is_shared = Arc::strong_count(&self.count.0) > 1;
        // What a thread has noted before it let its share go is seen from here on.
        fence(Ordering::Acquire);
        is_shared
    }

    /// How many bytes went through, if a thread has done the work; for those whose loop was closed meanwhile.
    fn count_known(&self) -> Option<u64> {
        let count = self.count.0.load(Ordering::Acquire);
        (count != Count::UNKNOWN).then_some(count)
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
        let work = self.take()?.ready(py)?;
        let _held = work.held();
        match py.detach(|| self.count.perform(work)) {
            Ok(answer) => answer.into_object(py),
            Err(error) => Err(os_error(py, &error)),
        }
    }
}

/// A request for a new file: `open(2)` with these flags, and the mode of a file that is made.
#[pyfunction]
pub(super) fn opening(path: Vec<u8>, flags: i32, mode: u32) -> PyResult<Request> {
    let path = CString::new(path).map_err(|_| PyValueError::new_err("embedded null byte"))?;
    Ok(Request::new(Work::Open { path, flags, mode }))
}
