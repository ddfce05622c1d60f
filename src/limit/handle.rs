//! A limit that threads share, and the places of those who are within it.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use pin_project_lite::pin_project;

use super::{
    adaptive::{Adaptive, Change, Sample},
    config::{InvalidLimit, LimitConfig, Size, checked},
    error::{AtLimit, Reason},
    turnstile::{Joined, Turnstile},
};
use crate::{
    call::{Asked, current_expiry, is_expired, mark_unsent},
    classify::{Blame, Sent, Settle, Verdict},
    endpoint::Endpoint,
    event::{Event, Observer},
    sync::{Mutex, lock},
    time::{Sleep, after, now},
};

/// A limit on how many calls are under way at a time.
///
/// It is a handle; its clones are the same limit. Give one to a
/// [`LimitLayer`](super::LimitLayer), and keep one to look at and to change.
///
/// ```
/// use buttress::limit::{Limit, LimitConfig};
///
/// let limit = Limit::new(LimitConfig::fixed(10)?);
/// limit.set(20)?;
/// assert_eq!((limit.state().limit, limit.state().in_flight), (20, 0));
/// # Ok::<(), buttress::limit::InvalidLimit>(())
/// ```
#[derive(Clone)]
pub struct Limit {
    shared: Arc<Shared>,
}

struct Shared {
    turnstile: Turnstile,
    adaptive: Option<Mutex<Adaptive>>,
    queue: Option<u32>,
    max_wait: Duration,
    standing_wait: Duration,
    observer: Observer,
    endpoint: Option<Endpoint>,
}

/// How full it is at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct State {
    /// How many calls may be under way.
    pub limit: u32,
    /// How many are, until their responses have been read. More than the limit for a while
    /// after it was lowered.
    pub in_flight: u32,
    /// How many wait for a place.
    pub waiting: usize,
}

impl Limit {
    /// A limit with nobody within it.
    #[must_use]
    pub fn new(config: LimitConfig) -> Self {
        let adaptive = match config.size {
            Size::Fixed(_) => None,
            Size::Adaptive(ref config) => Some(Adaptive::new(config, now())),
        };
        let size = match (&adaptive, &config.size) {
            (None, Size::Fixed(size)) => *size,
            (Some(adaptive), _) => adaptive.limit(),
            (None, Size::Adaptive(_)) => unreachable!("it was made above"),
        };
        Self {
            shared: Arc::new(Shared {
                turnstile: Turnstile::new(size),
                adaptive: adaptive.map(Mutex::new),
                queue: config.queue,
                max_wait: config.max_wait,
                standing_wait: config.standing_wait,
                observer: config.observer,
                endpoint: config.endpoint,
            }),
        }
    }

    /// Changes the limit; those who wait are let in if it is raised, and nobody is cut off if
    /// it is lowered. An adaptive one goes on from there.
    ///
    /// # Errors
    ///
    /// If it is zero, or above two billion.
    pub fn set(&self, calls: u32) -> Result<(), InvalidLimit> {
        let calls = checked(calls)?;
        if let Some(adaptive) = &self.shared.adaptive {
            lock(adaptive).set(calls);
        }
        self.shared.turnstile.resize(|| calls, now());
        Ok(())
    }

    /// How full it is at present.
    #[must_use]
    pub fn state(&self) -> State {
        let (in_flight, limit, waiting) = self.shared.turnstile.look();
        State { limit, in_flight, waiting }
    }

    /// Whether a call would have to wait now, as far as a glance can tell. One atomic load, for
    /// those who can choose another.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.shared.turnstile.is_full()
    }

    /// Takes a place if one is free and nobody waits for it.
    #[inline]
    pub(crate) fn enter(&self) -> Option<Permit> {
        self.shared.turnstile.enter().map(|in_flight| self.permit(in_flight))
    }

    fn permit(&self, in_flight: u32) -> Permit {
        // A limit that learns nothing from a call needs no clock for it.
        let began = self.shared.adaptive.is_some().then(now);
        Permit { limit: self.clone(), began, in_flight }
    }

    fn learn(&self, sample: Sample, now: Instant) {
        let Some(adaptive) = &self.shared.adaptive else { return };
        let change = lock(adaptive).record(sample, now);
        if let Some(Change { limit, reason }) = change {
            // Asked for once more under the turnstile's lock: of two changes the later one holds.
            self.shared.turnstile.resize(|| lock(adaptive).limit(), now);
            self.shared.observer.on(|| Event::LimitChanged {
                endpoint: self.shared.endpoint.as_ref(),
                limit,
                reason,
            });
        }
    }
}

