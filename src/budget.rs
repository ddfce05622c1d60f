//! Who pays for further attempts: one budget a service, shared by its retries and hedges.

use std::{fmt, sync::Arc, time::Instant};

use crate::{
    algo::bucket::{Class, Refusals, Tariff, TokenBucket, Withdrawal},
    classify::{Blame, Pushback, Retry, Sent, Settle, Verdict},
    sync::{AtomicBool, Mutex, Ordering, Share, Spread, lock},
};

/// The budget of a service's retries and hedges, shared by its clones.
///
/// See [`algo::bucket`](crate::algo::bucket) for the rules. A success while the bucket is full
/// only reads, so healthy traffic on many threads does not contend for it.
///
/// ```
/// use buttress::budget::Budget;
///
/// let budget = Budget::default();
/// assert_eq!(budget.balance(), 500);
/// for (why, count) in budget.refusals().iter() {
///     assert_eq!((why.code().is_empty(), count), (false, 0));
/// }
/// ```
#[derive(Clone)]
pub struct Budget {
    shared: Spread<Shared>,
}

struct Shared {
    /// Whether a deposit would change nothing. Written under the lock; read alone it may be
    /// old, which is the same as if the deposit had come first.
    full: AtomicBool,
    /// Whether failures are charged; by default none are.
    charges: bool,
    bucket: Mutex<TokenBucket>,
    /// What is spared for the retries: half of the bucket.
    spared: u32,
}

impl Budget {
    /// A full budget.
    #[must_use]
    pub fn new(tariff: Tariff) -> Self {
        let spared = tariff.capacity / 2;
        let bucket = TokenBucket::new(tariff);
        let full = AtomicBool::new(bucket.is_full());
        let charges = !bucket.ignores_failures();
        let bucket = Mutex::new(bucket);
        Self { shared: Spread::new(Arc::new(Shared { full, charges, bucket, spared })) }
    }

    /// How many tokens are left.
    #[must_use]
    pub fn balance(&self) -> u32 {
        lock(&self.shared.bucket).balance()
    }

    /// How many retries and hedges were refused so far, by why.
    #[must_use]
    pub fn refusals(&self) -> Refusals {
        lock(&self.shared.bucket).refusals()
    }

    /// A call succeeded at its first try.
    pub fn deposit(&self) {
        self.shared.deposit();
    }

    /// Asks for a retry. `None` if there is nothing left for it.
    #[must_use]
    pub fn withdraw(&self, class: Class, now: Instant) -> Option<Withdrawal> {
        self.shared.update(|bucket| bucket.withdraw(class, now))
    }

    /// Asks for a hedge, which is granted only from what retries can spare: the upper half. A
    /// retry answers a call that failed, a hedge one that is only slow. (gRPC neither retries nor
    /// hedges below the half of its tokens, gRFC A6.)
    #[must_use]
    pub fn withdraw_spare(&self, class: Class, now: Instant) -> Option<Withdrawal> {
        self.shared.update(|bucket| {
            let spare = bucket.balance() > self.shared.spared;
            if spare { bucket.withdraw(class, now) } else { None }
        })
    }

    /// Tells how a retry ended.
    pub fn settle(&self, withdrawal: Withdrawal, succeeded: bool) {
        self.shared.settle(withdrawal, succeeded);
    }

    /// Tells that a retry was not made after all.
    pub fn refund(&self, withdrawal: Withdrawal) {
        self.shared.update(|bucket| bucket.refund(withdrawal));
    }

    /// Tells of a failure that ended its call, which some tariffs charge.
    pub fn fail(&self, verdict: Verdict) {
        self.shared.fail(verdict);
    }
}

impl Shared {
    /// Whether the end of a first try changes nothing, however it ends.
    #[inline]
    fn is_content(&self) -> bool {
        !self.charges && self.full.load(Ordering::Relaxed)
    }

    fn deposit(&self) {
        // Relaxed: it orders nothing else, see the field.
        if !self.full.load(Ordering::Relaxed) {
            self.update(TokenBucket::deposit);
        }
    }

    fn settle(&self, withdrawal: Withdrawal, succeeded: bool) {
        self.update(|bucket| bucket.settle(withdrawal, succeeded));
    }

    fn fail(&self, verdict: Verdict) {
        if self.charges && counts(verdict) {
            self.update(TokenBucket::fail);
        }
    }

    fn update<T>(&self, change: impl FnOnce(&mut TokenBucket) -> T) -> T {
        let mut bucket = lock(&self.bucket);
        let result = change(&mut bucket);
        self.full.store(bucket.is_full(), Ordering::Relaxed);
        result
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(Tariff::default())
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Budget({} tokens)", self.balance())
    }
}

