//! How many attempts came before this one, in a header.

use std::{
    error::Error as StdError,
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderMap, HeaderName, HeaderValue};
use tower_layer::Layer;
use tower_service::Service;

use crate::call::{Carrier, HttpHead, OF_HTTP};

/// The header for HTTP, if no other is named: how many attempts of this call were made before.
///
/// There is no standard. Envoy's `x-envoy-attempt-count` is set by the proxies themselves, which
/// overwrite what comes; and it has no `x-`, as RFC 6648 asks for.
pub const DEFAULT_ATTEMPT_HEADER: HeaderName = HeaderName::from_static("request-previous-attempts");

const GRPC: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");

/// In which header a server is told of the attempts before, and how they are counted.
///
/// ```
/// use buttress::grpc::AttemptHeader;
///
/// assert_eq!(AttemptHeader::grpc().name(), "grpc-previous-rpc-attempts");
/// assert_eq!(AttemptHeader::default().name(), "request-previous-attempts");
/// assert_eq!(AttemptHeader::number("x-envoy-attempt-count")?.name(), "x-envoy-attempt-count");
/// assert!(AttemptHeader::previous("host").is_err());
/// # Ok::<(), buttress::BoxError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AttemptHeader {
    name: HeaderName,
    counts: Counts,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Counts {
    Previous,
    Number,
}

impl AttemptHeader {
    /// `grpc-previous-rpc-attempts`, as gRPC has it (gRFC A6): absent on the first attempt, then
    /// 1, 2, ….
    #[must_use]
    pub const fn grpc() -> Self {
        Self { name: GRPC, counts: Counts::Previous }
    }

    /// How many attempts were made before, in a header of this name; absent on the first.
    ///
    /// # Errors
    ///
    /// [`InvalidAttemptHeader`] if it is no header's name, or one that HTTP itself needs.
    pub fn previous(name: impl TryInto<HeaderName>) -> Result<Self, InvalidAttemptHeader> {
        Self::new(name, Counts::Previous)
    }

    /// Which attempt it is, in a header of this name: 1 on the first, as Envoy counts.
    ///
    /// # Errors
    ///
    /// [`InvalidAttemptHeader`] if it is no header's name, or one that HTTP itself needs.
    pub fn number(name: impl TryInto<HeaderName>) -> Result<Self, InvalidAttemptHeader> {
        Self::new(name, Counts::Number)
    }

    fn new(name: impl TryInto<HeaderName>, counts: Counts) -> Result<Self, InvalidAttemptHeader> {
        let name = name.try_into().map_err(|_| InvalidAttemptHeader::NAME)?;
        if OF_HTTP.contains(&name) {
            return Err(InvalidAttemptHeader::OF_HTTP);
        }
        Ok(Self { name, counts })
    }

    /// The header's name.
    #[must_use]
    pub const fn name(&self) -> &HeaderName {
        &self.name
    }

    /// Says which attempt this is; 0 stands for a request outside of any retry, of which nothing
    /// is known. What came with the request counted somebody else's attempts: the calls of
    /// another program that this one serves, for one.
    fn write(&self, headers: &mut HeaderMap, attempt: u32) {
        let count = match (attempt, self.counts) {
            (0, _) => return,
            (attempt, Counts::Previous) => attempt - 1,
            (attempt, Counts::Number) => attempt,
        };
        if count == 0 {
            headers.remove(&self.name);
        } else {
            headers.insert(&self.name, digits(count));
        }
    }
}

impl Default for AttemptHeader {
    /// The attempts before, in the [`DEFAULT_ATTEMPT_HEADER`].
    fn default() -> Self {
        Self { name: DEFAULT_ATTEMPT_HEADER, counts: Counts::Previous }
    }
}

/// A number as a header's value. The few that occur are not allocated.
fn digits(count: u32) -> HeaderValue {
    const FEW: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    let few = usize::try_from(count).ok().and_then(|count| FEW.get(count));
    few.map_or_else(|| HeaderValue::from(count), |digit| HeaderValue::from_static(digit))
}

