//! One of ten is ill, and the whole client leaves it alone: with all its defaults, and with ejection,
//! which has to be asked for. Which calls reach it, and why, is counted exactly.
//!
//! Calls arrive as an open loop (Poisson), in virtual time, drawn from the seed below;
//! `BUTTRESS_SEED` sets another.
#![cfg(feature = "hyper")]

mod support;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use buttress::{
    BoxError, Event, Observer,
    balance::{BalanceConfig, EjectionConfig},
    call::Attempts,
    client::{Builder, Client},
};
use http::{Request, Response};
use support::company::{Act, Company, MS, address, answer, lock, now, status};
use tokio::{task::JoinSet, time::sleep_until};

const DEFAULT_SEED: u64 = 20_261_126;
/// The one that is ill, of the ports 1 to 10.
const ILL: u16 = 4;
const SECOND: Duration = Duration::from_secs(1);

fn seed() -> u64 {
    let seed = match std::env::var("BUTTRESS_SEED") {
        Ok(text) => text.parse().expect("BUTTRESS_SEED is a whole number"),
        Err(_) => DEFAULT_SEED,
    };
    // The harness shows it when the test fails.
    eprintln!("BUTTRESS_SEED={seed}");
    seed
}

/// What is done to a call that reaches the one that is ill.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Illness {
    /// It is well.
    None,
    /// It answers 500 at once.
    Fails,
    /// It answers 500 at once to two of five, never to two in a row.
    Often,
    /// It takes the request, and nothing more is heard of it.
    Hangs,
}

/// What happened, in its order.
#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    /// A call reached this port.
    Call(u16),
    /// The breaker of the one that is ill.
    Breaker(&'static str),
    Ejected(Duration),
    Returned,
}

/// What happened, and when: since the beginning.
#[derive(Clone)]
struct Ledger {
    began: Instant,
    lines: Arc<Mutex<Vec<(Duration, What)>>>,
}

impl Ledger {
    fn new() -> Self {
        Self { began: now(), lines: Arc::default() }
    }

    fn write(&self, what: What) {
        lock(&self.lines).push((now() - self.began, what));
    }

    fn observer(&self) -> Observer {
        let ledger = self.clone();
        Observer::new(move |event| match event {
            Event::Breaker { endpoint: Some(endpoint), state, .. } => {
                assert_eq!(endpoint.address(), address(ILL), "the others are well");
                ledger.write(What::Breaker(state));
            }
            Event::Outlier { endpoint, ejected_for: Some(span), .. } => {
                assert_eq!(endpoint.address(), address(ILL), "the others are well");
                ledger.write(What::Ejected(*span));
            }
            Event::EjectionEnded { .. } => ledger.write(What::Returned),
            Event::Panic(true) => panic!("nine of ten are well"),
            _ => {}
        })
    }

    fn lines(&self) -> Vec<(Duration, What)> {
        lock(&self.lines).clone()
    }

    fn since(&self, moment: Duration) -> Vec<(Duration, What)> {
        self.lines().into_iter().filter(|&(at, _)| at >= moment).collect()
    }

    /// The same in words, without the calls to the others.
    fn told_since(&self, moment: Duration) -> String {
        let ours = |what: &What| !matches!(what, What::Call(port) if *port != ILL);
        let lines = self.since(moment).into_iter().filter(|(_, what)| ours(what));
        lines.map(|(at, what)| format!("{at:?} {what:?}\n")).collect()
    }

    /// Which part of the calls between two moments reached the one that is ill.
    fn share(&self, from: Duration, until: Duration) -> f64 {
        let lines = self.lines();
        let calls = || {
            let within = lines.iter().filter(move |(at, _)| (from..until).contains(at));
            within.filter(|(_, what)| matches!(what, What::Call(_)))
        };
        let ill = calls().filter(|(_, what)| *what == What::Call(ILL)).count();
        ill as f64 / calls().count() as f64
    }
}

struct Fleet {
    client: Client,
    ledger: Ledger,
    illness: Arc<Mutex<Illness>>,
    chance: Chance,
    began: tokio::time::Instant,
    calls: JoinSet<Result<Vec<u16>, BoxError>>,
}