impl Shared {
    #[cold]
    fn refuse(&self, reason: Reason, waited: Duration) -> AtLimit {
        let limit = self.turnstile.limit();
        self.observer.on(|| Event::AtLimit {
            endpoint: self.endpoint.as_ref(),
            reason: reason.code(),
            limit,
        });
        AtLimit::new(reason, limit, waited)
    }
}

impl From<LimitConfig> for Limit {
    fn from(config: LimitConfig) -> Self {
        Self::new(config)
    }
}

impl fmt::Debug for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limit")
            .field("endpoint", &self.shared.endpoint)
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

/// A call on its way in. Dropped while it waits, it leaves the queue, and gives back the place
/// that it may have been given just then.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    // In a box: hardly any call waits, and its timer would make all of them larger.
    waiting: Option<Pin<Box<Waiting>>>,
}

pin_project! {
    #[derive(Debug)]
    struct Waiting {
        #[pin]
        sleep: Sleep,
        ticket: Ticket,
        since: Instant,
        expires: Instant,
        ends_with: Reason,
    }
}

/// A place in the queue, given up on drop.
#[derive(Debug)]
struct Ticket {
    limit: Limit,
    /// None once it was let in.
    number: Option<u64>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(number) = self.number.take() {
            let turnstile = &self.limit.shared.turnstile;
            if turnstile.leave(number) {
                turnstile.exit(now);
            }
        }
    }
}

impl Entry {
    /// The place of a call, when there is one for it.
    pub(crate) fn poll(
        &mut self,
        limit: &Limit,
        asked: Asked,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Permit, AtLimit>> {
        // Whoever gives it up while it waits knows that nothing was sent.
        mark_unsent();
        if self.waiting.is_none() {
            if let Some(permit) = limit.enter() {
                return Poll::Ready(Ok(permit));
            }
            if let Some(outcome) = self.join(limit, asked, cx) {
                return Poll::Ready(outcome);
            }
        }
        let waiting = self.waiting.as_mut().expect("it joined above");
        let outcome = ready!(Waiting::poll(waiting.as_mut(), limit, cx));
        self.waiting = None;
        Poll::Ready(outcome)
    }

    /// Joins the queue, or knows at once what comes of it.
    #[cold]
    fn join(
        &mut self,
        limit: &Limit,
        asked: Asked,
        cx: &Context<'_>,
    ) -> Option<Result<Permit, AtLimit>> {
        let (shared, now) = (&*limit.shared, now());
        // The trail's expiry is that of the attempt. A layer below the balancer knows the
        // call's deadline by it alone, since the request is plain there.
        let deadline = asked.deadline.into_iter().chain(current_expiry()).min();
        if deadline.is_some_and(|deadline| deadline <= now) {
            return Some(Err(shared.refuse(Reason::Deadline, Duration::ZERO)));
        }
        let until = |since: Option<Instant>| {
            // Controlled delay, as in Facebook's "Fail at Scale" (B. Maurer, ACM Queue 13(8),
            // 2015): a queue that was not empty for an interval is no burst. To let it stand
            // makes every call late and serves not one more.
            let standing =
                since.is_some_and(|since| now.saturating_duration_since(since) >= shared.max_wait);
            let wait = if standing { shared.standing_wait } else { shared.max_wait };
            let until = after(now, wait);
            deadline.map_or(until, |deadline| deadline.min(until))
        };
        let room = |limit| shared.queue.unwrap_or(limit);
        match shared.turnstile.join(room, until, now, cx.waker()) {
            Joined::Full => Some(Err(shared.refuse(Reason::QueueFull, Duration::ZERO))),
            Joined::Inside => {
                let in_flight = shared.turnstile.limit();
                Some(Ok(limit.permit(in_flight)))
            }
            Joined::Waiting(number, expires) => {
                let cut = deadline.is_some_and(|deadline| deadline <= expires);
                self.waiting = Some(Box::pin(Waiting {
                    sleep: Sleep::until(expires),
                    ticket: Ticket { limit: limit.clone(), number: Some(number) },
                    since: now,
                    expires,
                    ends_with: if cut { Reason::Deadline } else { Reason::Waited },
                }));
                None
            }
        }
    }
}

impl Waiting {
    fn poll(
        self: Pin<&mut Self>,
        limit: &Limit,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Permit, AtLimit>> {
        let this = self.project();
        let turnstile = &limit.shared.turnstile;
        let number = this.ticket.number.expect("it is polled until it is over");
        let mut inside = turnstile.is_inside(number, cx.waker());
        if !inside {
            ready!(this.sleep.poll(cx));
            inside = turnstile.leave(number);
        }
        this.ticket.number = None;
        let permit = inside.then(|| limit.permit(turnstile.limit()));
        let now = now();
        let in_vain = *this.ends_with == Reason::Deadline && now >= *this.expires;
        Poll::Ready(match permit {
            // It was let in in time, and comes too late all the same.
            Some(permit) if !in_vain => Ok(permit),
            permit => {
                drop(permit);
                let waited = now.saturating_duration_since(*this.since);
                Err(limit.shared.refuse(*this.ends_with, waited))
            }
        })
    }
}

/// The right to have one call under way, given back when it is dropped: when the response has
/// been read, or was given up.
#[derive(Debug)]
#[must_use = "the call is over when its permit is dropped"]
pub struct Permit {
    limit: Limit,
    /// None if nobody learns from it, or has already.
    began: Option<Instant>,
    in_flight: u32,
}

impl Settle for Permit {
    /// The round trip is known: what takes long from here on may well be who reads it.
    fn answered(&mut self, head: Verdict) {
        let Some(began) = self.began.take() else { return };
        let now = now();
        let took = now.saturating_duration_since(began);
        if let Some(sample) = Sample::of(head, took, self.in_flight) {
            self.limit.learn(sample, now);
        }
    }

