//! What a loop owns: its scheduler, its reactor, and who uses which descriptor.

mod collect;
mod numbers;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use cloverleaf::{
    Backend, Clock, DatagramBatch, Driver, Event, Hybrid, InUse, Interest, Order, Reactor,
    Scheduler, Token, ignore, limits,
};
use pyo3::Python;

use self::numbers::ByNumber;
use crate::ffi::{Owned, Visitor, reveal};
use crate::first_look::FirstLook;
use crate::give_way::GiveWay;
use crate::held::{Held, Sender};
use crate::job::Job;
use crate::polling::Polling;
use crate::source::{Hold, Serve, Source};
use crate::steering::Steering;

/// The state of one loop, reached through its `OwnerCell`.
#[derive(Debug)]
pub(crate) struct LoopState {
    /// What runs next.
    pub(crate) scheduler: Scheduler<Job>,
    /// Who hears of what.
    pub(crate) reactor: Reactor<Hybrid, Source>,
    /// The registration of each descriptor that stays the user's.
    pub(crate) watches: ByNumber<Token>,
    /// The registration of each descriptor that a transport or a listener owns.
    pub(crate) transports: ByNumber<Token>,
    /// The transports of asyncio's own, which watch their descriptors as users do.
    pub(crate) foreign: ByNumber<Hold>,
    /// Lent to one receive at a time; made at the first.
    buffer: Vec<u8>,
    /// Likewise, to the receives of many connections in one call.
    rooms: Vec<u8>,
    /// Likewise, to the receive of many datagrams.
    batch: DatagramBatch,
    /// Room for what the driver has reported; empty between two turns.
    events: Vec<Event>,
    /// Sources that the next turn finds readable, also if the driver does not report it.
    reported: Vec<Token>,
    /// Who comes first when many are ready.
    order: Order,
    /// Who has written what is not sent yet.
    pub(crate) held: Held,
    /// The connections for which the kernel may hold something back; see `transport/corked.rs`.
    pub(crate) corked: Vec<Owned>,
    /// Whether a turn that has jobs ready asks the kernel as well.
    pub(crate) polling: Polling,
    /// Whether it asks the kernel before it sleeps.
    pub(crate) first_look: FirstLook,
    /// When it lets other threads run Python next, if it does not sleep before.
    pub(crate) others: GiveWay,
    /// The kernel or others were turned to in this turn; see [`look_up`](Self::look_up).
    has_looked: bool,
    /// How it is steered, if it is a loop for tests.
    pub(crate) steering: Option<Box<Steering>>,
    /// Sources that were found out of use under a borrow, until they can be dropped.
    discarded: Vec<Source>,
    /// The size of the last receive for `sock_recv`, from which the next one's room is guessed.
    pub(crate) last_receive: usize,
}

impl LoopState {
    /// A loop with nothing to do.
    ///
    /// # Errors
    /// What the driver needs and the kernel refuses.
    pub(crate) fn new() -> io::Result<Self> {
        let driver = Hybrid::new(Backend::Auto)?;
        let waker = driver.waker();
        Ok(Self {
            scheduler: Scheduler::new(Clock::monotonic(), waker),
            reactor: Reactor::new(driver),
            watches: ByNumber::default(),
            transports: ByNumber::default(),
            foreign: ByNumber::default(),
            buffer: Vec::new(),
            rooms: Vec::new(),
            batch: DatagramBatch::new(),
            events: Vec::new(),
            reported: Vec::new(),
            order: Order::default(),
            held: Held::default(),
            corked: Vec::new(),
            polling: Polling::new(),
            first_look: FirstLook::default(),
            others: GiveWay::default(),
            has_looked: false,
            steering: None,
            discarded: Vec::new(),
            last_receive: 0,
        })
    }

    /// The read buffer that all sources share.
    pub(crate) fn read_buffer(&mut self) -> &mut [u8] {
        if self.buffer.is_empty() {
            self.buffer = vec![0; limits::READ_BUFFER_BYTES];
        }
        &mut self.buffer
    }

    /// The room for datagrams that all sources share.
    pub(crate) const fn datagram_batch(&mut self) -> &mut DatagramBatch {
        &mut self.batch
    }

    /// Gives an object a token; nothing is reported of its descriptor yet.
    pub(crate) fn add_source(&mut self, fd: RawFd, object: Owned, serve: Serve) -> Token {
        let token = self
            .reactor
            .insert(Source::Served(Hold::Strong(object), serve));
        self.transports.insert(fd, token);
        token
    }

