//! Datagrams that are held until the event that they answer has been served, so that many go in one call.
//!
//! As with streams ([decision 0014](../../../../../docs/decisions/0014-a-ring-beside-epoll.md)), what a protocol sends
//! first in answer to an event goes at once, and small datagrams after it are held: until the protocol has been handed
//! what the event brought, until 50 µs have passed or as much is held as goes in one call, and never beyond anything by
//! which the protocol could tell, but for what it sends meanwhile through other sockets. Datagrams of one size to one peer go as one that the kernel cuts, others in one call
//! for all. A connected socket may have an error to tell at any time, which a call for several would swallow if it came
//! in its midst, so through it the others go one by one.
//!
//! Options like `IP_TTL` are for what is sent after they are set. So a transport whose socket the program knows holds
//! nothing.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use cloverleaf::{Address, Clock, Time, cuts_datagrams, limits, send_datagrams, send_segments};
use pyo3::prelude::*;
use rustix::io::Errno;

use super::address::Destination;
use super::queue::{Waiting, wait_for_room};
use super::tell::{callback_failed, tell_error};
use super::{DatagramTransport, Datagrams};
use crate::error::os_error;
use crate::event_loop::Loop;
use crate::transport::failure::SENDTO_READY;
use crate::transport::state::Phase;

/// Whom a held datagram is for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum To {
    Peer,
    Known(Address),
}

impl To {
    fn of(destination: &Destination) -> Option<Self> {
        match destination {
            Destination::Connected => Some(Self::Peer),
            Destination::Known(Address::Ip(ip)) => Some(Self::Known(Address::Ip(*ip))),
            Destination::Known(Address::Unix(_) | Address::Other) | Destination::Python(_) => None,
        }
    }

    const fn address(&self) -> Option<&Address> {
        match self {
            Self::Peer => None,
            Self::Known(address) => Some(address),
        }
    }

    fn into_destination(self) -> Destination {
        match self {
            Self::Peer => Destination::Connected,
            Self::Known(address) => Destination::Known(address),
        }
    }
}

/// What is held.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// The program knows the socket, and may change how each datagram is sent.
    is_forbidden: bool,
    /// An event is being served.
    is_open: bool,
    /// How many datagrams have been sent in answer to it.
    answers: usize,
    /// How many there were in answer to the last event that had any.
    answers_before: usize,
    /// When one was sent at once, or what was held was sent last; not known of the first where a single one is expected.
    since: Option<Time>,
    held: Held,
    /// The kernel has refused to cut.
    never_cuts: bool,
}

/// Datagrams, one behind the other.
#[derive(Debug, Default)]
pub(super) struct Held {
    bytes: Vec<u8>,
    datagrams: Vec<(usize, To)>,
}

/// What is to become of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It is sent at once, and nothing is held.
    AtOnce,
    /// It is sent at once, after what is held.
    BehindHeld,
    /// It is held.
    Held,
}

fn is_late(since: Time, now: Time) -> bool {
    now.saturating_since(since) >= Duration::from_micros(limits::LONGEST_HOLD_MICROS)
}

impl Outbox {
    /// Lets nothing be held any more.
    pub(super) fn forbid(&mut self) {
        self.is_forbidden = true;
        self.is_open = false;
    }

    /// An event is about to be served.
    #[inline]
    pub(super) fn open(&mut self) {
        self.is_open = !self.is_forbidden;
        self.since = None;
        if self.answers > 0 {
            self.answers_before = std::mem::take(&mut self.answers);
        }
    }

    /// What is held, if it has been for long enough. What is sent next counts from now.
    #[inline]
    pub(super) fn take_overdue(&mut self) -> Option<Held> {
        if self.held.datagrams.is_empty() {
            return None;
        }
        let now = Clock::monotonic().now();
        if self.since.is_some_and(|since| !is_late(since, now)) {
            return None;
        }
        self.since = Some(now);
        self.take()
    }

    /// What is held, if anything is.
    #[inline]
    fn take(&mut self) -> Option<Held> {
        let is_any = !self.held.datagrams.is_empty();
        is_any.then(|| std::mem::take(&mut self.held))
    }

    fn has_room(&self, len: usize) -> bool {
        len <= limits::LONGEST_HELD_WRITE_BYTES
            && self.held.datagrams.len() < limits::DATAGRAMS_PER_CALL
            && self.held.bytes.len() + len <= limits::HELD_BYTES
    }
}

