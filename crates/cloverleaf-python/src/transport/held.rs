//! Writes that are held until the event that they answer has been served, so that several become one call.
//!
//! A protocol that is told of data may answer in pieces: a head and a body, or the answers to pipelined requests. The
//! first write is sent at once, as asyncio sends it; small ones after it are held. They go in one call when the protocol
//! returns, when it writes again and the first of them has been held for long enough, and before anything by which it
//! could tell: closing, ending the writing, the size and the limits of the buffer, its socket, a file. Tasks and other
//! callbacks send at once, as some of them wait, without awaiting, for what they have sent to take effect.
//!
//! A callback that takes long, or waits, without awaiting, for the effect of what was written, does not hold that up: the
//! crate's guard, a thread, sends it in the loop's place when it has been held for some milliseconds. It touches nothing but
//! the queue and the descriptor, under the transport's lock, and leaves what came of it to the loop.
//!
//! Where the user has asked for io_uring and enough sockets are ready, the first write is held, too, until others have
//! been told of their data, and all go in one call: before anything else runs, when there is enough for a call, and when
//! the first has been held for long enough.

use std::io;
use std::os::fd::RawFd;

use cloverleaf::{Found, Interest, Sent, limits};
use pyo3::prelude::*;
use rustix::io::Errno;

use super::corked::push_all;
use super::datagram;
use super::endpoint::Endpoint;
use super::send::Outcome;
use super::state::Stream;
use super::stream::StreamTransport;
use super::write;
use crate::event_loop::Loop;
use crate::ffi::{Owned, Reachable, borrow_fd, with_context};
use crate::held::{Deferred, Moment, Sender};

/// The moment of a write of so many bytes through this transport.
#[inline]
pub(super) fn moment(this: &StreamTransport, py: Python<'_>, len: usize) -> PyResult<Moment> {
    let event_loop = this.event_loop(py);
    let moment = Loop::of(&event_loop)?.state().with(|state| {
        let mut moment = state.held.moment(len);
        moment.is_any_corked = state.has_corked();
        moment
    });
    // Another thread's loop: nothing can be held from here.
    Ok(moment.unwrap_or(Moment::OUTSIDE))
}

/// Makes sure that what has just been held is offered when the event has been served.
///
/// # Errors
/// `MemoryError`.
pub(super) fn keep(slf: &Bound<'_, PyAny>, this: &StreamTransport) -> PyResult<()> {
    let event_loop = this.event_loop(slf.py());
    let mut sender = Reachable::new(slf, as_deferred);
    let kept = Loop::of(&event_loop)?
        .state()
        .with(|state| sender.take().map(|sender| state.held.add(sender)));
    match kept {
        // In the context in which it is told of data, which is known.
        Ok(Some(Ok(true))) => Ok(()),
        Ok(Some(Ok(false))) => write::keep_context(slf.py(), this),
        // Nobody would offer it in time.
        Ok(Some(Err(_)) | None) | Err(_) => flush(slf, this),
    }
}

fn as_deferred(transport: &StreamTransport) -> &(dyn Deferred + 'static) {
    transport
}

impl Deferred for StreamTransport {
    fn send_in_place(&self) -> Found {
        // Where the loop is at it, nothing keeps it from going on.
        self.try_lock()
            .map_or(Found::Held, |mut stream| stream.offer_in_place())
    }
}

/// Offers what this transport holds to the kernel, if it holds anything.
///
/// # Errors
/// What no handler may have: `SystemExit` and `KeyboardInterrupt`.
#[inline]
pub(super) fn flush(slf: &Bound<'_, PyAny>, this: &StreamTransport) -> PyResult<()> {
    match this.with(Stream::offer_held) {
        None => Ok(()),
        Some(outcome) => after_offer(slf, this, outcome),
    }
}

#[cold]
fn after_offer(slf: &Bound<'_, PyAny>, this: &StreamTransport, outcome: Outcome) -> PyResult<()> {
    let tells_too_much = matches!(outcome, Outcome::Done)
        && this.with(|stream| stream.registered != stream.wanted());
    if tells_too_much {
        this.update_interest(slf)?;
    }
    write::settle(slf, this, outcome)
}

