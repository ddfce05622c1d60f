//! An answer without an end, as a watch gives it.

use bytes::{Bytes, BytesMut};
use http::Request;
use http_body_util::BodyExt;

use super::{
    http::{AnyBody, Http, MOST, Rejected, late, unreachable, well},
    registry::{Fault, RegistryErrorKind, within},
};

impl Http {
    /// An answer without an end, line by line. The limit is for its head.
    pub(super) async fn lines(&mut self, request: Request<Bytes>) -> Result<Lines, Rejected> {
        let asking = self.service.ask(request);
        let answer = within(self.limit, async { well(asking.await.map_err(unreachable)?).await });
        let response = answer.await.unwrap_or_else(|| Err(late(self.limit)))?;
        Ok(Lines { body: response.into_body(), split: Split::default() })
    }
}

/// An answer that comes line by line.
pub(super) struct Lines {
    body: AnyBody,
    split: Split,
}

impl Lines {
    /// The next line, or none at the end of the answer.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        loop {
            if let Some(line) = self.split.next()? {
                return Ok(Some(line));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.split.push(frame.data_ref().map_or(&[], |data| data)),
                Some(Err(error)) => {
                    let text = "the connection to it broke";
                    return Err(Fault::new(RegistryErrorKind::Unreachable, text).because(error));
                }
                // The last line may have no end.
                None => return Ok(self.split.rest()),
            }
        }
    }
}

/// Splits bytes into lines.
#[derive(Debug, Default)]
struct Split {
    buffer: BytesMut,
    /// So many bytes are known to hold no end of a line.
    searched: usize,
}

impl Split {
    fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// What is left at the end.
    fn rest(&mut self) -> Option<Bytes> {
        self.searched = 0;
        let rest = self.buffer.split().freeze();
        (!rest.trim_ascii().is_empty()).then_some(rest)
    }

    /// The next whole line that is not blank.
    fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        loop {
            let Some(at) = self.buffer[self.searched..].iter().position(|&byte| byte == b'\n')
            else {
                self.searched = self.buffer.len();
                if self.searched > MOST {
                    let text = format!("a line of its answer has more than {MOST} bytes");
                    return Err(Fault::new(RegistryErrorKind::Malformed, text));
                }
                return Ok(None);
            };
            let line = self.buffer.split_to(self.searched + at + 1).freeze();
            self.searched = 0;
            if !line.trim_ascii().is_empty() {
                return Ok(Some(line));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_are_found_wherever_the_pieces_end() {
        let mut split = Split::default();
        split.push(b"{\"a\":1}\n\r\n{\"b\"");
        assert_eq!(split.next().expect("short").as_deref(), Some(&b"{\"a\":1}\n"[..]));
        assert_eq!(split.next().expect("short"), None);
        split.push(b":2}");
        assert_eq!(split.next().expect("short"), None);
        split.push(b"\n");
        assert_eq!(split.next().expect("short").as_deref(), Some(&b"{\"b\":2}\n"[..]));
        assert_eq!(split.rest(), None);
        split.push(b" {}");
        assert_eq!(split.next().expect("short"), None);
        assert_eq!(split.rest().as_deref(), Some(&b" {}"[..]));
        assert_eq!(split.rest(), None);
        split.push(&vec![b'x'; MOST + 1]);
        assert!(split.next().is_err(), "a line has an end");
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_the_pieces(
            lines in proptest::collection::vec("[a-z]{1,9}", 0..9),
            cuts in proptest::collection::vec(1_usize..7, 1..60),
        ) {
            let whole: String = lines.iter().map(|line| format!("{line}\n")).collect();
            let (mut split, mut found, mut rest) = (Split::default(), Vec::new(), whole.as_bytes());
            for cut in cuts.iter().cycle() {
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                split.push(piece);
                while let Some(line) = split.next().expect("short") {
                    found.push(String::from_utf8_lossy(line.trim_ascii()).into_owned());
                }
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(found, lines);
        }
    }
}
