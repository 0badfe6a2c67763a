//! What a connection's next receive is expected to bring, and so into how much room it goes.

use cloverleaf::limits;

use crate::allocator::largest_direct_read;

/// Room that no message of a power of two takes, or it would look as if it were cut. No allocator gives so little back when
/// the `bytes` is made as long as the message.
const SPARE_BYTES: usize = 16;

/// The size of the last message as far as it can be told, of one receive or of several that filled their rooms.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Expected {
    bytes: u32,
    /// What the receives before the last one brought of the message that they began.
    begun: u32,
}

impl Expected {
    /// How much to ask for straight into a `bytes`; zero means to go through the loop's buffer.
    pub(super) fn room(self) -> usize {
        room_up_to(self.bytes as usize, largest_direct_read())
    }

    /// Learns from what a receive has brought into a room, which is zero if more than any message would have fitted.
    ///
    /// What fills its room was cut to it: the next one gets twice as much, and when the rest has come, they count as one.
    /// To go by the rest alone would cut every message of that size anew.
    pub(super) fn note(&mut self, count: usize, room: usize) {
        let is_cut = count == room;
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        let so_far = self.begun.saturating_add(count);
        (self.bytes, self.begun) = if is_cut {
            (count.saturating_mul(2), so_far)
        } else {
            (so_far, 0)
        };
    }
}

fn room_up_to(expected: usize, largest: usize) -> usize {
    let is_primed = largest == limits::LARGEST_DIRECT_READ_BYTES;
    if expected < limits::DIRECT_READ_BYTES {
        0
    } else if expected <= largest {
        // Never more than asyncio asks for: programs count on it.
        (expected.next_power_of_two() + SPARE_BYTES).min(largest)
    } else if is_primed {
        largest
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Receives a message as the transport does, and returns the pieces in which it came.
    fn pieces_of(expected: &mut Expected, mut message: usize) -> Vec<usize> {
        let mut pieces = Vec::new();
        while message > 0 {
            let room = expected.room();
            let piece = if room > 0 { message.min(room) } else { message };
            expected.note(piece, room);
            pieces.push(piece);
            message -= piece;
        }
        pieces
    }

    #[test]
    fn a_message_that_was_cut_comes_whole_the_next_time() {
        for first in [100, 4096, 5000, 8192] {
            for size in [10_000, 12_288, 16_384, 40_000, 65_536] {
                let mut expected = Expected::default();
                pieces_of(&mut expected, first);
                pieces_of(&mut expected, size);
                let second = pieces_of(&mut expected, size);
                assert_eq!(second, [size], "{size} bytes after one of {first}");
            }
        }
    }

    #[test]
    fn a_message_that_begins_in_a_small_room_comes_whole_the_next_time() {
        let mut expected = Expected::default();
        expected.note(limits::ROOM_BYTES, limits::ROOM_BYTES);
        assert_eq!(pieces_of(&mut expected, 12_288), [8208, 4080]);
        assert_eq!(pieces_of(&mut expected, 16_384), [16_384]);
    }

    #[test]
    fn messages_of_one_size_find_one_room() {
        for size in [5000, 8192, 16_384, 32_768] {
            let mut expected = Expected::default();
            pieces_of(&mut expected, size);
            let room = expected.room();
            for _ in 0..5 {
                assert_eq!(pieces_of(&mut expected, size), [size]);
                assert_eq!(expected.room(), room);
            }
        }
    }

    #[test]
    fn small_messages_go_through_the_loops_buffer() {
        let mut expected = Expected::default();
        assert_eq!(expected.room(), 0);
        pieces_of(&mut expected, 65_536);
        assert_eq!(expected.room(), 65_536);
        pieces_of(&mut expected, 100);
        assert_eq!(expected.room(), 0);
    }

    #[test]
    fn room_ends_where_the_allocator_is_not_readied() {
        let largest = limits::LARGEST_DIRECT_READ_BYTES;
        assert_eq!(room_up_to(usize::MAX, largest), largest);
        assert_eq!(room_up_to(largest, largest), largest);
        assert_eq!(room_up_to(largest, largest / 4), 0);
    }
}
