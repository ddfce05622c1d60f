//! A token bucket that successes fill and retries drain.
//!
//! The bucket is that of the AWS SDKs' retry specification 2.1: 500 tokens, a retry takes 14
//! after a transient failure and 5 after a throttled one, gives them back when it succeeds, and
//! a success at the first try adds 1. So a service that works pays for the retries of one that
//! sometimes does not, and one that is down gets few of them.
//!
//! To it we add a floor for low traffic: a client of one call a minute would wait for hours
//! until successes have refilled an empty bucket. The floor grants one retry now and then, and
//! decays when these only fail.
//!
//! gRPC's throttle (gRFC A6, "Throttling Retry Attempts and Hedged RPCs") is the same bucket under
//! other terms: each failure takes a token, whether a retry follows or not, each success adds a
//! part of one, and none is retried while the bucket is no more than half full.
//! [`Tariff::grpc`] has them.

use std::{
    error::Error as StdError,
    fmt,
    time::{Duration, Instant},
};

use crate::time::after;

/// The settings of a [`TokenBucket`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Tariff {
    /// How many tokens the bucket holds; it starts full.
    pub capacity: u32,
    /// What a success at the first try adds.
    pub deposit: u32,
    /// What a retry costs after a failure that may pass.
    pub transient: u32,
    /// What a retry costs after the service said that it was called too often.
    pub throttled: u32,
    /// How often the floor grants a retry that the bucket can't pay, at the best.
    pub floor_interval: Option<Duration>,
    /// More than this has to be left when a retry has been paid; none lets the last token go.
    pub reserve: Option<u32>,
    /// What a failure costs that ends its call and might have been tried again.
    pub failure: u32,
    /// Whether a retry that succeeds gives back what it cost, instead of adding what a success at
    /// the first try does.
    pub gives_back: bool,
}

/// What gRPC calls a token is a thousand of ours, as its `tokenRatio` has three decimal places.
pub const GRPC_TOKEN: u32 = 1000;
/// The most tokens that gRPC's service config allows.
const GRPC_MAX_TOKENS: u32 = 1000;

impl Tariff {
    /// gRPC's throttle (gRFC A6): the bucket holds `max_tokens`, a failure takes one, a success
    /// adds `ratio` thousandths of one, and nothing is retried unless more than half is left.
    ///
    /// Amounts and the [balance](TokenBucket::balance) are in thousandths of gRPC's tokens, so
    /// that all sums are exact. There is no floor, and what was not processed costs nothing. A
    /// hedge costs a token, which comes back only by successes: it is load like a failure's retry.
    ///
    /// At the 10 tokens and a ratio of 0.1 that its examples have, a service that fails a tenth of
    /// its calls gets hardly any retries; AWS's terms, the default here, are the better ones for
    /// a service of which nothing is known.
    ///
    /// ```
    /// use buttress::{algo::bucket::Tariff, budget::Budget};
    ///
    /// let budget = Budget::new(Tariff::grpc(10, 500)?);
    /// assert_eq!(budget.balance(), 10_000);
    /// # Ok::<(), buttress::BoxError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidTariff`] unless `max_tokens` is 1 to 1000 and `ratio` above 0, as A6 has it.
    pub const fn grpc(max_tokens: u32, ratio: u32) -> Result<Self, InvalidTariff> {
        if max_tokens == 0 || max_tokens > GRPC_MAX_TOKENS {
            return Err(InvalidTariff::TOKENS);
        }
        if ratio == 0 {
            return Err(InvalidTariff::RATIO);
        }
        let capacity = max_tokens * GRPC_TOKEN;
        Ok(Self {
            capacity,
            deposit: ratio,
            transient: GRPC_TOKEN,
            throttled: GRPC_TOKEN,
            floor_interval: None,
            reserve: Some(capacity / 2),
            failure: GRPC_TOKEN,
            gives_back: false,
        })
    }
}

impl Default for Tariff {
    /// AWS SDKs, retry specification 2.1; the floor is ours.
    fn default() -> Self {
        Self {
            capacity: 500,
            deposit: 1,
            transient: 14,
            throttled: 5,
            // Finagle's floor is 10 retries a second; a fleet of callers multiplies it. One a
            // second is enough for the calls that a person waits for.
            floor_interval: Some(Duration::from_secs(1)),
            reserve: None,
            failure: 0,
            gives_back: true,
        }
    }
}

