//! What every driver promises, asked of each driver there is.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use cloverleaf::driver::FakeKernel;
use cloverleaf::{
    AnyDriver, Backend, Clock, Driver, Epoll, Event, Hybrid, Interest, Op, Time, Token,
};

const ONE: Token = Token::new(1, 0);
const TWO: Token = Token::new(2, 7);
const NOW: Option<Duration> = Some(Duration::ZERO);

/// A driver, one descriptor, and the power to make it ready.
struct Rig {
    driver: AnyDriver,
    clock: Clock,
    ours: UnixStream,
    theirs: UnixStream,
    kernel: Option<FakeKernel>,
}

impl Rig {
    fn epoll() -> Self {
        let driver = Epoll::new().expect("the kernel has epoll");
        Self::new(driver.into(), Clock::monotonic(), None)
    }

    fn hybrid() -> Self {
        let driver = Hybrid::new(Backend::Auto).expect("the kernel has epoll");
        Self::new(driver.into(), Clock::monotonic(), None)
    }

    fn fake() -> Self {
        let kernel = FakeKernel::new();
        let clock = Clock::Manual(kernel.clock());
        let mut rig = Self::new(kernel.driver().into(), clock, Some(kernel));
        rig.script(Interest::WRITE);
        rig
    }

    /// The descriptor starts as any fresh socket: writable.
    fn new(driver: AnyDriver, clock: Clock, kernel: Option<FakeKernel>) -> Self {
        let (ours, theirs) = UnixStream::pair().expect("a pair can be made");
        ours.set_nonblocking(true).expect("is a socket");
        Self {
            driver,
            clock,
            ours,
            theirs,
            kernel,
        }
    }

    fn register(&mut self, token: Token, interest: Interest) -> io::Result<()> {
        self.driver.register(self.ours.as_fd(), token, interest)
    }

    fn modify(&mut self, token: Token, interest: Interest) -> io::Result<()> {
        self.driver.modify(self.ours.as_fd(), token, interest)
    }

    fn deregister(&mut self) -> io::Result<()> {
        self.driver.deregister(self.ours.as_fd())
    }

    fn script(&mut self, readiness: Interest) {
        if let Some(kernel) = &self.kernel {
            kernel.set_ready(self.ours.as_raw_fd(), readiness);
        }
    }

    fn make_readable(&mut self) {
        self.theirs.write_all(b"x").expect("is writable");
        self.script(Interest::BOTH);
    }

    fn read(&mut self) {
        let count = self.ours.read(&mut [0; 8]).expect("is readable");
        assert_eq!(count, 1);
        self.script(Interest::WRITE);
    }

    fn wait(&mut self, timeout: Option<Duration>) -> Vec<(Token, Interest)> {
        let mut events = Vec::new();
        self.driver.wait(&mut events, timeout).expect("waits");
        events
            .into_iter()
            .map(|event| match event {
                Event::Ready(token, interest) => (token, interest),
                Event::Done(..) => panic!("nothing was submitted"),
            })
            .collect()
    }

    fn now(&self) -> Time {
        self.clock.now()
    }
}

fn readiness_lasts_until_it_is_spent(mut rig: Rig) {
    rig.register(ONE, Interest::READ).expect("succeeds");
    assert_eq!(rig.wait(NOW), []);
    rig.make_readable();
    assert_eq!(rig.wait(NOW), [(ONE, Interest::READ)]);
    assert_eq!(rig.wait(NOW), [(ONE, Interest::READ)]);
    rig.read();
    assert_eq!(rig.wait(NOW), []);
}

fn a_descriptor_ready_both_ways_is_reported_both_ways(mut rig: Rig) {
    rig.register(ONE, Interest::BOTH).expect("succeeds");
    rig.make_readable();
    let heard = rig.wait(NOW);
    let all = heard.iter().fold(Interest::NONE, |all, (token, interest)| {
        assert_eq!(*token, ONE);
        all.with(*interest)
    });
    assert_eq!(all, Interest::BOTH);
}

fn only_what_was_asked_for_is_reported(mut rig: Rig) {
    rig.make_readable();
    rig.register(ONE, Interest::NONE).expect("succeeds");
    assert_eq!(rig.wait(NOW), []);
    rig.modify(TWO, Interest::WRITE).expect("succeeds");
    assert_eq!(rig.wait(NOW), [(TWO, Interest::WRITE)]);
    rig.modify(ONE, Interest::READ).expect("succeeds");
    assert_eq!(rig.wait(NOW), [(ONE, Interest::READ)]);
}

fn edges_may_be_reported_once_and_each_new_one_is(mut rig: Rig) {
    let edges = Interest::BOTH.with(Interest::EDGES);
    rig.register(ONE, edges).expect("succeeds");
    let heard = rig.wait(NOW);
    assert_eq!(heard, [(ONE, Interest::WRITE)], "nobody hears of EDGES");
    for _ in 0..3 {
        rig.make_readable();
        let heard = rig.wait(NOW);
        assert!(
            heard
                .iter()
                .all(|(token, heard)| *token == ONE && heard.contains(Interest::READ))
        );
        assert!(!heard.is_empty(), "a new edge is reported");
        rig.read();
    }
    // Levels again, for whoever asks for them.
    rig.make_readable();
    rig.modify(TWO, Interest::READ).expect("succeeds");
    assert_eq!(rig.wait(NOW), [(TWO, Interest::READ)]);
    assert_eq!(rig.wait(NOW), [(TWO, Interest::READ)]);
}

