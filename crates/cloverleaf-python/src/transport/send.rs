//! What becomes of the bytes of a write: sent at once, held, left to the kernel to hold back, or queued.
//!
//! No Python code runs here: an [`Outcome`] says what is left to do for those who may run some.

use std::ops::Deref;

use cloverleaf::{Sent, limits};
use rustix::io::Errno;

use super::endpoint::Endpoint;
use super::kind::Kind;
use super::state::Stream;
use crate::ffi::{Bytes, KeptBytes};
use crate::held::Moment;

/// Where bytes wait that the kernel does not take, if that is known before it is asked.
pub(super) enum Place {
    /// Where they are, as they can never change.
    Kept(KeptBytes),
    /// In memory for all of them, which has been got before any is sent.
    Room(Vec<u8>),
}

/// What is to be done about a write that has been made.
#[derive(Clone, Copy)]
pub(super) enum Outcome {
    /// Nothing: all of it went or is held with what was, or nobody needs to know that it did not.
    Done,
    /// It is held until the event has been served, the first to be.
    Held,
    /// The kernel has it, and holds it back for the next one.
    Corked,
    /// Some of it waits.
    Queued,
    /// The connection is broken.
    Failed(Kind, Errno),
    /// The connection had been lost before, and the program goes on writing.
    Futile(Kind),
}

impl Stream {
    /// Writes bytes; `place` is where they wait, if that is known.
    pub(super) fn write(&mut self, data: &[u8], place: Option<Place>, moment: Moment) -> Outcome {
        if self.phase >= self.kind.writes_end_at() {
            return self.futile();
        }
        let expects_more = self.pieces.count(moment.turn);
        if let Some(outcome) = self.hold(data, moment) {
            return outcome;
        }
        if expects_more && self.queue.is_empty() && self.may_cork(data.len()) {
            return self.write_part(data);
        }
        self.send_or_queue(data, place)
    }

    /// Writes bytes that are all of what is written together: the kernel never holds them back.
    pub(super) fn write_together(
        &mut self,
        data: &[u8],
        place: Option<Place>,
        moment: Moment,
    ) -> Outcome {
        if self.phase >= self.kind.writes_end_at() {
            return self.futile();
        }
        self.pieces.count(moment.turn);
        self.hold(data, moment)
            .unwrap_or_else(|| self.send_or_queue(data, place))
    }

    /// Holds bytes, or sends them behind what is held; `None` if neither is to be done.
    #[inline]
    fn hold(&mut self, data: &[u8], moment: Moment) -> Option<Outcome> {
        if let Some(failed) = self.send_held_before(data.len()) {
            return Some(failed);
        }
        if self.is_held {
            return Some(self.write_behind(&[data], moment));
        }
        if self.queue.is_empty() && self.may_hold(data.len(), moment) {
            self.queue.push_slice(data);
            self.is_held = true;
            return Some(Outcome::Held);
        }
        None
    }

