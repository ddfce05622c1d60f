//! Which calls to send, by what became of the last ones: no clock, no lock, no chance of its own.

use std::time::Instant;

use super::{
    config::{Rules, ThrottleConfig},
    error::Throttled,
    weight::Weight,
};
use crate::{
    algo::window::{BUCKETS, Steps},
    classify::{Blame, Pushback, Verdict},
};

/// A throttle as a decision alone: it is told the time and the draws, and is O(1) per call.
/// [`Throttle`](super::Throttle) is this one behind a lock and a clock.
///
/// A request is counted when it is asked for, and its accept in the same bucket of the window,
/// so that both are forgotten together and a change of the load tips no balance.
///
/// ```
/// use std::time::{Duration, Instant};
/// use buttress::{classify::Verdict, throttle::{Tally, ThrottleConfig}};
///
/// let now = Instant::now();
/// let config = ThrottleConfig::new().window(Duration::from_secs(10))?;
/// let mut tally = Tally::new(&config, now);
/// for call in 0..100 {
///     let ticket = tally.ask(now, || 0.99)?;
///     let accepted = call % 5 == 0;
///     tally.settle(ticket, if accepted { Verdict::SUCCESS } else { Verdict::TIMED_OUT }, now);
/// }
/// // It took 20 of 100, so it is to be asked 40 times: (100 - 2 * 20) / (100 + 1).
/// assert_eq!(tally.state(now).probability, 60.0 / 101.0);
/// assert!(tally.ask(now, || 0.5).is_err());
/// # Ok::<(), buttress::BoxError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Tally {
    rules: Rules,
    buckets: [Counts; BUCKETS],
    /// The number of the current bucket. Its place is the number modulo ten.
    current: u64,
    /// The running total of all buckets.
    total: Counts,
    steps: Steps,
    /// When the service asked to be called again: its latest word.
    retry_at: Option<Instant>,
}

/// What a throttle knows at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct State {
    /// The calls within the window, those included that were refused here. Not those that are
    /// under way and may yet be accepted.
    pub requests: u64,
    /// How many of them the service accepted.
    pub accepts: u64,
    /// The calls that are under way, for not too long.
    pub pending: u64,
    /// The probability with which the next call is refused.
    pub probability: f64,
}

/// The right to make one call. It is given back with the call's verdict.
#[derive(Debug)]
#[must_use = "the tally waits for its verdict"]
pub struct Ticket {
    bucket: u64,
}

/// Of the requests that were asked for in one bucket. `u64`, so that none can overflow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    requests: u64,
    accepts: u64,
    under_way: u64,
}

/// For so many whole buckets a call that is under way is not counted against the service: three
/// tenths of four deadlines are more than one. By then it has been answered or cut off; only
/// without a deadline can it hang for longer.
///
/// The formula as it stands in the book counts such a call at once. Then a client that has just
/// started would refuse nine calls in ten until the first answer comes.
const GRACE: u64 = 3;

impl Tally {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(config: &ThrottleConfig, now: Instant) -> Self {
        let rules = config.rules;
        Self {
            rules,
            buckets: [Counts::default(); BUCKETS],
            current: 0,
            total: Counts::default(),
            steps: Steps::new(rules.window, now),
            retry_at: None,
        }
    }

    /// Counts a request, and says whether it may be sent. `draw` gives a number in `[0, 1)`; it
    /// is called only when there is something to decide.
    ///
    /// # Errors
    ///
    /// [`Throttled`] with the probability of [`Tally::state`].
    pub fn ask(&mut self, now: Instant, draw: impl FnOnce() -> f64) -> Result<Ticket, Throttled> {
        let state = self.state(now);
        let refused = state.probability > 0.0 && draw() < state.probability;
        // Also those that are refused, as in the book: the accepts are held against all that was
        // asked for. Counted without them, each refusal would make the next one less likely.
        self.change(self.current, |counts| {
            counts.requests += 1;
            counts.under_way += u64::from(!refused);
        });
        if refused {
            let retry_at = self.retry_at.filter(|&at| at > now);
            return Err(Throttled::new(state, retry_at));
        }
        Ok(Ticket { bucket: self.current })
    }

