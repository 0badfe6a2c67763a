//! The floors of work that has both ends in one process: each does what any loop must do for it.
//!
//! One epoll hears of both ends. Nothing waits for long, so the CPU time is that of a busy loop.

use std::time::Duration;

use rustix::event::epoll;

use crate::clock;
use crate::drive::{EVENTS, since, wait};
use crate::error::Error;
use crate::outcome::Work;

/// What has both ends.
pub(crate) trait BothEnds {
    /// How many operations are begun at once.
    fn batch(&self) -> usize;

    /// Where the events of both ends come from.
    fn epoll(&self) -> &rustix::fd::OwnedFd;

    /// Begins a batch. Its first event must be able to come without anything else being done.
    fn begin(&mut self) -> Result<(), Error>;

    /// Does what an event of this data is about; how many operations have ended with it.
    fn handle(&mut self, data: u64) -> Result<usize, Error>;
}

/// Does one batch after the other for `window`.
pub(crate) fn run(work: &mut impl BothEnds, window: Duration) -> Result<Work, Error> {
    let mut events: Vec<epoll::Event> = Vec::with_capacity(EVENTS);
    let (cpu, begin) = (clock::cpu_time(), clock::now());
    let mut operations = 0;
    while since(begin) < window {
        work.begin()?;
        let mut missing = work.batch();
        while missing > 0 {
            wait(work.epoll(), &mut events)?;
            if events.is_empty() {
                return Err(Error::Silent { in_flight: missing });
            }
            for event in &events {
                missing -= work.handle(event.data.u64())?;
            }
        }
        operations += work.batch();
    }
    Ok(Work {
        operations,
        cpu: clock::cpu_time().saturating_sub(cpu),
        wall: since(begin),
    })
}
