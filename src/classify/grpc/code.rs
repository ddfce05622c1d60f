//! gRPC's status codes.

use std::fmt;

use ::http::{HeaderMap, HeaderName, StatusCode};

/// Where a code travels: in the trailers, or in the headers of an answer that has nothing else
/// ("Trailers-Only").
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// gRPC's status codes (`google.rpc.Code`), by their numbers on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum GrpcCode {
    /// It worked.
    Ok = 0,
    /// The call was cancelled, as a rule by its caller.
    Cancelled = 1,
    /// An error that says nothing; also every code that is not in this list.
    Unknown = 2,
    /// The request was wrong, whatever the state of the system.
    InvalidArgument = 3,
    /// The server's own time was up.
    DeadlineExceeded = 4,
    /// What was asked for is not there.
    NotFound = 5,
    /// What was to be made is there already.
    AlreadyExists = 6,
    /// The caller may not.
    PermissionDenied = 7,
    /// A quota is spent, or a message too large.
    ResourceExhausted = 8,
    /// The system is not in the state that the request needs.
    FailedPrecondition = 9,
    /// Another transaction came in between.
    Aborted = 10,
    /// Past the end.
    OutOfRange = 11,
    /// The method is not there.
    Unimplemented = 12,
    /// An invariant of the server is broken.
    Internal = 13,
    /// The service can't be had just now.
    Unavailable = 14,
    /// Data was lost for good.
    DataLoss = 15,
    /// The caller did not say who it is.
    Unauthenticated = 16,
}

impl GrpcCode {
    /// All codes, by their numbers.
    pub const ALL: [Self; 17] = [
        Self::Ok,
        Self::Cancelled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];

    /// The code that headers or trailers name, if they name one. One that nobody knows, and one
    /// that can't be read, are [`Unknown`](Self::Unknown), never a success (`statuscodes.md`).
    /// So are two that differ: which of them the server meant is anybody's guess.
    ///
    /// ```
    /// use buttress::classify::GrpcCode;
    ///
    /// let mut trailers = http::HeaderMap::new();
    /// assert_eq!(GrpcCode::of(&trailers), None);
    /// trailers.insert("grpc-status", "14".parse()?);
    /// assert_eq!(GrpcCode::of(&trailers), Some(GrpcCode::Unavailable));
    /// # Ok::<(), buttress::BoxError>(())
    /// ```
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(GRPC_STATUS).iter();
        let value = values.next()?;
        if values.any(|other| other != value) {
            return Some(Self::Unknown);
        }
        let number = match *value.as_bytes() {
            [units @ b'0'..=b'9'] => units - b'0',
            [tens @ b'1'..=b'9', units @ b'0'..=b'9'] => (tens - b'0') * 10 + (units - b'0'),
            _ => return Some(Self::Unknown),
        };
        Some(Self::ALL.get(usize::from(number)).copied().unwrap_or(Self::Unknown))
    }

    /// The code for an HTTP answer that names none: it came from a proxy, or from something
    /// that is no gRPC server (gRPC, `http-grpc-status-mapping.md`). Never a success.
    #[must_use]
    pub const fn of_http(status: StatusCode) -> Self {
        match status.as_u16() {
            400 => Self::Internal,
            401 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 => Self::Unimplemented,
            429 | 502 | 503 | 504 => Self::Unavailable,
            _ => Self::Unknown,
        }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The name that gRPC gives it, a stable code for counters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Cancelled => "CANCELLED",
            Self::Unknown => "UNKNOWN",
            Self::InvalidArgument => "INVALID_ARGUMENT",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::NotFound => "NOT_FOUND",
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Self::FailedPrecondition => "FAILED_PRECONDITION",
            Self::Aborted => "ABORTED",
            Self::OutOfRange => "OUT_OF_RANGE",
            Self::Unimplemented => "UNIMPLEMENTED",
            Self::Internal => "INTERNAL",
            Self::Unavailable => "UNAVAILABLE",
            Self::DataLoss => "DATA_LOSS",
            Self::Unauthenticated => "UNAUTHENTICATED",
        }
    }
}

impl fmt::Display for GrpcCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use ::http::HeaderValue;

    use super::*;

    fn read(value: &'static str) -> Option<GrpcCode> {
        GrpcCode::of(&HeaderMap::from_iter([(GRPC_STATUS, HeaderValue::from_static(value))]))
    }

    #[test]
    fn every_code_stands_at_its_number() {
        for (number, code) in GrpcCode::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(code.number()), number);
            let value = HeaderValue::from(number);
            let headers = HeaderMap::from_iter([(GRPC_STATUS, value)]);
            assert_eq!(GrpcCode::of(&headers), Some(code));
        }
    }

    #[test]
    fn what_can_not_be_read_is_no_success() {
        for value in ["", "17", "99", "100", "-1", "+1", "00", "014", "0 ", "OK", "0x0", "1e1"] {
            assert_eq!(read(value), Some(GrpcCode::Unknown), "{value:?}");
        }
        assert_eq!(GrpcCode::of(&HeaderMap::new()), None);
    }

    #[test]
    fn two_that_differ_are_no_success_and_the_same_twice_is_one() {
        let twice = |first, second| {
            let values = [first, second].map(HeaderValue::from_static);
            GrpcCode::of(&values.map(|value| (GRPC_STATUS, value)).into_iter().collect())
        };
        assert_eq!(twice("0", "14"), Some(GrpcCode::Unknown));
        assert_eq!(twice("14", "0"), Some(GrpcCode::Unknown));
        assert_eq!(twice("0", ""), Some(GrpcCode::Unknown));
        assert_eq!(twice("14", "14"), Some(GrpcCode::Unavailable));
    }

    #[test]
    fn no_http_status_alone_is_a_success() {
        for status in (100..1000).filter_map(|code| StatusCode::from_u16(code).ok()) {
            assert_ne!(GrpcCode::of_http(status), GrpcCode::Ok, "{status}");
        }
        assert_eq!(GrpcCode::of_http(StatusCode::BAD_REQUEST), GrpcCode::Internal);
        assert_eq!(GrpcCode::of_http(StatusCode::NOT_FOUND), GrpcCode::Unimplemented);
        assert_eq!(GrpcCode::of_http(StatusCode::TOO_MANY_REQUESTS), GrpcCode::Unavailable);
        assert_eq!(GrpcCode::of_http(StatusCode::OK), GrpcCode::Unknown);
    }
}
