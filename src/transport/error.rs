//! What can go wrong before a request is sent.

use std::{error::Error as StdError, fmt, io, net::SocketAddr, time::Duration};

use http::{Uri, uri::Scheme};
use hyper_util::client::legacy;

use crate::{
    classify::{Blame, Mark, Marked, Retry, Sent, Verdict},
    error::{BoxError, find},
};

/// Nothing happened, and nobody knows anything of the endpoint.
const UNTRIED: Verdict = Verdict::new(Blame::Nobody, Sent::No, Retry::Always);
/// Every endpoint would be asked the same impossible thing.
const IMPOSSIBLE: Verdict = Verdict::new(Blame::Client, Sent::No, Retry::Never);

/// No connection was made within the limit. Nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectTimeout {
    address: SocketAddr,
    limit: Duration,
    mark: Mark,
}

impl ConnectTimeout {
    pub(super) const fn new(address: SocketAddr, limit: Duration) -> Self {
        Self { address, limit, mark: Mark::new(Verdict::UNREACHED) }
    }

    /// Which address did not answer.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The limit.
    #[must_use]
    pub const fn limit(&self) -> Duration {
        self.limit
    }
}

impl fmt::Display for ConnectTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no connection to {} within {:?}", self.address, self.limit)
    }
}

impl StdError for ConnectTimeout {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.mark)
    }
}

/// There was to be a connection for a request, but it never got one. Nothing was sent, whatever
/// the source says by itself.
#[derive(Debug)]
pub struct NotHandedOver {
    waited: bool,
    cause: Marked,
}

impl NotHandedOver {
    /// The error of a request that was not handed to a connection. One that could not connect
    /// is as good as it is.
    pub(super) fn or_connect(cause: legacy::Error) -> BoxError {
        let dialled =
            find::<ConnectTimeout>(&cause).is_some() || find::<io::Error>(&cause).is_some();
        match (cause.is_connect(), dialled) {
            (true, true) => cause.into(),
            (waited, _) => {
                let verdict = if waited { UNTRIED } else { Verdict::UNREACHED };
                Self { waited, cause: Marked::new(verdict, cause.into()) }.into()
            }
        }
    }

    /// Whether it waited for a connection that another request was making, and that failed or
    /// was given up. Then the endpoint is not to blame: it is for the other one.
    #[must_use]
    pub const fn waited_for_another(&self) -> bool {
        self.waited
    }
}

impl fmt::Display for NotHandedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.waited {
            "the connection that the request waited for was not made"
        } else {
            "the connection broke before the request was handed to it"
        })
    }
}

impl StdError for NotHandedOver {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.cause)
    }
}

/// A request's URI that can't be called. Nothing was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidTarget {
    fault: Fault,
    mark: Mark,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Relative,
    NeedsTls,
    UnknownScheme,
}

impl InvalidTarget {
    /// # Errors
    ///
    /// If there is no plain HTTP to be spoken with this target.
    pub(super) fn check(target: &Uri) -> Result<(), Self> {
        let fault = match (target.scheme(), target.authority()) {
            (None, _) | (_, None) => Fault::Relative,
            (Some(scheme), _) if *scheme == Scheme::HTTP => return Ok(()),
            (Some(scheme), _) if *scheme == Scheme::HTTPS => Fault::NeedsTls,
            _ => Fault::UnknownScheme,
        };
        Err(Self { fault, mark: Mark::new(IMPOSSIBLE) })
    }
}

impl fmt::Display for InvalidTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.fault {
            Fault::Relative => {
                "the request's URI names no service: make it absolute, with the service's name \
                 as its authority, as in http://payments/charges"
            }
            Fault::NeedsTls => {
                "the request's URI says https, but this transport does not speak TLS: say http, \
                 or put a transport that does in its place"
            }
            Fault::UnknownScheme => "the request's URI has a scheme that is not HTTP: say http",
        })
    }
}

impl StdError for InvalidTarget {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::verdict_on_error;

    #[tokio::test]
    async fn what_was_not_handed_over_was_not_sent_whatever_the_source_says() {
        use hyper_util::{client::legacy::Client, rt::TokioExecutor};
        // Any error of hyper-util's will do that says "maybe" by itself.
        let client = Client::builder(TokioExecutor::new()).build_http::<String>();
        let cause = client.request(http::Request::default()).await.expect_err("a relative URI");
        assert_eq!(verdict_on_error(&cause).sent, Sent::Maybe);
        let error = NotHandedOver::or_connect(cause);
        assert_eq!(verdict_on_error(&*error), Verdict::UNREACHED);
        assert!(find::<legacy::Error>(&*error).is_some(), "the cause is there");
    }

    #[test]
    fn a_target_must_be_absolute_and_plain() {
        assert!(InvalidTarget::check(&Uri::from_static("http://payments/charges")).is_ok());
        for (target, advice) in [
            ("/charges", "http://payments/charges"),
            ("payments:80", "http://payments/charges"),
            ("https://payments/charges", "TLS"),
            ("ftp://payments/charges", "say http"),
        ] {
            let error = InvalidTarget::check(&Uri::from_static(target)).expect_err(target);
            assert!(error.to_string().contains(advice), "{target}: {error}");
            assert_eq!(verdict_on_error(&error), IMPOSSIBLE);
        }
    }
}