/// Offers what every transport of the loop holds, in one call if there are enough of them.
///
/// A forked child offers nothing: its parent will.
///
/// # Errors
/// What no handler may have: `SystemExit` and `KeyboardInterrupt`. The others are offered nevertheless.
#[cold]
pub(crate) fn flush_all(event_loop: &Bound<'_, Loop>) -> PyResult<()> {
    let py = event_loop.py();
    let this = event_loop.get();
    let (mut senders, served) = this
        .state()
        .with(|state| (state.held.take(), state.held.served()))?;
    let (is_forked, may_batch) = this
        .state()
        .with(|state| (state.is_forked(), state.may_batch()))?;
    if is_forked {
        for sender in senders {
            StreamTransport::of(&sender.object().bind(py))?.with(Stream::forget_held);
        }
        return Ok(());
    }
    let rests = if may_batch && senders.len() >= limits::READY_FOR_ONE_CALL {
        send_together(py, this, &senders)
    } else {
        Vec::new()
    };
    // All is offered before anything else is done, which may run a program's code, and that wait for any of it.
    let mut offers = Vec::new();
    for (index, sender) in senders.iter().enumerate() {
        let rest = rests.get(index).copied().unwrap_or(Rest::Held);
        if !matches!(rest, Rest::Nothing) {
            let slf = sender.object().bind(py);
            let offer = StreamTransport::of(&slf)?.with(|stream| stream.offer_rest(py, rest));
            offers.extend(offer.map(|offer| (index, offer)));
        }
    }
    let mut result = Ok(());
    for (index, (outcome, context)) in offers {
        let slf = senders[index].object().bind(py).to_owned();
        // The one whose event is being served is in its context already.
        let context = context.filter(|_| senders[index].object().address() != served);
        result = result.and(after_offer_in(&slf, outcome, context));
    }
    for sender in senders.drain(..) {
        drop(sender.into_object());
    }
    this.state().with(|state| state.held.reuse(senders))?;
    result
}

/// Ends the event of a transport for all that is held for it but the bytes of a stream, which [`flush_all`] sends; the
/// protocol of a stream, which may hold something itself.
///
/// # Errors
/// What no handler may have: `SystemExit` and `KeyboardInterrupt`.
pub(crate) fn end_event<'py>(slf: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    if let Ok(this) = StreamTransport::of(slf) {
        return Ok(this.protocol(slf.py()));
    }
    datagram::end_event(slf).map(|()| None)
}

/// Whether [`flush_before`] has anything to do.
///
/// # Errors
/// `TypeError` for another loop.
#[inline]
pub(crate) fn holds_any(event_loop: &Bound<'_, PyAny>) -> PyResult<bool> {
    let state = Loop::of(event_loop)?.state();
    // In another thread nothing is held.
    Ok(state
        .with(|state| state.has_corked() || state.held.is_any())
        .unwrap_or(false))
}

/// Offers what every transport of the loop holds, before something else is sent that was written after it.
///
/// # Errors
/// What no handler may have: `SystemExit` and `KeyboardInterrupt`.
#[inline]
pub(crate) fn flush_before(event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
    // In another thread nothing is held.
    let is_any = Loop::of(event_loop)?.state().with(|state| {
        if state.has_corked() {
            push_all(event_loop.py(), state);
        }
        state.held.is_any()
    });
    match is_any {
        Ok(true) => flush_all(event_loop.cast()?),
        Ok(false) | Err(_) => Ok(()),
    }
}

/// What is left of what a transport held when it was to go with that of others.
#[derive(Clone, Copy)]
enum Rest {
    /// All or some of it may be held still.
    Held,
    /// The kernel refuses it.
    Failed(Errno),
    /// Nothing.
    Nothing,
}

/// Sends what these transports hold, as far as the kernel takes it in one call. What was not tried is held still.
fn send_together(py: Python<'_>, event_loop: &Loop, senders: &[Sender]) -> Vec<Rest> {
    let mut rests = vec![Rest::Held; senders.len()];
    let bound: Vec<_> = senders
        .iter()
        .map(|sender| sender.object().bind(py))
        .collect();
    // One that is here twice, or that another thread is at, is left to the plain way.
    let mut senders: Vec<_> = bound
        .iter()
        .zip(&mut rests)
        .filter_map(|(slf, rest)| {
            let stream = StreamTransport::of(slf).ok()?.try_lock()?;
            let number = stream.held_for()?;
            Some((stream, number, rest))
        })
        .collect();
    let outgoing: Vec<_> = senders
        .iter()
        .map(|(stream, number, _)| (borrow_fd(*number), stream.queue.first()))
        .collect();
    let mut answers = Vec::with_capacity(outgoing.len());
    // Were it refused, nothing would be sent.
    cloverleaf::ignore(
        event_loop
            .state()
            .with(|state| state.send(&outgoing, &mut answers)),
    );
    drop(outgoing);
    let mut contexts = Vec::new();
    for ((stream, _, rest), answer) in senders.iter_mut().zip(answers) {
        let context;
        (**rest, context) = stream.take_answer(answer);
        contexts.extend(context);
    }
    drop(senders);
    drop(contexts);
    rests
}

