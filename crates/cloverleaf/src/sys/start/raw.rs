//! System calls by the processor's own instruction, for code that may not even store an `errno`.
//!
//! A child that shares its parent's memory also shares the thread-local storage of the thread that started it, and that
//! thread goes on. The C library's wrappers store `errno` there, and some of them more (`clone(2)` before glibc 2.25
//! stored the thread's number); nothing in this file touches any memory but what its arguments point to.
#![expect(unsafe_code, reason = "this is assembly")]

use std::arch::asm;
use std::ffi::c_long;

pub(super) use super::super::call::Answer;
use super::super::call::answer;

/// A system call.
///
/// # Safety
/// Whatever the call asks of its arguments. It must not change what Rust relies on, such as memory in use.
#[inline]
pub(super) unsafe fn call(number: c_long, [one, two, three, four, five]: [usize; 5]) -> Answer {
    // SAFETY: as the caller promises.
    unsafe { super::super::call::call(number, [one, two, three, four, five, 0]) }
}

/// What a new process runs first; it never returns.
pub(super) type Entry = unsafe extern "C" fn(*const super::Plan) -> !;

/// Makes a process that runs `entry(plan)` on another stack, and returns its number at once.
///
/// # Safety
/// `flags` must not contain `CLONE_SETTLS`, `CLONE_PARENT_SETTID`, `CLONE_THREAD` nor `CLONE_VFORK`. With `CLONE_VM`,
/// the stack that ends at `stack_end`, `*plan`, and `*cleared`, if `CLONE_CHILD_CLEARTID` is set, must stay valid, and
/// but for `cleared` unchanged, until the process has executed a program or ended; `entry` must do nothing that is
/// unsound beside the threads of this process. `stack_end` is a multiple of 16.
#[cfg(target_arch = "x86_64")]
pub(super) unsafe fn clone(
    flags: usize,
    stack_end: *mut u8,
    cleared: *const u32,
    entry: Entry,
    plan: *const super::Plan,
) -> Answer {
    let returned: isize;
    // SAFETY: in the parent, this is a system call like any other. The new process begins behind `syscall` with the
    // same registers but for rax, which is 0, and rsp, which is the end of the new stack: it clears the frame pointer,
    // where stack walks end, calls `entry`, and never reaches what follows, so that nothing but the parent continues
    // this function. The call leaves the stack aligned as the ABI demands at a function's entry.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone => returned,
            in("rdi") flags,
            in("rsi") stack_end,
            in("rdx") 0_usize,
            in("r10") cleared,
            in("r8") 0_usize,
            in("r12") plan,
            in("r13") entry,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    answer(returned)
}

/// Makes a process that runs `entry(plan)` on another stack, and returns its number at once.
///
/// # Safety
/// `flags` must not contain `CLONE_SETTLS`, `CLONE_PARENT_SETTID`, `CLONE_THREAD` nor `CLONE_VFORK`. With `CLONE_VM`,
/// the stack that ends at `stack_end`, `*plan`, and `*cleared`, if `CLONE_CHILD_CLEARTID` is set, must stay valid, and
/// but for `cleared` unchanged, until the process has executed a program or ended; `entry` must do nothing that is
/// unsound beside the threads of this process. `stack_end` is a multiple of 16.
#[cfg(target_arch = "aarch64")]
pub(super) unsafe fn clone(
    flags: usize,
    stack_end: *mut u8,
    cleared: *const u32,
    entry: Entry,
    plan: *const super::Plan,
) -> Answer {
    let returned: isize;
    // SAFETY: in the parent, this is a system call like any other. The new process begins behind `svc` with the same
    // registers but for x0, which is 0, and sp, which is the end of the new stack: it clears the frame pointer and the
    // return address, where stack walks end, calls `entry`, and never reaches what follows, so that nothing but the
    // parent continues this function. Here the thread pointer comes before `cleared`, unlike on x86-64.
    unsafe {
        asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x30, xzr",
            "mov x0, x20",
            "blr x21",
            "brk #1",
            "2:",
            in("x8") libc::SYS_clone,
            inlateout("x0") flags => returned,
            in("x1") stack_end,
            in("x2") 0_usize,
            in("x3") 0_usize,
            in("x4") cleared,
            in("x20") plan,
            in("x21") entry,
        );
    }
    answer(returned)
}

/// Whether the program runs under valgrind, which ends a process that calls `clone` as this file does.
///
/// This is valgrind's own question to itself (`RUNNING_ON_VALGRIND` in its `valgrind.h`): instructions that change
/// nothing, and that only valgrind understands.
#[cfg(target_arch = "x86_64")]
pub(super) fn runs_under_valgrind() -> bool {
    let question: [usize; 6] = [0x1001, 0, 0, 0, 0, 0];
    let result: usize;
    // SAFETY: the rotations add up to 128 bits, and exchanging a register with itself does nothing; valgrind reads
    // `question`, which lives, and puts its answer into rdx.
    unsafe {
        asm!(
            "rol rdi, 3",
            "rol rdi, 13",
            "rol rdi, 61",
            "rol rdi, 51",
            "xchg rbx, rbx",
            inout("rdi") 0_usize => _,
            in("rax") question.as_ptr(),
            inout("rdx") 0_usize => result,
        );
    }
    result != 0
}

/// Whether the program runs under valgrind, which ends a process that calls `clone` as this file does.
///
/// This is valgrind's own question to itself (`RUNNING_ON_VALGRIND` in its `valgrind.h`): instructions that change
/// nothing, and that only valgrind understands.
#[cfg(target_arch = "aarch64")]
pub(super) fn runs_under_valgrind() -> bool {
    let question: [usize; 6] = [0x1001, 0, 0, 0, 0, 0];
    let result: usize;
    // SAFETY: the rotations add up to 128 bits, and a register or itself is itself; valgrind reads `question`, which
    // lives, and puts its answer into x3.
    unsafe {
        asm!(
            "ror x12, x12, #3",
            "ror x12, x12, #13",
            "ror x12, x12, #51",
            "ror x12, x12, #61",
            "orr x10, x10, x10",
            inout("x12") 0_usize => _,
            in("x4") question.as_ptr(),
            inout("x3") 0_usize => result,
        );
    }
    result != 0
}
