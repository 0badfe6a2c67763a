//! Operations through a ring beside epoll: each ends once, and what it owns stays until then.
//!
//! Where the kernel allows no ring, each test sees that every operation is given back.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use cloverleaf::{Backend, Clock, Completion, Driver, Event, Hybrid, InUse, Op, Token, limits};

const ONE: Token = Token::new(1, 0);
const DEADLINE: Duration = Duration::from_secs(120);

/// A driver with a ring, unless the kernel refuses one.
fn ringed() -> Option<Hybrid> {
    let mut driver = Hybrid::new(Backend::Auto).expect("the kernel has epoll");
    match driver.in_use() {
        InUse::EpollAndRing => Some(driver),
        InUse::RingRefused(_) => {
            let (reader, _writer) = pipe();
            driver.submit(read(&reader, 1), ONE).expect_err("no ring");
            assert!(Hybrid::new(Backend::IoUring).is_err());
            None
        }
        InUse::Epoll => panic!("a ring was not asked for"),
    }
}

fn pipe() -> (Arc<OwnedFd>, File) {
    let (reader, writer) = std::io::pipe().expect("descriptors are left");
    (Arc::new(reader.into()), File::from(OwnedFd::from(writer)))
}

fn read(fd: &Arc<OwnedFd>, len: usize) -> Op {
    Op::Read {
        fd: Arc::clone(fd),
        buffer: vec![0; len],
        start: 0,
        offset: 0,
    }
}

/// An unlinked file with these bytes.
fn file(bytes: &[u8]) -> File {
    let directory = std::env::temp_dir();
    let flags = rustix::fs::OFlags::TMPFILE | rustix::fs::OFlags::RDWR;
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    let mut file = File::from(rustix::fs::open(directory, flags, mode).expect("a file is made"));
    file.write_all(bytes).expect("is written");
    file
}

/// Waits until this many operations have ended.
fn ends(driver: &mut Hybrid, count: usize) -> Vec<(Token, Completion)> {
    let clock = Clock::monotonic();
    let deadline = clock.now() + DEADLINE;
    let mut events = Vec::new();
    while events.len() < count {
        assert!(clock.now() < deadline, "only {} ended", events.len());
        driver.wait(&mut events, Some(DEADLINE)).expect("waits");
    }
    let ends = events.into_iter().map(|event| match event {
        Event::Done(token, completion) => (token, completion),
        Event::Ready(..) => panic!("nothing is registered"),
    });
    ends.collect()
}

fn buffer(completion: Completion) -> Vec<u8> {
    match completion.op {
        Op::Read { buffer, .. } | Op::Write { buffer, .. } => buffer,
        Op::Sync { .. } => Vec::new(),
    }
}

#[test]
fn what_is_written_is_read_and_synchronised() {
    let Some(mut driver) = ringed() else { return };
    let mut plain = file(b"0123456789");
    let fd: Arc<OwnedFd> = Arc::new(plain.try_clone().expect("descriptors are left").into());
    let write = Op::Write {
        fd: Arc::clone(&fd),
        buffer: b"abc".to_vec(),
        start: 0,
        offset: 4,
        note: None,
    };
    driver.submit(write, ONE).expect("is taken");
    let (_, end) = ends(&mut driver, 1).remove(0);
    assert_eq!(end.result.expect("is written"), 3);
    driver
        .submit(
            Op::Sync {
                fd: Arc::clone(&fd),
            },
            ONE,
        )
        .expect("is taken");
    let (_, end) = ends(&mut driver, 1).remove(0);
    assert_eq!(end.result.expect("reaches the disk"), 0);
    driver.submit(read(&fd, 64), ONE).expect("is taken");
    let (_, end) = ends(&mut driver, 1).remove(0);
    assert_eq!(
        *end.result.as_ref().expect("is read"),
        10,
        "short at the end of the file"
    );
    assert_eq!(&buffer(end)[..10], b"0123abc789");
    plain.seek(SeekFrom::Start(0)).expect("is a file");
    let mut text = String::new();
    plain.read_to_string(&mut text).expect("is read");
    assert_eq!(text, "0123abc789");
}

