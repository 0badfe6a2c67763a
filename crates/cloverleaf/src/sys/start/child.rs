//! What runs in the child between its birth and its program: system calls on data that is ready, and nothing else.
//!
//! The child shares the memory of a process that goes on running, and the thread-local storage of the thread that
//! started it. So the code here allocates nothing, takes no lock, cannot panic, calls nothing of the C library or of
//! Rust's standard library but what is compiled into it, and writes to nothing but its own stack. Its signals are
//! blocked until no handler of the parent's is left that could run here.
//!
//! What it does, and in which order, is what CPython's `subprocess` does: see `child_exec` in its
//! `Modules/_posixsubprocess.c`.
#![expect(unsafe_code, reason = "it makes system calls")]

use std::ffi::{c_char, c_long};
use std::os::fd::RawFd;

use super::raw::{self, Answer};
use super::{Plan, Stage};

/// The kernel's `struct sigaction`, of the same form on the architectures of `raw.rs`; the C library's differs.
#[repr(C)]
struct Action {
    handler: usize,
    flags: usize,
    restorer: usize,
    mask: u64,
}

/// The bytes of the kernel's signal mask.
pub(super) const MASK_BYTES: usize = 8;
const LAST_SIGNAL: i32 = 64;

/// What becomes of an errno, and how far the child had come.
struct Failure(i32, Stage);

impl From<i32> for Failure {
    fn from(errno: i32) -> Self {
        Self(errno, Stage::Preparing)
    }
}

/// The life of the child.
///
/// # Safety
/// `plan` must stay valid and unchanged until the process executes a program or ends, the strings that it points to
/// included. All signals must be blocked. To be entered by `raw::clone` only: it never returns.
pub(super) unsafe extern "C" fn run(plan: *const Plan) -> ! {
    // SAFETY: the caller vouches for it.
    let plan = unsafe { &*plan };
    // A handler of the parent's would run in the parent's memory, beside the parent.
    reset_handlers();
    let Failure(errno, stage) = match prepare(plan) {
        Ok(()) => execute(plan),
        Err(failure) => failure,
    };
    report(plan.report.1, [errno, stage as i32]);
    loop {
        let _never = call(libc::SYS_exit_group, [255, 0, 0, 0, 0]);
    }
}

/// A call that takes numbers only, and changes no memory.
fn call(number: c_long, arguments: [usize; 5]) -> Answer {
    // SAFETY: in this file, every call that comes this way is one whose arguments are numbers.
    unsafe { raw::call(number, arguments) }
}

/// A C `int` in a register; the kernel looks at its lower half.
const fn int(value: i32) -> usize {
    value.cast_unsigned() as usize
}

/// Gives every signal that has a handler its default action.
fn reset_handlers() {
    for signal in 1..=LAST_SIGNAL {
        let mut old = default_action();
        let wanted = [int(signal), 0, (&raw mut old).addr(), MASK_BYTES, 0];
        // SAFETY: the kernel writes one `struct sigaction` of its own to `old`, and reads none.
        let known = unsafe { raw::call(libc::SYS_rt_sigaction, wanted) };
        if known.is_ok() && old.handler != libc::SIG_DFL && old.handler != libc::SIG_IGN {
            set_default(signal);
        }
    }
}

const fn default_action() -> Action {
    Action {
        handler: libc::SIG_DFL,
        flags: 0,
        restorer: 0,
        mask: 0,
    }
}

/// Gives a signal its default action; only those refuse it whose action cannot be changed.
fn set_default(signal: i32) {
    let action = default_action();
    let wanted = [int(signal), (&raw const action).addr(), 0, MASK_BYTES, 0];
    // SAFETY: the kernel reads one `struct sigaction` of its own from `action`, and writes none.
    let _refused = unsafe { raw::call(libc::SYS_rt_sigaction, wanted) };
}

/// Everything before the program.
fn prepare(plan: &Plan) -> Result<(), Failure> {
    for fd in &plan.kept {
        // It must outlive everything but the program.
        if *fd != plan.report.1 {
            let_inherit(*fd)?;
        }
    }
    for fd in &plan.parents_ends {
        close(*fd)?;
    }
    close(plan.report.0)?;
    arrange_stdio(plan.stdio)?;
    if let Some(folder) = &plan.folder {
        change_folder(folder.as_ptr()).map_err(|errno| Failure(errno, Stage::Folder))?;
    }
    if let Some(mask) = plan.umask {
        call(libc::SYS_umask, [mask as usize, 0, 0, 0, 0])?;
    }
    if plan.restores_signals {
        set_default(libc::SIGPIPE);
        set_default(libc::SIGXFSZ);
    }
    if plan.new_session {
        call(libc::SYS_setsid, [0; 5])?;
    }
    if let Some(group) = plan.process_group {
        call(libc::SYS_setpgid, [0, int(group), 0, 0, 0])?;
    }
    change_identity(plan)?;
    unblock_signals(plan.mask)?;
    for (first, last) in &plan.closed {
        let range = [*first as usize, *last as usize, 0, 0, 0];
        call(libc::SYS_close_range, range)?;
    }
    Ok(())
}

fn close(fd: RawFd) -> Result<(), i32> {
    call(libc::SYS_close, [int(fd), 0, 0, 0, 0]).map(drop)
}

