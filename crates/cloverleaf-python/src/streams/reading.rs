//! One read of a stream reader, or one `drain()` of a writer: what its coroutine would do, without a frame of Python.
//!
//! It takes what it finds in the reader's buffer, or waits as asyncio's coroutine would, by the reader's `_waiter`. What
//! is neither, such as the end of the stream, an error or too long a line, is left to asyncio's own coroutine, which
//! finds everything as it would have found it.

use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::classes;
use super::feed::{Feed, Part, Taken, feed_of, stop_waiting};
use super::gathering::Gathered;
use super::reader::asyncios;
use super::waiter;
use super::writer;
use crate::coroutine::{Progress, hand_on};
use crate::ffi::{Access, AttachedCell, NativeClass, Owned, Reach, Step};

/// What is done.
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
    /// What comes until the end of the stream.
    All,
    /// Nothing: a writer waits until it may write again.
    Drain,
}

/// How far a read has come, and what it needs to go on.
#[derive(Debug)]
pub(super) enum Phase {
    /// Nobody has awaited it.
    Created,
    /// It waits for the reader's `_waiter`.
    Waiting(Wait),
    /// asyncio's own coroutine does it.
    Handed(Owned),
    /// It is being resumed.
    Running,
    /// It has its result or its exception.
    Finished,
}

impl Phase {
    #[inline]
    pub(super) const fn progress(&self) -> Progress {
        match self {
            Self::Created => Progress::Created,
            Self::Waiting(_) | Self::Handed(_) => Progress::Suspended,
            Self::Running => Progress::Running,
            Self::Finished => Progress::Finished,
        }
    }
}

/// What a read waits for.
#[derive(Debug)]
pub(super) struct Wait {
    /// What the reader knows.
    pub(super) feed: Owned,
    pub(super) waiter: Owned,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) phase: Phase,
    /// Bytes at the front of the buffer in which the separator does not begin.
    searched: usize,
    /// What a read until the end of the stream has taken.
    pub(super) gathered: Gathered,
}

/// A read.
#[derive(Debug)]
pub(super) struct Reading {
    /// The reader; the writer, if it is drained.
    pub(super) reader: Owned,
    pub(super) what: What,
    pub(super) state: AttachedCell<State>,
}

pub(super) static CLASS: NativeClass = NativeClass::new();

/// A new read, which begins when it is awaited.
///
/// # Errors
/// `MemoryError`.
#[inline]
pub(super) fn start(reader: &Bound<'_, PyAny>, what: What) -> PyResult<Owned> {
    let reading = Reading {
        reader: reader.clone().into(),
        what,
        state: AttachedCell::new(State {
            phase: Phase::Created,
            searched: 0,
            gathered: Gathered::Nothing,
        }),
    };
    Ok(CLASS.instantiate(reader.py(), reading)?.into())
}

impl Reading {
    /// How far it has come. No Python code may run, and no object be dropped, while this is held.
    #[inline]
    pub(super) fn state<'a>(&'a self, py: Python<'a>) -> Access<'a, State> {
        self.state.get(py)
    }

    #[must_use = "what it holds must be dropped when the state is not borrowed"]
    #[inline]
    pub(super) fn replace(&self, py: Python<'_>, phase: Phase) -> Phase {
        std::mem::replace(&mut self.state(py).phase, phase)
    }

    /// Goes on from a wait, or begins.
    ///
    /// # Errors
    /// What ends the read.
    #[inline]
    pub(super) fn go_on_from(&self, py: Python<'_>, wait: Option<Wait>) -> PyResult<Step> {
        let reader = self.reader.bind(py);
        let Some(wait) = wait else {
            return self.begin(&reader);
        };
        let over = waiter::is_over(&wait.waiter.bind(py));
        if let Ok(false) = over {
            let waiter = wait.waiter.clone_ref(py);
            drop(self.replace(py, Phase::Waiting(wait)));
            return Ok(Step::Waits(waiter));
        }
        let feed = wait.feed.into_bound(py);
        stop_waiting(&reader, &feed)?;
        match over {
            Ok(_) => self.go_on(&reader, &feed),
            Err(error) => self.fail(py, error),
        }
    }