impl Datagrams {
    /// What is to become of a datagram of `len` bytes.
    pub(super) fn place(&mut self, len: usize, to: &Destination) -> Place {
        let outbox = &mut self.outbox;
        if !outbox.is_open {
            return Place::AtOnce;
        }
        outbox.answers += 1;
        if outbox.answers == 1 && outbox.answers_before == 1 && outbox.held.datagrams.is_empty() {
            // To look at the clock takes a hundredth of a conversation of single datagrams. If another one follows all the
            // same, nobody knows how long ago this one was sent, and it goes at once, too.
            return Place::AtOnce;
        }
        let now = Clock::monotonic().now();
        let may_wait = outbox.since.is_some_and(|since| !is_late(since, now));
        if may_wait && self.queue.is_empty() && outbox.has_room(len) && To::of(to).is_some() {
            return Place::Held;
        }
        outbox.since = Some(now);
        if outbox.held.datagrams.is_empty() {
            Place::AtOnce
        } else {
            Place::BehindHeld
        }
    }

    /// Holds a datagram whose place was there; false if it is there no more, because an audit hook has asked for the
    /// socket, or the event has been served.
    pub(super) fn hold(&mut self, bytes: &[u8], to: &Destination) -> bool {
        let to = To::of(to).filter(|_| self.outbox.is_open);
        let is_held = to.is_some();
        if let Some(to) = to {
            self.outbox.held.bytes.extend_from_slice(bytes);
            self.outbox.held.datagrams.push((bytes.len(), to));
        }
        is_held
    }
}

/// The event has been served: sends what is held, and lets nothing more be held.
///
/// # Errors
/// What no handler may have: `SystemExit` and `KeyboardInterrupt`.
#[inline]
pub(super) fn close(slf: &Bound<'_, PyAny>, this: &DatagramTransport) -> PyResult<()> {
    let py = slf.py();
    let held = this.with(py, |datagrams| {
        datagrams.outbox.is_open = false;
        datagrams.outbox.take()
    });
    match held {
        Some(held) => send(slf, this, held),
        None => Ok(()),
    }
}

/// Sends what is held.
///
/// # Errors
/// What no handler may have: `SystemExit` and `KeyboardInterrupt`.
#[inline]
pub(super) fn flush(slf: &Bound<'_, PyAny>, this: &DatagramTransport) -> PyResult<()> {
    let py = slf.py();
    match this.with(py, |datagrams| datagrams.outbox.take()) {
        Some(held) => send(slf, this, held),
        None => Ok(()),
    }
}

/// Sends what was held.
///
/// # Errors
/// What no handler may have: `SystemExit` and `KeyboardInterrupt`.
#[cold]
pub(super) fn send(
    slf: &Bound<'_, PyAny>,
    this: &DatagramTransport,
    mut held: Held,
) -> PyResult<()> {
    let py = slf.py();
    let is_forked = Loop::of(&this.event_loop(py))?
        .state()
        .with(|state| state.is_forked());
    let mut rest = Rest {
        bytes: &held.bytes,
        datagrams: &held.datagrams,
        may_cut: None,
    };
    let mut result = Ok(());
    // What a forked child holds is its parent's to send.
    while !rest.datagrams.is_empty() && !matches!(is_forked, Ok(true)) {
        match this.with(py, |datagrams| datagrams.send_held(&mut rest)) {
            Ok(0) => break,
            Ok(count) => rest.advance(count),
            Err(error) if is_not_now(&error) => {
                result = result.and(rest.queue(slf, this));
                break;
            }
            Err(error) => {
                rest.advance(1);
                let told = tell_error(slf, this, os_error(py, &error));
                let told = told.or_else(|error| callback_failed(slf, this, SENDTO_READY, error));
                result = result.and(told);
            }
        }
    }
    held.bytes.clear();
    held.datagrams.clear();
    this.with(py, |datagrams| {
        // The room for the next ones, unless what was told has made the protocol send and hold again.
        if datagrams.outbox.held.datagrams.is_empty() {
            datagrams.outbox.held = held;
        }
    });
    result
}

fn is_not_now(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}

/// What is still to be sent.
struct Rest<'a> {
    bytes: &'a [u8],
    datagrams: &'a [(usize, To)],
    /// Whether the socket is for cutting, once that has been asked.
    may_cut: Option<bool>,
}

