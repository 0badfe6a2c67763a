//! One read of a stream reader: what its coroutine would do, without a frame of Python.
//!
//! It takes what it finds in the reader's buffer, or waits as asyncio's coroutine would, by the reader's `_waiter`. What
//! is neither, such as the end of the stream, an error or too long a line, is left to asyncio's own coroutine, which
//! finds everything as it would have found it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::classes;
use super::fields::{Fields, ReaderFields};
use super::reader::asyncios;
use crate::ffi::{NativeClass, Owned, Reach, Step, call_method, drop_front, look_at, resume_other};
use crate::future;

/// How much is read.
#[derive(Debug)]
pub(super) enum What {
    /// Up to the end of a line.
    Line,
    /// Up to this separator, a `bytes`.
    Until(Owned),
    /// So many bytes, at least one.
    Exactly(usize),
    /// What there is, up to so many bytes, at least one.
    UpTo(usize),
}

/// How far a read has come.
#[derive(Debug)]
pub(super) enum Phase {
    /// Nobody has awaited it.
    Created,
    /// It waits for this future, the reader's `_waiter`.
    Waiting(Owned),
    /// asyncio's own coroutine does it.
    Handed(Owned),
    /// It is being resumed.
    Running,
    /// It has its result or its exception.
    Finished,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) phase: Phase,
    /// Bytes at the front of the buffer in which the separator does not begin.
    searched: usize,
}

/// A read.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) reader: Owned,
    pub(super) what: What,
    pub(super) state: Mutex<State>,
}

pub(super) static CLASS: NativeClass = NativeClass::new();

/// What a read finds when it looks.
enum Found<'py> {
    /// What it was looking for.
    Bytes(Bound<'py, PyBytes>),
    /// Not yet enough.
    TooLittle,
    /// What asyncio's own coroutine must deal with.
    Unusual,
}

/// A new read, which begins when it is awaited.
///
/// # Errors
/// `MemoryError`.
#[inline]
pub(super) fn start(reader: &Bound<'_, PyAny>, what: What) -> PyResult<Owned> {
    let reading = Reading {
        reader: reader.clone().into(),
        what,
        state: Mutex::new(State {
            phase: Phase::Created,
            searched: 0,
        }),
    };
    Ok(CLASS.instantiate(reader.py(), reading)?.into())
}

impl Reading {
    /// The read in an object.
    ///
    /// # Errors
    /// `TypeError` if there is none.
    #[inline]
    pub(super) fn of<'a>(object: &'a Bound<'_, PyAny>) -> PyResult<&'a Self> {
        CLASS
            .get(object)
            .ok_or_else(|| PyTypeError::new_err("a read was expected"))
    }

