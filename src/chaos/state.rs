//! What strikes a request: no clock, no lock, no chance of its own.

use std::time::{Duration, Instant};

use super::{
    error::Failure,
    fault::{Fault, Head, Kind, Made},
};
use crate::sync::{AtomicU32, Ordering};

/// The faults that are set, and since when.
#[derive(Debug)]
pub(super) struct Plan {
    faults: Vec<Planned>,
    began: Instant,
}

#[derive(Debug)]
struct Planned {
    fault: Fault,
    /// How often it may still strike; meaningless where that has no end.
    left: AtomicU32,
}

/// All that strikes one request.
#[derive(Clone, Debug, Default)]
pub(super) struct Strike {
    pub(super) delay: Duration,
    pub(super) head: Option<HeadFault>,
    pub(super) body: Option<BodyFault>,
}

/// What becomes of the request.
#[derive(Clone, Debug)]
pub(super) enum HeadFault {
    Fail(Failure),
    Answer(Box<Made>),
    Hang,
    HangConnecting,
}

impl HeadFault {
    /// Whether the request goes out all the same.
    pub(super) const fn is_sent(&self) -> bool {
        matches!(self, Self::Fail(Failure::AnswerLost))
    }

    /// Whether whoever waits knows that nothing was sent.
    pub(super) const fn is_unsent(&self) -> bool {
        match self {
            Self::Fail(failure) => {
                matches!(failure, Failure::Refused | Failure::ConnectTimedOut | Failure::TurnedAway)
            }
            Self::HangConnecting => true,
            Self::Answer(_) | Self::Hang => false,
        }
    }
}

/// What becomes of the answer's body, after so many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyFault {
    Cut(u64),
    Stall(u64),
}

impl Plan {
    /// None where there is nothing to do.
    pub(super) fn new(faults: Vec<Fault>, now: Instant) -> Option<Self> {
        let planned = |fault: Fault| {
            let left = AtomicU32::new(fault.times.unwrap_or(0));
            Planned { fault, left }
        };
        let faults: Vec<Planned> = faults.into_iter().map(planned).collect();
        (!faults.is_empty()).then_some(Self { faults, began: now })
    }

    /// In the order in which they were set: all delays, the first thing that becomes of the
    /// request, the first that becomes of its answer's body. Each fault draws once for each
    /// request that it is for, whatever else strikes, so that one fault more or less in the
    /// list changes nothing for the others before it. None if nothing strikes.
    pub(super) fn strike(
        &self,
        head: &Head<'_>,
        now: Instant,
        mut draw: impl FnMut() -> f64,
        mut hear: impl FnMut(&'static str),
    ) -> Option<Strike> {
        let since = now.saturating_duration_since(self.began);
        let mut strike = None;
        for planned in &self.faults {
            let fault = &planned.fault;
            if !fault.is_on(since) || !fault.is_for(head) {
                continue;
            }
            if fault.share < 1.0 && draw() >= fault.share {
                continue;
            }
            let so_far: &mut Strike = strike.get_or_insert_default();
            if so_far.takes(&fault.kind) && planned.is_left() {
                so_far.add(&fault.kind, &mut draw);
                hear(fault.kind.code());
            }
        }
        strike
    }
}

impl Planned {
    fn is_left(&self) -> bool {
        // Relaxed: the count orders nothing but itself.
        self.fault.times.is_none()
            || self
                .left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                .is_ok()
    }
}

impl Strike {
    const fn takes(&self, kind: &Kind) -> bool {
        match kind {
            Kind::Delay(_) => true,
            Kind::Cut(_) | Kind::Stall(_) => self.body.is_none(),
            _ => self.head.is_none(),
        }
    }