#[test]
fn an_operation_fails_with_the_error_of_its_call() {
    let Some(mut driver) = ringed() else { return };
    let directory: Arc<OwnedFd> = Arc::new(File::open("/").expect("is there").into());
    driver.submit(read(&directory, 1), ONE).expect("is taken");
    let (_, end) = ends(&mut driver, 1).remove(0);
    assert_eq!(
        end.result.expect_err("fails").raw_os_error(),
        Some(libc::EISDIR)
    );
}

#[test]
fn an_offset_that_pread_refuses_is_not_taken_for_the_position() {
    let Some(mut driver) = ringed() else { return };
    let fd: Arc<OwnedFd> = Arc::new(file(b"0123456789").into());
    let op = Op::Read {
        fd,
        buffer: vec![0; 4],
        start: 0,
        offset: u64::MAX,
    };
    let op = driver.submit(op, ONE).expect_err("is given back");
    assert_eq!(
        op.perform().result.expect_err("fails").raw_os_error(),
        Some(libc::EINVAL)
    );
}

#[test]
fn more_operations_than_the_ring_has_entries_all_end_once() {
    let Some(mut driver) = ringed() else { return };
    let bytes: Vec<u8> = (0..=255).collect();
    let fd: Arc<OwnedFd> = Arc::new(file(&bytes).into());
    let count = limits::RING_IN_FLIGHT;
    for index in 0..count {
        let op = Op::Read {
            fd: Arc::clone(&fd),
            buffer: vec![0; 1],
            start: 0,
            offset: (index % 256) as u64,
        };
        let token = Token::new(u32::try_from(index).expect("is small"), 7);
        driver.submit(op, token).expect("there is room");
    }
    driver
        .submit(read(&fd, 1), ONE)
        .expect_err("there is no more room");
    let mut seen = vec![false; count];
    for (token, end) in ends(&mut driver, count) {
        let index = token.slot() as usize;
        assert!(!std::mem::replace(&mut seen[index], true), "ended twice");
        assert_eq!(buffer(end), [bytes[index % 256]]);
    }
    assert_eq!((driver.in_flight(), Arc::strong_count(&fd)), (0, 1));
}

#[test]
fn an_end_wakes_a_driver_that_sleeps() {
    let Some(mut driver) = ringed() else { return };
    let (reader, mut writer) = pipe();
    driver.submit(read(&reader, 8), ONE).expect("is taken");
    driver
        .wait(&mut Vec::new(), Some(Duration::ZERO))
        .expect("waits");
    let thread = std::thread::spawn(move || writer.write_all(b"bytes").expect("is read"));
    let (token, end) = ends(&mut driver, 1).remove(0);
    assert_eq!((token, *end.result.as_ref().expect("is read")), (ONE, 5));
    assert_eq!(&buffer(end)[..5], b"bytes");
    thread.join().expect("does not panic");
}

#[test]
fn a_cancelled_operation_ends_and_the_driver_is_quiet_afterwards() {
    let Some(mut driver) = ringed() else { return };
    let (reader, _writer) = pipe();
    driver.submit(read(&reader, 8), ONE).expect("is taken");
    driver
        .wait(&mut Vec::new(), Some(Duration::ZERO))
        .expect("waits");
    driver.cancel(ONE);
    driver.cancel(ONE);
    let (_, end) = ends(&mut driver, 1).remove(0);
    assert_eq!(
        end.result.expect_err("fails").raw_os_error(),
        Some(libc::ECANCELED)
    );
    drop(end.op);
    assert_eq!(Arc::strong_count(&reader), 1);
    // The answers to the cancellations must not keep it awake.
    driver
        .wait(&mut Vec::new(), Some(Duration::ZERO))
        .expect("waits");
    let clock = Clock::monotonic();
    let began = clock.now();
    let nap = Duration::from_millis(5);
    driver.wait(&mut Vec::new(), Some(nap)).expect("waits");
    assert!(clock.now() >= began + nap);
}

