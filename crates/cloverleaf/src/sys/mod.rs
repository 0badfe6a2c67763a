//! A fence: only what rustix has no safe form of. Everything it offers is safe.

mod address;
#[cfg_attr(
    not(any(
        target_arch = "x86_64",
        target_arch = "aarch64",
        target_arch = "riscv64",
        target_arch = "loongarch64",
        target_arch = "powerpc64"
    )),
    expect(dead_code, reason = "no ring asks")
)]
mod ask;
mod call;
mod clock;
mod datagrams;
mod file;
mod fork;
mod getaddrinfo;
mod nowait;
mod outgoing;
#[cfg_attr(
    not(all(
        target_pointer_width = "64",
        any(target_arch = "x86_64", target_arch = "aarch64")
    )),
    expect(dead_code, reason = "no child reads it")
)]
mod plan;
mod processor;
#[cfg_attr(
    not(any(
        target_arch = "x86_64",
        target_arch = "aarch64",
        target_arch = "riscv64",
        target_arch = "loongarch64",
        target_arch = "powerpc64"
    )),
    path = "no_ring.rs"
)]
mod ring;
mod segments;
mod signal;
#[cfg_attr(
    not(any(
        target_arch = "x86_64",
        target_arch = "aarch64",
        target_arch = "riscv64",
        target_arch = "loongarch64",
        target_arch = "powerpc64"
    )),
    path = "no_small_calls.rs"
)]
mod small_calls;
#[cfg_attr(
    not(all(
        target_pointer_width = "64",
        any(target_arch = "x86_64", target_arch = "aarch64")
    )),
    path = "no_start.rs"
)]
mod start;
mod unsignalled;
mod wait;

pub(crate) use address::unix_name;
pub(crate) use ask::{Ask, Request};
pub use call::system_call;
pub(crate) use clock::monotonic;
pub(crate) use datagrams::{Received, recvmmsg, sendmmsg};
pub(crate) use file::with_file;
pub(crate) use fork::{around_forks, forks};
pub(crate) use getaddrinfo::{Hints, gai_strerror, getaddrinfo};
pub(crate) use nowait::{pread_nowait, pwrite_nowait, read_nowait};
pub(crate) use outgoing::outgoing;
pub(crate) use plan::Strings;
pub(crate) use processor::processor;
pub(crate) use ring::Ring;
pub(crate) use segments::{cuts_when_asked, send_segments as sendmsg_segments};
pub(crate) use signal::SignalCounter;
pub(crate) use small_calls::SmallCalls;
pub(crate) use start::{Plan, Stage, Starting, can_start, environment, start};
pub(crate) use unsignalled::without_signals;
pub(crate) use wait::{KernelEvent, epoll_wait};
