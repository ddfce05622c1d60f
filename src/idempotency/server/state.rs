//! What a key's record says to who comes next: the whole of the protocol, without a store.

use std::time::Duration;

use super::{Answer, Begin, Claim, Fingerprint, KeyId, Outcome, Settled, Token};

/// What is kept of a key.
///
/// ```text
///  nothing ── begin ──> running ── answered ──> answered ───── retention ends ──> nothing
///     ▲                 │     │
///     ├──── undone ─────┘     ├── unknown, or the lease ends ──> unknown ── retention ends ──> nothing
///     │                       │                                     │
///     └───────────────────────┴── and what is unknown is done again ┘
/// ```
///
/// Times are spans since an origin that the store chooses and keeps: 1970 for one that outlives
/// its process ([`Claim::since_epoch`]), anything for one that does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub(super) run: u128,
    pub(super) fingerprint: Fingerprint,
    pub(super) lease_ends: Duration,
    pub(super) expires: Duration,
    pub(super) state: State,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    Running,
    Answered(Answer),
    Unknown,
}

/// What a store does about an outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "it is matched where it is made, and kept nowhere")]
#[non_exhaustive]
pub enum Change {
    /// Saves this in the record's place.
    Save(Record),
    /// Removes the record.
    Remove,
    /// Nothing: it was settled before, by the same token.
    Stands,
    /// Nothing: the key is not this token's any more.
    Superseded,
}

impl Change {
    /// What the store says of it, once it is done.
    #[must_use]
    pub const fn settled(&self) -> Settled {
        match self {
            Self::Save(_) | Self::Remove | Self::Stands => Settled::Recorded,
            Self::Superseded => Settled::Superseded,
        }
    }
}

impl Record {
    /// The record of a key that `claim` takes: what is to be saved after [`Begin::New`].
    #[must_use]
    pub const fn new(claim: &Claim, now: Duration) -> Self {
        Self {
            run: claim.token.run(),
            fingerprint: claim.fingerprint,
            lease_ends: now.saturating_add(claim.lease),
            expires: now.saturating_add(claim.retention),
            state: State::Running,
        }
    }

    /// What `claim` meets where this record is held, or none.
    #[must_use]
    pub fn meet(held: Option<&Self>, claim: &Claim, now: Duration) -> Begin {
        let Some(held) = held.filter(|held| !held.is_expired(now)) else {
            return Begin::New;
        };
        // Before all else: who comes with another payload learns nothing of this one.
        if held.fingerprint != claim.fingerprint {
            return Begin::Mismatch;
        }
        match &held.state {
            State::Answered(answer) => Begin::Replay(answer.clone()),
            State::Running if now < held.lease_ends => Begin::Running,
            State::Running | State::Unknown if claim.again => Begin::New,
            State::Running | State::Unknown => Begin::Unknown,
        }
    }

    /// What follows where this record is held, or none, when the work under `token` has ended.
    ///
    /// After its lease, too, as long as nobody else took the key: a late answer is an answer.
    #[must_use]
    pub fn settle(held: Option<Self>, token: Token, outcome: Outcome) -> Change {
        let Some(mut held) = held.filter(|held| held.run == token.run()) else {
            return Change::Superseded;
        };
        match (&held.state, outcome) {
            (State::Answered(_), _) | (State::Unknown, Outcome::Unknown) => Change::Stands,
            (State::Running | State::Unknown, Outcome::Answered(answer)) => {
                held.state = State::Answered(answer);
                Change::Save(held)
            }
            (State::Running | State::Unknown, Outcome::Undone) => Change::Remove,
            (State::Running, Outcome::Unknown) => {
                held.state = State::Unknown;
                Change::Save(held)
            }
        }
    }

    /// The token under which this record, held under `id`, can be settled: for who found out
    /// afterwards what became of work whose outcome was unknown.
    #[must_use]
    pub const fn token(&self, id: KeyId) -> Token {
        Token::new(id, self.run)
    }

    /// Whether it may be forgotten.
    #[must_use]
    pub fn is_expired(&self, now: Duration) -> bool {
        self.expires <= now
    }

    /// When it may be forgotten, since the store's origin: for an index by which a store finds
    /// what it may remove.
    #[must_use]
    pub const fn expires(&self) -> Duration {
        self.expires
    }

    /// Whether it has its answer.
    #[must_use]
    pub const fn is_answered(&self) -> bool {
        matches!(self.state, State::Answered(_))
    }

