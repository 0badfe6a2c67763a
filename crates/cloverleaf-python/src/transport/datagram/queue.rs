//! What the kernel had no room for, until it has.
//!
//! What waits for unconnected sockets goes in batches. A connected socket may have an error to tell at any time, which
//! a batch would swallow if it came in its middle, so its datagrams go one by one.

use std::io;

use cloverleaf::{Address, limits, send_datagrams};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use rustix::io::Errno;

use super::address::Destination;
use super::send::Attempt;
use super::tell::{callback_failed, tell_error};
use super::{DatagramTransport, Datagrams, close, info};
use crate::ffi::{Owned, SINCE_3_13, copy_context, make_room, with_context};
use crate::transport::failure::SENDTO_READY;
use crate::transport::state::Phase;

/// What a waiting datagram counts for beside its bytes: its header, so that empty ones do not wait without end.
const HEADER_BYTES: usize = if SINCE_3_13 { 8 } else { 0 };

/// A datagram that the kernel had no room for.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) bytes: Vec<u8>,
    pub(super) to: Destination,
}

impl Waiting {
    /// The address, if it is one of Python's own.
    pub(super) const fn python_address(&self) -> Option<&Owned> {
        match &self.to {
            Destination::Python(address) => Some(address),
            Destination::Connected | Destination::Known(_) => None,
        }
    }

    fn weight(&self) -> usize {
        self.bytes.len() + HEADER_BYTES
    }
}

/// Queues a datagram, and pauses the protocol if that is too much.
///
/// # Errors
/// `MemoryError`, with nothing queued; what the driver says, and what no handler may have.
#[cold]
pub(super) fn wait_for_room(
    slf: &Bound<'_, PyAny>,
    this: &DatagramTransport,
    waiting: Waiting,
) -> PyResult<()> {
    let py = slf.py();
    let mut context = Some(copy_context(py)?);
    let mut waiting = Some(waiting);
    this.with(py, |datagrams| {
        make_room(&mut datagrams.queue)?;
        // An endpoint that is about to go drains its queue no more.
        if datagrams.phase < Phase::Lost
            && let Some(waiting) = waiting.take()
        {
            datagrams.queued += waiting.weight();
            datagrams.queue.push_back(waiting);
            if datagrams.write_context.is_none() {
                datagrams.write_context = context.take();
            }
        }
        PyResult::Ok(())
    })?;
    drop((context, waiting));
    this.update_interest(slf)?;
    info::pause_if_full(slf)
}

/// Sends what waits, now that there is room.
///
/// # Errors
/// What no handler may have: `SystemExit` and `KeyboardInterrupt`.
pub(super) fn write_ready(slf: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = slf.py();
    let this = DatagramTransport::of(slf)?;
    let context = this.with(py, |datagrams| {
        let context = datagrams.write_context.as_ref();
        context.map(|context| context.clone_ref(py))
    });
    match context {
        Some(context) => with_context(py, context.bind(py), || drain(slf, this)),
        None => drain(slf, this),
    }
}

fn drain(slf: &Bound<'_, PyAny>, this: &DatagramTransport) -> PyResult<()> {
    let py = slf.py();
    let mut budget = limits::DATAGRAMS_PER_CALL;
    let mut told = Ok(());
    while budget > 0 {
        let (count, attempt) = this.send_waiting(py, budget);
        budget = budget.saturating_sub(count);
        match attempt {
            Some(Attempt::Sent) => {}
            None | Some(Attempt::NotNow) => break,
            Some(Attempt::Refused(error)) => {
                told = tell_error(slf, this, error);
                break;
            }
            Some(Attempt::Failed(error)) => {
                return close::fatal_error(slf, error, close::WRITE_FAILED);
            }
        }
    }
    info::resume_if_drained(slf)?;
    let (old, is_over) = this.with(py, |datagrams| {
        if !datagrams.queue.is_empty() {
            return (None, false);
        }
        let is_over = datagrams.phase == Phase::Closing;
        if is_over {
            datagrams.phase = Phase::Lost;
        }
        (datagrams.write_context.take(), is_over)
    });
    drop(old);
    this.update_interest(slf)?;
    let lost = if is_over {
        close::connection_lost(slf, py.None().bind(py))
    } else {
        Ok(())
    };
    [told, lost]
        .into_iter()
        .try_for_each(|told| told.or_else(|error| callback_failed(slf, this, SENDTO_READY, error)))
}