/// A throttle that gRPC does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidTariff {
    sentence: &'static str,
}

impl InvalidTariff {
    const TOKENS: Self =
        Self { sentence: "gRPC's throttle holds 1 to 1000 tokens: set max_tokens" };
    const RATIO: Self = Self {
        sentence: "a bucket that no success refills stops all retries for good: set the ratio to \
                   1 thousandth or more",
    };
}

impl fmt::Display for InvalidTariff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence)
    }
}

impl StdError for InvalidTariff {}

/// What kind of failure a retry follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Class {
    /// It may pass.
    Transient,
    /// Called too often.
    Throttled,
    /// Refused before it was sent or processed: it cost nobody anything.
    Free,
}

/// A retry that was granted. Hand it back to [`TokenBucket::settle`] when it is known how the
/// retry ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Withdrawal {
    paid: Paid,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Paid {
    Bucket(u32),
    Floor,
}

/// Why a retry was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Shortage {
    /// The bucket can't pay it, and there is no floor.
    Spent,
    /// The bucket can't pay it, and the floor has granted one a short while ago.
    FloorWaits,
    /// The bucket can't pay it, and the floor's own retries have only failed.
    FloorShut,
    /// No more than the [reserve](Tariff::reserve) would be left.
    Reserve,
}

impl Shortage {
    /// A stable code, for counters.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Spent => "spent",
            Self::FloorWaits => "floor_waits",
            Self::FloorShut => "floor_shut",
            Self::Reserve => "reserve",
        }
    }
}

/// How many retries were refused, by why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusals {
    /// [`Shortage::Spent`].
    pub spent: u64,
    /// [`Shortage::FloorWaits`].
    pub floor_waits: u64,
    /// [`Shortage::FloorShut`].
    pub floor_shut: u64,
    /// [`Shortage::Reserve`].
    pub reserve: u64,
}

impl Refusals {
    /// All of them.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.spent + self.floor_waits + self.floor_shut + self.reserve
    }

    /// Each reason with its count.
    pub fn iter(&self) -> impl Iterator<Item = (Shortage, u64)> + use<> {
        [
            (Shortage::Spent, self.spent),
            (Shortage::FloorWaits, self.floor_waits),
            (Shortage::FloorShut, self.floor_shut),
            (Shortage::Reserve, self.reserve),
        ]
        .into_iter()
    }

    const fn count(&mut self, shortage: Shortage) {
        let counter = match shortage {
            Shortage::Spent => &mut self.spent,
            Shortage::FloorWaits => &mut self.floor_waits,
            Shortage::FloorShut => &mut self.floor_shut,
            Shortage::Reserve => &mut self.reserve,
        };
        *counter = counter.saturating_add(1);
    }
}

/// The bucket. Exact and O(1).
#[derive(Clone, Debug)]
pub struct TokenBucket {
    tariff: Tariff,
    balance: u32,
    floor_at: Option<Instant>,
    floor_failures: u32,
    refusals: Refusals,
}

/// After this many failures in a row, the floor grants nothing until something succeeds: its
/// interval doubles with each, so this is once in about four minutes by default.
const FLOOR_LIMIT: u32 = 8;

impl TokenBucket {
    /// A full bucket.
    #[must_use]
    pub const fn new(tariff: Tariff) -> Self {
        let refusals = Refusals { spent: 0, floor_waits: 0, floor_shut: 0, reserve: 0 };
        Self { balance: tariff.capacity, tariff, floor_at: None, floor_failures: 0, refusals }
    }

    /// A call succeeded at its first try.
    pub fn deposit(&mut self) {
        self.add(self.tariff.deposit);
        self.floor_failures = 0;
    }

    /// Asks for a retry. `None` if there is nothing left for it.
    pub fn withdraw(&mut self, class: Class, now: Instant) -> Option<Withdrawal> {
        match self.pay(class, now) {
            Ok(paid) => Some(Withdrawal { paid }),
            Err(shortage) => {
                self.refusals.count(shortage);
                None
            }
        }
    }