    /// About how many bytes of memory its answer takes.
    pub(super) fn weight(&self) -> usize {
        match &self.state {
            State::Answered(answer) => answer.weight(),
            State::Running | State::Unknown => 0,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::{Instant, SystemTime, UNIX_EPOCH};

    use http::StatusCode;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const NOW: Duration = Duration::from_secs(1_000);

    /// A claim of the key "k" for this payload; the lease is 60 s, the retention 24 h.
    pub(in super::super) fn claim(run: u128, payload: &str, now: Instant) -> Claim {
        let fingerprint = Fingerprint::of([payload]);
        let (scope, key) = (String::from("POST /charges"), String::from("k"));
        Claim::new(scope, key, run, fingerprint, now, UNIX_EPOCH + NOW)
    }

    fn at(run: u128) -> Claim {
        claim(run, "20", crate::time::now())
    }

    fn again(run: u128) -> Claim {
        Claim { again: true, ..at(run) }
    }

    fn answer() -> Answer {
        Answer::new(StatusCode::CREATED, "charge 1")
    }

    fn running() -> Record {
        Record::new(&at(1), NOW)
    }

    fn settled(outcome: Outcome) -> Record {
        match Record::settle(Some(running()), at(1).token, outcome) {
            Change::Save(record) => record,
            other => panic!("it is saved: {other:?}"),
        }
    }

    #[test]
    fn who_comes_first_executes_and_who_comes_next_waits() {
        assert_eq!(Record::meet(None, &at(1), NOW), Begin::New);
        assert_eq!(Record::meet(Some(&running()), &at(2), NOW), Begin::Running);
        let last = NOW + 60 * SECOND - Duration::from_nanos(1);
        assert_eq!(Record::meet(Some(&running()), &again(2), last), Begin::Running);
    }

    #[test]
    fn an_answer_is_told_until_it_is_forgotten() {
        let record = settled(Outcome::Answered(answer()));
        let day = 86_400 * SECOND;
        for now in [NOW, NOW + 61 * SECOND, NOW + day - SECOND] {
            assert_eq!(Record::meet(Some(&record), &at(2), now), Begin::Replay(answer()));
            assert_eq!(Record::meet(Some(&record), &again(2), now), Begin::Replay(answer()));
        }
        assert_eq!(Record::meet(Some(&record), &at(2), NOW + day), Begin::New);
        assert!(record.is_answered() && !running().is_answered());
    }

    #[test]
    fn another_payload_is_a_mismatch_whatever_became_of_the_first() {
        let other = claim(2, "21", crate::time::now());
        for record in [running(), settled(Outcome::Answered(answer())), settled(Outcome::Unknown)] {
            for claim in [other.clone(), Claim { again: true, ..other.clone() }] {
                for now in [NOW, NOW + 61 * SECOND] {
                    assert_eq!(Record::meet(Some(&record), &claim, now), Begin::Mismatch);
                }
            }
        }
    }

    #[test]
    fn what_is_undone_may_be_done_again() {
        let change = Record::settle(Some(running()), at(1).token, Outcome::Undone);
        assert_eq!(change, Change::Remove);
        assert_eq!(change.settled(), Settled::Recorded);
    }

    #[test]
    fn a_lease_that_ended_leaves_the_outcome_unknown() {
        let past = NOW + 60 * SECOND;
        assert_eq!(Record::meet(Some(&running()), &at(2), past), Begin::Unknown);
        assert_eq!(Record::meet(Some(&running()), &again(2), past), Begin::New);
        let unknown = settled(Outcome::Unknown);
        assert_eq!(Record::meet(Some(&unknown), &at(2), NOW), Begin::Unknown);
        assert_eq!(Record::meet(Some(&unknown), &again(2), NOW), Begin::New);
    }

    #[test]
    fn a_late_answer_counts_as_long_as_nobody_took_the_key() {
        let late = Record::settle(
            Some(settled(Outcome::Unknown)),
            at(1).token,
            Outcome::Answered(answer()),
        );
        let Change::Save(record) = late else { panic!("it is saved: {late:?}") };
        assert!(record.is_answered());
        assert_eq!(record.token(at(1).token.id()), at(1).token);
    }

    #[test]
    fn who_lost_the_key_settles_nothing() {
        let taken = Record::new(&again(2), NOW + 60 * SECOND);
        for outcome in [Outcome::Answered(answer()), Outcome::Undone, Outcome::Unknown] {
            let change = Record::settle(Some(taken.clone()), at(1).token, outcome.clone());
            assert_eq!(change, Change::Superseded);
            assert_eq!(change.settled(), Settled::Superseded);
            assert_eq!(Record::settle(None, at(1).token, outcome), Change::Superseded);
        }
    }

    #[test]
    fn a_key_is_settled_once() {
        let answered = settled(Outcome::Answered(answer()));
        let other = Answer::new(StatusCode::CREATED, "charge 2");
        for outcome in [Outcome::Answered(other), Outcome::Undone, Outcome::Unknown] {
            let change = Record::settle(Some(answered.clone()), at(1).token, outcome);
            assert_eq!(change, Change::Stands);
            assert_eq!(change.settled(), Settled::Recorded);
        }
    }

    #[test]
    fn no_span_is_too_long() {
        let mut claim = at(1);
        (claim.lease, claim.retention) = (Duration::MAX, Duration::MAX);
        claim.wall = SystemTime::UNIX_EPOCH - SECOND;
        assert_eq!(claim.since_epoch(), Duration::ZERO);
        let record = Record::new(&claim, NOW);
        assert_eq!(Record::meet(Some(&record), &claim, Duration::MAX - SECOND), Begin::Running);
    }
}