    /// Sends bytes at once, unless others wait; what the kernel does not take waits.
    #[inline]
    fn send_or_queue(&mut self, data: &[u8], place: Option<Place>) -> Outcome {
        let Some(fd) = self.endpoint.fd() else {
            return self.failed(Errno::BADF);
        };
        let mut rest = data;
        if self.queue.is_empty() {
            match self.kind.send(fd, data) {
                Ok(count) => {
                    self.stats.traffic.sent(count);
                    if count == data.len() {
                        self.pieces.all_go();
                        return Outcome::Done;
                    }
                    rest = &data[count..];
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(errno) => return self.failed(errno),
            }
        }
        self.queue_in(place, data, data.len() - rest.len());
        Outcome::Queued
    }

    /// Queues what follows the first `sent` of these bytes.
    fn queue_in(&mut self, place: Option<Place>, data: &[u8], sent: usize) {
        match place {
            Some(Place::Kept(kept)) => self.queue.push_shared(Box::new(kept), sent),
            Some(Place::Room(mut room)) => {
                room.extend_from_slice(&data[sent..]);
                self.queue.push(room);
            }
            None => self.queue.push_slice(&data[sent..]),
        }
    }

    /// Writes what the kernel is to send with the next write.
    fn write_part(&mut self, data: &[u8]) -> Outcome {
        let Some(fd) = self.endpoint.fd() else {
            return self.failed(Errno::BADF);
        };
        match Kind::send_part(fd, data) {
            Ok(count) => {
                self.stats.traffic.sent(count);
                if count == data.len() {
                    return Outcome::Corked;
                }
                self.queue.push_slice(&data[count..]);
            }
            Err(Errno::AGAIN | Errno::INTR) => self.queue.push_slice(data),
            Err(errno) => return self.failed(errno),
        }
        // The kernel is full, and sends by itself.
        Outcome::Queued
    }

    /// Whether a write is to be held: a small one that answers an event which was answered before,
    /// or whose answers go together with those to others. Who knows the socket could tell the difference: by sending
    /// himself, or by closing it.
    fn may_hold(&mut self, len: usize, moment: Moment) -> bool {
        let may = self.could_hold(len, moment);
        self.wrote_for = moment.event;
        may
    }

    fn could_hold(&self, len: usize, moment: Moment) -> bool {
        let has_answered = self.wrote_for == moment.event;
        let holds = has_answered || moment.together;
        let is_ours_alone = matches!(self.endpoint, Endpoint::Native(_));
        holds && moment.event != 0 && is_ours_alone && self.has_hold_for(len)
    }

    /// Whether a write sends nothing now, as it is held, waits, or comes too late.
    pub(super) fn sends_nothing(&self, len: usize, moment: Moment) -> bool {
        if self.phase >= self.kind.writes_end_at() {
            return true;
        }
        if self.is_held {
            return self.refused.is_some() || self.stays_held(len, moment);
        }
        !self.queue.is_empty() || self.could_hold(len, moment)
    }

    /// Whether a write joins what is held.
    fn stays_held(&self, len: usize, moment: Moment) -> bool {
        moment.event != 0 && self.has_hold_for(len) && !moment.is_late()
    }

    /// Whether so many bytes more can be held. Nobody must be told to pause because of what is held.
    fn has_hold_for(&self, len: usize) -> bool {
        len <= limits::LONGEST_HELD_WRITE_BYTES
            && self.queue.len() + len <= self.limits.high.min(limits::HELD_BYTES)
    }

    /// Writes behind what is held: is held as well, or goes with it.
    fn write_behind(&mut self, pieces: &[impl Deref<Target = [u8]>], moment: Moment) -> Outcome {
        if let Some(errno) = self.take_refusal() {
            return self.failed(errno);
        }
        let len = pieces.iter().map(|piece| piece.len()).sum();
        if self.stays_held(len, moment) {
            for piece in pieces {
                self.queue.push_slice(piece);
            }
            return Outcome::Done;
        }
        self.is_held = false;
        let Some((last, others)) = pieces.split_last() else {
            return self.send_queue(&[]);
        };
        for piece in others {
            self.queue.push_slice(piece);
        }
        self.send_queue(last)
    }

    /// Sends what is held by itself before so many bytes that they have a place of their own, where they wait; what the
    /// kernel says if it refuses that.
    fn send_held_before(&mut self, len: usize) -> Option<Outcome> {
        if !self.is_held || len < limits::LARGE_COPY_BYTES {
            return None;
        }
        self.offer_held()
            .filter(|outcome| matches!(outcome, Outcome::Failed(..)))
    }

    /// Holds nothing any more if the kernel has refused it in the guard's hands.
    fn take_refusal(&mut self) -> Option<Errno> {
        let errno = self.refused.take()?;
        self.is_held = false;
        Some(errno)
    }

    /// Offers what is held to the kernel, which lets go of what it holds back; `None` if nothing is held.
    pub(super) fn offer_held(&mut self) -> Option<Outcome> {
        self.push();
        if let Some(errno) = self.take_refusal() {
            return Some(self.failed(errno));
        }
        if !std::mem::replace(&mut self.is_held, false) {
            return None;
        }
        if self.queue.is_empty() {
            // It has gone with what others held.
            return Some(Outcome::Done);
        }
        Some(self.send_queue(&[]))
    }

    /// Holds nothing any more, as the kernel refuses it.
    pub(super) fn fail_held(&mut self, errno: Errno) -> Option<Outcome> {
        std::mem::replace(&mut self.is_held, false).then(|| self.failed(errno))
    }

    /// Sends what is in the queue and has not been offered before, and `last` behind it.
    fn send_queue(&mut self, last: &[u8]) -> Outcome {
        let Some(fd) = self.endpoint.fd() else {
            return self.failed(Errno::BADF);
        };
        match self.queue.send_with(fd, last) {
            Ok(sent) => {
                if let Sent::Bytes(count) = sent {
                    self.stats.traffic.sent(count);
                }
                if self.queue.is_empty() {
                    self.pieces.all_go();
                    Outcome::Done
                } else {
                    Outcome::Queued
                }
            }
            Err(error) => self.failed(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
        }
    }

    /// A write after the end, to be counted.
    pub(super) fn futile(&mut self) -> Outcome {
        self.lost_writes += 1;
        if self.lost_writes >= self.kind.first_warned_write() {
            Outcome::Futile(self.kind)
        } else {
            Outcome::Done
        }
    }

    /// A write that the kernel refuses.
    fn failed(&mut self, errno: Errno) -> Outcome {
        Outcome::Failed(self.count_failure(), errno)
    }

    /// Counts a write that the kernel refuses: on a pipe, it is the first futile one.
    pub(super) fn count_failure(&mut self) -> Kind {
        if self.kind != Kind::Socket {
            self.lost_writes += 1;
        }
        self.kind
    }

    /// Writes all pieces, in one call to the kernel if they are not held; `places` is where each of them
    /// waits, if that is known.
    pub(super) fn write_pieces(
        &mut self,
        pieces: &[Bytes<'_>],
        places: Vec<Option<Place>>,
        moment: Moment,
    ) -> Outcome {
        if self.phase >= self.kind.writes_end_at() {
            return self.futile();
        }
        self.pieces.count(moment.turn);
        let len = pieces.iter().map(|piece| piece.len()).sum();
        if let Some(failed) = self.send_held_before(len) {
            return failed;
        }
        if self.is_held {
            return self.write_behind(pieces, moment);
        }
        let waits = !self.queue.is_empty();
        let is_held = !waits && self.may_hold(len, moment);
        for (piece, place) in pieces.iter().zip(places) {
            self.queue_in(place, piece, 0);
        }
        if is_held {
            self.is_held = true;
            return Outcome::Held;
        }
        if waits {
            // Its turn comes when there is room, and with it what is to be told of an empty queue.
            return Outcome::Queued;
        }
        self.send_queue(&[])
    }
}