    fn settle(&mut self, verdict: Verdict) {
        self.answered(verdict);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // Cut off by a timeout above, and not given up by the caller.
        if self.began.is_some() && is_expired(now) {
            self.limit.learn(Sample::Dropped, now());
        }
        self.limit.shared.turnstile.exit(now);
    }
}

impl Sample {
    fn of(verdict: Verdict, latency: Duration, in_flight: u32) -> Option<Self> {
        match (verdict.blame, verdict.sent) {
            (Blame::Nobody | Blame::Client, Sent::Processed) => {
                Some(Self::Answered { latency, in_flight })
            }
            // It says itself that it has too much to do; or it took the call, and no answer came.
            (Blame::Service, _) | (Blame::Endpoint, Sent::Maybe) => Some(Self::Dropped),
            // A failure takes another time than an answer; what was not sent takes none.
            _ => None,
        }
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use super::{super::adaptive::AdaptiveConfig, *};
    use crate::classify::Retry;

    #[test]
    fn an_outcome_says_how_busy_the_service_is_or_nothing() {
        let took = Duration::from_millis(7);
        let answered = Some(Sample::Answered { latency: took, in_flight: 3 });
        let of = |blame, sent| Sample::of(Verdict::new(blame, sent, Retry::Never), took, 3);
        use Sent::{Maybe, No, Processed};
        for (blame, no, maybe, processed) in [
            (Blame::Nobody, None, None, answered),
            (Blame::Client, None, None, answered),
            (Blame::Endpoint, None, Some(Sample::Dropped), None),
            (Blame::Service, Some(Sample::Dropped), Some(Sample::Dropped), Some(Sample::Dropped)),
            (Blame::Caller, None, None, None),
        ] {
            let said = [of(blame, No), of(blame, Maybe), of(blame, Processed)];
            assert_eq!(said, [no, maybe, processed], "{blame:?}");
        }
    }

    /// Who sees no head tells the outcome alone.
    #[tokio::test(start_paused = true)]
    async fn an_outcome_counts_once_with_a_head_and_without() {
        for with_head in [false, true] {
            let config = AdaptiveConfig::new().min_samples(10).expect("as many as it takes");
            let limit = Limit::new(LimitConfig::adaptive(config));
            tokio::time::advance(Duration::from_secs(1)).await;
            for call in 1..=10 {
                assert_eq!(limit.state().limit, 20, "before call {call}");
                let mut permit = limit.enter().expect("there is a place");
                if with_head {
                    permit.answered(Verdict::TIMED_OUT);
                }
                permit.settle(Verdict::TIMED_OUT);
            }
            assert_eq!(limit.state().limit, 18);
        }
    }
}
