//! TLS: a transport for a protocol, and at the same time the protocol of the transport that carries the records.
//!
//! The records are made and read by Python's own `ssl.SSLObject` over two memory BIOs, so every option of a program's
//! `SSLContext` holds. When to shake hands, what to hand on, what waits and how it ends is decided here.

mod backlog;
mod class;
mod connection;
mod draining;
mod flow;
mod framing;
mod handshake;
mod incoming;
mod info;
mod outgoing;
mod reading;
mod records;
mod shutdown;
mod state;
mod turns;
mod writing;

pub(crate) use class::{Options, add_to, new_transport};
pub(crate) use connection::Waiter;
pub(crate) use incoming::end_event;