    /// Takes a ticket back, with what became of the call.
    pub fn settle(&mut self, ticket: Ticket, verdict: Verdict, now: Instant) {
        self.slide(now);
        if let (Blame::Service, Pushback::After(wait)) = (verdict.blame, verdict.pushback) {
            self.retry_at = now.checked_add(wait);
        }
        // The window has forgotten the request, so that its accept is of no use.
        if self.current - ticket.bucket >= BUCKETS as u64 {
            return;
        }
        let weight = Weight::of(verdict);
        self.change(ticket.bucket, |counts| {
            counts.under_way -= 1;
            match weight {
                Weight::Accept => counts.accepts += 1,
                Weight::NoAccept => {}
                Weight::Nothing => counts.requests -= 1,
            }
        });
    }

    /// What is known `now`.
    #[must_use]
    pub fn state(&mut self, now: Instant) -> State {
        self.slide(now);
        let youngest = self.current.saturating_sub(GRACE)..=self.current;
        let pending = youngest.map(|bucket| self.buckets[place(bucket)].under_way).sum();
        let (requests, accepts) = (self.total.requests - pending, self.total.accepts);
        State {
            requests,
            accepts,
            pending,
            probability: probability(&self.rules, requests, accepts),
        }
    }

    fn change(&mut self, bucket: u64, change: impl Fn(&mut Counts)) {
        change(&mut self.buckets[place(bucket)]);
        change(&mut self.total);
    }

    /// Steps into the bucket of `now`.
    fn slide(&mut self, now: Instant) {
        let steps = self.steps.until(now);
        if steps == 0 {
            return;
        }
        for bucket in 1..=steps.min(BUCKETS as u64) {
            let oldest = std::mem::take(&mut self.buckets[place(self.current + bucket)]);
            self.total.requests -= oldest.requests;
            self.total.accepts -= oldest.accepts;
            self.total.under_way -= oldest.under_way;
        }
        self.current = self.current.saturating_add(steps);
    }
}

const fn place(bucket: u64) -> usize {
    (bucket % BUCKETS as u64) as usize
}