impl Fleet {
    /// Ten endpoints that answer after 10 ms on average, and the client of them.
    fn new(seed: u64, settings: impl FnOnce(Builder<Company>) -> Builder<Company>) -> Self {
        let (ledger, illness) = (Ledger::new(), Arc::new(Mutex::new(Illness::None)));
        let (chance, work) = (Chance(seed), Mutex::new(Chance(!seed)));
        let company = {
            let (ledger, illness) = (ledger.clone(), Arc::clone(&illness));
            let often = AtomicUsize::new(0);
            Company::new(move |seen| {
                ledger.write(What::Call(seen.port));
                let illness = if seen.port == ILL { *lock(&illness) } else { Illness::None };
                match illness {
                    Illness::Fails => answer(500),
                    Illness::Hangs => Act::Hang,
                    Illness::Often if [0, 2].contains(&(often.fetch_add(1, SeqCst) % 5)) => {
                        answer(500)
                    }
                    Illness::None | Illness::Often => {
                        Act::After(lock(&work).exponential(10 * MS), status(200))
                    }
                }
            })
        };
        let builder = company.builder(1..=10).seed(seed).observer(ledger.observer());
        let client = settings(builder).build().expect("it can be");
        let (began, calls) = (tokio::time::Instant::now(), JoinSet::new());
        Self { client, ledger, illness, chance, began, calls }
    }

    fn falls_ill(&self, illness: Illness) {
        *lock(&self.illness) = illness;
    }

    /// So many calls a second, until this moment since the beginning.
    async fn calls(&mut self, a_second: f64, until: Duration) {
        let mean = SECOND.div_f64(a_second);
        let mut next = self.began.elapsed();
        loop {
            next += self.chance.exponential(mean);
            if next >= until {
                break;
            }
            sleep_until(self.began + next).await;
            let client = self.client.clone();
            self.calls.spawn(async move {
                let response = client.send(Request::get("/").body(())?).await?;
                assert_eq!(response.status(), 200);
                Ok(went_to(&response))
            });
        }
        sleep_until(self.began + until).await;
    }

    /// Where each call's attempts went, if there was more than one. All were answered.
    async fn answers(self) -> Vec<Vec<u16>> {
        let answers = self.calls.join_all().await;
        answers.into_iter().map(|answer| answer.expect("each call is answered")).collect()
    }
}

fn went_to<B>(response: &Response<B>) -> Vec<u16> {
    let attempts = response.extensions().get::<Attempts>();
    let targets = attempts.into_iter().flat_map(|all| all.iter().filter_map(|one| one.target));
    targets.map(|target| target.address.port()).collect()
}

/// The test's own: the library's generator draws for itself.
struct Chance(u64);

impl Chance {
    fn exponential(&mut self, mean: Duration) -> Duration {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let unit = ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64;
        mean.mul_f64(-(1.0 - unit).ln())
    }
}

fn ejecting(builder: Builder<Company>) -> Builder<Company> {
    builder.balance(BalanceConfig::new().ejection(EjectionConfig::new()))
}

/// Why the calls reached the one that is ill.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Reasons {
    /// Its breaker was closed: those that opened it.
    closed: usize,
    /// Its breaker had asked for a probe: one after each open time.
    probes: usize,
    /// The open times that were over.
    half_open: usize,
    ejections: usize,
    /// Its breaker was open, or it was ejected.
    none: usize,
}

impl Reasons {
    fn of(lines: &[(Duration, What)]) -> Self {
        let (mut reasons, mut breaker, mut ejected) = (Self::default(), "closed", false);
        for (_, what) in lines {
            match what {
                What::Breaker(state) => {
                    breaker = state;
                    reasons.half_open += usize::from(breaker == "half_open");
                }
                What::Ejected(_) => {
                    ejected = true;
                    reasons.ejections += 1;
                }
                What::Returned => ejected = false,
                What::Call(ILL) if ejected => reasons.none += 1,
                What::Call(ILL) if breaker == "closed" => reasons.closed += 1,
                What::Call(ILL) if breaker == "half_open" => reasons.probes += 1,
                What::Call(ILL) => reasons.none += 1,
                What::Call(_) => {}
            }
        }
        reasons
    }
}

