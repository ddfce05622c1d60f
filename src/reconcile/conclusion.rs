//! What is known in the end, and how the caller is told.

use http::Response;

use super::ReconciledBody;

/// What is known of a call whose outcome was unknown, after it was looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Conclusion {
    /// It was carried out, and its answer was found.
    Found,
    /// It was not carried out.
    NotCarriedOut,
    /// Still unknown: the lookup failed.
    LookupFailed,
    /// Still unknown: it was running at the last lookup.
    StillRunning,
    /// Still unknown: there was no time to look, or to look again.
    NoTime,
}

impl Conclusion {
    /// A stable code, for counters.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::NotCarriedOut => "not_carried_out",
            Self::LookupFailed => "lookup_failed",
            Self::StillRunning => "still_running",
            Self::NoTime => "no_time",
        }
    }

    /// The conclusion as the end of a sentence.
    pub(super) const fn because(self) -> &'static str {
        match self {
            Self::Found => "its answer was found",
            Self::NotCarriedOut => "it was not carried out",
            Self::LookupFailed => "the lookup failed",
            Self::StillRunning => "it was still running at the last lookup",
            Self::NoTime => "there was no time left to look it up",
        }
    }
}

/// In the extensions of a response to a call that was looked up: of the one that was found, or
/// of the one that said too little, with what is known of it now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reconciled {
    /// What is known.
    pub conclusion: Conclusion,
    /// How many lookups were made.
    pub lookups: u32,
}

impl Reconciled {
    pub(super) const fn new(conclusion: Conclusion, lookups: u32) -> Self {
        Self { conclusion, lookups }
    }
}

/// How the answer of a call and one that was found become one type: [`Http`] for responses of
/// HTTP, [`Plain`] where both are of the same type.
pub trait Joined<T, F> {
    /// What the caller gets.
    type Response;

    /// The answer of the call.
    fn answered(response: T) -> Self::Response;

    /// The answer that was found.
    fn found(response: F, reconciled: Reconciled) -> Self::Response;

    /// Leaves a word about a call with its answer, where that can carry it.
    fn note(response: &mut T, reconciled: Reconciled);
}

/// HTTP responses, whatever their bodies; [`Reconciled`] is in their extensions.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Http;

/// Answers of one type. They don't say where they come from.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Plain;

impl<T> Joined<T, T> for Plain {
    type Response = T;

    fn answered(response: T) -> T {
        response
    }

    fn found(response: T, _: Reconciled) -> T {
        response
    }

    fn note(_: &mut T, _: Reconciled) {}
}

impl<B, D> Joined<Response<B>, Response<D>> for Http {
    type Response = Response<ReconciledBody<B, D>>;

    fn answered(response: Response<B>) -> Self::Response {
        response.map(ReconciledBody::answered)
    }

    fn found(mut response: Response<D>, reconciled: Reconciled) -> Self::Response {
        response.extensions_mut().insert(reconciled);
        response.map(ReconciledBody::found)
    }

    fn note(response: &mut Response<B>, reconciled: Reconciled) {
        response.extensions_mut().insert(reconciled);
    }
}