    #[inline]
    fn begin(&self, reader: &Bound<'_, PyAny>) -> PyResult<Step> {
        let py = reader.py();
        if matches!(self.what, What::Drain) {
            if writer::is_drained(reader)? {
                return Ok(Step::Done(py.None().into_bound(py).into()));
            }
            return self.hand_over(reader);
        }
        if classes(py).reader.is_intact(py)?
            && let Some((feed, fields)) = feed_of(reader)?
            && Feed::of(&feed).is_some_and(|feed| feed.known(py).exception.is_none())
            && !fields.has_beside(&[intern!(py, "readuntil"), intern!(py, "_wait_for_data")])?
        {
            return self.go_on(reader, &feed);
        }
        self.hand_over(reader)
    }

    fn go_on<'py>(&self, reader: &Bound<'py, PyAny>, object: &Bound<'py, PyAny>) -> PyResult<Step> {
        let Some(feed) = Feed::of(object) else {
            return self.hand_over(reader);
        };
        if matches!(self.what, What::All) {
            return self.gather(reader, object, feed);
        }
        let py = reader.py();
        match self.find(py, feed)? {
            Taken::Bytes(bytes) => {
                if feed.known(py).paused {
                    reader.reach0(intern!(py, "_maybe_resume_transport"))?;
                }
                Ok(Step::Done(bytes.into()))
            }
            Taken::TooLittle => self.wait(reader, (object, feed)),
            Taken::End | Taken::Unusual => self.hand_over_unbroken(reader, feed),
        }
    }

    /// Hands over what has found its reader unbroken: an error that came after it was woken is for the next read, as
    /// asyncio's coroutine looks for one only when it begins.
    #[cold]
    fn hand_over_unbroken(&self, reader: &Bound<'_, PyAny>, feed: &Feed) -> PyResult<Step> {
        let py = reader.py();
        if feed_of(reader)?.is_none() {
            return self.hand_over_given_back(reader);
        }
        let exception = feed.known(py).exception.take();
        let handed = self.hand_over(reader);
        let replaced = {
            let mut known = feed.known(py);
            match known.exception {
                None => std::mem::replace(&mut known.exception, exception),
                Some(_) => exception,
            }
        };
        drop(replaced);
        handed
    }

    /// The same if the reader has got its attributes back meanwhile.
    #[cold]
    fn hand_over_given_back(&self, reader: &Bound<'_, PyAny>) -> PyResult<Step> {
        let py = reader.py();
        let name = intern!(py, "_exception");
        let exception = reader.getattr(name)?;
        reader.setattr(name, py.None())?;
        let handed = self.hand_over(reader);
        if reader.getattr(name)?.is_none() {
            reader.setattr(name, exception)?;
        }
        handed
    }

    #[inline]
    fn find<'py>(&self, py: Python<'py>, feed: &Feed) -> PyResult<Taken<'py>> {
        match &self.what {
            What::Line => self.find_separator(py, feed, b"\n"),
            What::Until(separator) => match separator.bind(py).cast::<PyBytes>() {
                Ok(separator) => self.find_separator(py, feed, separator.as_bytes()),
                Err(_) => Ok(Taken::Unusual),
            },
            What::Exactly(count) => feed.take(py, |bytes, _| {
                if bytes.len() < *count {
                    Part::More
                } else {
                    Part::First(*count)
                }
            }),
            What::All | What::Drain => Ok(Taken::Unusual),
            What::UpTo(most) => feed.take(py, |bytes, _| match bytes.len().min(*most) {
                0 => Part::More,
                count => Part::First(count),
            }),
        }
    }

    fn find_separator<'py>(
        &self,
        py: Python<'py>,
        feed: &Feed,
        separator: &[u8],
    ) -> PyResult<Taken<'py>> {
        feed.take(py, |bytes, limit| {
            let mut state = self.state(py);
            let from = state.searched;
            match position(bytes.get(from..).unwrap_or_default(), separator) {
                Some(place) if from + place > limit => Part::Unusual,
                Some(place) => Part::First(from + place + separator.len()),
                None => {
                    state.searched = (bytes.len() + 1).saturating_sub(separator.len());
                    if state.searched > limit {
                        Part::Unusual
                    } else {
                        Part::More
                    }
                }
            }
        })
    }

    /// Waits for more, as asyncio's `_wait_for_data` does.
    pub(super) fn wait<'py>(
        &self,
        reader: &Bound<'py, PyAny>,
        (object, feed): (&Bound<'py, PyAny>, &Feed),
    ) -> PyResult<Step> {
        let py = reader.py();
        let (event_loop, exception, transport) = {
            let mut known = feed.known(py);
            if known.waiter.is_some() {
                drop(known);
                // asyncio's own coroutine says so.
                return self.hand_over(reader);
            }
            let exception = known.exception.as_ref().map(|error| error.clone_ref(py));
            let transport = known.transport.as_ref().filter(|_| known.paused);
            let transport = transport.map(|transport| transport.clone_ref(py));
            if exception.is_none() && transport.is_some() {
                known.paused = false;
            }
            (known.event_loop.clone_ref(py), exception, transport)
        };
        if let Some(exception) = exception {
            // The connection broke after this read was woken and before it could look: nothing will come any more.
            return self.fail(py, PyErr::from_value(exception.into_bound(py)));
        }
        if let Some(transport) = transport {
            transport
                .into_bound(py)
                .reach0(intern!(py, "resume_reading"))?;
        }
        let waiter = waiter::yielded(&event_loop.into_bound(py))?;
        let old = feed.known(py).waiter.replace(waiter.clone_ref(py));
        drop(old);
        let wait = Wait {
            feed: object.clone().into(),
            waiter: waiter.clone_ref(py),
        };
        drop(self.replace(py, Phase::Waiting(wait)));
        Ok(Step::Waits(waiter))
    }

    /// Ends with an error that the wait has ended with.
    #[cold]
    fn fail(&self, py: Python<'_>, error: PyErr) -> PyResult<Step> {
        match self.line_of(py, &error)? {
            Some(line) => Ok(Step::Done(line)),
            None => Err(error),
        }
    }

    /// What `readline` makes of an error of the `readuntil` that it waits for: an incomplete read is the last line.
    ///
    /// # Errors
    /// What looking at the error raises.
    #[cold]
    pub(super) fn line_of(&self, py: Python<'_>, error: &PyErr) -> PyResult<Option<Owned>> {
        if !matches!(self.what, What::Line) {
            return Ok(None);
        }
        let class = py
            .import(intern!(py, "asyncio"))?
            .getattr(intern!(py, "IncompleteReadError"))?;
        let error = error.value(py);
        if !error.is_instance(&class)? {
            return Ok(None);
        }
        Ok(Some(error.getattr(intern!(py, "partial"))?.into()))
    }

    /// Begins anew as asyncio's own coroutine.
    #[cold]
    pub(super) fn hand_over(&self, reader: &Bound<'_, PyAny>) -> PyResult<Step> {
        let py = reader.py();
        self.put_back(py)?;
        let coroutine = match &self.what {
            What::Line => asyncios(reader, intern!(py, "readline"))?.invoke0()?,
            What::Until(separator) => {
                asyncios(reader, intern!(py, "readuntil"))?.invoke((separator.bind(py),))?
            }
            What::Exactly(count) => {
                asyncios(reader, intern!(py, "readexactly"))?.invoke((*count,))?
            }
            What::UpTo(most) => asyncios(reader, intern!(py, "read"))?.invoke((*most,))?,
            What::All => asyncios(reader, intern!(py, "read"))?.invoke((-1,))?,
            What::Drain => writer::drain_by_asyncio(reader)?,
        };
        hand_on(self, coroutine)
    }
}

fn position(bytes: &[u8], separator: &[u8]) -> Option<usize> {
    match separator {
        [byte] => memchr::memchr(*byte, bytes),
        _ => memchr::memmem::find(bytes, separator),
    }
}