/// Five calls open its breaker, and then it has one probe after each open time. Where a sweep comes
/// before the fifth, it is ejected meanwhile and gets nothing at all.
#[tokio::test(start_paused = true)]
async fn one_that_fails_at_once_gets_nothing_but_probes_and_none_while_it_is_ejected() {
    let mut ejections = 0;
    for (rate, began) in [(200.0, 5), (200.0, 9), (600.0, 5), (600.0, 9)] {
        let began = SECOND * began;
        let mut fleet = Fleet::new(seed(), ejecting);
        // None is under way when it falls ill: a late success would interrupt the streak.
        fleet.calls(rate, began - 500 * MS).await;
        sleep_until(fleet.began + began).await;
        fleet.falls_ill(Illness::Fails);
        fleet.calls(rate, began + 70 * SECOND).await;
        let ledger = fleet.ledger.clone();
        let reasons = Reasons::of(&ledger.since(began));
        eprintln!("{rate}/s: {reasons:?}\n{}", ledger.told_since(began));
        assert_eq!((reasons.closed, reasons.none), (5, 0), "{reasons:?}");
        assert_eq!(reasons.probes, reasons.half_open, "the first that fails ends it: {reasons:?}");
        assert!((1..=6).contains(&reasons.probes), "its open times grow: {reasons:?}");
        assert!(reasons.ejections <= 1, "who is out already is not ejected as well: {reasons:?}");
        ejections += reasons.ejections;
        for attempts in fleet.answers().await {
            assert!(attempts.len() <= 2, "the second one goes where it is well: {attempts:?}");
        }
    }
    assert!(ejections > 0, "with another seed, let it fall ill at other times, too");
}

/// What a breaker does not see: no five in a row, and not half of them. While it is ejected it gets
/// nothing at all; it comes back to show whether it is well, and is ejected for twice the time.
#[tokio::test(start_paused = true)]
async fn one_that_fails_often_gets_nothing_while_it_is_ejected() {
    let mut fleet = Fleet::new(seed(), ejecting);
    fleet.calls(200.0, 5 * SECOND).await;
    fleet.falls_ill(Illness::Often);
    fleet.calls(200.0, 115 * SECOND).await;
    let ledger = fleet.ledger.clone();
    let ill = ledger.since(5 * SECOND);
    let reasons = Reasons::of(&ill);
    eprintln!("{reasons:?}");
    assert_eq!((reasons.none, reasons.half_open), (0, 0), "its breaker saw nothing: {reasons:?}");
    let mut spans = Vec::new();
    let mut out = 0;
    for (at, what) in &ill {
        match what {
            What::Ejected(span) => spans.push((*at, *span)),
            What::Call(ILL) => {}
            // Nobody missed it: the others had all of the calls.
            What::Call(_) => out += usize::from(spans.iter().any(|(from, s)| *at < *from + *s)),
            _ => {}
        }
    }
    let times: Vec<u64> = spans.iter().map(|(_, span)| span.as_secs() / 10).collect();
    assert_eq!(times, [3, 6], "{spans:?}");
    assert!(out > 12_000, "{out} calls while it was out");
    fleet.answers().await;
}

#[tokio::test(start_paused = true)]
async fn one_of_ten_that_fails_at_once_has_two_percent_at_most_from_the_next_second_on() {
    for rate in [60.0, 600.0] {
        // At 60/s two calls in a second are too many already, so it is the mean that is told.
        let (seeds, mut shares) = (0..10, [0.0; 3]);
        for more in seeds.clone() {
            let mut fleet = Fleet::new(seed() + more, ejecting);
            fleet.calls(rate, 5 * SECOND).await;
            fleet.falls_ill(Illness::Fails);
            fleet.calls(rate, 15 * SECOND).await;
            let ledger = fleet.ledger.clone();
            let lines = ledger.since(5 * SECOND);
            let first = lines.iter().find(|(_, what)| *what == What::Call(ILL));
            let from = first.expect("it is called").0 + SECOND;
            for (share, seconds) in shares.iter_mut().zip([1, 3, 8]) {
                let part = ledger.share(from, from + SECOND * seconds);
                *share += part / seeds.clone().count() as f64;
            }
            fleet.answers().await;
        }
        eprintln!("{rate}/s: {shares:?} in the 1, 3 and 8 s from the next second on");
        assert!(shares.iter().all(|&share| share <= 0.02), "{shares:?} at {rate}/s");
    }
}