impl Rest<'_> {
    fn advance(&mut self, count: usize) {
        let (gone, rest) = self.datagrams.split_at(count);
        let len = gone.iter().map(|(len, _)| len).sum();
        (self.bytes, self.datagrams) = (&self.bytes[len..], rest);
    }

    /// Whether what goes as one is cut.
    fn may_cut(&mut self, fd: BorrowedFd<'_>, never: bool) -> bool {
        *self
            .may_cut
            .get_or_insert_with(|| !never && cuts_datagrams(fd))
    }

    /// How many datagrams from this one on can go as one that is cut, and their length.
    fn run(&self, from: usize) -> (usize, usize) {
        let (size, to) = &self.datagrams[from];
        let mut whole = 0;
        let mut count = 0;
        for (len, other) in &self.datagrams[from..] {
            let fits = len <= size && *len > 0 && whole + len <= limits::BYTES_TO_CUT;
            if !fits || other != to {
                break;
            }
            whole += len;
            count += 1;
            if len < size {
                break;
            }
        }
        (count, whole)
    }

    /// How many datagrams come before the next ones that are to be cut from one, at least one.
    fn before_next_run(&self) -> usize {
        if self.may_cut == Some(false) {
            return self.datagrams.len();
        }
        let is_run = |from: &usize| self.run(*from).0 >= limits::DATAGRAMS_TO_CUT;
        (1..self.datagrams.len())
            .find(is_run)
            .unwrap_or(self.datagrams.len())
    }

    /// Each with its address, as many as have one.
    fn addressed(&self, most: usize) -> Vec<(&[u8], &Address)> {
        let mut start = 0;
        let datagrams = self.datagrams.iter().take(most);
        datagrams
            .map_while(|(len, to)| {
                let bytes = &self.bytes[start..start + len];
                start += len;
                to.address().map(|address| (bytes, address))
            })
            .collect()
    }

    /// Lets everything wait for room.
    #[cold]
    fn queue(&self, slf: &Bound<'_, PyAny>, this: &DatagramTransport) -> PyResult<()> {
        let mut start = 0;
        let mut result = Ok(());
        for (len, to) in self.datagrams {
            let waiting = Waiting {
                bytes: self.bytes[start..start + len].to_vec(),
                to: to.clone().into_destination(),
            };
            start += len;
            result = result.and(wait_for_room(slf, this, waiting));
        }
        result
    }
}

impl Datagrams {
    /// Sends what comes first, and returns how many datagrams that was; none if nothing is sent any more.
    ///
    /// # Errors
    /// The kernel's, all of which are about the first datagram.
    fn send_held(&mut self, rest: &mut Rest<'_>) -> io::Result<usize> {
        // Where there is not one peer only, datagrams are sent until the connection's loss has been told.
        if self.phase == Phase::Closed || (self.phase == Phase::Lost && self.address.is_some()) {
            return Ok(0);
        }
        let fd = self.endpoint.fd().ok_or(Errno::BADF)?;
        let (count, whole) = rest.run(0);
        if count >= limits::DATAGRAMS_TO_CUT && rest.may_cut(fd, self.outbox.never_cuts) {
            let bytes = &rest.bytes[..whole];
            let (size, to) = &rest.datagrams[0];
            let size = u16::try_from(*size).map_err(|_| Errno::MSGSIZE)?;
            match send_segments(fd, bytes, size, to.address()) {
                Ok(()) => {
                    self.stats.traffic.sent(whole);
                    return Ok(count);
                }
                // One by one, each is told what is wrong with it.
                Err(error) if is_about_cutting(&error) => {
                    self.outbox.never_cuts = true;
                    rest.may_cut = Some(false);
                }
                Err(error) => return Err(error),
            }
        }
        match &rest.datagrams[0] {
            (size, To::Peer) => self.send_connected(&rest.bytes[..*size]).map(|()| 1),
            (_, To::Known(_)) => {
                let run = rest.addressed(rest.before_next_run());
                let sent = send_datagrams(fd, &run);
                self.count_sent(&sent, run.iter().map(|(bytes, _)| bytes.len()));
                sent
            }
        }
    }
}

/// Whether the kernel may have nothing against the datagrams, but against how they were sent.
fn is_about_cutting(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::INVAL | Errno::IO | Errno::MSGSIZE | Errno::OPNOTSUPP | Errno::NOPROTOOPT)
    )
}
