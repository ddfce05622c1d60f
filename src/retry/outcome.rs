//! How attempts end, and what is kept of the last one.

use std::error::Error as StdError;

use super::{GaveUp, StopReason, layer::Rules};
use crate::{
    budget::Deposit,
    call::{Attempts, Raced},
    classify::{Blame, Classify, Sent, Verdict},
    error::{BoxError, sources},
};

/// How an attempt ended.
pub(super) struct Last<T, K> {
    pub(super) result: Result<Answer<T, K>, BoxError>,
    pub(super) verdict: Verdict,
}

/// A response.
pub(super) enum Answer<T, K> {
    AsItCame(T),
    /// Put aside, to be read while the call backs off. `more`: there is more to be read.
    Aside {
        answer: K,
        more: bool,
    },
}

/// How a call ended.
pub(crate) struct Ended<T, K> {
    pub(super) last: Last<T, K>,
    /// Why there was no further attempt, unless it succeeded.
    pub(super) reason: Option<StopReason>,
}

impl<T, K> Last<T, K> {
    /// A refusal by this program itself: nothing was sent, nobody is to blame.
    pub(super) fn is_local(&self) -> bool {
        let Verdict { blame, sent, .. } = self.verdict;
        self.result.is_err() && blame == Blame::Nobody && sent == Sent::No
    }

    /// The same, put aside while another attempt is made.
    pub(super) fn aside<Cl>(self, rules: &Rules<Cl>) -> Self
    where
        Cl: Classify<T, Guarded<Deposit> = K>,
    {
        let Self { result, verdict } = self;
        let result = result.map(|answer| match answer {
            Answer::AsItCame(response) => {
                // What this failure costs is settled when it is known whether it ends the call.
                let (nothing, limit) = (Deposit::new(None, None), rules.config.drain_limit);
                match rules.classifier.set_aside(response, verdict, nothing, limit) {
                    Ok(answer) => Answer::Aside { answer, more: true },
                    Err((response, _)) => Answer::AsItCame(response),
                }
            }
            aside => aside,
        });
        Self { result, verdict }
    }
}

/// What two attempts that raced each other right beneath have left: not those of a call that
/// another retry beneath has given up.
pub(super) fn raced(error: &(dyn StdError + 'static)) -> Option<Attempts> {
    sources(error)
        .take_while(|error| !error.is::<GaveUp>())
        .find_map(|error| error.downcast_ref::<Raced>())
        .map(|raced| raced.attempts().clone())
}
