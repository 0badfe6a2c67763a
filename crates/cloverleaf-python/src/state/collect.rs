//! The third phase of a turn: what has happened becomes jobs behind those already ready.

use cloverleaf::{Event, Interest, Scheduler, Token};
use pyo3::Python;

use super::LoopState;
use crate::job::{Internal, Job};
use crate::source::{Direction, Hold, Party, Source, Watch};

impl LoopState {
    /// Turns what has happened into jobs behind those already ready: other threads' jobs, events, due timers.
    #[inline]
    pub(crate) fn collect(&mut self, py: Python<'_>) {
        self.scheduler.collect_injected();
        let readable = if self.reactor.has_events() || !self.reported.is_empty() {
            self.collect_events(py)
        } else {
            0
        };
        self.held.begin_turn(readable);
        self.scheduler.collect_due();
    }

    /// Turns events into jobs; how many of them may be served together, if the driver can do that.
    fn collect_events(&mut self, py: Python<'_>) -> usize {
        let Self {
            scheduler,
            reactor,
            events,
            reported,
            order,
            ..
        } = self;
        reactor.swap_events(events);
        scheduler.stats().events.add_len(events.len());
        for token in reported.drain(..) {
            let is_reported = events.iter().any(
                |event| matches!(event, Event::Ready(of, heard) if *of == token && heard.contains(Interest::READ)),
            );
            if !is_reported {
                events.push(Event::Ready(token, Interest::READ));
            }
        }
        let mut readable = 0;
        let mut turn = order.begin_turn(events.len());
        for event in events.drain(..) {
            let (token, interest) = match event {
                Event::Ready(token, interest) => (token, interest),
                Event::Done(token, completion) => {
                    // The object goes with the job, and is dropped when nothing is borrowed.
                    if let Some(Source::Served(Hold::Strong(waiter), _)) = reactor.remove(token) {
                        let ended = Internal::Ended(waiter, completion);
                        scheduler.push(Job::internal(ended));
                    }
                    continue;
                }
            };
            match reactor.get_mut(token) {
                Some(Source::Served(..)) => {
                    readable += usize::from(interest == Interest::READ);
                    if turn.comes_now(token, interest) {
                        scheduler.push(Job::Io(token, interest));
                    }
                }
                Some(Source::Watch(watch)) => announce(py, watch, (token, interest), scheduler),
                None => {}
            }
        }
        for (token, interest) in turn.come_last() {
            scheduler.push(Job::Io(token, interest));
        }
        if reactor.driver().may_batch() {
            readable
        } else {
            0
        }
    }
}

/// Queues the callbacks for what has happened to a descriptor, and one job for all who wait for it.
fn announce(
    py: Python<'_>,
    watch: &mut Watch,
    (token, interest): (Token, Interest),
    scheduler: &mut Scheduler<Job>,
) {
    let mut someone_waits = false;
    for direction in [Direction::Read, Direction::Write] {
        if !interest.contains(direction.interest()) {
            continue;
        }
        match watch.slot(direction) {
            Some(Party::Handle(handle)) => scheduler.push(Job::Callback(handle.clone_ref(py))),
            Some(Party::Waiter(_, heard)) => {
                *heard = true;
                someone_waits = true;
            }
            None => {}
        }
    }
    if someone_waits {
        scheduler.push(Job::Io(token, interest));
    }
}
