//! Which header a deadline travels in.

use std::{error::Error as StdError, fmt, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::wire;
use crate::call::OF_HTTP;

/// The header in which a deadline travels over HTTP, in milliseconds, if no other is named.
///
/// There is no standard. It is not one of Envoy's (`x-envoy-expected-rq-timeout-ms`), since a
/// proxy on the way strips or overwrites those, nor `Connect-Timeout-Ms`, which is a protocol's
/// own and which others take for a connect timeout; and it has no `x-`, as RFC 6648 asks for.
pub const DEFAULT_DEADLINE_HEADER: HeaderName = HeaderName::from_static("request-timeout-ms");

const GRPC: HeaderName = HeaderName::from_static("grpc-timeout");

/// In which header a deadline travels, and how it is written: as what is left of it, never as
/// an instant, for which two machines would need the same time.
///
/// ```
/// use buttress::timeout::DeadlineHeader;
///
/// assert_eq!(DeadlineHeader::default().name(), "request-timeout-ms");
/// assert_eq!(DeadlineHeader::grpc().name(), "grpc-timeout");
/// let header = DeadlineHeader::millis("x-envoy-upstream-rq-timeout-ms")?;
/// assert_eq!(header.name(), "x-envoy-upstream-rq-timeout-ms");
/// assert!(DeadlineHeader::millis("content-length").is_err());
/// # Ok::<(), buttress::BoxError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DeadlineHeader {
    name: HeaderName,
    form: Form,
}

/// What a request's headers say of its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Nothing,
    Left(Duration),
    /// The header is there, in another form than its own or more than once.
    Unreadable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Form {
    Grpc,
    Millis,
}

impl DeadlineHeader {
    /// `grpc-timeout`, as gRPC has it.
    #[must_use]
    pub const fn grpc() -> Self {
        Self { name: GRPC, form: Form::Grpc }
    }

    /// Milliseconds in a header of this name.
    ///
    /// # Errors
    ///
    /// [`InvalidDeadlineHeader`] if it is no header's name, one that HTTP itself needs, or
    /// `grpc-timeout`, which has a form of its own.
    pub fn millis(name: impl TryInto<HeaderName>) -> Result<Self, InvalidDeadlineHeader> {
        let name = name.try_into().map_err(|_| InvalidDeadlineHeader::NAME)?;
        if OF_HTTP.contains(&name) {
            return Err(InvalidDeadlineHeader::OF_HTTP);
        }
        if name == GRPC {
            return Err(InvalidDeadlineHeader::OF_GRPC);
        }
        Ok(Self { name, form: Form::Millis })
    }

    /// The header's name.
    #[must_use]
    pub const fn name(&self) -> &HeaderName {
        &self.name
    }

    /// What the header says. Two of them say nothing: which one holds is anybody's guess.
    pub(super) fn said(&self, headers: &HeaderMap) -> Said {
        let mut values = headers.get_all(&self.name).iter();
        let Some(value) = values.next() else { return Said::Nothing };
        if values.next().is_some() {
            return Said::Unreadable;
        }
        let left = match self.form {
            Form::Grpc => wire::parse_grpc(value.as_bytes()),
            Form::Millis => wire::parse_millis(value.as_bytes()),
        };
        left.map_or(Said::Unreadable, Said::Left)
    }

    fn read(&self, headers: &HeaderMap) -> Option<Duration> {
        match self.said(headers) {
            Said::Left(left) => Some(left),
            Said::Nothing | Said::Unreadable => None,
        }
    }

    /// Says that no more than `left` is left, unless the header says less already.
    pub(super) fn write(&self, headers: &mut HeaderMap, left: Duration) {
        if self.read(headers).is_none_or(|own| own > left) {
            headers.insert(&self.name, self.value(left));
        }
    }

    /// Less than the form can say is written as the least it can: to leave the header out would
    /// tell the service that there is no limit at all. Our own timers are no finer.
    fn value(&self, left: Duration) -> HeaderValue {
        match self.form {
            Form::Grpc => wire::encode_grpc(left).unwrap_or_else(|| HeaderValue::from_static("1n")),
            Form::Millis => {
                wire::encode_millis(left).unwrap_or_else(|| HeaderValue::from_static("1"))
            }
        }
    }
}

impl Default for DeadlineHeader {
    /// Milliseconds in the [`DEFAULT_DEADLINE_HEADER`].
    fn default() -> Self {
        Self { name: DEFAULT_DEADLINE_HEADER, form: Form::Millis }
    }
}

/// How much time the caller of this program has left for its request, if it says so.
///
/// Counted from when the request came. What is not of the header's form, and a header that is
/// there twice, count as none: [the module](super#on-the-wire) shows how it is passed on.
#[must_use]
pub fn incoming(headers: &HeaderMap, header: &DeadlineHeader) -> Option<Duration> {
    header.read(headers)
}

/// A header in which no deadline can travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidDeadlineHeader {
    sentence: &'static str,
}

impl InvalidDeadlineHeader {
    const NAME: Self = Self::because(
        "this is no header's name: use letters, digits and dashes, such as \"Request-Timeout-Ms\"",
    );
    const OF_HTTP: Self = Self::because(
        "HTTP itself needs this header: choose the one that the service reads its time from, \
         such as \"Request-Timeout-Ms\"",
    );
    const OF_GRPC: Self = Self::because(
        "gRPC's header has units of its own, not plain milliseconds: use `DeadlineHeader::grpc()`",
    );

    const fn because(sentence: &'static str) -> Self {
        Self { sentence }
    }
}

impl fmt::Display for InvalidDeadlineHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence)
    }
}

impl StdError for InvalidDeadlineHeader {}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn written(header: &DeadlineHeader, own: &[&'static str], left: Duration) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for value in own {
            headers.append(header.name(), HeaderValue::from_static(value));
        }
        header.write(&mut headers, left);
        let values = headers.get_all(header.name()).iter();
        values.map(|value| value.to_str().expect("ASCII").to_owned()).collect()
    }

    #[test]
    fn the_smaller_of_the_callers_own_and_ours_goes_out() {
        let header = DeadlineHeader::default();
        assert_eq!(written(&header, &[], 250 * MS), ["250"]);
        assert_eq!(written(&header, &["900"], 250 * MS), ["250"]);
        assert_eq!(written(&header, &["0100"], 250 * MS), ["0100"], "as it came");
        for nonsense in [&["soon"] as &[_], &["0"], &["100", "100"], &["100, 200"]] {
            assert_eq!(written(&header, nonsense, 250 * MS), ["250"], "{nonsense:?}");
        }
        assert_eq!(written(&DeadlineHeader::grpc(), &["1S"], 250 * MS), ["250000u"]);
    }

    #[test]
    fn what_is_less_than_can_be_said_is_the_least_and_not_nothing() {
        assert_eq!(written(&DeadlineHeader::default(), &[], MS / 2), ["1"]);
        assert_eq!(written(&DeadlineHeader::grpc(), &[], Duration::ZERO), ["1n"]);
    }

    #[test]
    fn headers_that_have_another_use_are_refused() {
        assert_eq!(DeadlineHeader::millis("two words"), Err(InvalidDeadlineHeader::NAME));
        assert_eq!(DeadlineHeader::millis("Host"), Err(InvalidDeadlineHeader::OF_HTTP));
        assert_eq!(DeadlineHeader::millis("grpc-timeout"), Err(InvalidDeadlineHeader::OF_GRPC));
    }
}
