//! System calls by the processor's own instruction, and the way back from them.
//!
//! Processors guess where a `ret` leads from the `call`s that they have seen: a return stack of 16 or 32 addresses. Some
//! kernels use it up: where returns are kept from speculating ("Safe RET" on AMD's Zen), each of the kernel's own leaves an
//! address there. The first `ret` of the program's behind such a system call follows one of those, and costs 130 ns on Zen
//! 4, more than all else that a short call has to do in the program. Elsewhere the return stack is right, and left alone.
#![expect(unsafe_code, reason = "this is assembly")]

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use std::arch::asm;
use std::ffi::{c_int, c_long};
#[cfg(target_arch = "x86_64")]
use std::sync::atomic::{AtomicU8, Ordering};

/// The kernel's answer; an error is an `errno`.
pub(crate) type Answer = Result<usize, i32>;

/// What the kernel has answered: numbers from -4095 on are errors (`syscall(2)`).
#[cfg_attr(
    not(any(target_arch = "x86_64", target_arch = "aarch64")),
    expect(dead_code, reason = "the C library answers there")
)]
#[inline]
pub(super) fn answer(returned: isize) -> Answer {
    match returned {
        -4095..=-1 => Err(i32::try_from(returned.wrapping_neg()).unwrap_or(libc::EIO)),
        _ => Ok(returned.cast_unsigned()),
    }
}

/// A number as a register holds it, with its sign.
#[inline]
pub(super) const fn number(value: c_int) -> usize {
    (value as isize).cast_unsigned()
}

/// A system call that touches no memory but what its arguments point to: not even an `errno`.
///
/// # Safety
/// Whatever the call asks of its arguments. It must not change what Rust relies on, such as memory in use.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(super) unsafe fn call(number: c_long, arguments: [usize; 6]) -> Answer {
    let [one, two, three, four, five, six] = arguments;
    let returned: isize;
    // SAFETY: the kernel takes the number and the arguments from these registers, overwrites rcx and r11 beside the
    // answer's, and leaves the stack alone; what the call does to memory is for the caller to answer for.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => returned,
            in("rdi") one,
            in("rsi") two,
            in("rdx") three,
            in("r10") four,
            in("r8") five,
            in("r9") six,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    answer(returned)
}

/// A system call that touches no memory but what its arguments point to: not even an `errno`.
///
/// # Safety
/// Whatever the call asks of its arguments. It must not change what Rust relies on, such as memory in use.
#[cfg(target_arch = "aarch64")]
#[inline]
pub(super) unsafe fn call(number: c_long, arguments: [usize; 6]) -> Answer {
    let [one, two, three, four, five, six] = arguments;
    let returned: isize;
    // SAFETY: the kernel takes the number and the arguments from these registers, overwrites only the answer's, and
    // leaves the stack alone; what the call does to memory is for the caller to answer for.
    unsafe {
        asm!(
            "svc #0",
            in("x8") number,
            inlateout("x0") one => returned,
            in("x1") two,
            in("x2") three,
            in("x3") four,
            in("x4") five,
            in("x5") six,
            options(nostack),
        );
    }
    answer(returned)
}

/// A system call that touches no memory but what its arguments point to, and the C library's `errno`.
///
/// # Safety
/// Whatever the call asks of its arguments. It must not change what Rust relies on, such as memory in use.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[inline]
pub(super) unsafe fn call(number: c_long, arguments: [usize; 6]) -> Answer {
    let [one, two, three, four, five, six] = arguments;
    // SAFETY: what the call does to memory is for the caller to answer for.
    let returned = unsafe { libc::syscall(number, one, two, three, four, five, six) };
    usize::try_from(returned).map_err(|_| {
        let error = std::io::Error::last_os_error();
        error.raw_os_error().unwrap_or(libc::EIO)
    })
}

/// Makes a system call, and prepares the way back where that pays.
///
/// It is for calls that are made often and by the instruction itself, as those of `rustix` are: whoever has returned from
/// a function of the C library's has paid already.
///
/// # Examples
/// ```
/// use std::io::Write;
/// use std::os::fd::AsFd;
///
/// let (ours, mut theirs) = std::os::unix::net::UnixStream::pair()?;
/// theirs.write_all(b"clover")?;
/// let mut room = [0; 16];
/// let count = cloverleaf::system_call(|| rustix::io::read(ours.as_fd(), &mut room))?;
/// assert_eq!(&room[..count], b"clover");
/// # Ok::<(), std::io::Error>(())
/// ```
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "a function of its own would return before the way back is prepared"
)]
pub fn system_call<T>(call: impl FnOnce() -> T) -> T {
    let answer = call();
    #[cfg(target_arch = "x86_64")]
    match RETURNS.load(Ordering::Relaxed) {
        RIGHT => {}
        OF_THE_KERNEL => refill_return_stack(),
        _ => find_out(),
    }
    answer
}

/// What system calls leave of the processor's return stack: not known yet, what is right, or the kernel's.
#[cfg(target_arch = "x86_64")]
static RETURNS: AtomicU8 = AtomicU8::new(UNKNOWN);
#[cfg(target_arch = "x86_64")]
const UNKNOWN: u8 = 0;
#[cfg(target_arch = "x86_64")]
const RIGHT: u8 = 1;
#[cfg(target_arch = "x86_64")]
const OF_THE_KERNEL: u8 = 2;

