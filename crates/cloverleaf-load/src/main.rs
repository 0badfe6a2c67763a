//! Load for the benchmarks, and the floor that they are measured against.
//!
//! `cloverleaf-load echo|http|websocket|churn` drives a server in a closed loop: every connection keeps a fixed
//! number of messages in flight, every byte that comes back is compared, and every latency goes into
//! a histogram. `cloverleaf-load serve` is the floor: an echo server with nothing but epoll, `recv`
//! and `send`. `cloverleaf-load calls` and `datagrams` are those of short connections and datagrams
//! that have both ends in one process, and `cloverleaf-load read` is that of files.
//!
//! A driver talks to the benchmark over its standard streams. It prints `ready`, then answers each
//! line (a number of milliseconds) with one line of JSON, and ends when its input does. It is silent
//! on the network between two answers, so that whoever reads the server's CPU clock then reads it
//! exactly.

mod address;
mod arguments;
mod both_ends;
mod calls;
mod churn;
mod clock;
mod connection;
mod datagrams;
mod drive;
mod error;
mod files;
mod histogram;
mod http;
mod outcome;
mod ring;
mod serve;
mod websocket;

use std::env;
use std::fmt::Display;
use std::io::{self, BufRead, Write};
use std::process::ExitCode;
use std::time::Duration;

use arguments::Command;
use both_ends::BothEnds;
use error::Error;

fn main() -> ExitCode {
    match arguments::parse(env::args().skip(1)).and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when even standard error is closed.
            drop(writeln!(io::stderr(), "cloverleaf-load: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), Error> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    match command {
        Command::Help => Ok(writeln!(io::stdout(), "{}", arguments::USAGE)?),
        Command::Read(path, count) => Ok(writeln!(io::stdout(), "{}", files::read(&path, count)?)?),
        Command::Serve(listen) => serve::serve(&listen),
        Command::Calls { size, warmup } => both_ends(calls::Calls::new(size)?, warmup),
        Command::Datagrams {
            burst,
            size,
            warmup,
        } => both_ends(datagrams::Datagrams::new(burst, size)?, warmup),
        Command::Exchange(load) => {
            let mut driver = drive::Driver::connect(&load)?;
            driver.run(load.warmup)?;
            answer(|window| driver.run(window))
        }
        Command::Churn(load) => {
            let mut churn = churn::Churn::new(&load)?;
            churn.run(load.warmup)?;
            answer(|window| churn.run(window))
        }
    }
}

fn both_ends(mut work: impl BothEnds, warmup: Duration) -> Result<(), Error> {
    both_ends::run(&mut work, warmup)?;
    answer(|window| both_ends::run(&mut work, window))
}

/// Says `ready`, then measures once for each line of standard input.
fn answer<R: Display>(mut measure: impl FnMut(Duration) -> Result<R, Error>) -> Result<(), Error> {
    let mut output = io::stdout().lock();
    writeln!(output, "ready")?;
    output.flush()?;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let window = line
            .trim()
            .parse()
            .map(Duration::from_millis)
            .map_err(|_| Error::Usage(format!("a window in milliseconds, not {line:?}")))?;
        writeln!(output, "{}", measure(window)?)?;
        output.flush()?;
    }
    Ok(())
}
