//! Many lines of a stack of Python's, read in a row without a frame of Python's for each.

use pyo3::prelude::*;
use pyo3::types::{PyInt, PyList, PyString};

use crate::ffi::{find_letter, int_from, letters_in, letters_of, signed_from, spared};

/// Adds lines of what is iterated to a list, up to `most` of them; until `until_read` is empty, which the bottom of the
/// stack sees to; or until more than `rest` was read, if that is not negative. The next line is what `readline` returns, or
/// the next of `stack`.
///
/// Returns how much was read; None if no line was left. What was read before something is raised is in the list.
///
/// # Errors
/// What reading a line raises; `MemoryError`.
#[pyfunction]
#[expect(
    clippy::too_many_arguments,
    reason = "where it stops are three of them"
)]
pub(super) fn add_lines<'py>(
    py: Python<'py>,
    stack: &Bound<'py, PyAny>,
    readline: Option<&Bound<'py, PyAny>>,
    lines: &Bound<'py, PyList>,
    until_read: &Bound<'py, PyList>,
    most: usize,
    rest: i64,
) -> PyResult<Option<Bound<'py, PyInt>>> {
    spared(py, || {
        let mut seen = 0;
        let mut iterated = stack.try_iter()?;
        for _ in 0..most {
            let line = match readline {
                None => iterated.next().transpose()?,
                Some(readline) => Some(readline.call0()?),
            };
            let Some(line) = line else { return Ok(None) };
            let len = line.len()?;
            if len == 0 {
                return Ok(None);
            }
            lines.append(line)?;
            seen += len as u64;
            let is_enough = u64::try_from(rest).is_ok_and(|rest| seen > rest);
            if is_enough || until_read.is_empty() {
                break;
            }
        }
        int_from(py, seen).map(Some)
    })
}

/// Adds the lines of a text to a list from a place on, up to `most` of them, each with its line feed; returns where they
/// end. What is behind the last line feed is a line too.
///
/// # Errors
/// `MemoryError`.
#[pyfunction]
pub(super) fn split_lines<'py>(
    text: &Bound<'py, PyString>,
    start: isize,
    lines: &Bound<'py, PyList>,
    most: usize,
) -> PyResult<Bound<'py, PyInt>> {
    let py = text.py();
    spared(py, || {
        let end = letters_in(text)?;
        let mut start = start;
        for _ in 0..most {
            if start >= end {
                break;
            }
            let next = find_letter(text, '\n', start, end)?.map_or(end, |found| found + 1);
            lines.append(letters_of(text, start, next)?)?;
            start = next;
        }
        signed_from(py, start as i64)
    })
}
