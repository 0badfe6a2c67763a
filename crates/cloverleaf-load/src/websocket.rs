//! WebSocket (RFC 6455) as far as a load needs it: one handshake, and messages of one frame each.
//!
//! No extension is offered, so a message's answer is known byte for byte: the same bytes in a frame
//! without a mask.

use std::io::{ErrorKind, Read, Write};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::address::Socket;
use crate::drive::PATIENCE;
use crate::error::Error;

/// Asks for a WebSocket, with the key of the RFC's example.
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\n\r\n";

/// What a server makes of that key.
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The largest head of an answer that is still waited for.
const HEAD_LIMIT: usize = 16 * 1024;

/// The first byte of every frame: the whole of a binary message.
const BINARY: u8 = 0x82;

/// A client masks what it sends, by whatever key.
const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
const MASKED: u8 = 0x80;

/// In the place of a short length: two bytes of it follow, or eight.
const TWO_BYTES: u8 = 0x7E;
const EIGHT_BYTES: u8 = 0x7F;

/// A message as a client sends it.
pub(crate) fn question(message: &[u8]) -> Vec<u8> {
    let mut frame = head(message.len(), MASKED);
    frame.extend_from_slice(&MASK);
    frame.extend(
        message
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    frame
}

/// A message as a server sends it.
pub(crate) fn answer(message: &[u8]) -> Vec<u8> {
    let mut frame = head(message.len(), 0);
    frame.extend_from_slice(message);
    frame
}

fn head(length: usize, masked: u8) -> Vec<u8> {
    let wide = (length as u64).to_be_bytes();
    match length {
        0..126 => vec![BINARY, masked | wide[7]],
        126..65_536 => vec![BINARY, masked | TWO_BYTES, wide[6], wide[7]],
        _ => [&[BINARY, masked | EIGHT_BYTES], &wide[..]].concat(),
    }
}

/// Turns a new connection into a WebSocket.
pub(crate) fn shake_hands(socket: &mut Socket) -> Result<(), Error> {
    if socket.write(REQUEST)? < REQUEST.len() {
        return Err(Error::Usage("a new socket takes a request whole".into()));
    }
    // Byte by byte, so that nothing behind the head is taken.
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        match socket.read(&mut byte) {
            Ok(0) => return Err(Error::Closed { in_flight: 1 }),
            Ok(_) => head.push(byte[0]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => wait_for_more(socket)?,
            Err(error) => return Err(error.into()),
        }
        if head.len() > HEAD_LIMIT {
            return Err(Error::Mismatch("a response head without end".into()));
        }
    }
    accepted(&String::from_utf8_lossy(&head))
}

fn wait_for_more(socket: &Socket) -> Result<(), Error> {
    let patience = Timespec::try_from(PATIENCE).ok();
    match poll(&mut [PollFd::new(socket, PollFlags::IN)], patience.as_ref()) {
        Ok(0) => Err(Error::Silent { in_flight: 1 }),
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn accepted(head: &str) -> Result<(), Error> {
    let mut lines = head.lines();
    let status = lines.next().unwrap_or_default();
    if !status.starts_with("HTTP/1.1 101 ") {
        return Err(Error::Mismatch(format!("the status line {status:?}")));
    }
    let ours = |(name, value): (&str, &str)| {
        name.eq_ignore_ascii_case("sec-websocket-accept") && value.trim() == ACCEPT
    };
    if lines.filter_map(|line| line.split_once(':')).any(ours) {
        return Ok(());
    }
    Err(Error::Mismatch("a handshake without our key".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_as_short_as_the_rfc_wants_them() {
        for (length, expected) in [
            (1, &[0x82, 1][..]),
            (125, &[0x82, 125]),
            (126, &[0x82, 126, 0, 126]),
            (65_535, &[0x82, 126, 255, 255]),
            (65_536, &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let message = vec![7; length];
            let frame = answer(&message);
            assert_eq!(frame, [expected, &message].concat());
            let mut masked = expected.to_vec();
            masked[1] |= MASKED;
            assert!(question(&message).starts_with(&masked));
            assert_eq!(question(&message).len(), frame.len() + MASK.len());
        }
    }

    #[test]
    fn a_question_is_the_rfcs_hello_when_it_says_hello() {
        let frame = [
            0x82, 0x85, 0x37, 0xFA, 0x21, 0x3D, 0x7F, 0x9F, 0x4D, 0x51, 0x58,
        ];
        assert_eq!(question(b"Hello"), frame);
    }

    #[test]
    fn only_a_switch_with_our_key_is_a_handshake() {
        let right = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        assert!(accepted(right).is_ok());
        for (wrong, named) in [
            (right.replace("101", "426"), "426"),
            (right.replace("xOo=", "xOO="), "key"),
            (right.replace("Sec-WebSocket-Accept", "X"), "key"),
        ] {
            let error = accepted(&wrong).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }
}
