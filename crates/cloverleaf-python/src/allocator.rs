//! The C library's allocator, readied once for large blocks.
//!
//! glibc maps each block of 128 KiB and more from the kernel and gives it back when it is freed, until the process frees
//! such a block whole. A receive into a large `bytes` that is then cut to what came is never whole: every message would
//! cost a mapping, an unmapping and a page fault for each 4 KiB of it. Allocating and freeing one block of 4 MiB ends
//! that for the whole process: the threshold rises to the size of what was freed (`mallopt(3)`, `M_MMAP_THRESHOLD`).
//! `CLOVERLEAF_PRIME=0` leaves the allocator as it is.

use std::hint::black_box;
use std::sync::OnceLock;

use cloverleaf::limits;

/// The environment variable that says whether the allocator may be readied.
const VARIABLE: &str = "CLOVERLEAF_PRIME";

static LARGEST: OnceLock<usize> = OnceLock::new();

/// Readies the allocator, unless that has been done, or refused.
pub(crate) fn prime() {
    LARGEST.get_or_init(|| {
        if std::env::var_os(VARIABLE).is_some_and(|value| value == "0") {
            return limits::LARGEST_UNPRIMED_READ_BYTES;
        }
        // Nothing is written, so no page of it ever exists.
        drop(black_box(Vec::<u8>::with_capacity(limits::PRIMING_BYTES)));
        if cfg!(target_env = "gnu") {
            limits::LARGEST_DIRECT_READ_BYTES
        } else {
            limits::LARGEST_UNPRIMED_READ_BYTES
        }
    });
}

/// Bytes of the largest `bytes` object that a receive may ask for and cut.
#[inline]
pub(crate) fn largest_direct_read() -> usize {
    LARGEST
        .get()
        .copied()
        .unwrap_or(limits::LARGEST_UNPRIMED_READ_BYTES)
}