impl Stream {
    /// The number of the descriptor for which something is held that can be sent with what others hold.
    fn held_for(&self) -> Option<RawFd> {
        let number = self.endpoint.number();
        let may_go = self.is_held && !self.queue.is_empty() && self.refused.is_none();
        (may_go && number >= 0).then_some(number)
    }

    /// Forgets what is held.
    fn forget_held(&mut self) {
        if std::mem::replace(&mut self.is_held, false) {
            self.queue.clear();
            self.refused = None;
        }
    }

    /// Offers what is held in the loop's place, for which it stays held, sent or not.
    fn offer_in_place(&mut self) -> Found {
        let Endpoint::Native(fd) = &self.endpoint else {
            return Found::Nothing;
        };
        if !self.is_held || self.queue.is_empty() || self.refused.is_some() {
            return Found::Nothing;
        }
        match self.queue.send_to(fd) {
            Ok(Sent::Bytes(count)) => self.stats.traffic.sent_elsewhere(count),
            Ok(Sent::WouldBlock) => {}
            // Which the kernel tells once.
            Err(error) => self.refused = Some(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
        }
        Found::Overdue
    }

    /// Offers what is held still, unless that has failed already. What came of it, if that must be seen to, and the
    /// context of the write that was held first.
    fn offer_rest(&mut self, py: Python<'_>, rest: Rest) -> Option<(Outcome, Option<Owned>)> {
        let outcome = match rest {
            Rest::Failed(errno) => self.fail_held(errno),
            Rest::Held | Rest::Nothing => self.offer_held(),
        }?;
        let context = if matches!(outcome, Outcome::Done) {
            self.write_context.take()
        } else {
            let context = self.write_context.as_ref().or(self.read_context.as_ref());
            context.map(|context| context.clone_ref(py))
        };
        let is_all = matches!(outcome, Outcome::Done) && self.registered == self.wanted();
        (!is_all || context.is_some()).then_some((outcome, context))
    }

    /// Forgets what went. What is left is held still. The context is to be dropped when nothing is locked.
    fn take_answer(&mut self, answer: io::Result<usize>) -> (Rest, Option<Owned>) {
        match answer {
            Ok(count) => {
                self.stats.traffic.sent(count);
                self.queue.advance(count);
            }
            Err(error) => match Errno::from_io_error(&error) {
                Some(errno) if is_final(errno) => return (Rest::Failed(errno), None),
                _ => {}
            },
        }
        if !self.queue.is_empty() || self.registered.contains(Interest::WRITE) {
            return (Rest::Held, None);
        }
        self.is_held = false;
        (Rest::Nothing, self.write_context.take())
    }
}

/// Whether this is the socket's answer, which it gives only once. A ring has errors of its own, upon which the plain way
/// tries again.
pub(super) const fn is_final(errno: Errno) -> bool {
    !matches!(
        errno,
        Errno::AGAIN
            | Errno::INTR
            | Errno::BADF
            | Errno::CANCELED
            | Errno::INVAL
            | Errno::NOMEM
            | Errno::OPNOTSUPP
    )
}

/// Does what is to be done about an offer, in the context of the write that was held first.
fn after_offer_in(
    slf: &Bound<'_, PyAny>,
    outcome: Outcome,
    context: Option<Owned>,
) -> PyResult<()> {
    let py = slf.py();
    let this = StreamTransport::of(slf)?;
    match (outcome, context) {
        (outcome, None) => after_offer(slf, this, outcome),
        (Outcome::Done, Some(context)) => {
            drop(context);
            after_offer(slf, this, Outcome::Done)
        }
        (outcome, Some(context)) => {
            with_context(py, context.bind(py), || after_offer(slf, this, outcome))
        }
    }
}
