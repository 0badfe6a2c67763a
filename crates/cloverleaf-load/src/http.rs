//! HTTP/1.1 as far as a load needs it: one fixed request, and responses with a known body.

use crate::error::Error;

/// The largest response head that is still waited for.
const HEAD_LIMIT: usize = 16 * 1024;

/// A GET request of `path` on a connection that stays open.
pub(crate) fn request(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n").into_bytes()
}

/// The stream of responses on one connection.
#[derive(Debug)]
pub(crate) struct Responses {
    body: Vec<u8>,
    pending: Vec<u8>,
}

impl Responses {
    /// Each response is 200 and carries `body`.
    pub(crate) fn expecting(body: &str) -> Self {
        Self {
            body: body.into(),
            pending: Vec::new(),
        }
    }

    /// Takes the bytes that came, and says how many responses they completed.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        self.pending.extend_from_slice(bytes);
        let mut consumed = 0;
        let mut complete = 0;
        while let Some(length) = self.first_length(consumed)? {
            consumed += length;
            complete += 1;
        }
        self.pending.drain(..consumed);
        Ok(complete)
    }

    /// The length of the response at `from`, if it is there in full.
    fn first_length(&self, from: usize) -> Result<Option<usize>, Error> {
        let rest = &self.pending[from..];
        let Some(head) = rest.windows(4).position(|window| window == b"\r\n\r\n") else {
            return match rest.len() {
                0..HEAD_LIMIT => Ok(None),
                _ => Err(Error::Mismatch("a response head without end".into())),
            };
        };
        let head = head + 4;
        if !rest.starts_with(b"HTTP/1.1 200 ") {
            let line =
                String::from_utf8_lossy(rest.split(|byte| *byte == b'\r').next().unwrap_or(rest));
            return Err(Error::Mismatch(format!("the status line {line:?}")));
        }
        let length = content_length(&rest[..head])
            .ok_or_else(|| Error::Mismatch("a response without Content-Length".into()))?;
        let Some(body) = rest.get(head..head + length) else {
            return Ok(None);
        };
        if body != self.body {
            let body = String::from_utf8_lossy(body);
            return Err(Error::Mismatch(format!("the body {body:?}")));
        }
        Ok(Some(head + length))
    }
}

fn content_length(head: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    let line = head
        .split(|byte| *byte == b'\n')
        .find(|line| line.len() > NAME.len() && line[..NAME.len()].eq_ignore_ascii_case(NAME))?;
    std::str::from_utf8(&line[NAME.len()..])
        .ok()?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nCONTENT-LENGTH: 2\r\nserver: x\r\n\r\nok";

    #[test]
    fn responses_cut_anywhere_are_counted_once_each() {
        let stream = RESPONSE.repeat(5);
        for cut in 1..stream.len() {
            let mut responses = Responses::expecting("ok");
            let count: usize = stream
                .chunks(cut)
                .map(|piece| responses.take(piece).unwrap())
                .sum();
            assert_eq!(count, 5, "cut every {cut} bytes");
        }
    }

    #[test]
    fn another_status_another_body_and_no_length_are_errors() {
        for (response, named) in [
            (
                &b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\nok"[..],
                "500",
            ),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nko", "ko"),
            (b"HTTP/1.1 200 OK\r\n\r\nok", "Content-Length"),
        ] {
            let error = Responses::expecting("ok")
                .take(response)
                .unwrap_err()
                .to_string();
            assert!(error.contains(named), "{error}");
        }
    }
}
