//! `CLOCK_MONOTONIC` by the C library.
//!
//! rustix reads the vDSO by itself. Under a tool that hides the vDSO, as Valgrind does, it follows a pointer into
//! nothing, and the program crashes at its first timer; the C library asks the kernel then.
#![expect(unsafe_code, reason = "libc's call takes a pointer")]

use std::mem::MaybeUninit;

/// Seconds and nanoseconds since boot.
#[inline]
pub(crate) fn monotonic() -> (u64, u64) {
    let mut now = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: the pointer is to room for one `timespec`, which the call fills.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, now.as_mut_ptr()) };
    debug_assert!(failed == 0, "every Linux has this clock");
    // SAFETY: a `timespec` of zeroes is one, and the call writes nothing but a `timespec`.
    let now = unsafe { now.assume_init() };
    // It counts from boot, and is never negative. How wide the fields are is the machine's choice.
    let unsigned = (u64::try_from(now.tv_sec), u64::try_from(now.tv_nsec));
    (unsigned.0.unwrap_or(0), unsigned.1.unwrap_or(0))
}