    fn pay(&mut self, class: Class, now: Instant) -> Result<Paid, Shortage> {
        let cost = match class {
            Class::Transient => self.tariff.transient,
            Class::Throttled => self.tariff.throttled,
            Class::Free => return Ok(Paid::Bucket(0)),
        };
        let left = self.balance.checked_sub(cost);
        let reserve = self.tariff.reserve;
        if let Some(left) = left.filter(|&left| reserve.is_none_or(|reserve| left > reserve)) {
            self.balance = left;
            return Ok(Paid::Bucket(cost));
        }
        let interval = self.tariff.floor_interval.ok_or(match reserve {
            Some(_) => Shortage::Reserve,
            None => Shortage::Spent,
        })?;
        if self.floor_failures >= FLOOR_LIMIT {
            return Err(Shortage::FloorShut);
        }
        if self.floor_at.is_some_and(|at| now < at) {
            return Err(Shortage::FloorWaits);
        }
        self.floor_at = Some(after(now, interval.saturating_mul(1 << self.floor_failures)));
        Ok(Paid::Floor)
    }

    /// Tells how a retry ended. One that succeeded gives back what it cost, or pays in like a
    /// success at the first try, by the tariff.
    pub fn settle(&mut self, withdrawal: Withdrawal, succeeded: bool) {
        match (withdrawal.paid, succeeded) {
            (_, true) if !self.tariff.gives_back => self.deposit(),
            (Paid::Bucket(cost), true) => {
                self.add(cost);
                self.floor_failures = 0;
            }
            (Paid::Floor, true) => self.floor_failures = 0,
            (Paid::Bucket(_), false) => {}
            (Paid::Floor, false) => self.floor_failures = self.floor_failures.saturating_add(1),
        }
    }

    /// A retry that was granted was not made after all: it gives back what it cost, and says
    /// nothing about the service.
    pub fn refund(&mut self, withdrawal: Withdrawal) {
        if let Paid::Bucket(cost) = withdrawal.paid {
            self.add(cost);
        }
    }

    /// A call ended with a failure that might have been tried again, for whatever reason it was
    /// not. Failures that a retry followed have been paid with that.
    pub const fn fail(&mut self) {
        self.balance = self.balance.saturating_sub(self.tariff.failure);
    }

    /// How many tokens are left.
    #[must_use]
    pub const fn balance(&self) -> u32 {
        self.balance
    }

    /// How many retries were refused, by why.
    #[must_use]
    pub const fn refusals(&self) -> Refusals {
        self.refusals
    }

    /// Whether [`fail`](Self::fail) would change nothing, ever.
    pub(crate) const fn ignores_failures(&self) -> bool {
        self.tariff.failure == 0
    }

