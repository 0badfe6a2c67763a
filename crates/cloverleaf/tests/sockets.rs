//! Streams, listeners and datagrams against real sockets.

mod support;

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use cloverleaf::limits::OPERATIONS_PER_TURN;
use cloverleaf::{
    Address, ByteStream, Elapsed, EventLoop, TcpListener, TcpStream, UdpSocket, UnixListener,
    UnixStream, lookup, spawn, timeout, yield_now,
};
use support::run;

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

async fn echo(stream: &ByteStream) -> io::Result<()> {
    let mut buffer = vec![0; 4096];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return stream.shutdown(Shutdown::Write),
            count => stream.write_all(&buffer[..count]).await?,
        }
    }
}

/// Writes more than sockets hold while it reads what comes back.
async fn converse(stream: Rc<impl std::ops::Deref<Target = ByteStream> + 'static>) {
    let sent: Vec<u8> = (0..3_000_000_u32)
        .map(|number| number.to_le_bytes()[0] ^ number.to_le_bytes()[1])
        .collect();
    let (writer, bytes) = (Rc::clone(&stream), sent.clone());
    let writing = spawn(async move {
        writer.write_all(&bytes).await?;
        writer.shutdown(Shutdown::Write)
    });
    let mut received = Vec::new();
    stream.read_to_end(&mut received).await.expect("reads");
    writing.await.expect("no panic").expect("writes");
    assert!(received == sent, "bytes were lost or changed places");
}

#[test]
fn tcp_echoes_what_it_gets_to_many_clients() {
    run(async {
        let listener = TcpListener::bind(loopback()).unwrap();
        let address = listener.local_addr().unwrap();
        let server = spawn(async move {
            for _ in 0..8 {
                let (stream, peer) = listener.accept().await.unwrap();
                assert_eq!(stream.peer_addr().unwrap(), peer);
                drop(spawn(async move { echo(&stream).await.unwrap() }));
            }
        });
        let clients: Vec<_> = (0..8)
            .map(|_| {
                spawn(async move {
                    let stream = TcpStream::connect_to(address).await.unwrap();
                    stream.set_nodelay(true).unwrap();
                    assert!(stream.nodelay().unwrap());
                    converse(Rc::new(stream)).await;
                })
            })
            .collect();
        for client in clients {
            client.await.unwrap();
        }
        server.await.unwrap();
    });
}

#[test]
fn unix_streams_echo_by_path_and_by_abstract_name() {
    run(async {
        let id = std::process::id();
        let path = std::env::temp_dir().join(format!("cloverleaf-sockets-{id}"));
        let path = path.into_os_string().into_string().unwrap();
        for name in [path.clone(), format!("\0cloverleaf-sockets-{id}")] {
            let listener = UnixListener::bind(&name).unwrap();
            let local = listener.local_addr().unwrap();
            assert_eq!(local, Address::Unix(name.clone().into_bytes()));
            let server = spawn(async move {
                let (stream, peer) = listener.accept().await.unwrap();
                assert_eq!(peer, Address::Unix(Vec::new()));
                echo(&stream).await.unwrap();
            });
            let stream = UnixStream::connect(&name).await.unwrap();
            assert_eq!(stream.peer_addr().unwrap(), local);
            converse(Rc::new(stream)).await;
            server.await.unwrap();
        }
        std::fs::remove_file(path).unwrap();
    });
}

#[test]
fn udp_echoes_to_whoever_sent() {
    run(async {
        let server = UdpSocket::bind(loopback()).unwrap();
        let address = server.local_addr().unwrap();
        let server = spawn(async move {
            let mut buffer = [0; 64];
            for _ in 0..20 {
                let (len, peer) = server.recv_from(&mut buffer).await.unwrap();
                server.send_to(&buffer[..len], peer).await.unwrap();
            }
        });
        let client = UdpSocket::bind(loopback()).unwrap();
        assert_eq!(
            client.peer_addr().unwrap_err().kind(),
            io::ErrorKind::NotConnected
        );
        client.connect(address).unwrap();
        assert_eq!(client.peer_addr().unwrap(), address);
        for number in 0..20_u8 {
            client.send(&[number, 1, 2]).await.unwrap();
            let mut buffer = [0; 64];
            assert_eq!(client.recv(&mut buffer).await.unwrap(), 3);
            assert_eq!(buffer[0], number);
        }
        server.await.unwrap();
    });
}

#[test]
fn udp_sends_to_all_only_if_it_has_been_allowed_to() {
    run(async {
        let socket = UdpSocket::bind(loopback()).unwrap();
        let all = SocketAddr::from(([127, 255, 255, 255], 9));
        for _ in 0..2 {
            let refused = socket.send_to(b"all", all).await.unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
            socket.set_broadcast(true).unwrap();
            assert_eq!(socket.send_to(b"all", all).await.unwrap(), 3);
            socket.set_broadcast(false).unwrap();
        }
    });
}

#[test]
fn a_refused_connection_is_an_error() {
    run(async {
        let listener = TcpListener::bind(loopback()).unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = TcpStream::connect_to(address).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    });
}

#[test]
fn every_address_of_a_name_is_tried() {
    run(async {
        // "localhost" may have an IPv6 address, where nobody listens.
        let listener = TcpListener::bind(loopback()).unwrap();
        let port = listener.local_addr().unwrap().port();
        let addresses = lookup("localhost", port).await.unwrap();
        assert!(addresses.contains(&listener.local_addr().unwrap()));
        let stream = TcpStream::connect("localhost", port).await.unwrap();
        let (_server, peer) = listener.accept().await.unwrap();
        assert_eq!(peer, stream.local_addr().unwrap());
    });
}

