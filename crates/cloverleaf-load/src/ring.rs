//! The bytes of a load: a cycle of messages that repeats for ever.
//!
//! A connection is a position in the cycle for what it sent and one for what came back. Nothing is
//! copied to send a message and nothing is remembered to check one, and because the messages of the
//! cycle differ, a lost, doubled or swapped message shows as a wrong byte.

/// At least this many bytes pass before the cycle repeats.
const CYCLE_BYTES: usize = 64 * 1024;

/// Messages of one size, one after the other, the first ones repeated behind the last.
#[derive(Debug)]
pub(crate) struct Ring {
    bytes: Vec<u8>,
    cycle: usize,
    message: usize,
}

impl Ring {
    /// Messages of random bytes; as lines, each ends with the only newline in it.
    pub(crate) fn random(message: usize, depth: usize, lines: bool) -> Self {
        let messages = depth.max(CYCLE_BYTES.div_ceil(message)).max(2);
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut cycle = Vec::with_capacity(message * messages);
        while cycle.len() < message * messages {
            // xorshift64: fast, and no two messages of a cycle are alike.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let byte = state.to_le_bytes()[5];
            let ends_line = (cycle.len() + 1).is_multiple_of(message);
            cycle.push(match (lines, ends_line) {
                (false, _) => byte,
                (true, true) => b'\n',
                (true, false) => b'a' + byte % 26,
            });
        }
        Self::around(cycle, message, depth)
    }

    /// The same message again and again.
    pub(crate) fn repeated(message: &[u8], depth: usize) -> Self {
        Self::around(message.repeat(depth), message.len(), depth)
    }

    /// The same messages one by one in another form, which is as long for each of them.
    pub(crate) fn dressed(&self, depth: usize, form: impl Fn(&[u8]) -> Vec<u8>) -> Self {
        let bytes: Vec<u8> = self.bytes[..self.cycle]
            .chunks(self.message)
            .flat_map(&form)
            .collect();
        let message = bytes.len() / (self.cycle / self.message);
        Self::around(bytes, message, depth)
    }

    fn around(mut bytes: Vec<u8>, message: usize, depth: usize) -> Self {
        let cycle = bytes.len();
        bytes.extend_from_within(..message * depth);
        Self {
            bytes,
            cycle,
            message,
        }
    }

    /// The size of each message.
    pub(crate) fn message(&self) -> usize {
        self.message
    }

    /// A place to start for connection `index`, at the beginning of a message.
    pub(crate) fn start(&self, index: usize) -> usize {
        index * self.message % self.cycle
    }

    /// What stands at `position`, at most `length` bytes and at most to the end of the memory.
    pub(crate) fn at(&self, position: usize, length: usize) -> &[u8] {
        let from = position % self.cycle;
        &self.bytes[from..self.bytes.len().min(from.saturating_add(length))]
    }

    /// Whether `received` is what stands at `position`.
    pub(crate) fn matches(&self, mut position: usize, mut received: &[u8]) -> bool {
        while !received.is_empty() {
            let expected = self.at(position, received.len());
            let (head, rest) = received.split_at(expected.len());
            if head != expected {
                return false;
            }
            position += head.len();
            received = rest;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_read_from_the_ring_matches_it_over_many_cycles() {
        let ring = Ring::random(1000, 8, false);
        let (mut position, mut stream) = (ring.start(5), Vec::new());
        while stream.len() < 5 * CYCLE_BYTES {
            let piece = ring.at(position, 7777);
            stream.extend_from_slice(piece);
            position += piece.len();
        }
        assert!(ring.matches(ring.start(5), &stream));
    }

    #[test]
    fn a_changed_byte_a_lost_message_and_a_swapped_one_are_seen() {
        let ring = Ring::random(64, 8, false);
        let stream = ring.at(0, 640).to_vec();
        let mut changed = stream.clone();
        changed[639] ^= 1;
        assert!(!ring.matches(0, &changed));
        assert!(!ring.matches(0, &stream[64..]));
        let swapped = [&stream[64..128], &stream[..64]].concat();
        assert!(!ring.matches(0, &swapped));
    }

    #[test]
    fn messages_in_another_form_keep_their_order_and_start_at_the_same_places() {
        let plain = Ring::random(100, 8, false);
        let dressed = plain.dressed(8, |message| [b"<", message, b">"].concat());
        assert_eq!(dressed.message(), 102);
        for index in [0, 1, 654, 655, 656, 5000] {
            let inside = &dressed.at(dressed.start(index), 102)[1..101];
            assert_eq!(inside, plain.at(plain.start(index), 100));
        }
    }

    #[test]
    fn a_line_ends_with_its_only_newline() {
        let ring = Ring::random(32, 1, true);
        for line in ring.at(0, 1024).chunks(32) {
            assert_eq!(line.iter().position(|byte| *byte == b'\n'), Some(31));
        }
    }

    #[test]
    fn depth_messages_are_contiguous_from_any_message() {
        let ring = Ring::random(16 * 1024, 8, false);
        for index in 0..20 {
            assert_eq!(
                ring.at(ring.start(index), 8 * 16 * 1024).len(),
                8 * 16 * 1024
            );
        }
    }
}
