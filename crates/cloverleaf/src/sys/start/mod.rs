//! Starting a program in a child that shares this process's memory until then, while this process goes on.
//!
//! `vfork(2)` and `posix_spawn(3)` share the memory, too, and stop the calling thread until the child has executed its
//! program. Here the thread goes on at once, so three things must hold. The child does nothing that is unsound beside
//! running threads (`child.rs`, `raw.rs`). It has a stack of its own, and every byte that it reads is ready before it
//! exists. And that memory is not freed before the child has let go of it, which the kernel tells by a word
//! ([`Memory::held`]).
#![expect(unsafe_code, reason = "rustix has no clone")]

mod child;
mod raw;
mod stack;

use std::ffi::{CStr, c_char};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::fcntl_dupfd_cloexec;
use rustix::pipe::{PipeFlags, pipe_with};

pub(crate) use super::plan::{Plan, Stage, Strings};
use stack::Stack;

/// A child that has not told yet whether it could execute its program.
#[derive(Debug)]
pub(crate) struct Starting {
    pid: i32,
    report: OwnedFd,
    memory: NonNull<Memory>,
}

// SAFETY: the memory is reached by this value only, beside the child, to which threads mean nothing.
unsafe impl Send for Starting {}

/// What a child uses.
#[derive(Debug)]
struct Memory {
    plan: Plan,
    stack: Stack,
    /// Not zero for as long as the child uses this memory: when a task leaves an address space that others use, too,
    /// by executing a program or by ending, the kernel clears the word of `CLONE_CHILD_CLEARTID`. It does so before it
    /// closes the task's descriptors, so at the end of the report this is zero.
    held: AtomicU32,
}

impl Starting {
    /// The child's number.
    pub(crate) const fn pid(&self) -> i32 {
        self.pid
    }

    /// Becomes readable with the two numbers of a failure, and ends when the child has executed its program or ended.
    pub(crate) fn report(&self) -> BorrowedFd<'_> {
        self.report.as_fd()
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        // SAFETY: it was made by `Box::into_raw`, and only the lines below free it, once; nobody has a reference to
        // it that is not shared.
        let held = unsafe { &(*self.memory.as_ptr()).held };
        if held.load(Ordering::Acquire) != 0 {
            // The child still uses it, or this process was forked meanwhile and cannot know; either way it is kept.
            return;
        }
        // SAFETY: it was made by `Box::into_raw`, is freed here only, and the child has let go of it.
        let memory = unsafe { Box::from_raw(self.memory.as_ptr()) };
        memory.stack.keep();
    }
}

/// Whether children can be started so.
///
/// They cannot where `close_range(2)` is unknown, before Linux 5.9 or under a filter, and not under valgrind. This also
/// leaves out kernels before 5.5, which let such a child keep its parent's restartable sequences (`rseq(2)`).
pub(crate) fn can_start() -> bool {
    static UNDER_VALGRIND: LazyLock<bool> = LazyLock::new(raw::runs_under_valgrind);
    // Asked each time, since a filter is a thread's own, and may have come meanwhile.
    let none = [u32::MAX as usize, u32::MAX as usize, 0, 0, 0];
    // SAFETY: it would close the one descriptor of this number, which no process can have.
    !*UNDER_VALGRIND && unsafe { raw::call(libc::SYS_close_range, none) }.is_ok()
}

/// Makes a child that does what `plan` says; sharing this process's memory, or with a copy of it.
///
/// # Errors
/// Those of `pipe2(2)`, `mmap(2)` and `clone(2)`.
pub(crate) fn start(mut plan: Plan, shares_memory: bool) -> io::Result<Starting> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    // Above standard error, where they are in nobody's way.
    let (read, write) = (above_stdio(read)?, above_stdio(write)?);
    plan.report = (read.as_raw_fd(), write.as_raw_fd());
    plan.closed = keep_open(&plan.closed, write.as_raw_fd());
    let memory = Box::into_raw(Box::new(Memory {
        plan,
        stack: Stack::take()?,
        held: AtomicU32::new(0),
    }));
    let memory = NonNull::new(memory).expect("invariant: a box has an address");
    // SAFETY: it was made above, and no reference to it exists.
    let made = unsafe { clone_with_signals_blocked(memory, shares_memory) };
    let pid = match made {
        Ok(pid) => pid,
        Err(errno) => {
            // SAFETY: it was made by `Box::into_raw` above, and there is no child.
            drop(unsafe { Box::from_raw(memory.as_ptr()) });
            return Err(io::Error::from_raw_os_error(errno));
        }
    };
    let report = read;
    drop(write);
    Ok(Starting {
        pid,
        report,
        memory,
    })
}

fn above_stdio(fd: OwnedFd) -> io::Result<OwnedFd> {
    if fd.as_raw_fd() > 2 {
        return Ok(fd);
    }
    Ok(fcntl_dupfd_cloexec(fd, 3)?)
}