#[test]
fn a_name_with_a_nul_or_without_an_address_is_an_error() {
    run(async {
        assert!(lookup("a\0b", 1).await.is_err());
        assert!(TcpStream::connect("name with spaces", 1).await.is_err());
    });
}

#[test]
fn an_operation_that_is_given_up_takes_nothing() {
    run(async {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut buffer = [0; 8];
        let early = timeout(Duration::from_millis(1), ours.read(&mut buffer)).await;
        assert_eq!(early.map(drop), Err(Elapsed));
        theirs.write_all(b"late").await.unwrap();
        assert_eq!(ours.read(&mut buffer).await.unwrap(), 4);
        assert_eq!(&buffer[..4], b"late");
        let mut exact = [0; 3];
        theirs.write_all(b"ab").await.unwrap();
        theirs.shutdown(Shutdown::Write).unwrap();
        let error = ours.read_exact(&mut exact).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    });
}

#[test]
fn writing_to_a_closed_peer_is_an_error_and_no_signal() {
    run(async {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        let error = ours.write(b"lost").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    });
}

/// Whether some epoll descriptor of this process knows this one (`proc_pid_fdinfo(5)`).
fn is_known_to_a_driver(stream: &UnixStream) -> bool {
    let number = stream.as_fd().as_raw_fd().to_string();
    let knows = |info: String| {
        let mut targets = info.lines().filter_map(|line| line.strip_prefix("tfd:"));
        targets.any(|target| target.split_whitespace().next() == Some(number.as_str()))
    };
    std::fs::read_dir("/proc/self/fdinfo")
        .expect("Linux")
        .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path()).ok())
        .any(knows)
}

#[test]
fn a_hung_up_stream_that_nobody_reads_lets_the_loop_sleep() {
    run(async {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut buffer = [0; 8];
        let early = timeout(Duration::from_millis(1), ours.read(&mut buffer)).await;
        assert!(early.is_err() && is_known_to_a_driver(&ours));
        // The kernel reports this for ever, whatever it was asked for.
        drop(theirs);
        yield_now().await;
        assert!(!is_known_to_a_driver(&ours));
        assert_eq!(ours.read(&mut buffer).await.unwrap(), 0);
    });
}

#[test]
fn data_that_nobody_reads_lets_the_loop_sleep_and_is_not_lost() {
    run(async {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut buffer = [0; 8];
        let early = timeout(Duration::from_millis(1), ours.read(&mut buffer)).await;
        assert!(early.is_err());
        theirs.write_all(b"later").await.unwrap();
        yield_now().await;
        assert!(!is_known_to_a_driver(&ours));
        assert_eq!(ours.read(&mut buffer).await.unwrap(), 5);
        let waiting = spawn(async move { ours.read(&mut [0; 8]).await });
        yield_now().await;
        theirs.write_all(b"again").await.unwrap();
        assert_eq!(waiting.await.unwrap().unwrap(), 5);
    });
}

#[test]
fn an_empty_buffer_is_no_reason_to_wait() {
    run(async {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        assert_eq!(ours.read(&mut []).await.unwrap(), 0);
        assert_eq!(ours.write(&[]).await.unwrap(), 0);
    });
}

#[test]
fn a_flood_does_not_keep_other_tasks_from_running() {
    run(async {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let theirs: OwnedFd = theirs.into();
        let flood = std::thread::spawn(move || {
            let mut stream = std::os::unix::net::UnixStream::from(theirs);
            stream.set_nonblocking(false).expect("is a socket");
            while io::Write::write_all(&mut stream, &[7; 4096]).is_ok() {}
        });
        let reader = spawn(async move {
            let mut byte = [0];
            while ours.read(&mut byte).await.unwrap() > 0 {}
        });
        for _ in 0..100 {
            yield_now().await;
        }
        reader.abort();
        flood.join().unwrap();
    });
}

#[test]
fn a_stream_that_is_always_ready_has_a_share_of_each_turn() {
    run(async {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let reads = 10 * OPERATIONS_PER_TURN;
        theirs.write_all(&vec![7; reads]).await.unwrap();
        let reader = spawn(async move {
            for _ in 0..reads {
                assert_eq!(ours.read(&mut [0]).await.unwrap(), 1);
            }
        });
        let mut turns = 0;
        while !reader.is_finished() {
            yield_now().await;
            turns += 1;
        }
        assert!((10..=12).contains(&turns), "{turns} turns");
    });
}

#[test]
fn a_stream_can_move_from_one_loop_to_another() {
    let (first, second) = (EventLoop::new().unwrap(), EventLoop::new().unwrap());
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut buffer = [0; 4];
    let waited = timeout(Duration::from_millis(1), ours.read(&mut buffer));
    assert!(first.run_until_complete(waited).unwrap().is_err());
    let moved = async {
        let reading = spawn(async move { ours.read(&mut [0; 4]).await });
        yield_now().await;
        theirs.write_all(b"moved").await.unwrap();
        assert_eq!(reading.await.unwrap().unwrap(), 4);
        // It was dropped with its task, and the first loop holds nothing of it.
        let error = theirs.write(b"x").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    };
    second.run_until_complete(moved).unwrap();
}

#[test]
fn a_stream_outlives_its_loop() {
    let event_loop = EventLoop::new().unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut buffer = [0; 4];
    let waited = timeout(Duration::from_millis(1), ours.read(&mut buffer));
    assert!(event_loop.run_until_complete(waited).unwrap().is_err());
    drop(event_loop);
    let mut ours = std::os::unix::net::UnixStream::from(OwnedFd::from(ours));
    run(async { theirs.write_all(b"late").await.unwrap() });
    assert_eq!(io::Read::read(&mut ours, &mut buffer).unwrap(), 4);
}
