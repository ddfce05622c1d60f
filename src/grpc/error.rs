//! The answer broke off.

use std::{error::Error as StdError, fmt};

use crate::{
    classify::{Blame, Marked, Retry, Sent, Verdict},
    error::BoxError,
};

/// The head came, the status did not: the server was at work, and nobody knows how far it came.
const BROKEN: Verdict = Verdict::new(Blame::Endpoint, Sent::Maybe, Retry::IfSafe);

/// An answer failed between its head and its first frame.
#[derive(Debug)]
pub struct BrokenAnswer {
    cause: Marked,
}

impl BrokenAnswer {
    pub(super) const fn new(cause: BoxError) -> Self {
        // In front of the cause, which may say of a *request* that it was never sent.
        Self { cause: Marked::new(BROKEN, cause) }
    }
}

impl fmt::Display for BrokenAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the answer broke off after its head")
    }
}

impl StdError for BrokenAnswer {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.cause)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::classify::verdict_on_error;

    #[test]
    fn what_would_say_that_a_request_was_not_sent_says_no_such_thing_of_an_answer() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(verdict_on_error(&refused).sent, Sent::No);
        assert_eq!(verdict_on_error(&BrokenAnswer::new(refused.into())), BROKEN);
    }
}
