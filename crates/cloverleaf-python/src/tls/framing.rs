//! Where the records begin and end in what the peer sends: no Python, no I/O.
//!
//! OpenSSL takes one record at a time, so whoever knows where each ends need not have an attempt fail to learn that its
//! rest has not come, and need not pass in more than one at a time. Only the headers of application data are trusted, as
//! OpenSSL would do: for any other it may have an answer to the beginning of a record, and must be asked.

/// The length of a record's header; its last two bytes say how long the rest is.
const HEADER_BYTES: usize = 5;

/// How the header of application data begins, in TLS 1.2 and 1.3.
const APPLICATION_DATA: [u8; 3] = [23, 3, 3];

/// The longest rest that a record of TLS 1.3 may have; that of TLS 1.2 may be longer.
const LONGEST_REST: usize = 16 * 1024 + 256;

/// Where the bytes that come next lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// Nobody knows.
    Unknown,
    /// So many bytes of a record are still to come, none of them of its header; with none, a new record begins.
    Owed(usize),
    /// So many bytes of a header have come.
    Begun([u8; HEADER_BYTES - 1], usize),
}

/// What bytes that come are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrived {
    /// Nobody knows.
    Unknown,
    /// So many of them end a record.
    Record(usize),
    /// All of them are parts of a record that is still to be ended.
    Part(Framing),
}

impl Framing {
    /// Where a record begins.
    pub(super) const BOUNDARY: Self = Self::Owed(0);

    /// What these bytes are, which are the next.
    pub(super) fn meet(self, bytes: &[u8]) -> Arrived {
        match self {
            Self::Unknown => Arrived::Unknown,
            Self::Owed(0) => Self::meet_header(&[], bytes),
            Self::Owed(owed) => Self::meet_rest(owed, bytes.len()),
            Self::Begun(begun, len) => Self::meet_header(&begun[..len], bytes),
        }
    }

    fn meet_header(begun: &[u8], bytes: &[u8]) -> Arrived {
        let mut header = [0; HEADER_BYTES];
        let mut len = 0;
        for (place, byte) in header.iter_mut().zip(begun.iter().chain(bytes)) {
            *place = *byte;
            len += 1;
        }
        let [kind, major, minor, high, low] = header;
        if len < HEADER_BYTES {
            return Arrived::Part(Self::Begun([kind, major, minor, high], len));
        }
        let rest = usize::from(u16::from_be_bytes([high, low]));
        if [kind, major, minor] != APPLICATION_DATA || rest > LONGEST_REST {
            return Arrived::Unknown;
        }
        Self::meet_rest(HEADER_BYTES - begun.len() + rest, bytes.len())
    }

    fn meet_rest(owed: usize, len: usize) -> Arrived {
        if owed <= len {
            Arrived::Record(owed)
        } else {
            Arrived::Part(Self::Owed(owed - len))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Arrived, Framing};

    /// A record of application data with a rest of this length.
    fn record(rest: u16) -> Vec<u8> {
        let [high, low] = rest.to_be_bytes();
        let mut bytes = vec![23, 3, 3, high, low];
        bytes.resize(5 + usize::from(rest), 23);
        bytes
    }

    /// Where records end in bytes that come in pieces of this length.
    fn ends(bytes: &[u8], piece: usize) -> Vec<usize> {
        let mut framing = Framing::BOUNDARY;
        let mut ends = Vec::new();
        let mut seen = 0;
        for piece in bytes.chunks(piece) {
            let mut rest = piece;
            while !rest.is_empty() {
                match framing.meet(rest) {
                    Arrived::Unknown => panic!("lost at {seen}"),
                    Arrived::Record(len) => {
                        seen += len;
                        rest = &rest[len..];
                        ends.push(seen);
                        framing = Framing::BOUNDARY;
                    }
                    Arrived::Part(part) => {
                        seen += rest.len();
                        framing = part;
                        break;
                    }
                }
            }
        }
        assert_eq!(framing, Framing::BOUNDARY, "in pieces of {piece}");
        ends
    }

    #[test]
    fn records_end_where_they_do_however_they_are_cut() {
        let bytes = [record(30), record(1), record(0), record(300)].concat();
        for piece in 1..=bytes.len() {
            assert_eq!(ends(&bytes, piece), [35, 41, 46, 351]);
        }
    }

    #[test]
    fn a_header_of_anything_else_is_left_to_openssl() {
        let others: [&[u8]; 6] = [
            &[21, 3, 3, 0, 19],
            &[22, 3, 3, 0, 19],
            &[23, 3, 1, 0, 19],
            &[23, 2, 3, 0, 19],
            &[23, 3, 3, 65, 1],
            b"GET / HTTP/1.1",
        ];
        for header in others {
            assert_eq!(Framing::BOUNDARY.meet(header), Arrived::Unknown);
            let (first, others) = header.split_at(4);
            let Arrived::Part(begun) = Framing::BOUNDARY.meet(first) else {
                panic!("four bytes are no header");
            };
            assert_eq!(begun.meet(others), Arrived::Unknown);
        }
        assert_eq!(Framing::Unknown.meet(&record(9)), Arrived::Unknown);
    }

    #[test]
    fn the_longest_record_is_one() {
        let bytes = record(16 * 1024 + 256);
        assert_eq!(Framing::BOUNDARY.meet(&bytes), Arrived::Record(bytes.len()));
    }
}
