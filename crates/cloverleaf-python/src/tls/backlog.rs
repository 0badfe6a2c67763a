//! Bytes that a protocol has written and that have not become records yet, in order.
//!
//! They are copied when they come here, so a buffer may change after `write()`. Small writes share a piece, and so
//! become one record. What there is no memory for is the caller's to hear of.

use std::collections::VecDeque;

use pyo3::exceptions::PyMemoryError;
use pyo3::prelude::*;

use crate::ffi::{copied, make_room};

/// The size up to which writes share a piece, and of what one call makes records of.
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
    ///
    /// # Errors
    /// `MemoryError`, with none of them added.
    pub(super) fn push(&mut self, data: &[u8]) -> PyResult<()> {
        let beside = self.pieces.back_mut().map_or(0, |last| {
            PIECE_BYTES.saturating_sub(last.len()).min(data.len())
        });
        let (beside, rest) = data.split_at(beside);
        let own = copied(rest)?;
        make_room(&mut self.pieces)?;
        if let Some(last) = self.pieces.back_mut() {
            last.try_reserve(beside.len())
                .map_err(|_| PyMemoryError::new_err(()))?;
            last.extend_from_slice(beside);
        }
        if !own.is_empty() {
            self.pieces.push_back(own);
        }
        self.len += data.len();
        Ok(())
    }

    /// Adds bytes before those that wait, of which none have gone.
    ///
    /// # Errors
    /// `MemoryError`, with none of them added.
    pub(super) fn push_front(&mut self, piece: Vec<u8>) -> PyResult<()> {
        debug_assert_eq!(self.gone, 0, "a piece is begun");
        make_room(&mut self.pieces)?;
        self.len += piece.len();
        if !piece.is_empty() {
            self.pieces.push_front(piece);
        }
        Ok(())
    }

    /// The first bytes that wait, as many as become records in one call.
    pub(super) fn front(&self) -> Option<&[u8]> {
        self.pieces.front().map(|piece| {
            let rest = &piece[self.gone..];
            &rest[..rest.len().min(PIECE_BYTES)]
        })
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
