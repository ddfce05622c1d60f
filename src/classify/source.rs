//! What an error's chain of sources says about the request.

use std::{
    error::Error as StdError,
    fmt::{self, Write},
    io,
};

use super::{Blame, Mark, Marked, Retry, Sent, Verdict};
use crate::error::sources;

/// The verdict on an error, by its sources, outermost first.
///
/// | found in the chain | blame | sent | retry |
/// |---|---|---|---|
/// | a [`Mark`] or [`Marked`] | as it says | as it says | as it says |
/// | the peer's certificate was refused: it is not who was asked for, wherever that is | client | no | never |
/// | connecting failed (hyper-util), TLS included: an alert, or a connection that was closed in its handshake | endpoint | no | always |
/// | a stream that HTTP/2 guarantees unprocessed: `REFUSED_STREAM`, above the last id of a `GOAWAY` (RFC 9113, 8.7) | nobody | no | transparent |
/// | the connection closed before the request went out (hyper `is_canceled`) | nobody | no | transparent |
/// | the answer broke off, could not be read, or the connection broke | endpoint | maybe | if safe |
/// | a wrong request, or one whose own body failed (hyper `is_user`) | client | maybe | never |
/// | io: connection refused, no local address | endpoint | no | always |
/// | io: anything else | endpoint | maybe | if safe |
/// | nothing of these | endpoint | maybe | if safe |
///
/// TLS is no dependency here, so a certificate that was refused is known by the words of who
/// refused it: those of rustls and of OpenSSL (`native-tls` on Linux). From others, connecting
/// just failed. What TLS reports of an established connection (a client's certificate is only
/// refused there, in TLS 1.3) leaves open whether the request was carried out.
#[must_use]
pub fn verdict_on_error(error: &(dyn StdError + 'static)) -> Verdict {
    sources(error).find_map(known).unwrap_or(UNKNOWN)
}

/// An error that nobody knows: the request may have happened.
const UNKNOWN: Verdict = Verdict::new(Blame::Endpoint, Sent::Maybe, Retry::IfSafe);
/// Nobody but the peer that was asked for may hear the request.
const DISTRUSTED: Verdict = Verdict::new(Blame::Client, Sent::No, Retry::Never);
/// The endpoint was not reached.
const UNREACHED: Verdict = Verdict::new(Blame::Endpoint, Sent::No, Retry::Always);

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
    if error.kind() == Kind::InvalidData && error.get_ref().is_some_and(|inner| distrusts(inner)) {
        return Some(DISTRUSTED);
    }
    // Only what a `connect` alone can say: an established connection reports an unreachable
    // host as well, after the request went out.
    Some(match error.kind() {
        Kind::ConnectionRefused | Kind::AddrNotAvailable => UNREACHED,
        _ => UNKNOWN,
    })
}

/// How the words begin, or what they contain, by which a peer's certificate is refused:
/// rustls's `Error::InvalidCertificate`, and OpenSSL's reason 134. Both only in a handshake,
/// before anything was sent.
const DISTRUST: [&str; 2] = ["invalid peer certificate", "certificate verify failed"];

/// Whether an error of TLS says that the peer's certificate was refused.
fn distrusts(error: &(dyn StdError + 'static)) -> bool {
    let mut words = Words { bytes: [0; 256], len: 0 };
    // An error only says that there was more than fits.
    let _ = write!(words, "{error}");
    let words = &words.bytes[..words.len];
    let says = |phrase: &str| words.windows(phrase.len()).any(|part| part == phrase.as_bytes());
    DISTRUST.into_iter().any(says)
}

/// The beginning of what an error says, without an allocation.
struct Words {
    bytes: [u8; 256],
    len: usize,
}

impl Write for Words {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let free = &mut self.bytes[self.len..];
        let fits = free.len().min(text.len());
        free[..fits].copy_from_slice(&text.as_bytes()[..fits]);
        self.len += fits;
        if fits < text.len() { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(feature = "hyper")]
mod hyper {
    //! hyper's errors, as measured per failure; the top-level `Display` says only
    //! "client error (SendRequest)".

    use std::io;

    use super::{
        Blame, DISTRUSTED, Retry, Sent, StdError, UNKNOWN, UNREACHED, Verdict, distrusts, sources,
    };

    /// Provably not processed, and nobody's fault: a server that recycles its connections.
    const UNPROCESSED: Verdict = Verdict::new(Blame::Nobody, Sent::No, Retry::Transparent);
    /// hyper does not tell a request that can't be sent from one whose body failed when its head
    /// was with the service already.
    const WRONG_REQUEST: Verdict = Verdict::new(Blame::Client, Sent::Maybe, Retry::Never);

    pub(super) fn known(error: &(dyn StdError + 'static)) -> Option<Verdict> {
        if let Some(error) = error.downcast_ref::<hyper_util::client::legacy::Error>() {
            return error.is_connect().then(|| on_connecting(error));
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

    /// The connector's error is a source, and may be an io error around that of TLS, whose own
    /// sources don't name it.
    fn on_connecting(error: &(dyn StdError + 'static)) -> Verdict {
        let refused = sources(error).any(|error| match error.downcast_ref::<io::Error>() {
            Some(error) => error.get_ref().is_some_and(|inner| distrusts(inner)),
            None => distrusts(error),
        });
        if refused { DISTRUSTED } else { UNREACHED }
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

    fn tls(words: &str) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, words)
    }

    #[test]
    fn a_certificate_that_was_refused_is_known_by_the_words_of_who_refused_it() {
        for words in [
            "invalid peer certificate: UnknownIssuer",
            "error:0A000086:SSL routines:tls_post_process_server_certificate:certificate verify \
             failed:ssl/statem/statem_clnt.c:1889: (self-signed certificate)",
        ] {
            assert_eq!(verdict_on_error(&tls(words)), DISTRUSTED, "{words}");
        }
        // A peer that refuses ours may do so when it has the request.
        let alert = tls("received fatal alert: CertificateRequired");
        assert_eq!(verdict_on_error(&alert), UNKNOWN);
        let long = tls(&format!("{}invalid peer certificate", "-".repeat(300)));
        assert_eq!(verdict_on_error(&long), UNKNOWN, "only the beginning is looked at");
    }

    #[cfg(feature = "hyper")]
    #[tokio::test]
    async fn a_handshake_that_failed_sent_nothing_and_only_a_refused_certificate_is_never_enough() {
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
        for (kind, words, expected) in [
            (InvalidData, "invalid peer certificate: Expired", DISTRUSTED),
            (Other, "SSL routines: certificate verify failed", DISTRUSTED),
            (InvalidData, "received fatal alert: HandshakeFailure", UNREACHED),
            (UnexpectedEof, "tls handshake eof", UNREACHED),
        ] {
            let client = Client::builder(TokioExecutor::new()).build(Tls(kind, words));
            let request = http::Request::get("http://payments/").body(crate::body::Body::empty());
            let error = client.request(request.expect("sound")).await.expect_err("no connection");
            assert_eq!(verdict_on_error(&error), expected, "{words}");
        }
    }
}