fn a_deregistered_descriptor_is_silent_and_may_come_back(mut rig: Rig) {
    rig.make_readable();
    rig.register(ONE, Interest::READ).expect("succeeds");
    rig.deregister().expect("succeeds");
    assert_eq!(rig.wait(NOW), []);
    rig.register(TWO, Interest::READ).expect("succeeds");
    assert_eq!(rig.wait(NOW), [(TWO, Interest::READ)]);
}

fn a_descriptor_has_one_registration(mut rig: Rig) {
    let missing = rig.modify(ONE, Interest::READ).expect_err("is refused");
    assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    let missing = rig.deregister().expect_err("is refused");
    assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    rig.register(ONE, Interest::READ).expect("succeeds");
    let second = rig.register(TWO, Interest::READ).expect_err("is refused");
    assert_eq!(second.kind(), io::ErrorKind::AlreadyExists);
    rig.make_readable();
    assert_eq!(rig.wait(NOW), [(ONE, Interest::READ)]);
}

fn a_wake_ends_one_sleep(mut rig: Rig) {
    let waker = rig.driver.waker();
    waker.wake_by_ref();
    waker.wake_by_ref();
    // Without the wake this would never return, or with the fake, fail.
    assert_eq!(rig.wait(None), []);
    let before = rig.now();
    let timeout = Duration::from_millis(2);
    assert_eq!(rig.wait(Some(timeout)), []);
    assert!(rig.now() >= before + timeout, "the wake was spent");
}

fn a_wake_from_another_thread_is_seen(mut rig: Rig) {
    let waker = rig.driver.waker();
    std::thread::spawn(move || waker.wake())
        .join()
        .expect("succeeds");
    assert_eq!(rig.wait(None), []);
}

fn a_wait_is_never_shorter_than_its_timeout(mut rig: Rig) {
    rig.register(ONE, Interest::READ).expect("succeeds");
    for nanos in [1, 999, 1_000_001, 2_500_000] {
        let before = rig.now();
        let timeout = Duration::from_nanos(nanos);
        assert_eq!(rig.wait(Some(timeout)), []);
        assert!(rig.now() >= before + timeout);
    }
}

fn events_are_appended(mut rig: Rig) {
    rig.register(ONE, Interest::WRITE).expect("succeeds");
    let mut events = vec![Event::Ready(TWO, Interest::READ)];
    rig.driver.wait(&mut events, NOW).expect("succeeds");
    assert!(matches!(
        events.as_slice(),
        [
            Event::Ready(TWO, Interest::READ),
            Event::Ready(ONE, Interest::WRITE)
        ]
    ));
}

/// A driver either gives an operation back at once, or ends it exactly once, even if it is cancelled; the operation
/// brings its buffer and its descriptor home in both cases.
fn an_operation_comes_back_exactly_once(mut rig: Rig) {
    let kept: Arc<OwnedFd> = Arc::new(std::fs::File::open("/dev/zero").expect("succeeds").into());
    let buffer = vec![1; 16];
    let op = Op::Read {
        fd: Arc::clone(&kept),
        buffer,
        start: 0,
        offset: 0,
    };
    let completion = if let Err(op) = rig.driver.submit(op, ONE) {
        op.perform()
    } else {
        rig.driver.cancel(ONE);
        rig.driver.cancel(ONE);
        let mut events = Vec::new();
        while events.is_empty() {
            let soon = Some(Duration::from_secs(10));
            rig.driver.wait(&mut events, soon).expect("waits");
        }
        rig.driver.wait(&mut events, NOW).expect("waits");
        assert_eq!(events.len(), 1);
        match events.pop() {
            Some(Event::Done(ONE, completion)) => completion,
            other => panic!("{other:?}"),
        }
    };
    let Op::Read { fd, buffer, .. } = completion.op else {
        panic!("another operation");
    };
    drop(fd);
    match completion.result {
        Ok(count) => assert_eq!((count, buffer), (16, vec![0; 16])),
        Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ECANCELED)),
    }
    assert_eq!(Arc::strong_count(&kept), 1);
}

macro_rules! of_every_driver {
    ($($promise:ident),* $(,)?) => {
        mod epoll {
            $(#[test] fn $promise() { super::$promise(super::Rig::epoll()); })*
        }
        mod hybrid {
            $(#[test] fn $promise() { super::$promise(super::Rig::hybrid()); })*
        }
        mod fake {
            $(#[test] fn $promise() { super::$promise(super::Rig::fake()); })*
        }
    };
}

of_every_driver!(
    readiness_lasts_until_it_is_spent,
    a_descriptor_ready_both_ways_is_reported_both_ways,
    only_what_was_asked_for_is_reported,
    edges_may_be_reported_once_and_each_new_one_is,
    a_deregistered_descriptor_is_silent_and_may_come_back,
    a_descriptor_has_one_registration,
    a_wake_ends_one_sleep,
    a_wake_from_another_thread_is_seen,
    a_wait_is_never_shorter_than_its_timeout,
    events_are_appended,
    an_operation_comes_back_exactly_once,
);