fn fcntl(fd: RawFd, command: i32, argument: usize) -> Answer {
    call(libc::SYS_fcntl, [int(fd), int(command), argument, 0, 0])
}

/// Makes a descriptor outlive the execution of the program.
fn let_inherit(fd: RawFd) -> Result<(), i32> {
    let flags = fcntl(fd, libc::F_GETFD, 0)?;
    let inherited = flags & !int(libc::FD_CLOEXEC);
    if inherited != flags {
        fcntl(fd, libc::F_SETFD, inherited)?;
    }
    Ok(())
}

/// Puts descriptors where standard input, output and error are.
fn arrange_stdio([input, mut output, mut error]: [RawFd; 3]) -> Result<(), i32> {
    // What stands where another one goes moves out of its way first.
    if output == 0 {
        output = move_up(output)?;
    }
    if error == 0 || error == 1 {
        error = move_up(error)?;
    }
    place(input, 0)?;
    place(output, 1)?;
    place(error, 2)
}

/// Another number for a descriptor, above standard error, until the program is executed.
fn move_up(fd: RawFd) -> Result<RawFd, i32> {
    let moved = fcntl(fd, libc::F_DUPFD_CLOEXEC, 3)?;
    RawFd::try_from(moved).map_err(|_| libc::EBADF)
}

fn place(fd: RawFd, at: RawFd) -> Result<(), i32> {
    if fd == -1 {
        Ok(())
    } else if fd == at {
        let_inherit(fd)
    } else {
        call(libc::SYS_dup3, [int(fd), int(at), 0, 0, 0]).map(drop)
    }
}

fn change_folder(path: *const c_char) -> Result<(), i32> {
    // SAFETY: the kernel reads a string that ends with a zero byte, which `path` is: it comes from a `CString`.
    unsafe { raw::call(libc::SYS_chdir, [path.addr(), 0, 0, 0, 0]) }.map(drop)
}

/// Becomes another user, if that is asked for.
fn change_identity(plan: &Plan) -> Result<(), i32> {
    if let Some(groups) = &plan.groups {
        let list = [groups.len(), groups.as_ptr().addr(), 0, 0, 0];
        // SAFETY: the kernel reads as many numbers of 32 bits as `groups` has.
        unsafe { raw::call(libc::SYS_setgroups, list) }?;
    }
    if let Some(group) = plan.group {
        let group = group as usize;
        call(libc::SYS_setregid, [group, group, 0, 0, 0])?;
    }
    if let Some(user) = plan.user {
        let user = user as usize;
        call(libc::SYS_setreuid, [user, user, 0, 0, 0])?;
    }
    Ok(())
}

fn unblock_signals(mask: u64) -> Result<(), i32> {
    let mask = (&raw const mask).addr();
    let wanted = [int(libc::SIG_SETMASK), mask, 0, MASK_BYTES, 0];
    // SAFETY: the kernel reads a mask of eight bytes, which lives, and writes none.
    unsafe { raw::call(libc::SYS_rt_sigprocmask, wanted) }.map(drop)
}

/// Tries one path after the other; returns only if the program of none can be executed.
fn execute(plan: &Plan) -> Failure {
    let mut last = 0;
    let mut first_of_note = 0;
    for executable in plan.executables.pointers() {
        if executable.is_null() {
            break;
        }
        last = try_to_execute(plan, *executable);
        // As a shell does, it looks on if there is no such file, and tells of the first other error.
        if first_of_note == 0 && last != libc::ENOENT && last != libc::ENOTDIR {
            first_of_note = last;
        }
    }
    let errno = if first_of_note == 0 {
        last
    } else {
        first_of_note
    };
    Failure(errno, Stage::Executing)
}

/// Executes a program, or returns why that is impossible.
fn try_to_execute(plan: &Plan, executable: *const c_char) -> i32 {
    let wanted = [
        executable.addr(),
        plan.arguments.pointers().as_ptr().addr(),
        plan.environment.pointers().as_ptr().addr(),
        0,
        0,
    ];
    let mut tries_left = crate::limits::BUSY_PROGRAM_TRIES;
    loop {
        // SAFETY: the kernel reads a string and two arrays of strings that end with null pointers, all of which the
        // plan owns; if it succeeds, nothing of this process's code goes on.
        let Err(errno) = (unsafe { raw::call(libc::SYS_execve, wanted) }) else {
            return libc::EIO;
        };
        // Another child that has not executed its program yet may hold a copy of the descriptor with which this file
        // was written, for as long as that takes. On a loop that waits for its children there is no such child.
        if errno != libc::ETXTBSY || tries_left == 0 {
            return errno;
        }
        tries_left = tries_left.saturating_sub(1);
        pause();
    }
}

fn pause() {
    let time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 1_000_000,
    };
    let wanted = [(&raw const time).addr(), 0, 0, 0, 0];
    // SAFETY: the kernel reads one timespec, which lives, and writes none.
    let _interrupted = unsafe { raw::call(libc::SYS_nanosleep, wanted) };
}

/// Tells the parent why the program is not executed. If that fails, too, it is taken for a program that has ended.
fn report(fd: RawFd, words: [i32; 2]) {
    let bytes = (&raw const words).addr();
    // SAFETY: the kernel reads the eight bytes of `words`, which lives.
    let _gone = unsafe { raw::call(libc::SYS_write, [int(fd), bytes, 8, 0, 0]) };
}
