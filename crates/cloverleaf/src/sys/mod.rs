//! A fence: only what rustix has no safe form of. Everything it offers is safe.

mod address;
mod datagrams;
mod fork;
mod getaddrinfo;
mod nowait;
mod signal;
mod wait;

pub(crate) use address::unix_name;
pub(crate) use datagrams::{Received, recvmmsg, sendmmsg};
pub(crate) use fork::forks;
pub(crate) use getaddrinfo::{Hints, gai_strerror, getaddrinfo};
pub(crate) use nowait::{pread_nowait, pwrite_nowait};
pub(crate) use signal::SignalCounter;
pub(crate) use wait::{KernelEvent, epoll_wait};
