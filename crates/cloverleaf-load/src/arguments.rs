//! The command line.

use std::time::Duration;

use crate::address::Address;
use crate::error::Error;

/// What `--help` prints.
pub(crate) const USAGE: &str = "\
usage: cloverleaf-load serve ADDRESS
       cloverleaf-load echo  ADDRESS [--connections N] [--depth N] [--size BYTES] [--lines]
       cloverleaf-load http  ADDRESS [--connections N] [--depth N] [--path PATH] [--body TEXT]
       cloverleaf-load websocket ADDRESS [--connections N] [--depth N] [--size BYTES]
       cloverleaf-load churn ADDRESS [--connections N] [--size BYTES] [--most N]
       cloverleaf-load read  PATH COUNT
       cloverleaf-load calls [--size BYTES]
       cloverleaf-load datagrams [--burst N] [--size BYTES]
ADDRESS is tcp:IP:PORT or unix:PATH; every driver takes --warmup MILLISECONDS (100).
  serve   an echo server on plain epoll; prints the address that it listens on
  calls   the floor of short connections, both ends: connects, echoes one message, closes, and again
  datagrams  the floor of UDP, both ends: --burst datagrams there and back, and again
  read    reads 4 KiB at random offsets of a cached file, one after the other, and prints JSON
  echo    keeps --depth messages of --size bytes in flight on each connection, checks every byte
  http    the same with GET requests of --path, each answered 200 with --body
  websocket  the same as echo, each message in a binary frame, after a handshake
  churn   connects, exchanges one message, closes, and again; at most --most times per window
A driver, and a floor that has both ends, prints `ready`, then reads windows in milliseconds and answers each with a line of JSON.";

/// For how long there is load before the first window.
const WARMUP: Duration = Duration::from_millis(100);

/// What to do.
#[derive(Debug)]
pub(crate) enum Command {
    /// Print the usage.
    Help,
    /// Read pieces of a file so many times.
    Read(String, u64),
    /// Be the floor.
    Serve(Address),
    /// Be the floor of short connections, both ends.
    Calls {
        /// The size of a message.
        size: usize,
        /// How long to work before the first window.
        warmup: Duration,
    },
    /// Be the floor of datagrams, both ends.
    Datagrams {
        /// How many go there and back at a time.
        burst: usize,
        /// The size of each.
        size: usize,
        /// How long to work before the first window.
        warmup: Duration,
    },
    /// Drive connections that last.
    Exchange(Load),
    /// Drive connections that carry one message each.
    Churn(Load),
}

/// What the messages are.
#[derive(Debug)]
pub(crate) enum Dialogue {
    /// Random bytes that come back as they are.
    Echo {
        /// Whether each message is a line.
        lines: bool,
    },
    /// Random bytes in WebSocket frames that come back with the same bytes.
    WebSocket,
    /// GET requests.
    Http {
        /// The path that is asked for.
        path: String,
        /// The body of every response.
        body: String,
    },
}

/// A load on one server.
#[derive(Debug)]
pub(crate) struct Load {
    /// Where the server is.
    pub(crate) address: Address,
    /// How many connections are open at a time.
    pub(crate) connections: usize,
    /// How many messages each connection keeps in flight.
    pub(crate) depth: usize,
    /// The size of an echo message.
    pub(crate) size: usize,
    /// How long to load the server before the first window.
    pub(crate) warmup: Duration,
    /// At most this many operations in a window (churn only).
    pub(crate) most: usize,
    /// What the messages are.
    pub(crate) dialogue: Dialogue,
}

/// Reads the command line, without the program's name.
pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Command, Error> {
    let verb = words.next().unwrap_or_default();
    if matches!(verb.as_str(), "-h" | "--help" | "help") {
        return Ok(Command::Help);
    }
    if matches!(verb.as_str(), "calls" | "datagrams") {
        return parse_both_ends(&verb, words);
    }
    let address = words
        .next()
        .ok_or_else(|| Error::Usage("an address is missing".into()))?;
    if verb == "read" {
        let count = words.next().unwrap_or_default();
        return Ok(Command::Read(address, number("COUNT", &count)? as u64));
    }
    let address = address.parse()?;
    let mut load = Load {
        address,
        connections: 1,
        depth: 1,
        size: 1024,
        warmup: WARMUP,
        most: usize::MAX,
        dialogue: match verb.as_str() {
            "http" => Dialogue::Http {
                path: "/".into(),
                body: String::new(),
            },
            "websocket" => Dialogue::WebSocket,
            _ => Dialogue::Echo { lines: false },
        },
    };
    while let Some(option) = words.next() {
        set(&mut load, &option, &mut words)?;
    }
    match verb.as_str() {
        "serve" => Ok(Command::Serve(load.address)),
        "echo" | "http" | "websocket" => Ok(Command::Exchange(load)),
        "churn" => Ok(Command::Churn(load)),
        _ => Err(Error::Usage(format!("no such command: {verb:?}"))),
    }
}

