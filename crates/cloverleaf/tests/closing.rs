//! What the process has after a loop is what it had before: a file of one test, which has the process to itself.

mod support;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::Poll;
use std::time::Duration;

use cloverleaf::limits::ACCEPT_PAUSE_MS;
use cloverleaf::{
    Clock, EventLoop, TcpListener, TcpStream, UdpSocket, signal, spawn, spawn_blocking, timeout,
    wait_child,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const DEADLINE: Duration = Duration::from_secs(120);

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("Linux").count()
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").expect("Linux").count()
}

/// Waits until there are as many of both: a thread that was joined is forgotten by the kernel a moment later.
fn wait_for(before: (usize, usize)) {
    let clock = Clock::monotonic();
    let began = clock.now();
    while (descriptors(), threads()) != before {
        let now = (descriptors(), threads());
        let waited = clock.now().saturating_since(began);
        assert!(waited < DEADLINE, "{now:?}, and {before:?} before");
        std::thread::yield_now();
    }
}

async fn use_everything() -> io::Result<()> {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = TcpListener::bind(loopback)?;
    let stream = TcpStream::connect_to(listener.local_addr()?).await?;
    let socket = UdpSocket::bind(loopback)?;
    let mut usr1 = signal(libc::SIGUSR1)?;
    wait_child(std::process::Command::new("true").spawn()?).await?;
    spawn_blocking(|| ()).await?;
    // None of these ends by itself.
    drop(spawn(async move { usr1.recv().await }));
    drop(spawn(async move { stream.read(&mut [0; 8]).await }));
    drop(spawn(async move { socket.recv(&mut [0; 8]).await }));
    drop(spawn(async move {
        loop {
            drop(listener.accept().await);
        }
    }));
    cloverleaf::yield_now().await;
    Ok(())
}

/// A server whose process runs out of descriptors neither ends nor loses the client that waits.
async fn run_out_of_descriptors() -> io::Result<()> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let client = TcpStream::connect_to(listener.local_addr()?).await?;
    let limit = getrlimit(Resource::Nofile);
    let none = Rlimit {
        current: Some(3),
        maximum: limit.maximum,
    };
    setrlimit(Resource::Nofile, none)?;
    let (clock, pause) = (Clock::monotonic(), Duration::from_millis(ACCEPT_PAUSE_MS));
    let before = clock.now();
    let refused = listener.accept().await;
    assert!(
        clock.now() >= before + pause,
        "a server that goes on would spin"
    );
    setrlimit(Resource::Nofile, limit)?;
    let error = refused.expect_err("there is no descriptor left");
    assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
    let (_server, peer) = timeout(Duration::from_secs(60), listener.accept()).await??;
    assert_eq!(peer, client.local_addr()?);
    Ok(())
}

#[test]
fn a_loop_leaves_nothing_behind() {
    // The first use of signals starts what the process keeps.
    drop(signal(libc::SIGUSR1).unwrap());
    let before = (descriptors(), threads());
    for _ in 0..3 {
        let event_loop = EventLoop::new().unwrap();
        event_loop
            .run_until_complete(use_everything())
            .unwrap()
            .unwrap();
        assert!(descriptors() > before.0 && threads() > before.1);
        let waker = event_loop.run_until_complete(poll_fn(|cx| Poll::Ready(cx.waker().clone())));
        drop(event_loop);
        wait_for(before);
        waker.unwrap().wake();
    }
    support::run(run_out_of_descriptors()).unwrap();
    wait_for(before);
}