/// The same ranges without one number.
fn keep_open(ranges: &[(u32, u32)], fd: i32) -> Box<[(u32, u32)]> {
    let fd = fd.cast_unsigned();
    let mut split = Vec::with_capacity(ranges.len() + 1);
    for &(first, last) in ranges {
        if fd < first || last < fd {
            split.push((first, last));
            continue;
        }
        if first < fd {
            split.push((first, fd - 1));
        }
        if fd < last {
            split.push((fd + 1, last));
        }
    }
    split.into_boxed_slice()
}

/// Makes the child. Nothing between the two changes of the mask can fail, so it is always restored.
///
/// # Safety
/// `memory` must be valid, and not referred to from elsewhere; once this has succeeded, it must be neither changed nor
/// freed while its word `held` is not zero.
unsafe fn clone_with_signals_blocked(
    mut memory: NonNull<Memory>,
    shares_memory: bool,
) -> Result<i32, i32> {
    // All of them, also those that the C library keeps for itself and never blocks (`signal(7)`).
    let old = change_mask(u64::MAX);
    // SAFETY: the caller vouches for it.
    unsafe { memory.as_mut() }.plan.mask = old;
    // SAFETY: the caller vouches for it; the signals are blocked.
    let pid = unsafe { clone(memory, shares_memory) };
    change_mask(old);
    pid
}

/// Sets the mask of the thread's signals, and returns the one before.
fn change_mask(mask: u64) -> u64 {
    let mut old = 0_u64;
    let wanted = [
        libc::SIG_SETMASK.cast_unsigned() as usize,
        (&raw const mask).addr(),
        (&raw mut old).addr(),
        child::MASK_BYTES,
        0,
    ];
    // SAFETY: the kernel reads one mask of eight bytes and writes another; both live.
    let changed = unsafe { raw::call(libc::SYS_rt_sigprocmask, wanted) };
    debug_assert_eq!(changed, Ok(0), "a mask of the right size is accepted");
    old
}

/// # Safety
/// As `clone_with_signals_blocked`; moreover, all signals must be blocked.
unsafe fn clone(memory: NonNull<Memory>, shares_memory: bool) -> Result<i32, i32> {
    const SHARING: usize = libc::CLONE_VM as usize | libc::CLONE_CHILD_CLEARTID as usize;
    const CHILD: usize = libc::SIGCHLD as usize;

    // SAFETY: the caller vouches for it; it is not referred to otherwise while these references live.
    let (plan, stack, held) = unsafe {
        let memory = memory.as_ref();
        (&raw const memory.plan, memory.stack.end(), &memory.held)
    };
    if shares_memory {
        held.store(1, Ordering::Release);
        // SAFETY: the stack, the plan and the word live in `memory`, which is not freed before the kernel clears the
        // word; `run` does what is sound beside running threads; all signals are blocked.
        let made = unsafe { raw::clone(CHILD | SHARING, stack, held.as_ptr(), child::run, plan) };
        match made {
            Ok(pid) => return i32::try_from(pid).map_err(|_| libc::EINVAL),
            Err(errno) => {
                held.store(0, Ordering::Release);
                // Emulators of Linux may know only `fork` and `vfork`.
                if !matches!(errno, libc::EINVAL | libc::ENOSYS | libc::EPERM) {
                    return Err(errno);
                }
            }
        }
    }
    // SAFETY: the child has a copy of all memory, which nobody else uses; all signals are blocked.
    let made = unsafe { raw::clone(CHILD, stack, std::ptr::null(), child::run, plan) };
    i32::try_from(made?).map_err(|_| libc::EINVAL)
}

unsafe extern "C" {
    static environ: *const *const c_char;
}

/// A copy of the environment of this process, as C programs see it.
///
/// Like every reader of the environment, `execve(2)` after `fork(2)` included, it relies on other threads' not changing it
/// meanwhile; with a GIL, Python changes it only while it holds that.
pub(crate) fn environment() -> Strings {
    // SAFETY: a variable of the C library's, which exists in every program.
    let first = unsafe { environ };
    if first.is_null() {
        return Strings::new(std::iter::empty());
    }
    let mut end = first;
    // SAFETY: an array of pointers that ends with a null pointer (`environ(7)`), which is where the search ends.
    while !unsafe { *end }.is_null() {
        end = end.wrapping_add(1);
    }
    let count = (end.addr() - first.addr()) / size_of::<*const c_char>();
    // SAFETY: as many pointers as were counted.
    let pointers = unsafe { std::slice::from_raw_parts(first, count) };
    let strings = pointers.iter().map(|string| {
        // SAFETY: each points to a string that ends with a zero byte (`environ(7)`).
        unsafe { CStr::from_ptr(*string) }
    });
    Strings::new(strings)
}