/// Tells the server how many attempts of this call were made before, so that it can tell load
/// from repetition. Stands below retry and hedge, which count them in
/// [`Words::attempt`](crate::call::Words::attempt).
#[derive(Clone, Debug)]
pub struct AttemptHeaderLayer {
    header: Option<Arc<AttemptHeader>>,
}

impl AttemptHeaderLayer {
    /// Writes into this header.
    #[must_use]
    pub fn new(header: AttemptHeader) -> Self {
        Self::optional(Some(header))
    }

    /// Writes into gRPC's own.
    #[must_use]
    pub fn grpc() -> Self {
        Self::new(AttemptHeader::grpc())
    }

    /// A layer that writes the header, or one that lets every call pass as it is, for stacks
    /// that decide at run time.
    #[must_use]
    pub fn optional(header: Option<AttemptHeader>) -> Self {
        Self { header: header.map(Arc::new) }
    }
}

impl Default for AttemptHeaderLayer {
    fn default() -> Self {
        Self::new(AttemptHeader::default())
    }
}

impl<S> Layer<S> for AttemptHeaderLayer {
    type Service = AttemptHeaderService<S>;

    fn layer(&self, inner: S) -> AttemptHeaderService<S> {
        AttemptHeaderService { inner, header: self.header.clone() }
    }
}

/// The service of [`AttemptHeaderLayer`].
#[derive(Clone, Debug)]
pub struct AttemptHeaderService<S> {
    inner: S,
    header: Option<Arc<AttemptHeader>>,
}

impl<S, C> Service<C> for AttemptHeaderService<S>
where
    C: Carrier,
    C::Request: HttpHead,
    S: Service<C>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut call: C) -> S::Future {
        if let Some(header) = &self.header {
            let attempt = call.words().map_or(0, |words| words.attempt);
            header.write(call.request_mut().headers_mut(), attempt);
        }
        self.inner.call(call)
    }
}

/// A header in which no attempts can be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidAttemptHeader {
    sentence: &'static str,
}

impl InvalidAttemptHeader {
    const NAME: Self = Self {
        sentence: "this is no header's name: use letters, digits and dashes, such as \
                   \"Request-Previous-Attempts\"",
    };
    const OF_HTTP: Self = Self {
        sentence: "HTTP itself needs this header: choose the one that the service reads attempts \
                   from, such as \"Request-Previous-Attempts\"",
    };
}

impl fmt::Display for InvalidAttemptHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence)
    }
}

impl StdError for InvalidAttemptHeader {}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(header: &AttemptHeader, own: Option<&'static str>, attempt: u32) -> Vec<String> {
        let mut headers = HeaderMap::new();
        if let Some(own) = own {
            headers.insert(header.name(), HeaderValue::from_static(own));
        }
        header.write(&mut headers, attempt);
        let values = headers.get_all(header.name()).iter();
        values.map(|value| value.to_str().expect("digits").to_owned()).collect()
    }

    #[test]
    fn grpc_counts_those_before_and_envoy_this_one_too() {
        let grpc = AttemptHeader::grpc();
        let counted =
            |header: &AttemptHeader| [1, 2, 3, 11].map(|n| written(header, None, n).join("+"));
        assert_eq!(counted(&grpc), ["", "1", "2", "10"]);
        let envoy = AttemptHeader::number("x-envoy-attempt-count").expect("a name");
        assert_eq!(counted(&envoy), ["1", "2", "3", "11"]);
    }

    #[test]
    fn what_somebody_else_counted_is_replaced_where_we_count() {
        let grpc = AttemptHeader::grpc();
        assert!(written(&grpc, Some("7"), 1).is_empty());
        assert_eq!(written(&grpc, Some("7"), 2), ["1"]);
        assert_eq!(written(&grpc, Some("7"), 0), ["7"], "outside of any retry");
    }

    #[test]
    fn headers_that_have_another_use_are_refused() {
        assert_eq!(AttemptHeader::previous("two words"), Err(InvalidAttemptHeader::NAME));
        assert_eq!(AttemptHeader::number("Host"), Err(InvalidAttemptHeader::OF_HTTP));
    }
}