    /// Whether a deposit would change nothing.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.balance >= self.tariff.capacity && self.floor_failures == 0
    }

    fn add(&mut self, tokens: u32) {
        self.balance = self.balance.saturating_add(tokens).min(self.tariff.capacity);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn without_floor() -> TokenBucket {
        TokenBucket::new(Tariff { floor_interval: None, ..Tariff::default() })
    }

    #[test]
    fn a_full_bucket_pays_for_thirty_five_transient_retries() {
        let now = crate::time::now();
        let mut bucket = without_floor();
        let granted = (0..100).filter(|_| bucket.withdraw(Class::Transient, now).is_some());
        assert_eq!(granted.count(), 35);
        assert_eq!(bucket.balance(), 10);
        assert!(bucket.withdraw(Class::Throttled, now).is_some());
        assert!(bucket.withdraw(Class::Free, now).is_some());
    }

    #[test]
    fn a_success_refunds_its_retry_and_a_failure_does_not() {
        let now = crate::time::now();
        let mut bucket = without_floor();
        let retry = bucket.withdraw(Class::Transient, now).expect("it is full");
        assert_eq!(bucket.balance(), 486);
        bucket.settle(retry, true);
        assert_eq!(bucket.balance(), 500);
        let retry = bucket.withdraw(Class::Transient, now).expect("it is full");
        bucket.settle(retry, false);
        assert_eq!(bucket.balance(), 486);
        bucket.deposit();
        assert_eq!(bucket.balance(), 487);
    }

    #[test]
    fn the_floor_grants_one_a_second_and_decays_when_it_only_fails() {
        let mut bucket = TokenBucket::new(Tariff { capacity: 0, ..Tariff::default() });
        let start = crate::time::now();
        let mut granted = Vec::new();
        for second in 0..2000_u64 {
            let now = start + Duration::from_secs(second);
            if let Some(retry) = bucket.withdraw(Class::Transient, now) {
                bucket.settle(retry, false);
                granted.push(second);
            }
        }
        assert_eq!(granted, [0, 1, 3, 7, 15, 31, 63, 127]);
        bucket.deposit();
        assert!(bucket.withdraw(Class::Transient, start + Duration::from_secs(2000)).is_some());
    }

    #[test]
    fn a_retry_that_was_not_made_costs_nothing_and_proves_nothing() {
        let now = crate::time::now();
        let mut bucket = without_floor();
        let retry = bucket.withdraw(Class::Transient, now).expect("it is full");
        bucket.refund(retry);
        assert_eq!(bucket.balance(), 500);
        let mut empty = TokenBucket::new(Tariff { capacity: 0, ..Tariff::default() });
        let retry = empty.withdraw(Class::Transient, now).expect("the floor");
        empty.settle(retry, false);
        let later = now + Duration::from_secs(1);
        let retry = empty.withdraw(Class::Transient, later).expect("the floor");
        empty.refund(retry);
        assert!(!empty.is_full(), "the floor's decay is not forgotten");
    }

    #[test]
    fn a_floor_that_waits_for_ever_does_not_overflow() {
        let floor_interval = Some(Duration::MAX);
        let tariff = Tariff { capacity: 0, floor_interval, ..Tariff::default() };
        let mut bucket = TokenBucket::new(tariff);
        let now = crate::time::now();
        assert!(bucket.withdraw(Class::Transient, now).is_some());
        assert!(bucket.withdraw(Class::Transient, now).is_none());
    }

    fn grpc(max_tokens: u32, ratio: u32) -> TokenBucket {
        TokenBucket::new(Tariff::grpc(max_tokens, ratio).expect("sound terms"))
    }

    #[test]
    fn grpc_retries_only_while_more_than_half_is_left() {
        let now = crate::time::now();
        let mut bucket = grpc(10, 500);
        let granted = (0..10).filter(|_| bucket.withdraw(Class::Transient, now).is_some()).count();
        assert_eq!((granted, bucket.balance()), (4, 6_000), "a fifth would leave the half");
        assert_eq!(bucket.refusals(), Refusals { reserve: 6, ..Refusals::default() });
        // The half of an odd number is not rounded.
        let mut odd = grpc(3, 1);
        assert!(odd.withdraw(Class::Transient, now).is_some());
        assert!(odd.withdraw(Class::Transient, now).is_none());
        assert_eq!(odd.balance(), 2_000);
        assert!(odd.withdraw(Class::Free, now).is_some(), "outside of the throttle");
    }

    #[test]
    fn grpc_takes_a_token_for_each_failure_and_adds_the_ratio_for_each_success() {
        let now = crate::time::now();
        let mut bucket = grpc(10, 123);
        let retry = bucket.withdraw(Class::Transient, now).expect("it is full");
        bucket.settle(retry, true);
        assert_eq!(bucket.balance(), 9_123, "not what the retry cost");
        bucket.deposit();
        assert_eq!(bucket.balance(), 9_246);
        (0..20).for_each(|_| bucket.fail());
        assert_eq!(bucket.balance(), 0);
        let mut aws = without_floor();
        aws.fail();
        assert_eq!(aws.balance(), 500, "there, only retries cost");
    }

    #[test]
    fn refuses_terms_that_grpc_does_not_allow() {
        assert_eq!(Tariff::grpc(0, 1), Err(InvalidTariff::TOKENS));
        assert_eq!(Tariff::grpc(1001, 1), Err(InvalidTariff::TOKENS));
        assert_eq!(Tariff::grpc(1000, 0), Err(InvalidTariff::RATIO));
        assert!(Tariff::grpc(1000, u32::MAX).is_ok());
    }

    #[test]
    fn says_why_it_refused() {
        let now = crate::time::now();
        let mut spent = TokenBucket::new(Tariff { floor_interval: None, ..empty() });
        assert!(spent.withdraw(Class::Transient, now).is_none());
        let mut floor = TokenBucket::new(empty());
        for second in 0..8_u64 {
            let now = now + Duration::from_secs(second << 10);
            let retry = floor.withdraw(Class::Transient, now).expect("the floor");
            assert!(floor.withdraw(Class::Throttled, now).is_none());
            floor.settle(retry, false);
        }
        assert!(floor.withdraw(Class::Transient, now + Duration::from_secs(1 << 20)).is_none());
        let counts = |bucket: &TokenBucket| -> Vec<_> {
            bucket.refusals().iter().map(|(why, count)| (why.code(), count)).collect()
        };
        let expected = |counts: [u64; 4]| -> Vec<_> {
            ["spent", "floor_waits", "floor_shut", "reserve"].into_iter().zip(counts).collect()
        };
        assert_eq!(counts(&spent), expected([1, 0, 0, 0]));
        assert_eq!(counts(&floor), expected([0, 8, 1, 0]));
        assert_eq!(floor.refusals().total(), 9);
    }

    fn empty() -> Tariff {
        Tariff { capacity: 0, ..Tariff::default() }
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Deposit,
        Retry { throttled: bool, succeeds: bool },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            Just(Step::Deposit),
            (any::<bool>(), any::<bool>())
                .prop_map(|(throttled, succeeds)| Step::Retry { throttled, succeeds }),
        ]
    }

    proptest! {
        /// Conservation: the balance is what a ledger says that knows only the tariff.
        #[test]
        fn keeps_exact_books(steps in proptest::collection::vec(step(), 0..400)) {
            let now = crate::time::now();
            let mut bucket = without_floor();
            let mut ledger: i64 = 500;
            for step in steps {
                match step {
                    Step::Deposit => {
                        bucket.deposit();
                        ledger = (ledger + 1).min(500);
                    }
                    Step::Retry { throttled, succeeds } => {
                        let (class, cost) =
                            if throttled { (Class::Throttled, 5) } else { (Class::Transient, 14) };
                        let retry = bucket.withdraw(class, now);
                        prop_assert_eq!(retry.is_some(), ledger >= cost);
                        if let Some(retry) = retry {
                            bucket.settle(retry, succeeds);
                            ledger -= if succeeds { 0 } else { cost };
                        }
                    }
                }
                prop_assert_eq!(i64::from(bucket.balance()), ledger);
            }
        }

        /// A6 in its own words, in fractions of a token, over whole calls of up to four attempts.
        #[test]
        fn agrees_with_grpcs_throttle(
            max_tokens in 1_u32..=1000,
            ratio in 1_u32..3000,
            // How many attempts of a call fail before one succeeds.
            calls in proptest::collection::vec(0_u32..6, 0..400),
        ) {
            let now = crate::time::now();
            let mut bucket = grpc(max_tokens, ratio);
            let mut ledger = f64::from(max_tokens);
            for failures in calls {
                let mut paid = None;
                for attempt in 1_u32.. {
                    if attempt > failures {
                        match paid.take() {
                            Some(retry) => bucket.settle(retry, true),
                            None => bucket.deposit(),
                        }
                        ledger = (ledger + f64::from(ratio) / 1000.0).min(f64::from(max_tokens));
                        break;
                    }
                    ledger = (ledger - 1.0).max(0.0);
                    let retries = attempt < 4 && ledger > f64::from(max_tokens) / 2.0 + 1e-9;
                    let next = if attempt < 4 { bucket.withdraw(Class::Transient, now) } else { None };
                    prop_assert_eq!(next.is_some(), retries);
                    if let Some(retry) = paid.take() {
                        bucket.settle(retry, false);
                    }
                    paid = next;
                    if paid.is_none() {
                        bucket.fail();
                        break;
                    }
                }
                prop_assert!((f64::from(bucket.balance()) / 1000.0 - ledger).abs() < 1e-6);
            }
        }
    }
}
