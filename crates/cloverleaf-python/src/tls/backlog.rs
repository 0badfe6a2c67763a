//! Bytes that a protocol has written and that have not become records yet, in order.
//!
//! They are copied when they come here, so a buffer may change after `write()`. Small writes share a piece, and so
//! become one record.

use std::collections::VecDeque;

/// The size up to which writes share a piece: at most one call makes records of it.
const PIECE_BYTES: usize = 64 * 1024;

/// A queue of bytes.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    pieces: VecDeque<Vec<u8>>,
    /// Bytes of the first piece that have gone.
    gone: usize,
    len: usize,
}

impl Backlog {
    /// How many bytes wait.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds bytes behind those that wait.
    pub(super) fn push(&mut self, data: &[u8]) {
        self.len += data.len();
        let mut rest = data;
        if let Some(last) = self.pieces.back_mut() {
            let room = PIECE_BYTES.saturating_sub(last.len()).min(rest.len());
            last.extend_from_slice(&rest[..room]);
            rest = &rest[room..];
        }
        self.pieces
            .extend(rest.chunks(PIECE_BYTES).map(<[u8]>::to_vec));
    }

    /// Adds bytes before those that wait, of which none have gone.
    pub(super) fn push_front(&mut self, data: &[u8]) {
        debug_assert_eq!(self.gone, 0, "a piece is begun");
        self.len += data.len();
        for piece in data.chunks(PIECE_BYTES).rev() {
            self.pieces.push_front(piece.to_vec());
        }
    }

    /// The first bytes that wait.
    pub(super) fn front(&self) -> Option<&[u8]> {
        self.pieces.front().map(|piece| &piece[self.gone..])
    }

    /// Forgets so many of the first bytes, or all if there are fewer: everything may have been forgotten meanwhile.
    pub(super) fn consume(&mut self, count: usize) {
        let count = count.min(self.len);
        self.gone += count;
        self.len -= count;
        while let Some(first) = self.pieces.front()
            && self.gone >= first.len()
        {
            self.gone -= first.len();
            self.pieces.pop_front();
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