/// Asks the kernel once in the life of a process; where it does not tell, the return stack is left alone.
#[cfg(target_arch = "x86_64")]
#[cold]
fn find_out() {
    let told = std::fs::read("/sys/devices/system/cpu/vulnerabilities/spec_rstack_overflow");
    let returns = if told.is_ok_and(|told| leaves_its_own(&told)) {
        OF_THE_KERNEL
    } else {
        RIGHT
    };
    RETURNS.store(returns, Ordering::Relaxed);
}

/// Whether a kernel that says this of its mitigations leaves addresses of its own ("Mitigation: Safe RET", "Vulnerable:
/// Safe RET, no microcode").
#[cfg(target_arch = "x86_64")]
fn leaves_its_own(told: &[u8]) -> bool {
    const NAME: &[u8] = b"Safe RET";
    told.windows(NAME.len()).any(|part| part == NAME)
}

/// Has the processor see eight `call`s, so that as many `ret`s follow an address of the program's: a wrong one, at 7 ns
/// instead of 130.
///
/// That is as deep as those who make such calls often lie below whoever goes on calling: a loop's turn, or the
/// interpreter. What lies between the `call`s is where a wrong guess ends; nothing runs there.
///
/// Where a shadow stack is kept (`rdsspq` gives its address then, and changes nothing otherwise), a `call` without its
/// `ret` would end the program, so nothing is done.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "a function of its own would return before the way back is prepared"
)]
fn refill_return_stack() {
    // SAFETY: each call leads to the next line and leaves its return address on the stack, where the compiler keeps
    // nothing below the stack pointer, as this asm block may use the stack; the last line takes all eight off again.
    unsafe {
        asm!(
            "xor {shadow:e}, {shadow:e}",
            "rdsspq {shadow}",
            "test {shadow}, {shadow}",
            "jnz 20f",
            "call 2f",
            "int3",
            "2:",
            "call 3f",
            "int3",
            "3:",
            "call 4f",
            "int3",
            "4:",
            "call 5f",
            "int3",
            "5:",
            "call 6f",
            "int3",
            "6:",
            "call 7f",
            "int3",
            "7:",
            "call 8f",
            "int3",
            "8:",
            "call 9f",
            "int3",
            "9:",
            "add rsp, 64",
            "20:",
            shadow = out(reg) _,
            options(nomem),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recursion whose every frame has something of its own below its call, and above.
    fn deep(left: u64, calls: &mut u64) -> u64 {
        let own = std::hint::black_box([left, left + 1, left + 2, left + 3]);
        let below = match left {
            0 => 0,
            left => deep(left - 1, calls),
        };
        *calls += 1;
        let number = system_call(|| std::hint::black_box(own[1]) - 1);
        assert_eq!(own, [left, left + 1, left + 2, left + 3]);
        below + number
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn only_a_kernel_that_leaves_its_returns_has_them_replaced() {
        for told in [
            "Mitigation: Safe RET\n",
            "Vulnerable: Safe RET, no microcode\n",
        ] {
            assert!(leaves_its_own(told.as_bytes()));
        }
        for told in ["Not affected\n", "Vulnerable\n", "Mitigation: IBPB\n", ""] {
            assert!(!leaves_its_own(told.as_bytes()));
        }
        system_call(|| ());
        assert_ne!(RETURNS.load(Ordering::Relaxed), UNKNOWN);
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn addresses_that_are_put_there_are_taken_off_again() {
        fn deep(left: u64) -> u64 {
            let own = std::hint::black_box([left; 8]);
            let below = if left == 0 { 0 } else { deep(left - 1) };
            refill_return_stack();
            assert_eq!(own, [left; 8]);
            below + own[3]
        }
        assert_eq!((deep(100), deep(100)), (5050, 5050));
    }

    #[test]
    fn what_returns_behind_a_system_call_finds_its_frame_as_it_was() {
        for _ in 0..100 {
            let mut calls = 0;
            assert_eq!(deep(100, &mut calls), 5050);
            assert_eq!(calls, 101);
        }
    }

    #[test]
    fn an_answer_and_an_error_come_as_the_kernel_gave_them() {
        let pid = i32::try_from(std::process::id()).unwrap();
        // SAFETY: neither of these takes anything, nor writes to memory.
        let asked = unsafe { call(libc::SYS_getpid, [0; 6]) };
        assert_eq!(asked, Ok(usize::try_from(pid).unwrap()));
        // SAFETY: there is no such descriptor, nor one number's beyond all.
        let refused = unsafe { call(libc::SYS_close, [usize::MAX, 0, 0, 0, 0, 0]) };
        assert_eq!(refused, Err(libc::EBADF));
    }

    #[test]
    fn all_six_arguments_reach_the_kernel() {
        let page = 4096;
        let protection = usize::try_from(libc::PROT_READ | libc::PROT_WRITE).unwrap();
        let kind = usize::try_from(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS).unwrap();
        let arguments = [0, page, protection, kind, usize::MAX, 0];
        // SAFETY: a new mapping, wherever there is room, is nobody's yet.
        let made = unsafe { call(libc::SYS_mmap, arguments) }.unwrap();
        // SAFETY: the mapping is this test's alone.
        let gone = unsafe { call(libc::SYS_munmap, [made, page, 0, 0, 0, 0]) };
        assert_eq!(gone, Ok(0));
        // SAFETY: an offset that is no multiple of the page's size is refused, so nothing is mapped.
        let odd = unsafe { call(libc::SYS_mmap, [0, page, protection, kind, usize::MAX, 1]) };
        assert_eq!(odd, Err(libc::EINVAL));
    }
}