    /// Gives a token to another object, which hears from now on of what is reported under it.
    #[must_use = "the object that had it must be dropped when nothing is borrowed"]
    pub(crate) fn replace_source(&mut self, token: Token, object: Owned, serve: Serve) -> Source {
        let source = Source::Served(Hold::Strong(object), serve);
        match self.reactor.get_mut(token) {
            Some(place) => std::mem::replace(place, source),
            None => source,
        }
    }

    /// The object that a descriptor belongs to, if it is a transport's or a listener's.
    pub(crate) fn served(&self, py: Python<'_>, fd: RawFd) -> Option<Hold> {
        let Some(token) = self.transports.get(&fd) else {
            return self.foreign.get(&fd).map(|hold| hold.clone_ref(py));
        };
        match self.reactor.get(*token) {
            Some(Source::Served(hold, _)) => Some(hold.clone_ref(py)),
            Some(Source::Watch(_)) | None => None,
        }
    }

    /// Changes how an object is held, and gives back how it was.
    #[must_use = "the object must be dropped when nothing is borrowed"]
    pub(crate) fn hold_source(&mut self, token: Token, hold: Hold) -> Hold {
        match self.reactor.get_mut(token) {
            Some(Source::Served(place, _)) => std::mem::replace(place, hold),
            Some(Source::Watch(_)) | None => hold,
        }
    }

    /// Forgets an object; its descriptor must have no interest left, or be closed next.
    #[must_use = "the object must be dropped when nothing is borrowed"]
    pub(crate) fn remove_source(&mut self, fd: RawFd, token: Token) -> Option<Source> {
        if self.transports.get(&fd) == Some(&token) {
            self.transports.remove(&fd);
        }
        self.reactor.remove(token)
    }

    /// Changes what is reported of a descriptor.
    ///
    /// Without any interest the driver does not know the descriptor at all, because the kernel would report a hang-up
    /// again and again to somebody who does not care.
    ///
    /// # Errors
    /// Those of `epoll_ctl(2)`.
    pub(crate) fn set_interest(
        &mut self,
        fd: BorrowedFd<'_>,
        token: Token,
        from: Interest,
        to: Interest,
    ) -> io::Result<()> {
        self.expect_events();
        match (from.is_none(), to.is_none()) {
            (true, true) => Ok(()),
            (true, false) => {
                if !self.take_over(fd, token, to)? {
                    self.reactor.attach(fd, token, to)?;
                    self.bury(fd.as_raw_fd());
                }
                self.polling.note_attached();
                Ok(())
            }
            (false, false) if from == to => Ok(()),
            (false, false) => match self.reactor.modify(fd, token, to) {
                // A forked child hears of nothing anyhow.
                Err(_) if from.contains(to) && self.is_forked() => Ok(()),
                modified => modified,
            },
            (false, true) => {
                self.forget(fd);
                Ok(())
            }
        }
    }

