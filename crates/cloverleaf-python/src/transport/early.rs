//! Receives of many connections in one call, before the first of their protocols is told.
//!
//! Where the user has asked for io_uring, and enough connections are ready, what has come for each is taken from the
//! kernel by one call, and each protocol is told when its turn comes. Between the two, the others may do anything. So only
//! a transport takes part whose descriptor nobody else knows: what has come for it can be seen through the transport alone,
//! and that behaves as if it lay in the kernel. A transport that is paused keeps it, and tells in the turn after the one
//! in which it resumes; whoever is the protocol then hears of it; and a connection that ends with it resets its peer, as
//! the kernel does where something was not read. An end of file is not taken: the kernel tells it again.

use std::collections::VecDeque;
use std::io;
use std::sync::MutexGuard;
use std::time::Duration;

use cloverleaf::{Interest, limits};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_linger;

use super::endpoint::Endpoint;
use super::held::is_final;
use super::kind::Kind;
use super::state::{Phase, Stream};
use super::stream::{StreamTransport, is_stream};
use crate::event_loop::Loop;
use crate::ffi::{Owned, borrow_fd, bytes_from, copy_into};
use crate::job::Job;
use crate::source::{Hold, Source};
use crate::state::LoopState;

/// What has been received, and no protocol has been told of.
#[derive(Debug)]
pub(super) enum Early {
    /// At least one byte, in a `bytes`.
    Data(Owned),
    /// The kernel's refusal, which it tells once.
    Failed(Errno),
}

/// Receives for the connections of which the first jobs tell that they can be read, if they are enough; so many of the
/// jobs, whose connections follow each other, have been seen to.
///
/// # Errors
/// `RuntimeError` from a thread that is not the loop's.
pub(crate) fn receive_together(
    py: Python<'_>,
    event_loop: &Loop,
    jobs: &VecDeque<Job>,
) -> PyResult<usize> {
    let seen_to = event_loop.state().with(|state| {
        if !state.may_batch() {
            return jobs.len();
        }
        let (seen_to, has_received) = receive_for(py, state, jobs);
        if has_received {
            state.held.begin_events();
        }
        seen_to
    })?;
    Ok(seen_to)
}

fn receive_for(py: Python<'_>, state: &mut LoopState, jobs: &VecDeque<Job>) -> (usize, bool) {
    let (driver, source, rooms) = state.for_receives();
    let followers = jobs.iter().take(limits::SOCKETS_PER_CALL).map_while(|job| {
        let Job::Io(token, Interest::READ) = job else {
            return None;
        };
        match source(*token) {
            Some(Source::Served(Hold::Strong(object), _)) => Some(object.bind(py)),
            Some(Source::Served(Hold::Weak(_), _) | Source::Watch(_)) | None => None,
        }
    });
    let mut ready = Vec::with_capacity(jobs.len().min(limits::SOCKETS_PER_CALL));
    ready.extend(followers.take_while(|object| is_stream(object)));
    if ready.len() < limits::READY_FOR_ONE_CALL {
        return (ready.len(), false);
    }
    // One that is here twice, or that another thread is at, is left to the plain way.
    let mut streams: Vec<_> = Vec::with_capacity(ready.len());
    streams.extend(ready.iter().filter_map(|slf| {
        let stream = StreamTransport::of(slf).ok()?.try_lock()?;
        stream.may_receive_early().then_some(stream)
    }));
    if streams.len() < limits::READY_FOR_ONE_CALL {
        return (ready.len(), false);
    }
    let sockets: Vec<_> = streams
        .iter()
        .map(|stream| borrow_fd(stream.endpoint.number()))
        .collect();
    let mut answers = Vec::with_capacity(sockets.len());
    driver.receive(&sockets, rooms, &mut answers);
    drop(sockets);
    keep(py, &mut streams, answers, rooms);
    (ready.len(), true)
}

