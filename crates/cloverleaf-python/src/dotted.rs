//! An IPv4 address as text, on the stack: each datagram has one whose sender is not the last one's.

use std::net::Ipv4Addr;

/// Each octet's digits with a dot behind them, and how long that is.
static OCTETS: [([u8; 4], u8); 256] = octets();

const fn octets() -> [([u8; 4], u8); 256] {
    let mut octets = [([b'.'; 4], 0); 256];
    let mut octet = 0;
    while octet < octets.len() {
        let (text, len) = &mut octets[octet];
        let mut power = if octet < 10 {
            1
        } else if octet < 100 {
            10
        } else {
            100
        };
        while power > 0 {
            text[*len as usize] = b"0123456789"[octet / power % 10];
            *len += 1;
            power /= 10;
        }
        *len += 1;
        octet += 1;
    }
    octets
}

/// Four decimal numbers with dots between them.
#[derive(Debug)]
pub(crate) struct Dotted {
    /// With a dot behind the last number, too.
    text: [u8; 16],
    len: usize,
}

impl Dotted {
    #[inline]
    pub(crate) fn of(address: Ipv4Addr) -> Self {
        let mut text = [0; 16];
        let mut len = 0;
        for octet in address.octets() {
            let (digits, used) = &OCTETS[usize::from(octet)];
            text[len..len + digits.len()].copy_from_slice(digits);
            len += usize::from(*used);
        }
        Self { text, len: len - 1 }
    }

    #[inline]
    pub(crate) fn as_str(&self) -> &str {
        match str::from_utf8(&self.text[..self.len]) {
            Ok(text) => text,
            Err(_) => unreachable!("invariant: digits and dots"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_the_standard_library_writes() {
        for octet in 0..=255 {
            for octets in [
                [octet, 0, 9, 10],
                [99, octet, 100, 255],
                [1, 10, octet, 0],
                [255, 255, 255, octet],
            ] {
                let address = Ipv4Addr::from(octets);
                assert_eq!(Dotted::of(address).as_str(), address.to_string());
            }
        }
    }
}
