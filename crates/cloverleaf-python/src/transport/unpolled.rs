//! Reading what the driver cannot report on: a regular file, and devices such as `/dev/null`.
//!
//! A thread of the loop's blocking pool reads one chunk, the loop hands it over, and only then the next one is asked
//! for, so the loop never waits for a disk and other sources get their turns. Threads use a descriptor of their own:
//! closing the transport while one of them reads frees no number under its hands.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use cloverleaf::{Interest, Token, limits};
use pyo3::prelude::*;
use rustix::io::Errno;

use super::kind::Kind;
use super::stream::StreamTransport;
use super::{close, read};
use crate::error::errno_error;
use crate::event_loop::Loop;
use crate::ffi::{Reach, bytes_from, copy_into, with_context};
use crate::job::Job;

type Chunk = Result<Vec<u8>, Errno>;

/// How far the reading has come.
#[derive(Debug)]
pub(super) struct Unpolled {
    fd: Arc<OwnedFd>,
    step: Step,
}

/// One chunk is read at a time.
#[derive(Debug)]
enum Step {
    /// Nothing is asked for.
    Idle,
    /// A thread is reading, or has put the chunk here; it stays here while reading is paused.
    Asked(Arc<Mutex<Option<Chunk>>>),
}

/// What there is to do now.
enum Next {
    Ask(Token, Arc<OwnedFd>, Arc<Mutex<Option<Chunk>>>),
    HandOver(Chunk),
}

impl Unpolled {
    fn next(&mut self, token: Token) -> Option<Next> {
        if let Step::Asked(place) = &self.step {
            let chunk = place
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take()?;
            self.step = Step::Idle;
            return Some(Next::HandOver(chunk));
        }
        let place = Arc::new(Mutex::new(None));
        self.step = Step::Asked(Arc::clone(&place));
        Some(Next::Ask(token, Arc::clone(&self.fd), place))
    }
}

/// Reads in this way from now on.
///
/// # Errors
/// `OSError` if there is no descriptor left.
#[cold]
pub(super) fn begin(slf: &Bound<'_, PyAny>) -> PyResult<()> {
    let this = StreamTransport::of(slf)?;
    let own = this.with(|stream| {
        let fd = stream.endpoint.fd()?;
        Some(rustix::io::fcntl_dupfd_cloexec(fd, 0))
    });
    match own {
        None => return Ok(()),
        Some(Err(errno)) => return Err(errno_error(slf.py(), errno)),
        Some(Ok(fd)) => {
            let unpolled = Unpolled {
                fd: Arc::new(fd),
                step: Step::Idle,
            };
            this.with(|stream| stream.rare().unpolled = Some(unpolled));
        }
    }
    advance(slf)
}

/// Goes on in the next turn, after the protocol has paused or resumed the reading.
///
/// # Errors
/// `RuntimeError` if the loop is closed.
pub(super) fn go_on(slf: &Bound<'_, PyAny>) -> PyResult<()> {
    let this = StreamTransport::of(slf)?;
    let Some(token) = this.with(|stream| stream.token) else {
        return Ok(());
    };
    let event_loop = this.event_loop(slf.py());
    Loop::of(&event_loop)?.push(Job::Io(token, Interest::READ))
}

/// Hands over what has come, or asks for more, if the protocol wants it.
///
/// # Errors
/// What the protocol raises; `RuntimeError` if the loop is closed or there is no thread to be had.
pub(super) fn advance(slf: &Bound<'_, PyAny>) -> PyResult<()> {
    let this = StreamTransport::of(slf)?;
    let next = this.with(|stream| {
        if !stream.wanted().contains(Interest::READ) {
            return None;
        }
        let token = stream.token?;
        stream.unpolled()?.next(token)
    });
    match next {
        None => Ok(()),
        Some(Next::Ask(token, fd, place)) => {
            let event_loop = this.event_loop(slf.py());
            Loop::of(&event_loop)?.run_blocking(token, move || {
                let chunk = read_chunk(&fd);
                *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(chunk);
            })
        }
        Some(Next::HandOver(chunk)) => {
            // Before it is called, as the protocol may have the loop run within.
            let goes_on = go_on(slf);
            let handed = hand_over(slf, this, chunk);
            goes_on.and(handed)
        }
    }
}

fn read_chunk(fd: &OwnedFd) -> Chunk {
    let mut chunk = vec![0; limits::READ_BUFFER_BYTES];
    let count = rustix::io::retry_on_intr(|| rustix::io::read(fd.as_fd(), &mut chunk[..]))?;
    chunk.truncate(count);
    Ok(chunk)
}

fn hand_over(slf: &Bound<'_, PyAny>, this: &StreamTransport, chunk: Chunk) -> PyResult<()> {
    let py = slf.py();
    let (kind, is_buffered, context) = this.with(|stream| {
        let context = stream.read_context.as_ref();
        (
            stream.kind,
            stream.is_buffered,
            context.map(|context| context.clone_ref(py)),
        )
    });
    let Some(context) = context else {
        return Ok(());
    };
    with_context(py, context.bind(py), || match chunk {
        Err(errno) => close::fatal_error(slf, errno_error(py, errno), kind.read_failed()),
        Ok(chunk) if chunk.is_empty() => read::end_of_file(slf, this),
        Ok(chunk) if is_buffered => match fill_buffers(slf, this, &chunk) {
            Ok(()) => Ok(()),
            Err(error) => close::fatal_error(
                slf,
                error,
                "Fatal error: protocol.buffer_updated() call failed.",
            ),
        },
        Ok(chunk) => match bytes_from(py, &chunk) {
            Ok(data) => read::deliver(slf, this, &data, 0),
            Err(error) => close::break_off(slf, error, Kind::read_failed),
        },
    })
}

/// Hands a chunk to a protocol that lends buffers, as many as it takes.
fn fill_buffers(slf: &Bound<'_, PyAny>, this: &StreamTransport, chunk: &[u8]) -> PyResult<()> {
    let py = slf.py();
    this.with(|stream| stream.stats.traffic.received(chunk.len()));
    let mut rest = chunk;
    while !rest.is_empty()
        && let Some(protocol) = this.protocol(py)
    {
        let buffer = read::ask_for_buffer(&protocol)?;
        let count = read::fill(&buffer, |room| copy_into(room, rest))?;
        protocol.reach(intern!(py, "buffer_updated"), (count,))?;
        rest = &rest[count..];
    }
    Ok(())
}
