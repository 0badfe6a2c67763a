//! Answers in pieces that go from the kernel as one.
//!
//! A server that writes a head and a body pays for two sends, each of which wakes the peer. A connection that has written
//! several times in each of the last two turns in which it wrote is expected to do so again: all but the last of its
//! small writes are handed to the kernel with `MSG_MORE`, which costs a fraction of a send, and the last one takes them
//! along. Nothing is held here: the kernel has every byte at once and in order, refuses what it refuses, and sends what it
//! holds back when the socket is closed, or by itself after 200 ms (`tcp(7)`, `TCP_CORK`).
//!
//! It is told to let go of what was held back in vain before anything that could be told by it, and at the end of the
//! turn.

use std::time::Duration;

use cloverleaf::{Clock, Time, limits};
use pyo3::prelude::*;
use rustix::net::sockopt::set_tcp_cork;

use super::endpoint::Endpoint;
use super::state::Stream;
use super::stream::StreamTransport;
use crate::event_loop::Loop;
use crate::ffi::Owned;
use crate::state::LoopState;

/// How many writes a connection makes in the turns in which it writes.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    /// The turn of the last write.
    turn: u64,
    /// Writes in that turn, in the one before in which something was written, and in the one before that.
    counts: [u8; 3],
    /// Since when the kernel holds some back.
    since: Option<Time>,
}

impl Pieces {
    /// Counts a write; whether more are expected in its turn.
    #[inline]
    pub(super) fn count(&mut self, turn: u64) -> bool {
        if self.turn != turn {
            self.turn = turn;
            self.counts = [0, self.counts[0], self.counts[1]];
        }
        let [now, last, before] = &mut self.counts;
        *now = now.saturating_add(1);
        turn != 0 && *now < *last && *now < *before
    }

    /// The kernel has been given all without being told that more will come.
    #[inline]
    pub(super) fn all_go(&mut self) {
        self.since = None;
    }
}

impl Stream {
    /// Whether the kernel may hold a write of this length back for the next one.
    pub(super) fn may_cork(&mut self, len: usize) -> bool {
        let is_ours_alone = matches!(self.endpoint, Endpoint::Native(_));
        let is_tcp = self.peer.is_ip();
        if !is_ours_alone || !is_tcp || len > limits::LONGEST_HELD_WRITE_BYTES {
            return false;
        }
        let now = Clock::monotonic().now();
        let since = *self.pieces.since.get_or_insert(now);
        now.saturating_since(since) < Duration::from_micros(limits::LONGEST_HOLD_MICROS)
    }

    /// Has the kernel send what it holds back.
    #[inline]
    pub(super) fn push(&mut self) {
        if self.pieces.since.take().is_some() {
            self.uncork();
        }
    }

    #[cold]
    fn uncork(&self) {
        if let Endpoint::Native(fd) = &self.endpoint {
            // The connection may be gone, and then the next call tells.
            cloverleaf::ignore(set_tcp_cork(fd, false));
        }
    }
}

/// Makes sure that the kernel sends what it holds back at the end of the turn.
pub(super) fn keep(slf: &Bound<'_, PyAny>, this: &StreamTransport) -> PyResult<()> {
    let event_loop = this.event_loop(slf.py());
    let mut transport = Some(Owned::from(slf.clone()));
    let kept = Loop::of(&event_loop)?
        .state()
        .with(|state| state.corked.extend(transport.take()));
    if kept.is_err() {
        this.with(Stream::push);
    }
    Ok(())
}

/// Has the kernel send what it holds back for any connection of the loop.
#[cold]
pub(crate) fn push_all(py: Python<'_>, state: &mut LoopState) {
    for transport in std::mem::take(&mut state.corked) {
        // Nothing else is ever kept there.
        if let Ok(this) = StreamTransport::of(&transport.bind(py)) {
            this.with(Stream::push);
        }
        state.discard(transport);
    }
}

/// Has the kernel send what it holds back for others, before something else is sent that was written after it: who sees
/// the later finds the earlier. In another thread nothing is held back.
#[cold]
pub(super) fn push_others(slf: &Bound<'_, PyAny>, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
    let others = Loop::of(event_loop)?.state().with(|state| {
        let is_other = |kept: &mut Owned| kept.address() != slf.as_ptr() as usize;
        state.corked.extract_if(.., is_other).collect::<Vec<_>>()
    });
    for other in others.unwrap_or_default() {
        StreamTransport::of(&other.bind(slf.py()))?.with(Stream::push);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Pieces;

    fn expected(turns: &[(u64, usize)]) -> Vec<bool> {
        let mut pieces = Pieces::default();
        turns
            .iter()
            .flat_map(|(turn, count)| vec![*turn; *count])
            .map(|turn| pieces.count(turn))
            .collect()
    }

    #[test]
    fn more_is_expected_after_two_turns_with_more() {
        let answers = expected(&[(1, 2), (3, 2), (4, 2)]);
        assert_eq!(answers, [false, false, false, false, true, false]);
    }

    #[test]
    fn no_more_is_expected_than_the_fewer_of_two_turns_had() {
        let answers = expected(&[(1, 3), (2, 2), (3, 3), (4, 1), (5, 2), (6, 2)]);
        assert_eq!(
            answers[5..],
            [true, false, false, true, false, false, false, false]
        );
    }

    #[test]
    fn nothing_is_expected_outside_of_a_turn() {
        let answers = expected(&[(1, 2), (2, 2), (0, 2)]);
        assert!(answers.iter().all(|more| !more));
    }
}