/// Whether a failure is one that could pass, or with which the service asked to be left alone
/// (gRFC A6). One that was not processed by nobody's fault, or that its caller gave up, is none.
const fn counts(verdict: Verdict) -> bool {
    let by_somebody =
        !matches!((verdict.blame, verdict.sent), (Blame::Nobody, Sent::No) | (Blame::Caller, _));
    let retryable = !matches!(verdict.retry, Retry::Never);
    by_somebody && (retryable || matches!(verdict.pushback, Pushback::Never))
}

/// Pays in, or gives back, when a call has ended well, and pays for its failure otherwise.
#[must_use]
pub struct Deposit {
    budget: Option<Share<Shared>>,
    withdrawal: Option<Withdrawal>,
}

impl Deposit {
    /// Nothing has been withdrawn for a first try, which pays in if it succeeds: not if the bucket
    /// is full by now, as it mostly is. Then the budget is not held for it either.
    #[inline]
    pub fn new(budget: Option<&Budget>, withdrawal: Option<Withdrawal>) -> Self {
        let due = budget.filter(|budget| withdrawal.is_some() || !budget.shared.is_content());
        Self { budget: due.map(|budget| budget.shared.share()), withdrawal }
    }
}

impl Settle for Deposit {
    fn settle(&mut self, verdict: Verdict) {
        let Some(budget) = self.budget.take() else { return };
        match self.withdrawal.take() {
            Some(withdrawal) => budget.settle(withdrawal, verdict.is_success()),
            None if verdict.is_success() => budget.deposit(),
            None => {}
        }
        if !verdict.is_success() {
            budget.fail(verdict);
        }
    }
}

impl fmt::Debug for Deposit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deposit").field("withdrawal", &self.withdrawal).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(verdict: Verdict) -> u32 {
        let budget = Budget::new(Tariff::grpc(10, 100).expect("sound terms"));
        Deposit::new(Some(&budget), None).settle(verdict);
        budget.balance()
    }

    #[test]
    fn a_throttle_counts_what_could_pass_and_what_asks_to_be_left_alone() {
        let unavailable = Verdict::new(Blame::Service, Sent::Maybe, Retry::IfSafe);
        let wrong = Verdict::new(Blame::Client, Sent::Processed, Retry::Never);
        let refused = Verdict::new(Blame::Nobody, Sent::No, Retry::Always);
        assert_eq!(settled(unavailable), 9_000);
        assert_eq!(settled(wrong), 10_000);
        assert_eq!(settled(wrong.with_pushback(Pushback::Never)), 9_000);
        assert_eq!(settled(refused), 10_000);
        assert_eq!(settled(Verdict::CANCELLED), 10_000);
        assert_eq!(settled(Verdict::SUCCESS), 10_000);
    }

    #[test]
    fn the_failure_of_a_retry_is_paid_like_any_other() {
        let budget = Budget::new(Tariff::grpc(10, 100).expect("sound terms"));
        let retry = budget.withdraw(Class::Transient, crate::time::now());
        Deposit::new(Some(&budget), retry).settle(Verdict::TIMED_OUT);
        assert_eq!(budget.balance(), 8_000);
        Deposit::new(Some(&budget), None).settle(Verdict::SUCCESS);
        assert_eq!(budget.balance(), 8_100);
    }

    #[test]
    fn refusals_are_read_from_any_handle() {
        let budget = Budget::new(Tariff::grpc(1, 100).expect("sound terms"));
        assert!(budget.withdraw(Class::Transient, crate::time::now()).is_none());
        assert_eq!(budget.clone().refusals().reserve, 1);
    }
}

/// `RUSTFLAGS="--cfg buttress_loom" cargo test --lib loom`: every order in which two threads
/// can pay in and draw.
#[cfg(all(test, buttress_loom))]
mod loom_tests {
    use loom::thread;

    use super::*;

    #[test]
    fn no_deposit_is_lost_once_a_retry_was_paid() {
        loom::model(|| {
            let budget = Budget::new(Tariff { capacity: 20, ..Tariff::default() });
            let other = {
                let budget = budget.clone();
                thread::spawn(move || budget.deposit())
            };
            let paid = budget.withdraw(Class::Transient, crate::time::now());
            assert!(paid.is_some(), "it holds twenty, and a retry costs fourteen");
            other.join().expect("it only pays in");
            // The deposit came first, and changed nothing, or it came after.
            assert!(matches!(budget.balance(), 6 | 7));
            budget.deposit();
            assert!(matches!(budget.balance(), 7 | 8), "the flag that it is full is gone");
        });
    }
}
