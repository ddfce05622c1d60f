//! What an error's chain of sources says about the request.

use std::{error::Error as StdError, io};

use super::{Blame, Mark, Marked, Retry, Sent, Verdict};
use crate::error::sources;

/// The verdict on an error, by its sources, outermost first.
///
/// | found in the chain | blame | sent | retry |
/// |---|---|---|---|
/// | a [`Mark`] or [`Marked`] | as it says | as it says | as it says |
/// | connecting failed (hyper-util), TLS included: a certificate that was refused, an alert, a connection that was closed in its handshake | endpoint | no | always |
/// | a stream that HTTP/2 guarantees unprocessed: `REFUSED_STREAM`, above the last id of a `GOAWAY` (RFC 9113, 8.7) | nobody | no | transparent |
/// | the connection closed before the request went out (hyper `is_canceled`) | nobody | no | transparent |
/// | the answer broke off, could not be read, or the connection broke | endpoint | maybe | if safe |
/// | a wrong request, or one whose own body failed (hyper `is_user`) | client | maybe | never |
/// | io: connection refused, no local address | endpoint | no | always |
/// | io: anything else | endpoint | maybe | if safe |
/// | nothing of these | endpoint | maybe | if safe |
///
/// A refused certificate is its endpoint's fault, and not the caller's: of several instances one
/// may have let its own expire, or its address may belong to another by now. Blamed on the caller,
/// it would answer all that come to it at once, and never be left out. What TLS reports of an
/// established connection (in TLS 1.3 a client's certificate is only refused there) leaves open
/// whether the request was carried out.
#[must_use]
pub fn verdict_on_error(error: &(dyn StdError + 'static)) -> Verdict {
    sources(error).find_map(known).unwrap_or(UNKNOWN)
}

/// An error that nobody knows: the request may have happened.
const UNKNOWN: Verdict = Verdict::new(Blame::Endpoint, Sent::Maybe, Retry::IfSafe);

fn known(error: &(dyn StdError + 'static)) -> Option<Verdict> {
    if let Some(mark) = error.downcast_ref::<Mark>() {
        return Some(mark.verdict());
    }
    if let Some(marked) = error.downcast_ref::<Marked>() {
        return Some(marked.verdict());
    }
    if let Some(error) = error.downcast_ref::<io::Error>() {
        return io_verdict(error);
    }
    #[cfg(feature = "hyper")]
    if let Some(verdict) = self::hyper::known(error) {
        return Some(verdict);
    }
    None
}

fn io_verdict(error: &io::Error) -> Option<Verdict> {
    use io::ErrorKind as Kind;
    // An io error is often only the wrapper of another, which knows more.
    if let Some(known) = error.get_ref().and_then(|inner| sources(inner).find_map(known)) {
        return Some(known);
    }
    // Only what a `connect` alone can say: an established connection reports an unreachable
    // host as well, after the request went out.
    Some(match error.kind() {
        Kind::ConnectionRefused | Kind::AddrNotAvailable => Verdict::UNREACHED,
        _ => UNKNOWN,
    })
}

#[cfg(feature = "hyper")]
mod hyper {
    //! hyper's errors, as measured per failure; the top-level `Display` says only
    //! "client error (SendRequest)".

    use super::{Blame, Retry, Sent, StdError, UNKNOWN, Verdict};

    /// Provably not processed, and nobody's fault: a server that recycles its connections.
    const UNPROCESSED: Verdict = Verdict::new(Blame::Nobody, Sent::No, Retry::Transparent);
    /// hyper does not tell a request that can't be sent from one whose body failed when its head
    /// was with the service already.
    const WRONG_REQUEST: Verdict = Verdict::new(Blame::Client, Sent::Maybe, Retry::Never);

    pub(super) fn known(error: &(dyn StdError + 'static)) -> Option<Verdict> {
        if let Some(error) = error.downcast_ref::<hyper_util::client::legacy::Error>() {
            return error.is_connect().then_some(Verdict::UNREACHED);
        }
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return Some(h2_verdict(error));
        }
        let error = error.downcast_ref::<::hyper::Error>()?;
        if error.is_canceled() {
            return Some(UNPROCESSED);
        }
        if error.is_user() {
            return Some(WRONG_REQUEST);
        }
        if error.is_incomplete_message() || error.is_parse() {
            return Some(UNKNOWN);
        }
        // The source (h2 or io) knows more.
        None
    }

    fn h2_verdict(error: &h2::Error) -> Verdict {
        // What the server says of a stream; our own side would know nothing of it.
        let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        // h2 (0.4.20, `Inner::recv_go_away`) reports a GOAWAY to a stream only when the stream is
        // above the last id, or was not opened yet.
        let turned_away = refused || error.is_go_away();
        if turned_away && error.is_remote() { UNPROCESSED } else { UNKNOWN }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_was_never_sent() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(verdict_on_error(&refused).sent, Sent::No);
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(verdict_on_error(&reset).sent, Sent::Maybe);
    }

    #[test]
    fn finds_a_mark_inside_an_io_error() {
        let verdict = Verdict::new(Blame::Client, Sent::No, Retry::Never);
        let error = io::Error::other(Mark::new(verdict));
        assert_eq!(verdict_on_error(&error), verdict);
    }

    #[cfg(feature = "hyper")]
    #[tokio::test]
    async fn a_handshake_of_tls_that_failed_sent_nothing_and_another_endpoint_may_do() {
        use std::{
            future::ready,
            task::{Context, Poll},
        };

        use ::hyper::rt::{Read, ReadBufCursor, Write as HyperWrite};
        use hyper_util::{
            client::legacy::{
                Client,
                connect::{Connected, Connection},
            },
            rt::TokioExecutor,
        };

        /// Never connects.
        #[derive(Clone)]
        struct Tls(io::ErrorKind, &'static str);
        struct Nowhere;

        impl tower_service::Service<http::Uri> for Tls {
            type Response = Nowhere;
            type Error = io::Error;
            type Future = std::future::Ready<Result<Nowhere, io::Error>>;

            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
                Poll::Ready(Ok(()))
            }

            fn call(&mut self, _: http::Uri) -> Self::Future {
                ready(Err(io::Error::new(self.0, self.1)))
            }
        }

        impl Connection for Nowhere {
            fn connected(&self) -> Connected {
                Connected::new()
            }
        }

        type Polled<T> = Poll<io::Result<T>>;

        impl Read for Nowhere {
            fn poll_read(
                self: std::pin::Pin<&mut Self>,
                _: &mut Context<'_>,
                _: ReadBufCursor<'_>,
            ) -> Polled<()> {
                Poll::Pending
            }
        }

        impl HyperWrite for Nowhere {
            fn poll_write(
                self: std::pin::Pin<&mut Self>,
                _: &mut Context<'_>,
                _: &[u8],
            ) -> Polled<usize> {
                Poll::Pending
            }

            fn poll_flush(self: std::pin::Pin<&mut Self>, _: &mut Context<'_>) -> Polled<()> {
                Poll::Pending
            }

            fn poll_shutdown(self: std::pin::Pin<&mut Self>, _: &mut Context<'_>) -> Polled<()> {
                Poll::Pending
            }
        }

        use io::ErrorKind::{InvalidData, Other, UnexpectedEof};
        for (kind, words) in [
            (InvalidData, "invalid peer certificate: Expired"),
            (Other, "SSL routines: certificate verify failed"),
            (InvalidData, "received fatal alert: HandshakeFailure"),
            (UnexpectedEof, "tls handshake eof"),
        ] {
            let client = Client::builder(TokioExecutor::new()).build(Tls(kind, words));
            let request = http::Request::get("http://payments/").body(crate::body::Body::empty());
            let error = client.request(request.expect("sound")).await.expect_err("no connection");
            assert_eq!(verdict_on_error(&error), Verdict::UNREACHED, "{words}");
        }
    }
}