/// The way back: its ejection ends, it is not rushed, and it has its share again.
#[tokio::test(start_paused = true)]
async fn one_that_is_well_again_has_its_share_back_after_its_ejection() {
    let mut fleet = Fleet::new(seed(), ejecting);
    fleet.calls(200.0, 5 * SECOND).await;
    fleet.falls_ill(Illness::Often);
    fleet.calls(200.0, 25 * SECOND).await;
    fleet.falls_ill(Illness::None);
    fleet.calls(200.0, 140 * SECOND).await;
    let ledger = fleet.ledger.clone();
    let lines = ledger.lines();
    let returned: Vec<_> = lines.iter().filter(|(_, what)| *what == What::Returned).collect();
    let [&(returned, _)] = returned[..] else { panic!("{returned:?}") };
    assert!((40 * SECOND..54 * SECOND).contains(&returned), "{returned:?}");
    let early = ledger.share(returned, returned + 5 * SECOND);
    let later = ledger.share(returned + 45 * SECOND, 140 * SECOND);
    eprintln!("{early} in its first five seconds, {later} from 45 s on");
    assert!(early < 0.05, "{early} in its first five seconds");
    assert!((0.07..0.13).contains(&later), "{later} from 45 s on");
    fleet.answers().await;
}

/// Half of its share for a second at most, whatever else is in the stack: its breaker stays closed,
/// nobody is ejected, and the caller sees nothing of it.
#[tokio::test(start_paused = true)]
async fn one_stray_500_costs_at_most_half_a_share_for_a_second() {
    let (mut second, mut after) = (0.0, 0.0);
    let seeds = 0..10;
    for more in seeds.clone() {
        let mut fleet = Fleet::new(seed() + more, ejecting);
        fleet.calls(600.0, 3 * SECOND).await;
        let ledger = fleet.ledger.clone();
        let at_it = || ledger.lines().iter().filter(|(_, what)| *what == What::Call(ILL)).count();
        let before = at_it();
        fleet.falls_ill(Illness::Fails);
        while at_it() == before && fleet.began.elapsed() < 13 * SECOND {
            let until = fleet.began.elapsed() + MS;
            fleet.calls(600.0, until).await;
        }
        fleet.falls_ill(Illness::None);
        assert_eq!(at_it(), before + 1, "one stray call");
        let stray = fleet.began.elapsed();
        fleet.calls(600.0, stray + 3 * SECOND).await;
        let part = 1.0 / seeds.clone().count() as f64;
        second += part * ledger.share(stray, stray + SECOND);
        after += part * ledger.share(stray + SECOND, stray + 3 * SECOND);
        let quiet = ledger.lines().iter().all(|(_, what)| matches!(what, What::Call(_)));
        assert!(quiet, "{}", ledger.told_since(stray));
        let repeated: Vec<_> =
            fleet.answers().await.into_iter().filter(|all| !all.is_empty()).collect();
        assert_eq!(repeated.len(), 1, "{repeated:?}");
        assert_eq!((repeated[0].len(), repeated[0][0]), (2, ILL), "{repeated:?}");
    }
    eprintln!("{second} in the second after it, {after} in the two after that");
    assert!(second >= 0.05, "{second} in the second after it");
    assert!(after >= 0.08, "{after} after that");
}

/// A call whose attempt hangs is repeated elsewhere when its ten seconds are over, and is good; none
/// goes to that one twice, and of twelve thousand in a minute hardly any goes there at all.
#[tokio::test(start_paused = true)]
async fn one_that_hangs_costs_each_call_at_most_one_attempt_and_few_calls_any() {
    let mut fleet = Fleet::new(seed(), ejecting);
    fleet.calls(200.0, 5 * SECOND).await;
    fleet.falls_ill(Illness::Hangs);
    fleet.calls(200.0, 65 * SECOND).await;
    let ledger = fleet.ledger.clone();
    let reached = ledger.since(5 * SECOND);
    let reached = reached.iter().filter(|(_, what)| *what == What::Call(ILL)).count();
    let answers = fleet.answers().await;
    eprintln!("{reached} of {} calls\n{}", answers.len(), ledger.told_since(5 * SECOND));
    assert!(answers.len() > 12_000);
    assert!((1..=10).contains(&reached), "{reached} reached it");
    let repeated: Vec<_> = answers.iter().filter(|attempts| !attempts.is_empty()).collect();
    assert_eq!(repeated.len(), reached, "each once: {repeated:?}");
    assert!(repeated.iter().all(|attempts| attempts.len() == 2 && attempts[0] == ILL));
}
