//! Timers, timeouts, a blocking call, another thread and a signal, on one loop; it ends by itself.
//!
//! ```text
//! cargo run --example timers_and_signals
//! ```
use std::io::{self, Write};
use std::time::Duration;

use cloverleaf::{EventLoop, LoopHandle, Time, signal, sleep, spawn, spawn_blocking, timeout};
use rustix::process::{Signal, getpid, kill_process};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let event_loop = EventLoop::new()?;
    let start = event_loop.now();
    event_loop.call_later(Duration::from_millis(20), move |event_loop| {
        say(start, event_loop.now(), "a timer of 20 ms");
    });
    let never = event_loop.call_later(Duration::from_millis(30), |_| unreachable!("cancelled"));
    event_loop.call_soon(move |_| assert!(never.cancel()));
    event_loop.run_until_complete(tour(event_loop.handle()))??;
    say(start, event_loop.now(), "the end");
    Ok(())
}

async fn tour(handle: LoopHandle) -> io::Result<()> {
    // Caught from here on, so it does not matter when it comes.
    let mut usr1 = signal(libc::SIGUSR1)?;
    let hearing = spawn(async move { usr1.recv().await });

    let ticking = spawn(async {
        for _ in 0..5 {
            sleep(Duration::from_millis(10)).await;
        }
    });
    if timeout(Duration::from_millis(5), std::future::pending::<()>())
        .await
        .is_err()
    {
        print_line("5 ms are over, and what never ends was given up");
    }

    let cpus = spawn_blocking(std::thread::available_parallelism).await??;
    print_line(&format!(
        "a thread of the pool has counted {cpus} processors"
    ));

    let thread = std::thread::spawn(move || {
        handle.call_soon_threadsafe(|_| print_line("another thread had this run in the loop"))
    });
    ticking.await?;
    let told = thread
        .join()
        .map_err(|_| io::Error::other("the thread panicked"))?;
    told.map_err(io::Error::other)?;

    kill_process(getpid(), Signal::USR1)?;
    hearing.await??;
    print_line("SIGUSR1 has come");
    Ok(())
}

fn say(start: Time, now: Time, what: &str) {
    let elapsed = now.saturating_since(start);
    print_line(&format!("{what}, after {} ms", elapsed.as_millis()));
}

fn print_line(line: &str) {
    // A closed standard output is no reason to fail.
    cloverleaf::ignore(writeln!(io::stdout(), "{line}"));
}