/// What waits in front.
enum Front {
    /// For these many, this was the answer.
    Tried(Vec<Waiting>, io::Result<()>),
    /// It must be sent by the Python socket.
    Foreign(Waiting),
    Nothing,
}

impl DatagramTransport {
    /// Sends datagrams from the front of the queue, and says how many have left it and why it went no further.
    fn send_waiting(&self, py: Python<'_>, most: usize) -> (usize, Option<Attempt>) {
        match self.with(py, |datagrams| datagrams.send_front(most)) {
            Front::Nothing => (0, None),
            Front::Tried(gone, result) => (gone.len(), Some(Attempt::of_native(py, result))),
            Front::Foreign(waiting) => (1, Some(self.send_foreign(py, waiting))),
        }
    }

    fn send_foreign(&self, py: Python<'_>, waiting: Waiting) -> Attempt {
        let address = match &waiting.to {
            Destination::Python(address) => address.bind(py).to_owned(),
            Destination::Connected | Destination::Known(_) => py.None().into_bound(py),
        };
        let data = PyBytes::new(py, &waiting.bytes);
        let attempt = self.attempt_in_python(data.as_any(), &address);
        if matches!(attempt, Attempt::NotNow) {
            drop(self.with(py, |datagrams| datagrams.push_back_to_front(waiting)));
        }
        attempt
    }
}

impl Datagrams {
    fn send_front(&mut self, most: usize) -> Front {
        if self.phase >= Phase::Lost {
            return Front::Nothing;
        }
        let result = match self.queue.front().map(|front| &front.to) {
            None => return Front::Nothing,
            Some(Destination::Python(_)) => {
                return self.pop_front().map_or(Front::Nothing, Front::Foreign);
            }
            Some(Destination::Connected) => {
                let bytes = self.queue.front().map_or(&[][..], |front| &front.bytes);
                self.send_connected(bytes).map(|()| 1)
            }
            Some(Destination::Known(_)) => self.send_run(most),
        };
        let (count, result) = match result {
            Ok(count) => (count, Ok(())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => (0, Err(error)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (0, Err(error)),
            // Refused: it will never be sent.
            Err(error) => (1, Err(error)),
        };
        let gone = (0..count).map_while(|_| self.pop_front()).collect();
        Front::Tried(gone, result)
    }

    /// Sends the datagrams in front that have addresses we know, together.
    fn send_run(&self, most: usize) -> io::Result<usize> {
        let fd = self.endpoint.fd().ok_or(Errno::BADF)?;
        let run: Vec<(&[u8], &Address)> = self
            .queue
            .iter()
            .take(most)
            .map_while(|waiting| match &waiting.to {
                Destination::Known(to) => Some((&waiting.bytes[..], to)),
                Destination::Connected | Destination::Python(_) => None,
            })
            .collect();
        let sent = send_datagrams(fd, &run);
        self.count_sent(&sent, run.iter().map(|(bytes, _)| bytes.len()));
        sent
    }

    /// Gives a datagram its place back, unless nothing is sent any more; then it is the caller's to drop.
    fn push_back_to_front(&mut self, waiting: Waiting) -> Option<Waiting> {
        if self.phase >= Phase::Lost {
            return Some(waiting);
        }
        self.queued += waiting.weight();
        self.queue.push_front(waiting);
        None
    }

    fn pop_front(&mut self) -> Option<Waiting> {
        let waiting = self.queue.pop_front()?;
        self.queued -= waiting.weight();
        Some(waiting)
    }
}