/// Google's "Site Reliability Engineering" (2016), chapter 21, "Handling Overload", equation
/// "Client request rejection probability".
///
/// Two things differ: it has an upper bound, and nothing is refused below a rate (both as in
/// Envoy's admission control).
fn probability(rules: &Rules, requests: u64, accepts: u64) -> f64 {
    let least = f64::from(rules.minimum_rate) * rules.window.as_secs_f64();
    let (requests, accepts) = (requests as f64, accepts as f64);
    if requests < least {
        return 0.0;
    }
    ((requests - rules.multiplier * accepts) / (requests + 1.0)).clamp(0.0, rules.max_probability)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        classify::{Retry, Sent},
        throttle::Reason,
    };

    const OVERLOADED: Verdict = Verdict::new(Blame::Service, Sent::No, Retry::Always);
    const WINDOW: Duration = Duration::from_secs(10);

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// 10 s, judged from 10 calls on.
    fn config() -> ThrottleConfig {
        let config = ThrottleConfig::new().window(WINDOW);
        config.and_then(|config| config.minimum_rate(1)).expect("these settings work")
    }

    struct Bench {
        tally: Tally,
        now: Instant,
    }

    impl Bench {
        fn new() -> Self {
            let now = crate::time::now();
            Self { tally: Tally::new(&config(), now), now }
        }

        /// Never refused, except for certain.
        fn ask(&mut self) -> Ticket {
            self.tally.ask(self.now, || 0.999).expect("it is never that sure")
        }

        fn settle(&mut self, ticket: Ticket, verdict: Verdict) {
            self.tally.settle(ticket, verdict, self.now);
        }

        fn calls(&mut self, number: u32, verdict: Verdict) {
            for _ in 0..number {
                let ticket = self.ask();
                self.settle(ticket, verdict);
            }
        }

        fn counts(&mut self) -> (u64, u64, u64) {
            let State { requests, accepts, pending, .. } = self.tally.state(self.now);
            (requests, accepts, pending)
        }

        fn probability(&mut self) -> f64 {
            self.tally.state(self.now).probability
        }
    }

    #[test]
    fn refuses_by_the_formula() {
        for (requests, accepts, expected) in [
            (100, 100, 0.0),
            (100, 50, 0.0),
            (100, 49, 2.0 / 101.0),
            (100, 25, 50.0 / 101.0),
            (100, 5, 90.0 / 101.0),
            (100, 4, 0.9),
            (100, 0, 0.9),
            (10, 0, 0.9),
            (9, 0, 0.0),
        ] {
            let mut bench = Bench::new();
            bench.calls(accepts, Verdict::SUCCESS);
            bench.calls(requests - accepts, OVERLOADED);
            assert_eq!(bench.counts(), (u64::from(requests), u64::from(accepts), 0));
            assert_eq!(bench.probability(), expected, "{accepts} of {requests}");
        }
    }

    #[test]
    fn a_draw_below_the_probability_is_a_refusal_and_is_counted() {
        let mut bench = Bench::new();
        bench.calls(25, Verdict::SUCCESS);
        bench.calls(75, OVERLOADED);
        let now = bench.now;
        let refused = bench.tally.ask(now, || 50.0 / 101.0 - 1e-9).expect_err("below");
        assert_eq!((refused.reason, refused.retry_at), (Reason::FewAccepts, None));
        assert_eq!(bench.counts(), (101, 25, 0));
        let _sent = bench.tally.ask(now, || 51.0 / 102.0).expect("not below");
        assert_eq!(bench.counts(), (101, 25, 1));
    }

    #[test]
    fn draws_only_when_there_is_something_to_decide() {
        let mut bench = Bench::new();
        for _ in 0..100 {
            let ticket = bench.tally.ask(bench.now, || panic!("a draw for nothing"));
            bench.settle(ticket.expect("sent"), Verdict::SUCCESS);
        }
    }

    #[test]
    fn nothing_accepted_in_the_whole_window_is_a_reason_of_its_own() {
        let mut bench = Bench::new();
        bench.calls(10, OVERLOADED);
        let refused = bench.tally.ask(bench.now, || 0.0).expect_err("certain");
        assert_eq!(refused.reason, Reason::NoAccepts);
        assert_eq!(
            refused.to_string(),
            "throttled: the service took 0 of the last 10 calls, so that 90 % of them are not sent"
        );
    }

    #[test]
    fn a_cancelled_call_gives_its_request_back() {
        let mut bench = Bench::new();
        bench.calls(100, Verdict::CANCELLED);
        assert_eq!(bench.counts(), (0, 0, 0));
        let refused_here = Verdict::new(Blame::Nobody, Sent::No, Retry::Always);
        bench.calls(100, refused_here);
        assert_eq!(bench.counts(), (0, 0, 0));
        assert_eq!(bench.probability(), 0.0);
    }

    #[test]
    fn a_client_that_has_just_started_waits_for_its_first_answers() {
        let mut bench = Bench::new();
        let tickets: Vec<Ticket> = (0..1000).map(|_| bench.ask()).collect();
        assert_eq!(bench.counts(), (0, 0, 1000));
        assert_eq!(bench.probability(), 0.0);
        // Their answers come in another bucket, and count in that of their requests.
        bench.now += ms(2500);
        assert_eq!(bench.counts(), (0, 0, 1000));
        assert_eq!(bench.probability(), 0.0);
        for ticket in tickets {
            bench.settle(ticket, Verdict::SUCCESS);
        }
        assert_eq!(bench.counts(), (1000, 1000, 0));
        bench.now += ms(7500);
        assert_eq!(bench.counts(), (0, 0, 0), "forgotten together");
    }

    #[test]
    fn who_hangs_for_longer_than_any_deadline_has_not_accepted() {
        let mut bench = Bench::new();
        let hung: Vec<Ticket> = (0..20).map(|_| bench.ask()).collect();
        bench.now += ms(3999);
        assert_eq!(bench.probability(), 0.0);
        bench.now += ms(1);
        assert_eq!(bench.counts(), (20, 0, 0));
        assert_eq!(bench.probability(), 0.9);
        // Better late than never: it was overloaded, and did take them.
        for ticket in hung {
            bench.settle(ticket, Verdict::SUCCESS);
        }
        assert_eq!(bench.counts(), (20, 20, 0));
    }

    #[test]
    fn an_answer_to_what_is_forgotten_is_not_counted() {
        let mut bench = Bench::new();
        let late: Vec<Ticket> = (0..3).map(|_| bench.ask()).collect();
        bench.now += WINDOW;
        for (ticket, verdict) in
            late.into_iter().zip([Verdict::SUCCESS, OVERLOADED, Verdict::CANCELLED])
        {
            bench.settle(ticket, verdict);
            assert_eq!(bench.counts(), (0, 0, 0));
        }
    }

    #[test]
    fn says_when_the_service_asked_to_be_called_again() {
        let mut bench = Bench::new();
        let soon = OVERLOADED.with_pushback(Pushback::After(ms(500)));
        bench.calls(10, soon);
        let asked = bench.now + ms(500);
        bench.now += ms(499);
        let refused = bench.tally.ask(bench.now, || 0.0).expect_err("certain");
        assert_eq!(refused.retry_at, Some(asked));
        bench.now += ms(1);
        let refused = bench.tally.ask(bench.now, || 0.0).expect_err("certain");
        assert_eq!(refused.retry_at, None, "that time has come");
        // The wish of one endpoint says nothing of the service.
        let of_one = Verdict::TIMED_OUT.with_pushback(Pushback::After(ms(500)));
        bench.calls(1, of_one);
        assert_eq!(bench.tally.ask(bench.now, || 0.0).expect_err("certain").retry_at, None);
    }

    /// Goal: how long it takes from a total outage to the last refusal. Method: a steady load,
    /// draws that are as even as can be, answers at once.
    #[test]
    fn after_an_outage_every_call_goes_out_within_two_windows() {
        let mut bench = Bench::new();
        let mut even = 0.0;
        let mut refusals = |bench: &mut Bench, verdict, time: Duration| {
            let (mut refused, until) = (0, bench.now + time);
            while bench.now < until {
                // The golden ratio's multiples are spread evenly.
                even = (even + 0.618_033_988_749_895) % 1.0;
                match bench.tally.ask(bench.now, || even) {
                    Ok(ticket) => bench.settle(ticket, verdict),
                    Err(_) => refused += 1,
                }
                bench.now += ms(10);
            }
            refused
        };
        assert_eq!(refusals(&mut bench, Verdict::SUCCESS, WINDOW), 0);
        assert!(refusals(&mut bench, Verdict::TIMED_OUT, 3 * WINDOW) > 2000);
        let back = refusals(&mut bench, Verdict::SUCCESS, 2 * WINDOW);
        assert!(back > 0, "it finds out step by step");
        assert_eq!(refusals(&mut bench, Verdict::SUCCESS, WINDOW), 0);
    }

    #[test]
    fn spans_beyond_reason_do_not_panic() {
        let mut bench = Bench::new();
        let ticket = bench.ask();
        bench.now += Duration::from_secs(1 << 40);
        bench.settle(ticket, OVERLOADED.with_pushback(Pushback::After(Duration::MAX)));
        assert_eq!(bench.counts(), (0, 0, 0));
        bench.calls(10, Verdict::SUCCESS);
        assert_eq!(bench.counts(), (10, 10, 0));
    }

    #[test]
    fn a_million_calls_take_no_more_room_than_one() {
        assert!(size_of::<Tally>() <= 400, "{}", size_of::<Tally>());
    }

    /// Every call, counted anew each time.
    struct Model {
        start: Instant,
        latest: u64,
        calls: Vec<(u64, Fate)>,
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Fate {
        UnderWay,
        Refused,
        Ended(Weight),
    }

    impl Model {
        fn bucket(&mut self, now: Instant) -> u64 {
            let bucket = (now - self.start).as_millis() as u64 / 1000;
            self.latest = self.latest.max(bucket);
            self.latest
        }

        fn counts(&mut self, now: Instant) -> (u64, u64, u64) {
            let now = self.bucket(now);
            let within = || self.calls.iter().filter(move |(bucket, _)| now - bucket < 10);
            let pending =
                within().filter(|&&(bucket, fate)| fate == Fate::UnderWay && now - bucket <= 3);
            let nothing = Fate::Ended(Weight::Nothing);
            let requests = within().filter(|&&(_, fate)| fate != nothing).count();
            let accepts = within().filter(|&&(_, fate)| fate == Fate::Ended(Weight::Accept));
            let pending = pending.count() as u64;
            (requests as u64 - pending, accepts.count() as u64, pending)
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Ask(f64),
        Settle(usize, Verdict),
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let verdict = prop_oneof![
            4 => Just(Verdict::SUCCESS),
            4 => Just(OVERLOADED),
            1 => Just(Verdict::CANCELLED),
        ];
        prop_oneof![
            20 => (0.0..1.0).prop_map(Step::Ask),
            15 => (any::<usize>(), verdict).prop_map(|(which, verdict)| Step::Settle(which, verdict)),
            2 => (0_u64..2_000).prop_map(Step::Wait),
        ]
    }

    proptest! {
        /// In whatever order: what is counted is what a list of all calls says, and the
        /// probability stays within its bounds and is kept.
        #[test]
        fn agrees_with_a_list_of_all_calls(steps in proptest::collection::vec(step(), 1..400)) {
            let mut bench = Bench::new();
            let mut model = Model { start: bench.now, latest: 0, calls: Vec::new() };
            let mut tickets: Vec<(Ticket, usize)> = Vec::new();
            for step in steps {
                let before = bench.tally.state(bench.now);
                match step {
                    Step::Ask(draw) => {
                        let bucket = model.bucket(bench.now);
                        match bench.tally.ask(bench.now, || draw) {
                            Ok(ticket) => {
                                prop_assert!(draw >= before.probability);
                                tickets.push((ticket, model.calls.len()));
                                model.calls.push((bucket, Fate::UnderWay));
                            }
                            Err(refused) => {
                                prop_assert!(draw < before.probability);
                                prop_assert_eq!(refused.state, before);
                                model.calls.push((bucket, Fate::Refused));
                            }
                        }
                    }
                    Step::Settle(which, verdict) if !tickets.is_empty() => {
                        let (ticket, call) = tickets.swap_remove(which % tickets.len());
                        bench.settle(ticket, verdict);
                        model.calls[call].1 = Fate::Ended(Weight::of(verdict));
                    }
                    Step::Settle(..) => {}
                    Step::Wait(time) => bench.now += ms(time),
                }
                prop_assert_eq!(bench.counts(), model.counts(bench.now));
                prop_assert!((0.0..=0.9).contains(&bench.probability()));
            }
        }

        /// More accepts never make a refusal likelier, nor do fewer requests.
        #[test]
        fn the_probability_is_monotone(requests in 0_u64..2_000, accepts in 0_u64..2_000) {
            let rules = config().rules;
            let accepts = accepts.min(requests);
            let here = probability(&rules, requests, accepts);
            prop_assert!((0.0..=0.9).contains(&here));
            prop_assert!(probability(&rules, requests + 1, accepts) >= here);
            prop_assert!(probability(&rules, requests, accepts + 1) <= here);
            prop_assert_eq!(here == 0.0, requests < 10 || requests <= 2 * accepts);
        }
    }
}