    /// The coroutine of asyncio's that it stands for.
    pub(super) const fn name(&self) -> &'static str {
        match self.what {
            What::Line => "StreamReader.readline",
            What::Until(_) => "StreamReader.readuntil",
            What::Exactly(_) => "StreamReader.readexactly",
            What::UpTo(_) => "StreamReader.read",
        }
    }

    /// How far it has come. No Python code may run, and no object be dropped, while this is held.
    #[inline]
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[must_use = "what it holds must be dropped when the state is not borrowed"]
    #[inline]
    pub(super) fn replace(&self, phase: Phase) -> Phase {
        std::mem::replace(&mut self.state().phase, phase)
    }

    /// Takes the phase out for as long as the read runs.
    ///
    /// # Errors
    /// Those of a coroutine that runs, or is over.
    #[inline]
    pub(super) fn run(&self) -> PyResult<Phase> {
        let mut state = self.state();
        match state.phase {
            Phase::Running => Err(PyValueError::new_err("coroutine already executing")),
            Phase::Finished => Err(PyRuntimeError::new_err(
                "cannot reuse already awaited coroutine",
            )),
            Phase::Created | Phase::Waiting(_) | Phase::Handed(_) => {
                Ok(std::mem::replace(&mut state.phase, Phase::Running))
            }
        }
    }

    /// Notes where a step of a running read has led to.
    ///
    /// # Errors
    /// That of the step, which ends the read.
    #[inline]
    pub(super) fn settle(&self, stepped: PyResult<(Step, Phase)>) -> PyResult<Step> {
        match stepped {
            Ok((step, phase)) => {
                drop(self.replace(phase));
                Ok(step)
            }
            Err(error) => {
                drop(self.replace(Phase::Finished));
                Err(error)
            }
        }
    }

    /// Goes on from a phase.
    ///
    /// # Errors
    /// What ends the read.
    #[inline]
    pub(super) fn step(&self, py: Python<'_>, phase: Phase) -> PyResult<(Step, Phase)> {
        let reader = self.reader.bind(py);
        match phase {
            Phase::Handed(coroutine) => go_on_with(coroutine.into_bound(py)),
            Phase::Waiting(future) => {
                Fields::of(&reader)?.clear(intern!(py, "_waiter"))?;
                heard(&future.into_bound(py))?;
                match ReaderFields::of(&reader)? {
                    Some(fields) => self.go_on(&reader, &fields),
                    None => self.hand_over(&reader),
                }
            }
            Phase::Created | Phase::Running | Phase::Finished => {
                if classes(py).reader.is_intact(py)?
                    && let Some(fields) = ReaderFields::of(&reader)?
                    && fields.exception.is_none()
                    && !fields
                        .has_own(&[intern!(py, "readuntil"), intern!(py, "_wait_for_data")])?
                {
                    self.go_on(&reader, &fields)
                } else {
                    self.hand_over(&reader)
                }
            }
        }
    }

    fn go_on<'py>(
        &self,
        reader: &Bound<'py, PyAny>,
        fields: &ReaderFields<'py>,
    ) -> PyResult<(Step, Phase)> {
        match self.find(fields)? {
            Found::Bytes(bytes) => {
                if fields.paused.is_truthy()? {
                    reader.reach0(intern!(reader.py(), "_maybe_resume_transport"))?;
                }
                Ok((Step::Done(bytes.into()), Phase::Finished))
            }
            Found::TooLittle => self.wait(reader, fields),
            Found::Unusual => self.hand_over(reader),
        }
    }

    fn find<'py>(&self, fields: &ReaderFields<'py>) -> PyResult<Found<'py>> {
        let py = fields.buffer.py();
        match &self.what {
            What::Line => self.find_separator(fields, b"\n"),
            What::Until(separator) => match separator.bind(py).cast::<PyBytes>() {
                Ok(separator) => self.find_separator(fields, separator.as_bytes()),
                Err(_) => Ok(Found::Unusual),
            },
            What::Exactly(count) => {
                let bytes = look_at(&fields.buffer, |bytes| {
                    bytes.get(..*count).map(|bytes| PyBytes::new(py, bytes))
                });
                found(fields, bytes)
            }
            What::UpTo(most) => {
                let bytes = look_at(&fields.buffer, |bytes| {
                    let count = bytes.len().min(*most);
                    (count > 0).then(|| PyBytes::new(py, &bytes[..count]))
                });
                found(fields, bytes)
            }
        }
    }

    fn find_separator<'py>(
        &self,
        fields: &ReaderFields<'py>,
        separator: &[u8],
    ) -> PyResult<Found<'py>> {
        let py = fields.buffer.py();
        let from = self.state().searched;
        let (searched, bytes) = look_at(&fields.buffer, |bytes| {
            match position(bytes.get(from..).unwrap_or_default(), separator) {
                Some(place) => {
                    let start = from + place;
                    let bytes = &bytes[..start + separator.len()];
                    (
                        start,
                        (start <= fields.limit).then(|| PyBytes::new(py, bytes)),
                    )
                }
                None => ((bytes.len() + 1).saturating_sub(separator.len()), None),
            }
        });
        if searched > fields.limit {
            return Ok(Found::Unusual);
        }
        if bytes.is_none() {
            self.state().searched = searched;
        }
        found(fields, bytes)
    }

    /// Waits for more, as asyncio's `_wait_for_data` does.
    fn wait<'py>(
        &self,
        reader: &Bound<'py, PyAny>,
        fields: &ReaderFields<'py>,
    ) -> PyResult<(Step, Phase)> {
        let py = reader.py();
        if !fields.waiter.is_none() {
            // asyncio's own coroutine says so.
            return self.hand_over(reader);
        }
        if !fields.exception.is_none() {
            // The connection broke after this read was woken and before it could look: nothing will come any more.
            return Err(PyErr::from_value(fields.exception.clone()));
        }
        if fields.paused.is_truthy()? {
            fields.own.set_bool(intern!(py, "_paused"), false)?;
            fields.transport.reach0(intern!(py, "resume_reading"))?;
        }
        let future = call_method(&fields.event_loop, intern!(py, "create_future"), [])?;
        fields.own.set(intern!(py, "_waiter"), &future)?;
        future.setattr(intern!(py, "_asyncio_future_blocking"), true)?;
        Ok((
            Step::Waits(future.clone().into()),
            Phase::Waiting(future.into()),
        ))
    }

    /// Begins anew as asyncio's own coroutine.
    #[cold]
    fn hand_over(&self, reader: &Bound<'_, PyAny>) -> PyResult<(Step, Phase)> {
        let py = reader.py();
        let coroutine = match &self.what {
            What::Line => asyncios(reader, intern!(py, "readline"))?.invoke0()?,
            What::Until(separator) => {
                asyncios(reader, intern!(py, "readuntil"))?.invoke((separator.bind(py),))?
            }
            What::Exactly(count) => {
                asyncios(reader, intern!(py, "readexactly"))?.invoke((*count,))?
            }
            What::UpTo(most) => asyncios(reader, intern!(py, "read"))?.invoke((*most,))?,
        };
        go_on_with(coroutine)
    }
}

/// Cuts what was found off the buffer; nothing was found at the end of the stream, or there may come more.
fn found<'py>(
    fields: &ReaderFields<'py>,
    bytes: Option<Bound<'py, PyBytes>>,
) -> PyResult<Found<'py>> {
    match bytes {
        Some(bytes) => {
            drop_front(&fields.buffer, bytes.as_bytes().len())?;
            Ok(Found::Bytes(bytes))
        }
        None if fields.eof.is_truthy()? => Ok(Found::Unusual),
        None => Ok(Found::TooLittle),
    }
}

fn position(bytes: &[u8], separator: &[u8]) -> Option<usize> {
    match separator {
        [byte] => memchr::memchr(*byte, bytes),
        _ => memchr::memmem::find(bytes, separator),
    }
}

/// What a future that was waited for tells; an exception, if that is what it was given.
fn heard(future: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = future.py();
    match call_method(future, intern!(py, "result"), []) {
        Ok(_) => Ok(()),
        Err(error) if future::is_done(future)? => Err(error),
        Err(_) => Err(PyRuntimeError::new_err("await wasn't used with future")),
    }
}

fn go_on_with(coroutine: Bound<'_, PyAny>) -> PyResult<(Step, Phase)> {
    let step = resume_other(&coroutine)?;
    let phase = match &step {
        Step::Waits(_) => Phase::Handed(coroutine.into()),
        Step::Done(_) => Phase::Finished,
    };
    Ok((step, phase))
}