#[test]
fn cancelling_reaches_only_the_operations_of_its_token() {
    let Some(mut driver) = ringed() else { return };
    let (reader, mut writer) = pipe();
    let (other, _kept) = pipe();
    let old = Token::new(1, 1);
    driver.submit(read(&other, 8), old).expect("is taken");
    driver.submit(read(&reader, 8), ONE).expect("is taken");
    driver.cancel(old);
    let (token, end) = ends(&mut driver, 1).remove(0);
    assert_eq!((token, end.result.is_err()), (old, true));
    writer.write_all(b"kept").expect("is read");
    let (token, end) = ends(&mut driver, 1).remove(0);
    assert_eq!((token, end.result.expect("is read")), (ONE, 4));
}

#[test]
fn closing_ends_what_is_in_flight() {
    let Some(mut driver) = ringed() else { return };
    let (reader, _writer) = pipe();
    for slot in 0..300 {
        driver
            .submit(read(&reader, 8), Token::new(slot, 0))
            .expect("is taken");
    }
    driver
        .wait(&mut Vec::new(), Some(Duration::ZERO))
        .expect("waits");
    driver.close();
    assert_eq!(Arc::strong_count(&reader), 1, "nothing is kept");
    assert_eq!(driver.in_flight(), 0);
    driver.submit(read(&reader, 8), ONE).expect_err("is closed");
}

#[test]
fn the_end_of_a_thread_does_not_end_what_it_started() {
    let Some(mut driver) = ringed() else { return };
    let (reader, mut writer) = pipe();
    let op = read(&reader, 8);
    let mut driver = std::thread::spawn(move || {
        driver.submit(op, ONE).expect("is taken");
        let mut events = Vec::new();
        driver
            .wait(&mut events, Some(Duration::ZERO))
            .expect("waits");
        assert!(events.is_empty());
        driver
    })
    .join()
    .expect("does not panic");
    // The kernel takes back what the thread had started; the driver starts it anew.
    let mut events = Vec::new();
    driver
        .wait(&mut events, Some(Duration::ZERO))
        .expect("waits");
    assert!(events.is_empty());
    writer.write_all(b"late").expect("is read");
    let (_, end) = ends(&mut driver, 1).remove(0);
    assert_eq!(end.result.expect("is read"), 4);
}

#[test]
fn a_ring_is_made_when_it_is_needed_and_closed_with_its_driver() {
    let descriptors = || {
        std::fs::read_dir("/proc/self/fd")
            .expect("is Linux")
            .count()
    };
    let rings = || {
        std::fs::read_dir("/proc/self/fd")
            .expect("is Linux")
            .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
            .filter(|target| target.to_string_lossy().contains("io_uring"))
            .count()
    };
    // In a process of its own, as other tests' descriptors come and go.
    if std::env::var_os("CLOVERLEAF_TEST_ALONE").is_none() {
        let program = std::env::current_exe().expect("is running");
        let status = std::process::Command::new(program)
            .args(["--exact", "--test-threads=1"])
            .arg("a_ring_is_made_when_it_is_needed_and_closed_with_its_driver")
            .env("CLOVERLEAF_TEST_ALONE", "1")
            .status();
        assert!(status.expect("runs").success());
        return;
    }
    let before = descriptors();
    drop(Hybrid::new(Backend::Auto).expect("is made"));
    let driver = Hybrid::new(Backend::Auto).expect("is made");
    assert_eq!(rings(), 0, "nobody needs one");
    drop(driver);
    let Some(driver) = ringed() else { return };
    assert_eq!(rings(), 1);
    drop(driver);
    let (reader, writer) = pipe();
    for _ in 0..10_000 {
        let mut driver = Hybrid::new(Backend::IoUring).expect("is made");
        driver.submit(read(&reader, 8), ONE).expect("is taken");
        driver.close();
    }
    drop((reader, writer));
    assert_eq!(descriptors(), before);
}
