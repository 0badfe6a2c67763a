//! From events to sources: a driver, and who is registered with it.
//!
//! An event whose token names nobody ends here, whatever descriptor it spoke of.

use std::io;
use std::os::fd::BorrowedFd;
use std::task::Waker;
use std::time::Duration;

use crate::driver::{Driver, Event, Interest, Op, Token};
use crate::registry::Registry;

/// Sources of type `S`, told apart by the events of a driver `D`.
#[derive(Debug)]
pub struct Reactor<D, S> {
    driver: D,
    registry: Registry<S>,
    events: Vec<Event>,
}

impl<D: Driver, S> Reactor<D, S> {
    /// A reactor with no sources.
    pub fn new(driver: D) -> Self {
        Self {
            driver,
            registry: Registry::new(),
            events: Vec::new(),
        }
    }

    /// The driver.
    pub fn driver(&self) -> &D {
        &self.driver
    }

    /// The driver, to be changed.
    pub fn driver_mut(&mut self) -> &mut D {
        &mut self.driver
    }

    /// The driver, to be changed while sources are looked up.
    pub fn driver_and_sources<'a>(
        &'a mut self,
    ) -> (&'a mut D, impl Fn(Token) -> Option<&'a S> + use<'a, D, S>) {
        let registry = &self.registry;
        (&mut self.driver, move |token| registry.get(token))
    }

    /// Ends the driver's sleep from any thread.
    pub fn waker(&self) -> Waker {
        self.driver.waker()
    }

    /// Sends the readiness of `fd` to `source`.
    ///
    /// # Errors
    /// Those of [`Driver::register`], with the source, which was not registered.
    pub fn register(
        &mut self,
        fd: BorrowedFd<'_>,
        source: S,
        interest: Interest,
    ) -> Result<Token, (io::Error, S)> {
        let token = self.registry.insert(source);
        match self.driver.register(fd, token, interest) {
            Ok(()) => Ok(token),
            Err(error) => match self.registry.remove(token) {
                Some(source) => Err((error, source)),
                None => unreachable!("invariant: the slot was filled above"),
            },
        }
    }

    /// Gives a source a token without telling the driver: for one that has nothing to hear of yet, or that waits for
    /// operations only.
    pub fn insert(&mut self, source: S) -> Token {
        self.registry.insert(source)
    }

    /// Tells the driver of a descriptor whose source has a token already.
    ///
    /// # Errors
    /// Those of [`Driver::register`].
    pub fn attach(
        &mut self,
        fd: BorrowedFd<'_>,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        self.driver.register(fd, token, interest)
    }

    /// Changes what a source hears of its descriptor.
    ///
    /// # Errors
    /// Those of [`Driver::modify`].
    pub fn modify(
        &mut self,
        fd: BorrowedFd<'_>,
        token: Token,
        interest: Interest,
    ) -> io::Result<()> {
        self.driver.modify(fd, token, interest)
    }

    /// Takes the descriptor from the driver; the source keeps its token.
    ///
    /// # Errors
    /// Those of [`Driver::deregister`].
    pub fn detach(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.driver.deregister(fd)
    }

    /// Takes a source back. Its descriptor must have been detached or must be closed next.
    pub fn remove(&mut self, token: Token) -> Option<S> {
        self.registry.remove(token)
    }

    /// How many sources there are.
    pub fn len(&self) -> usize {
        self.registry.len()
    }

    /// Whether there is no source.
    pub fn is_empty(&self) -> bool {
        self.registry.is_empty()
    }

    /// The source of a token, unless it was removed.
    pub fn get(&self, token: Token) -> Option<&S> {
        self.registry.get(token)
    }

    /// The source of a token, to be changed.
    pub fn get_mut(&mut self, token: Token) -> Option<&mut S> {
        self.registry.get_mut(token)
    }

    /// Every source with its token.
    pub fn sources(&self) -> impl Iterator<Item = (Token, &S)> {
        self.registry.iter()
    }

    /// Starts an operation for a source.
    ///
    /// # Errors
    /// Gives the operation back if the driver cannot do it.
    pub fn submit(&mut self, op: Op, token: Token) -> Result<(), Op> {
        self.driver.submit(op, token)
    }

    /// Asks for the end of a source's operation, which still ends with its `Done`.
    pub fn cancel(&mut self, token: Token) {
        self.driver.cancel(token);
    }

    /// Asks the driver what has happened, and sleeps for at most `timeout` if nothing has.
    ///
    /// # Errors
    /// Those of [`Driver::wait`].
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.driver.wait(&mut self.events, timeout)
    }

    /// Whether the last waits reported anything that was not taken yet.
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// How much that is; some of it may be for sources that have gone.
    pub fn events_len(&self) -> usize {
        self.events.len()
    }

    /// The events of the last waits whose sources are still there, in the order in which the kernel gave them.
    pub fn take_events(&mut self) -> impl Iterator<Item = Event> {
        let registry = &self.registry;
        self.events.drain(..).filter(|event| match event {
            Event::Ready(token, _) | Event::Done(token, _) => registry.get(*token).is_some(),
        })
    }

    /// Exchanges the events of the last waits for an empty vector. Each must be looked up with [`get`](Self::get): its
    /// source may have gone.
    pub fn swap_events(&mut self, events: &mut Vec<Event>) {
        std::mem::swap(&mut self.events, events);
    }

    /// Takes every source; descriptors stay with their owners.
    pub fn take_all(&mut self) -> Vec<S> {
        self.events.clear();
        self.registry.take_all()
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, AsRawFd};

    use super::*;
    use crate::driver::FakeKernel;

    #[test]
    fn an_event_of_a_closed_descriptor_never_reaches_the_one_that_reuses_its_number() {
        let kernel = FakeKernel::new();
        let mut reactor = Reactor::new(kernel.driver());
        let file = std::fs::File::open("/dev/null").expect("/dev/null opens");
        let old = reactor
            .register(file.as_fd(), "old", Interest::READ)
            .expect("registers");
        kernel.report(Event::Ready(old, Interest::READ));
        reactor.detach(file.as_fd()).expect("is registered");
        reactor.remove(old);
        let new = reactor
            .register(file.as_fd(), "new", Interest::READ)
            .expect("registers");
        kernel.set_ready(file.as_raw_fd(), Interest::READ);
        reactor.wait(Some(Duration::ZERO)).expect("waits");
        let heard: Vec<Token> = reactor
            .take_events()
            .map(|event| match event {
                Event::Ready(token, _) | Event::Done(token, _) => token,
            })
            .collect();
        assert_eq!(heard, [new]);
    }

    #[test]
    fn a_source_that_could_not_be_registered_comes_back() {
        let kernel = FakeKernel::new();
        let mut reactor = Reactor::new(kernel.driver());
        let file = std::fs::File::open("/dev/null").expect("/dev/null opens");
        reactor
            .register(file.as_fd(), 1, Interest::READ)
            .expect("registers");
        let (error, source) = reactor
            .register(file.as_fd(), 2, Interest::READ)
            .expect_err("is registered already");
        assert_eq!((error.kind(), source), (io::ErrorKind::AlreadyExists, 2));
        assert_eq!(reactor.sources().count(), 1);
    }
}