    /// Makes use of the registration that was kept for those who may wait for a socket again: it has a new owner.
    ///
    /// `false` if there is none.
    fn take_over(&mut self, fd: BorrowedFd<'_>, token: Token, to: Interest) -> io::Result<bool> {
        let Some(old) = self.watches.get(&fd.as_raw_fd()).copied() else {
            return Ok(false);
        };
        if matches!(self.reactor.get(old), Some(Source::Watch(watch)) if watch.has_handle()) {
            return Ok(false);
        }
        self.watches.remove(&fd.as_raw_fd());
        self.discarded.extend(self.reactor.remove(old));
        self.note_forgotten(fd.as_raw_fd());
        match self.reactor.modify(fd, token, to) {
            Ok(()) => Ok(true),
            // It was of another socket, which had the same number and was closed.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Forgets a program's registration of another file that had this number: the kernel takes no second one of a file.
    fn bury(&mut self, fd: RawFd) {
        if let Some(dead) = self.watches.remove(&fd) {
            self.note_forgotten(fd);
            self.discarded.extend(self.reactor.remove(dead));
        }
    }

    /// The sources that are out of use.
    #[must_use = "they must be dropped when nothing is borrowed"]
    pub(crate) fn take_discarded(&mut self) -> Vec<Source> {
        std::mem::take(&mut self.discarded)
    }

    /// Keeps an object until it can be dropped, as a source that is in no registry.
    pub(crate) fn discard(&mut self, object: Owned) {
        let unused = Source::Served(Hold::Strong(object), |_, _| Ok(()));
        self.discarded.push(unused);
    }

    /// Whether the kernel may hold something back for a connection.
    #[inline]
    pub(crate) const fn has_corked(&self) -> bool {
        !self.corked.is_empty()
    }

    /// Makes the next turns ask the kernel, however long it was quiet.
    pub(crate) const fn expect_events(&mut self) {
        self.polling.expect_events();
    }

    /// Asks the kernel, if a turn with jobs ready should do so.
    ///
    /// # Errors
    /// See [`Driver::wait`].
    #[inline]
    pub(crate) fn poll(&mut self) -> io::Result<()> {
        let in_flight = self.reactor.driver().in_flight();
        if in_flight == 0 && self.polling.is_needless(&self.scheduler) {
            return Ok(());
        }
        self.scheduler.stats().polls.add(1);
        self.look_up();
        self.reactor.wait(Some(Duration::ZERO))?;
        self.polling.note_answer(self.reactor.has_events());
        Ok(())
    }

    /// Asks the kernel before a sleep; whether that has found something, so that there is no need for one.
    ///
    /// # Errors
    /// See [`Driver::wait`].
    #[inline]
    pub(crate) fn look_first(&mut self) -> io::Result<bool> {
        self.scheduler.stats().polls.add(1);
        self.wait(Some(Duration::ZERO))?;
        let has_found = self.reactor.has_events();
        self.first_look.note(has_found);
        if has_found {
            self.look_up();
        }
        Ok(has_found)
    }

    /// Asks the kernel what has happened, and sleeps for at most `timeout`.
    ///
    /// # Errors
    /// See [`Driver::wait`].
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.expect_events();
        self.reactor.wait(timeout)
    }

    /// The same, and counts it as a sleep.
    ///
    /// # Errors
    /// See [`Driver::wait`].
    pub(crate) fn sleep(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.look_up();
        self.scheduler.begin_sleep();
        let waited = self.wait(timeout);
        self.scheduler.end_sleep();
        waited
    }

    /// Notes that a turn begins, now that all is collected.
    #[inline]
    pub(crate) fn note_turn(&mut self) {
        self.scheduler.begin_turn();
        if std::mem::take(&mut self.has_looked) {
            self.note_waiting();
        }
    }

    /// Has what the loop has before it noted when the turn begins: every turn would pay more than a hundredth for it.
    pub(crate) const fn look_up(&mut self) {
        self.has_looked = true;
    }

    /// Notes what the loop has before it now.
    pub(crate) fn note_waiting(&self) {
        self.scheduler.note_waiting(self.reactor.len());
        self.scheduler.stats().transports.set(self.transports.len());
    }

    /// Takes everything that holds a Python object; its drop is the caller's, when nothing is borrowed.
    #[must_use = "Python objects must be dropped when nothing is borrowed"]
    pub(crate) fn take_all(&mut self) -> (Vec<Job>, Vec<Source>, Vec<Sender>, Vec<Owned>) {
        self.watches.clear();
        self.transports.clear();
        self.polling.forget_all();
        let mut sources = self.reactor.take_all();
        sources.append(&mut self.discarded);
        let corked = std::mem::take(&mut self.corked);
        (self.scheduler.close(), sources, self.held.take(), corked)
    }

    /// Says which interfaces of the kernel may be used.
    ///
    /// # Errors
    /// If a ring is demanded, the error with which the kernel refuses it.
    pub(crate) fn choose_backend(&mut self, backend: Backend) -> io::Result<()> {
        self.reactor.driver_mut().choose(backend)
    }

    /// Which interfaces of the kernel are used; tries what has not been tried.
    pub(crate) fn backend(&mut self) -> InUse {
        self.reactor.driver_mut().in_use()
    }

    /// Whether this is a forked child of the process that made the loop.
    pub(crate) fn is_forked(&self) -> bool {
        self.reactor.driver().is_forked()
    }

    /// Whether many sockets can be sent to, or received from, in one call.
    pub(crate) fn may_batch(&self) -> bool {
        self.reactor.driver().may_batch()
    }

    /// Sends small pieces through many sockets in one call; see [`Hybrid::send`].
    pub(crate) fn send(
        &mut self,
        outgoing: &[(BorrowedFd<'_>, &[u8])],
        answers: &mut Vec<io::Result<usize>>,
    ) {
        self.reactor.driver_mut().send(outgoing, answers);
    }

    /// Lets the next turn find a source readable, whatever the kernel says.
    pub(crate) fn report(&mut self, token: Token) {
        self.reported.push(token);
    }

    /// Whether the next turn runs its jobs without a sleep, a hand-over of Python or a drop of objects before.
    #[inline]
    pub(crate) fn goes_on_at_once(&self) -> bool {
        self.scheduler.ready_len() > 0
            && !self.others.comes_next()
            && !self.has_corked()
            && self.discarded.is_empty()
    }

    /// For how long the loop may sleep; `None` if for ever.
    pub(crate) fn sleep_limit(&mut self) -> Option<Duration> {
        if !self.reported.is_empty() {
            return Some(Duration::ZERO);
        }
        self.scheduler.sleep_limit()
    }

    /// Whether the next turn has something to run, whatever the kernel says and the time is.
    pub(crate) fn is_ready(&self) -> bool {
        self.scheduler.ready_len() > 0
            || !self.reported.is_empty()
            || self.scheduler.injector().has_pending()
    }

    /// The descriptor that can be read while the kernel has something to report.
    ///
    /// # Errors
    /// `EBADF` if the loop is closed, and in a forked child.
    pub(crate) fn fd(&self) -> io::Result<BorrowedFd<'_>> {
        self.reactor.driver().fd()
    }

    /// Hands what was submitted to the kernel, which the next turn would do otherwise; `false` if there must be a next one.
    pub(crate) fn hand_over(&mut self) -> bool {
        self.reactor.driver_mut().hand_over()
    }

    /// What it takes to receive from many sockets in one call: the driver, its sources, and rooms for what comes.
    pub(crate) fn for_receives<'a>(
        &'a mut self,
    ) -> (
        &'a mut Hybrid,
        impl Fn(Token) -> Option<&'a Source>,
        &'a mut [u8],
    ) {
        if self.rooms.is_empty() {
            self.rooms = vec![0; limits::SOCKETS_PER_CALL * limits::ROOM_STRIDE_BYTES];
        }
        let (driver, source) = self.reactor.driver_and_sources();
        (driver, source, &mut self.rooms)
    }

    /// Gives back what the kernel lent. The loop is of no use any more.
    pub(crate) fn close_driver(&mut self) {
        self.reactor.driver_mut().close();
        self.buffer = Vec::new();
        self.rooms = Vec::new();
        self.batch = DatagramBatch::new();
    }

    /// Makes every queued handle known to the collector, and every timer from an age on: the loop runs no more, and may
    /// become garbage with what it holds.
    pub(crate) fn reveal_queued(&mut self, py: Python<'_>, first_age: u64) {
        self.scheduler.collect_injected();
        let timers = self.scheduler.timers().iter_since(first_age);
        for job in self.scheduler.ready().chain(timers) {
            if let Job::Callback(handle) = job {
                reveal(&handle.bind(py));
            }
        }
    }

    /// Shows the collector every object that is held.
    pub(crate) fn traverse(&self, visitor: &mut Visitor) {
        for job in self.scheduler.ready().chain(self.scheduler.timers().iter()) {
            match job {
                Job::Callback(handle) => visitor.object(handle),
                Job::Call(call) => call.traverse(visitor),
                Job::Step(step) => step.traverse(visitor),
                Job::Io(..) | Job::Posted(_) | Job::Internal(_) => {}
            }
        }
        self.held.traverse(visitor);
        for transport in &self.corked {
            visitor.object(transport);
        }
        for (_, source) in self.reactor.sources() {
            source.traverse(visitor);
        }
        for source in &self.discarded {
            source.traverse(visitor);
        }
    }

    /// Notes that the kernel has dropped a registration by itself, because its descriptor was closed.
    pub(crate) fn note_forgotten(&mut self, fd: RawFd) {
        self.polling.note_forgotten(fd);
    }

    /// Says of a user's descriptor whether it only ends sleeps. No more than one does.
    pub(crate) fn let_only_end_sleeps(&mut self, fd: RawFd, only: bool) {
        if !only {
            self.polling.let_bring_news(fd);
        } else if self.watches.contains_key(&fd) {
            self.polling.let_only_end_sleeps(fd);
        }
    }

    /// Tells the driver to forget a descriptor, which may be closed already.
    pub(crate) fn forget(&mut self, fd: BorrowedFd<'_>) {
        self.note_forgotten(fd.as_raw_fd());
        // A closed descriptor has left the kernel's list by itself, and a forked child must leave its parent's alone.
        ignore(self.reactor.detach(fd));
    }
}