/// Reads the options of a floor that has both ends.
fn parse_both_ends(verb: &str, mut words: impl Iterator<Item = String>) -> Result<Command, Error> {
    let (mut burst, mut size, mut warmup) = (1, 64, WARMUP);
    while let Some(option) = words.next() {
        let value = words.next().unwrap_or_default();
        match (option.as_str(), verb) {
            ("--burst", "datagrams") => burst = number(&option, &value)?,
            ("--size", _) => size = number(&option, &value)?,
            ("--warmup", _) => warmup = Duration::from_millis(number(&option, &value)? as u64),
            _ => return Err(Error::Usage(format!("no such option here: {option:?}"))),
        }
    }
    Ok(match verb {
        "calls" => Command::Calls { size, warmup },
        _ => Command::Datagrams {
            burst,
            size,
            warmup,
        },
    })
}

fn set(
    load: &mut Load,
    option: &str,
    words: &mut dyn Iterator<Item = String>,
) -> Result<(), Error> {
    let mut value = || {
        words
            .next()
            .ok_or_else(|| Error::Usage(format!("{option} needs a value")))
    };
    match (option, &mut load.dialogue) {
        ("--connections", _) => load.connections = number(option, &value()?)?,
        ("--depth", _) => load.depth = number(option, &value()?)?,
        ("--size", Dialogue::Echo { .. } | Dialogue::WebSocket) => {
            load.size = number(option, &value()?)?;
        }
        ("--most", _) => load.most = number(option, &value()?)?,
        ("--warmup", _) => load.warmup = Duration::from_millis(number(option, &value()?)? as u64),
        ("--lines", Dialogue::Echo { lines }) => *lines = true,
        ("--path", Dialogue::Http { path, .. }) => *path = value()?,
        ("--body", Dialogue::Http { body, .. }) => *body = value()?,
        _ => return Err(Error::Usage(format!("no such option here: {option:?}"))),
    }
    Ok(())
}

fn number(option: &str, text: &str) -> Result<usize, Error> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(Error::Usage(format!(
            "{option} takes a number above 0, not {text:?}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_line(line: &str) -> Result<Command, Error> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_of_an_echo_load_are_taken() {
        let line = "echo tcp:127.0.0.1:7 --connections 64 --depth 8 --size 64 --lines";
        let Ok(Command::Exchange(load)) = parse_line(line) else {
            panic!("not an exchange")
        };
        assert_eq!((load.connections, load.depth, load.size), (64, 8, 64));
        assert!(matches!(load.dialogue, Dialogue::Echo { lines: true }));
    }

    #[test]
    fn options_of_a_floor_with_both_ends_are_taken() {
        let Ok(Command::Datagrams { burst, size, .. }) = parse_line("datagrams --burst 64") else {
            panic!("not datagrams")
        };
        assert_eq!((burst, size), (64, 64));
        let Ok(Command::Calls { size, warmup }) = parse_line("calls --size 9 --warmup 7") else {
            panic!("not calls")
        };
        assert_eq!((size, warmup), (9, Duration::from_millis(7)));
    }

    #[test]
    fn what_there_is_not_is_refused_by_name() {
        for (line, named) in [
            ("echo tcp:127.0.0.1:7 --path /", "--path"),
            ("http tcp:127.0.0.1:7 --lines", "--lines"),
            ("websocket tcp:127.0.0.1:7 --lines", "--lines"),
            ("echo tcp:127.0.0.1:7 --size 0", "--size"),
            ("echo tcp:127.0.0.1:7 --size", "--size"),
            ("calls --burst 2", "--burst"),
            ("datagrams --burst", "--burst"),
            ("shout tcp:127.0.0.1:7", "shout"),
            ("echo", "address"),
        ] {
            let error = parse_line(line).unwrap_err().to_string();
            assert!(error.contains(named), "{line}: {error}");
        }
    }
}
