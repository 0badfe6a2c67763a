//! A whole file that is written by one thread in one go: opened, written and closed, without Python.
//!
//! Who gives it up is told whether it changes nothing any more; else it must be waited for, as what it still does would
//! come after whatever its caller does next. To open what is no regular file may take until somebody opens its other end
//! (a FIFO), so that is not waited for, and then nothing is written.

use std::ffi::CString;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use rustix::fs::{FileType, stat};
use rustix::io::{Errno, retry_on_intr};

use super::request::Request;
use super::work::{Answer, Work, open};
use crate::ffi::{Content, close_fd};

/// How far it has come, between the thread that does it and whoever gives it up.
#[derive(Debug, Default)]
pub(super) struct Course(AtomicU8);

impl Course {
    const WAITING: u8 = 0;
    const CHANGING: u8 = 1;
    const GIVEN_UP: u8 = 2;
    /// Given up when it had begun to change the file.
    const GIVEN_UP_AMID: u8 = 3;

    /// Ends it with the call that it is at; whether it changes nothing any more.
    pub(super) fn give_up(&self) -> bool {
        let before = self
            .0
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |now| {
                Some(match now {
                    Self::CHANGING | Self::GIVEN_UP_AMID => Self::GIVEN_UP_AMID,
                    _ => Self::GIVEN_UP,
                })
            });
        !matches!(before, Ok(Self::CHANGING | Self::GIVEN_UP_AMID))
    }

    fn is_given_up(&self) -> bool {
        self.0.load(Ordering::Acquire) >= Self::GIVEN_UP
    }

    /// Whether to begin to change the file: not if it was given up.
    fn begin(&self) -> bool {
        let (from, to) = (Self::WAITING, Self::CHANGING);
        self.0
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

/// A file's path, and all that is to be in it.
#[derive(Debug)]
pub(crate) struct Whole {
    path: CString,
    flags: i32,
    content: Arc<Content>,
    course: Arc<Course>,
}

impl Whole {
    /// The mode of a file that is made, before the mask, as that of `open()`.
    const MODE: u32 = 0o666;

    /// Where it is to be written.
    pub(super) const fn path(&self) -> &CString {
        &self.path
    }

    /// What is to be written.
    pub(super) const fn content(&self) -> &Arc<Content> {
        &self.content
    }

    /// Writes it; may wait.
    pub(super) fn write(self) -> Answer {
        let opens_soon = self.is_regular_or_missing();
        if self.course.is_given_up() || (opens_soon && !self.course.begin()) {
            return Answer::Nothing;
        }
        let fd = match open(&self.path, self.flags, Self::MODE) {
            Ok(fd) => fd,
            Err(error) => return Answer::Lost(error, false),
        };
        let written = if opens_soon || self.course.begin() {
            self.fill(&fd)
        } else {
            Ok(())
        };
        // It is closed whatever came before, and that is what is told then.
        let closed = close_fd(fd);
        match written.and(closed) {
            Ok(()) => Answer::Nothing,
            Err(error) => Answer::Lost(error, true),
        }
    }

    /// Whether opening waits for nobody but the disk, or the server.
    fn is_regular_or_missing(&self) -> bool {
        // Where nothing is to be seen, opening fails soon, or makes the file.
        stat(&self.path).map_or(true, |found| {
            FileType::from_raw_mode(found.st_mode) == FileType::RegularFile
        })
    }

    fn fill(&self, fd: &OwnedFd) -> io::Result<()> {
        let mut rest = self.content.as_bytes();
        while !rest.is_empty() && !self.course.is_given_up() {
            match retry_on_intr(|| rustix::io::write(fd, rest))? {
                0 => return Err(Errno::IO.into()),
                count => rest = &rest[count..],
            }
        }
        Ok(())
    }
}

/// A request to open a file with these flags, write this into it, a `bytes` or a `str`'s UTF-8, and close it.
///
/// It brings None, or the error, and whether the file was open then.
///
/// # Errors
/// `ValueError` for a path with a null byte; `TypeError` and `UnicodeEncodeError` for what is no content.
#[pyfunction]
pub(super) fn writing_whole(
    path: Vec<u8>,
    flags: i32,
    content: &Bound<'_, PyAny>,
) -> PyResult<Request> {
    let path = CString::new(path).map_err(|_| PyValueError::new_err("embedded null byte"))?;
    let content = match content.cast::<PyString>() {
        Ok(text) => Content::of_text(text)?,
        Err(_) => Content::of(content.cast::<PyBytes>()?),
    };
    let course = Arc::<Course>::default();
    let work = Work::Whole(Whole {
        path,
        flags,
        content: Arc::new(content),
        course: Arc::clone(&course),
    });
    Ok(Request::new(work).on_course(course))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_up_before_it_begins_never_begins() {
        let course = Course::default();
        assert!(course.give_up());
        assert!(course.is_given_up());
        assert!(!course.begin());
    }

    #[test]
    fn what_is_given_up_behind_its_beginning_is_to_be_waited_for() {
        let course = Course::default();
        assert!(course.begin());
        assert!(!course.is_given_up());
        assert!(!course.give_up());
        assert!(course.is_given_up());
        assert!(!course.give_up());
    }
}
