//! The way in: from a ready socket to the protocol.
//!
//! Datagrams that come one at a time are received one at a time. Where the last event has brought several, the next
//! ones are received together, and lie in the inbox until the protocol has taken them: it may pause or close the
//! transport with any of them, and then gets no other before it resumes.

use std::io;
use std::os::fd::RawFd;

use cloverleaf::{Address, DatagramBatch, Interest, limits, recv_datagram};
use pyo3::exceptions::{PyBlockingIOError, PyInterruptedError, PyOSError};
use pyo3::prelude::*;

use super::outbox::{self, Held};
use super::tell::{callback_failed, deliver, hand_over, tell_error};
use super::{DatagramTransport, Datagrams, Family, close, queue};
use crate::error::{ends_the_run, os_error};
use crate::event_loop::Loop;
use crate::ffi::{
    Method, Owned, Reach, borrow_fd, bytes_from, caught, copy_context, raw_noargs, with_context,
};
use crate::report;
use crate::transport::info::{boolean, none};

/// Serves an event of a transport: what came first, then room to send.
///
/// # Errors
/// What no handler may have: `SystemExit` and `KeyboardInterrupt`.
pub(super) fn serve(slf: &Bound<'_, PyAny>, heard: Interest) -> PyResult<()> {
    let py = slf.py();
    if heard.contains(Interest::READ) {
        caught(py, || in_read_context(slf, read_ready))
            .unwrap_or_else(|error| close::break_off(slf, error, close::READ_FAILED))?;
    }
    if heard.contains(Interest::WRITE) {
        caught(py, || queue::write_ready(slf))
            .unwrap_or_else(|error| close::break_off(slf, error, close::WRITE_FAILED))?;
    }
    Ok(())
}

