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

use std::time::{Duration, Instant};

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
        }
    }
}

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

/// The bucket. Exact and O(1).
#[derive(Clone, Debug)]
pub struct TokenBucket {
    tariff: Tariff,
    balance: u32,
    floor_at: Option<Instant>,
    floor_failures: u32,
}

/// After this many failures in a row, the floor grants nothing until something succeeds: its
/// interval doubles with each, so this is once in about four minutes by default.
const FLOOR_LIMIT: u32 = 8;

impl TokenBucket {
    /// A full bucket.
    #[must_use]
    pub const fn new(tariff: Tariff) -> Self {
        Self { balance: tariff.capacity, tariff, floor_at: None, floor_failures: 0 }
    }

    /// A call succeeded at its first try.
    pub fn deposit(&mut self) {
        self.add(self.tariff.deposit);
        self.floor_failures = 0;
    }

    /// Asks for a retry. `None` if there is nothing left for it.
    pub fn withdraw(&mut self, class: Class, now: Instant) -> Option<Withdrawal> {
        let cost = match class {
            Class::Transient => self.tariff.transient,
            Class::Throttled => self.tariff.throttled,
            Class::Free => 0,
        };
        if let Some(balance) = self.balance.checked_sub(cost) {
            self.balance = balance;
            return Some(Withdrawal { paid: Paid::Bucket(cost) });
        }
        let interval = self.tariff.floor_interval?;
        if self.floor_failures >= FLOOR_LIMIT || self.floor_at.is_some_and(|at| now < at) {
            return None;
        }
        self.floor_at = Some(after(now, interval.saturating_mul(1 << self.floor_failures)));
        Some(Withdrawal { paid: Paid::Floor })
    }

    /// Tells how a retry ended. One that succeeded gives back what it cost.
    pub fn settle(&mut self, withdrawal: Withdrawal, succeeded: bool) {
        match (withdrawal.paid, succeeded) {
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

    /// How many tokens are left.
    #[must_use]
    pub const fn balance(&self) -> u32 {
        self.balance
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
    }
}
