//! `epoll_wait(2)` into a buffer that can be sent between threads, with nanoseconds where the kernel has them.
#![expect(
    unsafe_code,
    reason = "rustix has epoll_pwait2 only without a fallback for kernels before 5.11, and its events are not Send"
)]

use std::ffi::c_long;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::io::Errno;

use super::call::{Answer, call, number, system_call};

/// What the kernel reports of one descriptor.
pub(crate) type KernelEvent = libc::epoll_event;

/// The call that takes milliseconds. Only old architectures have the one without a signal mask, and the C library, which
/// filters of system calls are written for, uses it there.
#[cfg(target_arch = "x86_64")]
const WAIT: c_long = libc::SYS_epoll_wait;
#[cfg(not(target_arch = "x86_64"))]
const WAIT: c_long = libc::SYS_epoll_pwait;

/// A time as `epoll_pwait2` takes it on every machine (`__kernel_timespec`); the C library's is narrower on some.
#[repr(C)]
struct KernelTimespec {
    seconds: i64,
    nanoseconds: i64,
}

/// Whether the kernel, or a filter before it, has refused `epoll_pwait2`.
static REFUSED: AtomicBool = AtomicBool::new(false);

/// Fills the spare capacity of `events`, after a sleep of at most `timeout`; `None` has no limit.
///
/// Never returns before the timeout is over without an event, a signal (`EINTR`) or an error. Before Linux 5.11, and
/// under filters that do not know `epoll_pwait2`, the timeout is rounded up to a millisecond.
pub(crate) fn epoll_wait(
    epoll: BorrowedFd<'_>,
    events: &mut Vec<KernelEvent>,
    timeout: Option<Duration>,
) -> Result<(), Errno> {
    if let Some(timeout) = timeout
        && timeout.subsec_nanos() % 1_000_000 != 0
        && !REFUSED.load(Ordering::Relaxed)
    {
        match wait_nanos(epoll, events, timeout) {
            Err(Errno::NOSYS | Errno::PERM) => REFUSED.store(true, Ordering::Relaxed),
            result => return result,
        }
    }
    wait_millis(epoll, events, timeout)
}

fn room(events: &[std::mem::MaybeUninit<KernelEvent>]) -> libc::c_int {
    libc::c_int::try_from(events.len()).unwrap_or(libc::c_int::MAX)
}

fn wait_millis(
    epoll: BorrowedFd<'_>,
    events: &mut Vec<KernelEvent>,
    timeout: Option<Duration>,
) -> Result<(), Errno> {
    let timeout = timeout.map_or(-1, |timeout| {
        let millis = timeout.as_secs().saturating_mul(1000);
        let rest = u64::from(timeout.subsec_nanos().div_ceil(1_000_000));
        libc::c_int::try_from(millis.saturating_add(rest)).unwrap_or(libc::c_int::MAX)
    });
    let spare = events.spare_capacity_mut();
    let arguments = [
        number(epoll.as_raw_fd()),
        spare.as_mut_ptr().expose_provenance(),
        number(room(spare)),
        number(timeout),
        // No signal mask: a null pointer means to leave it.
        0,
        0,
    ];
    // SAFETY: the kernel writes at most `room` events, which is no more than the spare capacity has.
    let answer = system_call(|| unsafe { call(WAIT, arguments) });
    accept_events(events, answer)
}

fn wait_nanos(
    epoll: BorrowedFd<'_>,
    events: &mut Vec<KernelEvent>,
    timeout: Duration,
) -> Result<(), Errno> {
    let timeout = KernelTimespec {
        seconds: timeout.as_secs().try_into().unwrap_or(i64::MAX),
        nanoseconds: timeout.subsec_nanos().into(),
    };
    let spare = events.spare_capacity_mut();
    let arguments = [
        number(epoll.as_raw_fd()),
        spare.as_mut_ptr().expose_provenance(),
        number(room(spare)),
        (&raw const timeout).expose_provenance(),
        0,
        0,
    ];
    // SAFETY: the kernel writes at most `room` events, which is no more than the spare capacity has; it reads one
    // timespec, which lives through the call, and no signal mask (a null pointer means to leave it).
    let answer = system_call(|| unsafe { call(libc::SYS_epoll_pwait2, arguments) });
    accept_events(events, answer)
}

/// Takes the events that the kernel has just written, or its error.
fn accept_events(events: &mut Vec<KernelEvent>, answer: Answer) -> Result<(), Errno> {
    let count = answer.map_err(Errno::from_raw_os_error)?;
    let len = events.len() + count.min(events.spare_capacity_mut().len());
    // SAFETY: both callers let the kernel write `count` events behind the first `events.len()`, within the capacity.
    unsafe { events.set_len(len) };
    Ok(())
}