/// Runs `read` in the context of reading, if the protocol may have something.
fn in_read_context(
    slf: &Bound<'_, PyAny>,
    read: fn(&Bound<'_, PyAny>, &DatagramTransport) -> PyResult<()>,
) -> PyResult<()> {
    let py = slf.py();
    let this = DatagramTransport::of(slf)?;
    let context = this.with(py, |datagrams| {
        let context = datagrams.read_context.as_ref();
        let context = context.filter(|_| datagrams.may_deliver());
        context.map(|context| context.clone_ref(py))
    });
    match context {
        Some(context) => with_context(py, context.bind(py), || read(slf, this)),
        None => Ok(()),
    }
}

fn read_ready(slf: &Bound<'_, PyAny>, this: &DatagramTransport) -> PyResult<()> {
    let py = slf.py();
    let ready = this.with(py, |datagrams| {
        datagrams.outbox.open();
        Ready {
            family: datagrams.family,
            fd: datagrams.source(),
            last_count: datagrams.last_count,
            has_mail: !datagrams.inbox.is_empty(),
        }
    });
    let result = receive(slf, this, &ready);
    // What was sent before an exception goes, too.
    result.and(outbox::close(slf, this))
}

/// A transport that is about to receive.
struct Ready {
    family: Family,
    /// See [`Datagrams::source`].
    fd: Option<RawFd>,
    last_count: usize,
    has_mail: bool,
}

fn receive(slf: &Bound<'_, PyAny>, this: &DatagramTransport, ready: &Ready) -> PyResult<()> {
    let py = slf.py();
    let mut fd = ready.fd;
    if ready.has_mail {
        empty_inbox(slf, this)?;
        fd = this.with(py, |datagrams| datagrams.source());
    }
    match ready.family {
        Family::Foreign => read_foreign(slf, this),
        Family::Native { longest, .. } if ready.last_count > 1 => {
            let expected = ready.last_count.next_power_of_two() * 2;
            let count = read_batches(slf, this, longest, expected)?;
            this.with(py, |datagrams| datagrams.last_count = count);
            Ok(())
        }
        Family::Native { longest, .. } => match fd {
            Some(fd) => read_one(slf, this, (fd, longest)),
            None => Ok(()),
        },
    }
}

/// Receives one datagram, and asks now and then whether more are there.
fn read_one(
    slf: &Bound<'_, PyAny>,
    this: &DatagramTransport,
    (fd, longest): (RawFd, usize),
) -> PyResult<()> {
    let py = slf.py();
    let received = Loop::of(&this.event_loop(py))?.state().with(|state| {
        let buffer = state.read_buffer();
        let (len, from) = recv_datagram(borrow_fd(fd), buffer)?;
        let data = bytes_from(py, &buffer[..len]);
        state.scheduler.stats().traffic.received(len);
        Ok((data, from))
    })?;
    let (data, from) = match received {
        Ok((Ok(data), from)) => (data, from),
        Ok((Err(error), _)) => return close::break_off(slf, error, close::READ_FAILED),
        Err(error) => return refused(slf, this, &error),
    };
    let (shown, protocol, must_probe) = this.with(py, |datagrams| {
        let protocol = datagrams.protocol.as_ref();
        let protocol = protocol.map(|protocol| protocol.clone_ref(py));
        let shown = datagrams.shown(py, &from);
        (shown, protocol, datagrams.singles.count())
    });
    let shown = match shown {
        Some(shown) => shown.into_bound(py),
        None => match show_or_fail(slf, this, &from)? {
            Some(shown) => shown,
            None => return Ok(()),
        },
    };
    if let Some(protocol) = protocol {
        hand_over(slf, this, &protocol.into_bound(py), [&data, &shown])?;
    }
    if must_probe {
        let more = read_batches(slf, this, longest, limits::DATAGRAMS_PER_CALL / 8)?;
        this.with(py, |datagrams| {
            datagrams.last_count = 1 + more;
            datagrams.singles.probed(more > 0);
        });
    }
    Ok(())
}

/// Receives what waits, in as few calls as it takes, and returns how many datagrams that was.
fn read_batches(
    slf: &Bound<'_, PyAny>,
    this: &DatagramTransport,
    longest: usize,
    expected: usize,
) -> PyResult<usize> {
    let py = slf.py();
    let mut room = expected.min(DatagramBatch::room_for(longest));
    let mut total = 0;
    while total < limits::DATAGRAMS_PER_CALL {
        let fd = this.with(py, |datagrams| datagrams.source());
        let Some(fd) = fd else { break };
        room = room.min(limits::DATAGRAMS_PER_CALL - total);
        let count = match receive_batch(slf, this, (fd, longest, room))? {
            Ok(count) => count,
            Err(error) => {
                refused(slf, this, &error)?;
                break;
            }
        };
        total += count;
        empty_inbox(slf, this)?;
        if count < room {
            break;
        }
    }
    Ok(total)
}

fn receive_batch(
    slf: &Bound<'_, PyAny>,
    this: &DatagramTransport,
    (fd, longest, room): (i32, usize, usize),
) -> PyResult<io::Result<usize>> {
    let py = slf.py();
    let event_loop = this.event_loop(py);
    let received = Loop::of(&event_loop)?.state().with(|state| {
        let batch = state.datagram_batch();
        batch.receive(borrow_fd(fd), longest, room)?;
        let bytes = batch.datagrams().map(|(bytes, _)| bytes.len()).sum();
        let mut datagrams = batch.datagrams();
        let count = datagrams.len();
        // Nearly always all are from the peer that was seen last, and go to the inbox right away.
        let stranger = this.with(py, |to| {
            to.stats.traffic.received(bytes);
            datagrams.find_map(|(bytes, from)| {
                let data = bytes_from(py, bytes);
                match (data, to.shown(py, &from)) {
                    (Ok(data), Some(shown)) => {
                        to.inbox.push_back((data.into(), shown));
                        None
                    }
                    (data, _) => Some((data, from)),
                }
            })
        });
        let rest = datagrams.map(|(bytes, from)| (bytes_from(py, bytes), from));
        let others: Vec<_> = stranger.into_iter().chain(rest).collect();
        Ok((count, others))
    })?;
    let (count, others) = match received {
        Ok(received) => received,
        Err(error) => return Ok(Err(error)),
    };
    for (data, from) in others {
        let data = match data {
            Ok(data) => data,
            Err(error) => {
                close::break_off(slf, error, close::READ_FAILED)?;
                break;
            }
        };
        let Some(from) = show_or_fail(slf, this, &from)? else {
            break;
        };
        this.with(py, |datagrams| {
            datagrams.inbox.push_back((data.into(), from.into()));
        });
    }
    Ok(Ok(count))
}

/// The sender as the protocol sees it; if there is no showing it, the transport has failed.
fn show_or_fail<'py>(
    slf: &Bound<'py, PyAny>,
    this: &DatagramTransport,
    from: &Address,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    match this.show(slf.py(), from) {
        Ok(from) => Ok(Some(from)),
        Err(error) => {
            close::fatal_error(slf, error, close::READ_FAILED)?;
            Ok(None)
        }
    }
}