fn keep(
    py: Python<'_>,
    streams: &mut [MutexGuard<'_, Stream>],
    answers: Vec<io::Result<usize>>,
    rooms: &[u8],
) {
    let rooms = rooms.chunks_exact(limits::ROOM_STRIDE_BYTES);
    for ((stream, answer), room) in streams.iter_mut().zip(answers).zip(rooms) {
        stream.early = match answer {
            Ok(0) => None,
            Ok(count) => Some(match bytes_from(py, &room[..count]) {
                Ok(data) => Early::Data(data.into_any().into()),
                // What was received cannot be given back, so the connection ends.
                Err(_) => Early::Failed(Errno::NOMEM),
            }),
            Err(error) => Errno::from_io_error(&error)
                .filter(|errno| is_final(*errno))
                .map(Early::Failed),
        };
    }
}

impl Stream {
    /// Whether something may be received before the protocol's turn has come.
    fn may_receive_early(&self) -> bool {
        self.kind == Kind::Socket
            && self.phase == Phase::Open
            && self.early.is_none()
            && self.registered.contains(Interest::READ)
            && self.large_reads == 0
            && !self.is_buffered
            // Nobody has asked for its socket.
            && matches!(self.endpoint, Endpoint::Native(_))
    }

    /// Copies what has been received to a protocol's buffer, as far as there is room, and keeps the rest. What is given
    /// back is to be dropped when nothing is locked.
    pub(super) fn fill_early(
        &mut self,
        py: Python<'_>,
        room: &mut [u8],
    ) -> Option<(Result<usize, Errno>, Option<Owned>)> {
        match self.early.take()? {
            Early::Failed(errno) => Some((Err(errno), None)),
            Early::Data(data) => {
                let bound = data.bind(py);
                let bytes = bound.cast::<PyBytes>().ok()?;
                let bytes = bytes.as_bytes();
                let count = copy_into(room, bytes);
                if count < bytes.len() {
                    self.early = Some(match bytes_from(py, &bytes[count..]) {
                        Ok(rest) => Early::Data(rest.into_any().into()),
                        Err(_) => Early::Failed(Errno::NOMEM),
                    });
                }
                Some((Ok(count), Some(data)))
            }
        }
    }
}

/// Forgets in a forked child what has been received for its parent.
pub(super) fn forget_if_forked(py: Python<'_>, this: &StreamTransport) -> PyResult<()> {
    if is_forked(py, this)? {
        let early = this.with(|stream| stream.early.take());
        drop(early);
    }
    Ok(())
}

fn is_forked(py: Python<'_>, this: &StreamTransport) -> PyResult<bool> {
    let event_loop = this.event_loop(py);
    let is_forked = Loop::of(&event_loop)?
        .state()
        .with(|state| state.is_forked())?;
    Ok(is_forked)
}

/// Lets the next turn tell of what has been received, as if the kernel had it and reported that.
///
/// # Errors
/// `RuntimeError` if the loop is closed.
pub(super) fn announce(slf: &Bound<'_, PyAny>, this: &StreamTransport) -> PyResult<()> {
    let token = this.with(|stream| stream.early.as_ref().and(stream.token));
    let Some(token) = token else {
        return Ok(());
    };
    let event_loop = this.event_loop(slf.py());
    let event_loop = Loop::of(&event_loop)?;
    let report = move |event_loop: &Loop| event_loop.state().with(|state| state.report(token));
    if report(event_loop).is_ok() {
        event_loop.call_resting_host();
        return Ok(());
    }
    // From a thread that is not the loop's.
    let transport = slf.clone().unbind();
    event_loop.push_call(transport, move |py, transport| {
        let slf = transport.into_bound(py);
        let event_loop = StreamTransport::of(&slf)?.event_loop(py);
        report(Loop::of(&event_loop)?)?;
        Ok(())
    })
}

/// Lets a connection that is about to be closed reset its peer if what the peer has sent was not read, which the kernel
/// does by itself only for what it has still got. A Unix socket cannot. Nor does one that somebody has asked for since: a
/// duplicate that lives on has the same options, and when it was closed would take from the peer what it had sent.
pub(super) fn close_unread(
    py: Python<'_>,
    this: &StreamTransport,
    endpoint: &Endpoint,
    early: Option<&Early>,
) {
    let (Endpoint::Native(fd), Some(Early::Data(_))) = (endpoint, early) else {
        return;
    };
    // A forked child's socket is its parent's, too.
    if is_forked(py, this).is_ok_and(|is_forked| !is_forked) {
        // The connection may be gone already.
        cloverleaf::ignore(set_socket_linger(fd, Some(Duration::ZERO)));
    }
}
