//! What is found by a descriptor's number.
//!
//! The kernel gives the lowest number that is free, so nobody can choose numbers that collide, and no key is needed that
//! keeps them secret. A multiplication spreads them.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::os::fd::RawFd;

/// A table of descriptors.
pub(crate) type ByNumber<T> = HashMap<RawFd, T, BuildHasherDefault<Spread>>;

/// An odd number whose bits are as good as any: 2^64 divided by the golden ratio.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

#[derive(Debug, Default)]
pub(crate) struct Spread(u64);

impl Hasher for Spread {
    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(FACTOR);
        }
    }

    #[inline]
    fn write_i32(&mut self, number: i32) {
        // The table takes some bits from the top and some from the bottom: both differ between neighbours.
        self.0 = (self.0 ^ u64::from(number.cast_unsigned())).wrapping_mul(FACTOR);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_found_and_forgotten() {
        let mut table = ByNumber::default();
        for number in (0..5000).chain([RawFd::MAX, -1]) {
            assert_eq!(table.insert(number, number), None);
        }
        for number in (0..5000).chain([RawFd::MAX, -1]) {
            assert_eq!(table.remove(&number), Some(number));
        }
        assert!(table.is_empty());
    }
}