/// What is to be done next for what has been received.
enum Next {
    /// To send what is held, which has been for long enough.
    Send(Held),
    /// To hand a datagram to the protocol, unless that is gone: data and sender.
    Deliver(Option<Owned>, (Owned, Owned)),
    /// Nothing more.
    Rest,
}

impl Datagrams {
    #[inline]
    fn next(&mut self, py: Python<'_>) -> Next {
        if let Some(held) = self.outbox.take_overdue() {
            return Next::Send(held);
        }
        if !self.may_deliver() {
            return Next::Rest;
        }
        self.inbox.pop_front().map_or(Next::Rest, |datagram| {
            let protocol = self.protocol.as_ref();
            Next::Deliver(protocol.map(|protocol| protocol.clone_ref(py)), datagram)
        })
    }
}

/// Hands over what has been received, for as long as the protocol wants it.
fn empty_inbox(slf: &Bound<'_, PyAny>, this: &DatagramTransport) -> PyResult<()> {
    let py = slf.py();
    loop {
        let done = match this.with(py, |datagrams| datagrams.next(py)) {
            Next::Send(held) => outbox::send(slf, this, held),
            Next::Deliver(None, _) => Ok(()),
            Next::Deliver(Some(protocol), (data, from)) => {
                let datagram = [&*data.bind(py), &*from.bind(py)];
                hand_over(slf, this, &protocol.bind(py), datagram)
            }
            Next::Rest => return Ok(()),
        };
        if let Err(error) = done {
            // The run ends here. What is left is for the next one.
            go_on_later(slf, this)?;
            return Err(error);
        }
    }
}

/// Lets the loop hand over what is in the inbox, because the kernel knows nothing of it any more.
///
/// # Errors
/// `RuntimeError` if the loop is closed.
pub(super) fn go_on_later(slf: &Bound<'_, PyAny>, this: &DatagramTransport) -> PyResult<()> {
    let py = slf.py();
    if this.with(py, |datagrams| datagrams.inbox.is_empty()) {
        return Ok(());
    }
    let slf = slf.clone().unbind();
    Loop::of(&this.event_loop(py))?.push_call(slf, move |py, slf| {
        let slf = slf.into_bound(py);
        let event_loop = DatagramTransport::of(&slf)?.event_loop(py);
        let served = Owned::from(slf.clone());
        // A run within it has to end this, too.
        Loop::of(&event_loop)?
            .state()
            .with(|state| state.held.begin_unheld_event(&served))?;
        in_read_context(&slf, empty_inbox)
    })
}

/// Tells the protocol what the kernel has to say instead of a datagram.
fn refused(slf: &Bound<'_, PyAny>, this: &DatagramTransport, error: &io::Error) -> PyResult<()> {
    if matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    ) {
        return Ok(());
    }
    let error = os_error(slf.py(), error);
    match tell_error(slf, this, error) {
        Ok(()) => Ok(()),
        Err(error) => callback_failed(slf, this, "_read_ready", error),
    }
}