    fn add(&mut self, kind: &Kind, draw: &mut impl FnMut() -> f64) {
        match kind {
            Kind::Delay(delay) => self.delay = self.delay.saturating_add(delay.draw(draw)),
            Kind::Failure(failure) => self.head = Some(HeadFault::Fail(*failure)),
            Kind::Answer(made) => self.head = Some(HeadFault::Answer(made.clone())),
            Kind::Hang => self.head = Some(HeadFault::Hang),
            Kind::HangConnecting => self.head = Some(HeadFault::HangConnecting),
            Kind::Cut(after) => self.body = Some(BodyFault::Cut(*after)),
            Kind::Stall(after) => self.body = Some(BodyFault::Stall(*after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{Method, Request, StatusCode};

    use super::*;
    use crate::chaos::Delay;

    const S: Duration = Duration::from_secs(1);

    fn plan(faults: impl IntoIterator<Item = Fault>) -> (Plan, Instant) {
        let now = crate::time::now();
        (Plan::new(faults.into_iter().collect(), now).expect("there are some"), now)
    }

    fn strike(plan: &Plan, now: Instant, draw: f64) -> Option<Strike> {
        let request = Request::get("http://a/b").body(()).expect("sound");
        plan.strike(&Head::of(&request, None), now, || draw, |_| ())
    }

    #[test]
    fn what_strikes_adds_up() {
        let (plan, now) = plan([
            Fault::delay(Delay::fixed(S)),
            Fault::delay(Delay::fixed(2 * S)),
            Fault::answer(StatusCode::BAD_GATEWAY),
            Fault::hang(),
            Fault::cut_body(7),
            Fault::stall_body(8),
        ]);
        let strike = strike(&plan, now, 0.5).expect("all of them");
        assert_eq!((strike.delay, strike.body), (3 * S, Some(BodyFault::Cut(7))));
        assert!(matches!(strike.head, Some(HeadFault::Answer(_))), "the first");
    }

    #[test]
    fn a_share_is_drawn_and_every_one_is_not() {
        let (plan, now) = plan([Fault::hang().share(0.25).expect("a share")]);
        assert!(strike(&plan, now, 0.2).is_some() && strike(&plan, now, 0.25).is_none());
        let (all, now) = self::plan([Fault::hang()]);
        let request = Request::get("http://a/b").body(()).expect("sound");
        let struck = all.strike(&Head::of(&request, None), now, || panic!("no chance"), |_| ());
        assert!(struck.is_some());
    }

    #[test]
    fn nothing_strikes_before_its_time_after_it_or_more_often_than_it_says() {
        let (plan, start) = plan([Fault::hang().from(S).lasting(S).times(2)]);
        assert!(strike(&plan, start, 0.0).is_none());
        let head = |now| strike(&plan, now, 0.0).and_then(|strike| strike.head).is_some();
        assert!(head(start + S) && head(start + S) && !head(start + S));
        let (plan, start) = self::plan([Fault::hang().from(S).lasting(S)]);
        assert!(strike(&plan, start + 2 * S, 0.0).is_none());
    }

    #[test]
    fn what_is_for_others_strikes_nobody_else_and_is_not_counted() {
        let (plan, now) = plan([Fault::hang().method(Method::POST).times(1)]);
        assert!(strike(&plan, now, 0.0).is_none());
        let request = Request::post("http://a/b").body(()).expect("sound");
        let mut heard = Vec::new();
        plan.strike(&Head::of(&request, None), now, || 0.0, |code| heard.push(code));
        assert_eq!(heard, ["hang"]);
    }

    #[test]
    fn who_waits_knows_that_nothing_was_sent_only_where_the_failure_says_so() {
        for (failure, unsent, sent) in [
            (Failure::Refused, true, false),
            (Failure::ConnectTimedOut, true, false),
            (Failure::TurnedAway, true, false),
            (Failure::Reset, false, false),
            (Failure::AnswerLost, false, true),
        ] {
            let fault = HeadFault::Fail(failure);
            assert_eq!((fault.is_unsent(), fault.is_sent()), (unsent, sent), "{failure:?}");
        }
    }

    #[test]
    fn no_faults_are_no_plan() {
        assert!(Plan::new(Vec::new(), crate::time::now()).is_none());
    }
}

/// `RUSTFLAGS="--cfg buttress_loom" cargo test --lib loom`.
#[cfg(all(test, buttress_loom))]
mod loom_tests {
    use std::sync::Arc;

    use http::Request;
    use loom::thread;

    use super::*;

    #[test]
    fn of_two_requests_one_meets_a_fault_that_strikes_once() {
        loom::model(|| {
            let now = crate::time::now();
            let plan = Plan::new(vec![Fault::hang().times(1)], now);
            let plan = Arc::new(plan.expect("there is a fault"));
            let meets = move |plan: &Plan| {
                let request = Request::new(());
                let strike = plan.strike(&Head::of(&request, None), now, || 0.0, |_| ());
                strike.and_then(|strike| strike.head).is_some()
            };
            let other = {
                let plan = Arc::clone(&plan);
                thread::spawn(move || meets(&plan))
            };
            let met = [meets(&plan), other.join().expect("it only asks")];
            assert_eq!(met.iter().filter(|met| **met).count(), 1);
        });
    }
}
