//! A limit's settings.

use std::{error::Error as StdError, fmt, time::Duration};

use super::{adaptive::AdaptiveConfig, turnstile::GREATEST};
use crate::{endpoint::Endpoint, event::Observer};

/// How many calls may be under way at a time, and who may wait for a place, for how long.
///
/// The defaults and their reasons stand in the table of [the module](super).
///
/// ```
/// use std::time::Duration;
/// use buttress::limit::{AdaptiveConfig, LimitConfig};
///
/// let fixed = LimitConfig::fixed(10)?.queue(100).max_wait(Duration::from_millis(500))?;
/// let adaptive = LimitConfig::adaptive(AdaptiveConfig::new());
/// # drop((fixed, adaptive));
///
/// let wrong = LimitConfig::fixed(0).expect_err("nobody could call");
/// assert_eq!(wrong.to_string(), "the limit must be at least 1: at 0 no call could be made");
/// # Ok::<(), buttress::BoxError>(())
/// ```
#[derive(Clone, Debug)]
pub struct LimitConfig {
    pub(super) size: Size,
    /// None for as many as may be under way.
    pub(super) queue: Option<u32>,
    pub(super) max_wait: Duration,
    pub(super) standing_wait: Duration,
    pub(super) observer: Observer,
    pub(super) endpoint: Option<Endpoint>,
}

/// Who says how many.
#[derive(Clone, Debug)]
pub(super) enum Size {
    Fixed(u32),
    Adaptive(AdaptiveConfig),
}

/// How long a call waits for a place, by default: a tenth of what an
/// [attempt](crate::timeout::DEFAULT_ATTEMPT) may take. A burst of a second passes, and what is
/// left of the attempt is enough for the call itself.
pub const DEFAULT_MAX_WAIT: Duration = Duration::from_secs(1);
/// How long a call waits in a queue that has not been empty for
/// [`max_wait`](LimitConfig::max_wait), by default: a tenth of that. CoDel's target is 5 to
/// 10 % of its interval (RFC 8289, 4.3).
pub const DEFAULT_STANDING_WAIT: Duration = Duration::from_millis(100);

impl LimitConfig {
    /// At most so many calls at a time.
    ///
    /// # Errors
    ///
    /// If it is zero, or above two billion.
    pub const fn fixed(calls: u32) -> Result<Self, InvalidLimit> {
        match checked(calls) {
            Ok(calls) => Ok(Self::of(Size::Fixed(calls))),
            Err(error) => Err(error),
        }
    }

    /// As many as the service does well with, which is found out from how long it takes.
    #[must_use]
    pub const fn adaptive(config: AdaptiveConfig) -> Self {
        Self::of(Size::Adaptive(config))
    }

    const fn of(size: Size) -> Self {
        Self {
            size,
            queue: None,
            max_wait: DEFAULT_MAX_WAIT,
            standing_wait: DEFAULT_STANDING_WAIT,
            observer: Observer::none(),
            endpoint: None,
        }
    }

    /// How many calls may wait for a place (default: as many as may be under way, so that the
    /// last of them waits about as long as a call takes). Zero refuses at once.
    #[must_use]
    pub const fn queue(mut self, calls: u32) -> Self {
        self.queue = Some(calls);
        self
    }

    /// How long a call waits for a place at most (default: 1 s), its deadline left aside. It is
    /// CoDel's interval, too: after so long, a queue that was never empty in between is a
    /// standing one.
    ///
    /// # Errors
    ///
    /// If it is zero or above a day; a queue of 0 is how nobody waits.
    pub fn max_wait(mut self, wait: Duration) -> Result<Self, InvalidLimit> {
        if wait.is_zero() || wait > LONGEST_WAIT {
            return Err(InvalidLimit::new(
                "the longest wait must be above zero and at most a day: for no wait at all, set \
                 the queue to 0",
            ));
        }
        self.standing_wait = self.standing_wait.min(wait);
        self.max_wait = wait;
        Ok(self)
    }

    /// How long a call waits at most in a standing queue (default: 100 ms, or `max_wait` where
    /// that is less). The same as `max_wait` takes no notice of how long there has been a queue.
    ///
    /// # Errors
    ///
    /// If it is zero or above `max_wait`.
    pub fn standing_wait(mut self, wait: Duration) -> Result<Self, InvalidLimit> {
        if wait.is_zero() || wait > self.max_wait {
            return Err(InvalidLimit::new(
                "the wait in a standing queue must be above zero and at most the longest wait: \
                 set that first",
            ));
        }
        self.standing_wait = wait;
        Ok(self)
    }

    /// Who hears of each call that is refused, and of each change of an adaptive limit (default:
    /// nobody).
    #[must_use]
    pub fn observer(mut self, observer: Observer) -> Self {
        self.observer = observer;
        self
    }

    /// How long a call may wait for a place, if that was said and anybody may.
    pub(crate) fn said_wait(&self) -> Option<Duration> {
        let said = self.max_wait != DEFAULT_MAX_WAIT && self.queue != Some(0);
        said.then_some(self.max_wait)
    }

    /// How many calls may be under way at any time, whatever else is found out.
    pub(crate) const fn least(&self) -> u32 {
        match &self.size {
            Size::Fixed(calls) => *calls,
            Size::Adaptive(config) => config.least,
        }
    }

    /// How many calls are never exceeded.
    pub(crate) const fn greatest(&self) -> u32 {
        match &self.size {
            Size::Fixed(calls) => *calls,
            Size::Adaptive(config) => config.greatest,
        }
    }

    /// The endpoint whose calls are limited, for its events (default: the service as a whole).
    #[must_use]
    pub fn endpoint(mut self, endpoint: Endpoint) -> Self {
        self.endpoint = Some(endpoint);
        self
    }
}

/// A day is no wait for a call.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) const fn checked(calls: u32) -> Result<u32, InvalidLimit> {
    if calls == 0 {
        return Err(InvalidLimit::new("the limit must be at least 1: at 0 no call could be made"));
    }
    if calls > GREATEST {
        return Err(InvalidLimit::new(
            "the limit must be at most two billion: for none at all, leave the layer out",
        ));
    }
    Ok(calls)
}

/// A setting of a limit that can't work; its text says what to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InvalidLimit {
    sentence: &'static str,
}

impl InvalidLimit {
    pub(super) const fn new(sentence: &'static str) -> Self {
        Self { sentence }
    }
}

impl fmt::Display for InvalidLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence)
    }
}

impl StdError for InvalidLimit {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_cannot_work_and_says_what_to_change() {
        let config = || LimitConfig::fixed(1).expect("one is some");
        let ms = Duration::from_millis;
        let wrong = [
            LimitConfig::fixed(0),
            LimitConfig::fixed(GREATEST + 1),
            config().max_wait(Duration::ZERO),
            config().max_wait(LONGEST_WAIT + ms(1)),
            config().standing_wait(Duration::ZERO),
            config().standing_wait(DEFAULT_MAX_WAIT + ms(1)),
        ];
        for result in wrong {
            let error = result.expect_err("it cannot work");
            assert!(error.to_string().contains("must"), "{error}");
        }
        assert!(LimitConfig::fixed(GREATEST).is_ok());
        let short = config().max_wait(ms(20)).expect("short, and above zero");
        assert_eq!(short.standing_wait, ms(20), "never above the longest wait");
    }
}