/// Whether a call of the socket module's has said "not now".
pub(super) fn is_not_now(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyBlockingIOError>(py) || error.is_instance_of::<PyInterruptedError>(py)
}

/// Receives one datagram by the Python socket's own method.
fn read_foreign(slf: &Bound<'_, PyAny>, this: &DatagramTransport) -> PyResult<()> {
    let py = slf.py();
    let Some(sock) = this.socket(py) else {
        return Ok(());
    };
    let received = sock
        .reach(intern!(py, "recvfrom"), (limits::LONGEST_DATAGRAM_BYTES,))
        .and_then(|received| received.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>());
    match received {
        Ok((data, from)) => {
            // A method of the program's own may return anything, which asyncio does not look at.
            if let Ok(count) = data.len() {
                this.with(py, |to| to.stats.traffic.received(count));
            }
            deliver(slf, this, &data, &from)
        }
        Err(error) if is_not_now(py, &error) => Ok(()),
        Err(error) if ends_the_run(py, &error) => Err(error),
        Err(error) if error.is_instance_of::<PyOSError>(py) => tell_error(slf, this, error)
            .or_else(|error| callback_failed(slf, this, "_read_ready", error)),
        Err(error) => close::fatal_error(slf, error, close::READ_FAILED),
    }
}

fn pause_reading(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    let this = DatagramTransport::of(slf)?;
    let changed = this.with(py, |datagrams| {
        let changed = !datagrams.is_closing() && !datagrams.is_paused;
        datagrams.is_paused |= changed;
        changed
    });
    if changed {
        this.update_interest(slf)?;
        let event_loop = this.event_loop(py);
        report::note(&event_loop, slf, "debug", "%r pauses reading")?;
    }
    Ok(none(py))
}

fn resume_reading(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    let this = DatagramTransport::of(slf)?;
    let mut context = Some(copy_context(py)?);
    let (changed, old) = this.with(py, |datagrams| {
        if datagrams.is_closing() || !datagrams.is_paused {
            return (false, None);
        }
        datagrams.is_paused = false;
        let old = std::mem::replace(&mut datagrams.read_context, context.take());
        (true, old)
    });
    drop((old, context));
    if changed {
        this.update_interest(slf)?;
        go_on_later(slf, this)?;
        report::note(&this.event_loop(py), slf, "debug", "%r resumes reading")?;
    }
    Ok(none(py))
}

fn is_reading(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    let py = slf.py();
    let is_reading = DatagramTransport::of(slf)?.with(py, |datagrams| {
        !datagrams.is_closing() && !datagrams.is_paused
    });
    Ok(boolean(py, is_reading))
}

/// What asyncio's loop calls by a handle, after which the handler's message is named.
fn py_read_ready(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    serve(slf, Interest::READ)?;
    Ok(none(slf.py()))
}

/// The same for sending.
fn py_sendto_ready(slf: &Bound<'_, PyAny>) -> PyResult<Owned> {
    queue::write_ready(slf)?;
    Ok(none(slf.py()))
}

pub(super) const METHODS: [Method; 5] = [
    Method {
        name: c"_read_ready",
        doc: c"_read_ready($self, /)\n--\n\nReceive what there is, for the protocol.",
        kind: raw_noargs!(py_read_ready),
    },
    Method {
        name: c"_sendto_ready",
        doc: c"_sendto_ready($self, /)\n--\n\nSend what waits.",
        kind: raw_noargs!(py_sendto_ready),
    },
    Method {
        name: c"pause_reading",
        doc: c"pause_reading($self, /)\n--\n\nHand nothing to the protocol until resume_reading() is called.",
        kind: raw_noargs!(pause_reading),
    },
    Method {
        name: c"resume_reading",
        doc: c"resume_reading($self, /)\n--\n\nHand what comes to the protocol again.",
        kind: raw_noargs!(resume_reading),
    },
    Method {
        name: c"is_reading",
        doc: c"is_reading($self, /)\n--\n\nWhether what comes is handed to the protocol.",
        kind: raw_noargs!(is_reading),
    },
];
