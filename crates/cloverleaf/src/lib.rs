//! A single-threaded event loop: callbacks, timers, sockets, files, signals, children and other threads' jobs, in order.
//!
//! # A program
//!
//! ```
//! use std::time::Duration;
//! use cloverleaf::{EventLoop, TcpListener, TcpStream, spawn, timeout};
//!
//! let event_loop = EventLoop::new()?;
//! let answer = event_loop.run_until_complete(async {
//!     let listener = TcpListener::bind("127.0.0.1:0".parse().unwrap())?;
//!     let address = listener.local_addr()?;
//!
//!     // A server, beside us on the same thread.
//!     spawn(async move {
//!         let (stream, _peer) = listener.accept().await?;
//!         stream.write_all(b"hello").await
//!     });
//!
//!     let stream = TcpStream::connect("127.0.0.1", address.port()).await?;
//!     let mut bytes = Vec::new();
//!     timeout(Duration::from_secs(5), stream.read_to_end(&mut bytes)).await??;
//!     std::io::Result::Ok(bytes)
//! })??;
//! assert_eq!(answer, b"hello");
//! # Ok::<(), cloverleaf::Error>(())
//! ```
//!
//! The loop's own calls need no futures, and run in asyncio's order: first in, first out, and what a call schedules
//! waits for the next turn.
//!
//! ```
//! use std::time::Duration;
//! use cloverleaf::EventLoop;
//!
//! let event_loop = EventLoop::new()?;
//! let late = event_loop.call_later(Duration::from_secs(3600), |_| unreachable!("cancelled"));
//! event_loop.call_soon(move |event_loop| {
//!     late.cancel();
//!     event_loop.call_later(Duration::from_millis(1), EventLoop::stop);
//! });
//! event_loop.run_forever()?;
//! # Ok::<(), cloverleaf::Error>(())
//! ```
//!
//! # Threads
//!
//! A loop, its tasks and its sockets belong to one thread. Other threads have three ways in: a [`LoopHandle`], on which
//! they call [`call_soon_threadsafe`](LoopHandle::call_soon_threadsafe); the [`Waker`](std::task::Waker) of any task;
//! and the end of a [`spawn_blocking`] call. Each wakes a loop that sleeps, once for a burst.
//!
//! # Giving up, and failing
//!
//! Dropping a future ends what it waits for: nothing is read or accepted for it, its timer is gone, and dropping a
//! socket closes it. A panic in a task is told to whoever awaits its [`JoinHandle`]; a panic in a call ends the run and
//! reaches its caller, and the loop can be run again. What the kernel says of one descriptor is an
//! [`std::io::Error`]; what goes wrong with a loop as such is an [`Error`].
//!
//! # Building on it
//!
//! Below [`EventLoop`] are the parts of which other loops can be made, ignorant of what they carry: a [`Scheduler`]
//! orders jobs of any type, with [`Timers`] and an [`Injector`]; a [`Reactor`] tells sources of any type what any
//! [`Driver`] reports, and an [`Order`] which of many is served first; a [`BlockingPool`] runs what can only block;
//! [`WriteQueue`], [`DatagramBatch`], [`accept`] and [`Query`] do one thing each for a transport. No part of the crate runs
//! foreign code while it holds a lock or a borrow of its own.

mod blocking;
mod children;
mod clock;
pub mod driver;
mod error;
mod event_loop;
pub mod fs;
mod guard;
mod injector;
mod io;
pub mod limits;
mod order;
mod reactor;
mod registry;
mod resolve;
mod rests;
mod scheduler;
mod shuffle;
mod signals;
mod start;
mod stats;
mod sys;
mod task;
mod timers;
mod watchdog;

pub use blocking::BlockingPool;
pub use children::{Child, wait_child};
pub use clock::{Clock, ManualClock, Time};
pub use driver::{
    AnyDriver, Backend, Completion, Driver, Epoll, Event, Hybrid, InUse, Interest, Note, Op,
    Refusal, Token, UnknownBackend,
};
pub use error::{Error, Result, ignore};
pub use event_loop::{
    Builder, Elapsed, EventLoop, Handle, JoinHandle, LoopHandle, Sleep, TimerHandle, sleep,
    sleep_until, spawn, spawn_blocking, timeout, yield_now,
};
pub use guard::{Found, Guarded, Holder, Missing, Vigil, Watch};
pub use injector::{Injector, Sleeper};
pub use io::{
    Accepted, Address, ByteStream, DatagramBatch, Sent, SharedBytes, TcpListener, TcpStream,
    UdpSocket, UnixListener, UnixStream, WriteQueue, accept, cuts_datagrams, is_on_the_way,
    may_accept, recv_datagram, send_datagram, send_datagrams, send_segments, try_accept,
};
pub use order::{Order, OrderedTurn};
pub use reactor::Reactor;
pub use registry::Registry;
pub use resolve::{Query, ResolveError, Resolved, literal, lookup};
pub use scheduler::Scheduler;
pub use shuffle::Shuffle;
pub use signals::{Signal, signal};
pub use start::{Obstacle, Program, Started, Starting};
pub use stats::{Counter, Doing, Histogram, Metrics, Stats, Traffic, TrafficMetrics};
pub use sys::system_call;
pub use task::JoinError;
pub use timers::{TimerKey, Timers};
pub use watchdog::{Seen, Sighting, Watcher};
