//! An echo server on one thread.
//!
//! ```text
//! cargo run --example echo_server                    # serves itself a few clients, and ends
//! cargo run --example echo_server -- 127.0.0.1:7007  # serves until Ctrl-C
//! ```
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;

use cloverleaf::{EventLoop, TcpListener, TcpStream, signal, spawn};

const CLIENTS: usize = 16;
const BYTES: usize = 256 * 1024;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let event_loop = EventLoop::new()?;
    let address = std::env::args()
        .nth(1)
        .filter(|argument| argument != "--self-test");
    if let Some(address) = address {
        let address = address.parse()?;
        event_loop.run_until_complete(serve_until_interrupted(address))??;
    } else {
        event_loop.run_until_complete(self_test())??;
    }
    Ok(())
}

async fn serve_until_interrupted(address: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    writeln!(
        io::stdout(),
        "echoing on {}; Ctrl-C ends it",
        listener.local_addr()?
    )?;
    let server = spawn(serve(listener));
    signal(libc::SIGINT)?.recv().await?;
    server.abort();
    Ok(())
}

async fn serve(listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(spawn(echo(stream))),
            // It says so when it is out of descriptors, after a pause; whoever waits is served later.
            Err(error) => cloverleaf::ignore(writeln!(io::stderr(), "accept: {error}")),
        }
    }
}

async fn echo(stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return stream.shutdown(Shutdown::Write),
            count => stream.write_all(&buffer[..count]).await?,
        }
    }
}

async fn self_test() -> io::Result<()> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let address = listener.local_addr()?;
    let server = spawn(serve(listener));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| spawn(client(address, number)))
        .collect();
    for client in clients {
        client.await??;
    }
    server.abort();
    writeln!(
        io::stdout(),
        "{CLIENTS} clients got back {BYTES} bytes each, in order"
    )
}

/// Writes and reads at the same time, as the server does not wait for a client to have finished.
async fn client(address: SocketAddr, number: usize) -> io::Result<()> {
    let stream = Rc::new(TcpStream::connect_to(address).await?);
    let bytes: Vec<u8> = (number..)
        .map(|step| step.to_le_bytes()[0])
        .take(BYTES)
        .collect();
    let (writer, sent) = (Rc::clone(&stream), bytes.clone());
    let writing = spawn(async move {
        writer.write_all(&sent).await?;
        writer.shutdown(Shutdown::Write)
    });
    let mut echoed = Vec::with_capacity(BYTES);
    stream.read_to_end(&mut echoed).await?;
    writing.await??;
    if echoed == bytes {
        Ok(())
    } else {
        Err(io::Error::other("the echo differs from what was sent"))
    }
}
