//! A store for one process.

use std::{
    collections::{HashMap, VecDeque},
    error::Error as StdError,
    fmt,
    time::{Duration, Instant},
};

use super::{Begin, Claim, KeyId, Outcome, Record, Settled, Store, Token, state::Change};
use crate::sync::{Mutex, lock};

/// How many bytes a [`MemoryStore`] keeps: 64 MiB. Some 100,000 keys of an answer of some hundred
/// bytes; at ten new keys a second those of the last three hours.
pub const DEFAULT_CAPACITY: usize = 64 << 20;

/// Keeps what became of each key in this process's memory, up to a bound.
///
/// It forgets with the process, so it serves a process whose work is forgotten with it as well,
/// and tests. Where work outlives the process, a repetition after a restart is executed again.
///
/// When it is full the oldest answers go first, before their retention ends; that it promises
/// to remember as much as fits is all that can be promised of a bound. Keys whose work is being
/// done are never given up: when all that it holds is running, further keys are refused
/// ([`Full`]), and the layer answers 503.
#[derive(Debug)]
pub struct MemoryStore {
    shelf: Mutex<Shelf>,
}

impl MemoryStore {
    /// A store of [`DEFAULT_CAPACITY`].
    #[must_use]
    pub fn new() -> Self {
        Self::with_capacity(DEFAULT_CAPACITY)
    }

    /// A store of about this many bytes of answers and keys.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { shelf: Mutex::new(Shelf::new(bytes)) }
    }

    /// How many keys it holds at the moment, those included that it may forget.
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.shelf).records.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Store for MemoryStore {
    type Error = Full;

    async fn begin(&self, claim: &Claim) -> Result<Begin, Full> {
        lock(&self.shelf).begin(claim)
    }

    async fn settle(&self, token: Token, outcome: Outcome) -> Result<Settled, Full> {
        Ok(lock(&self.shelf).settle(token, outcome))
    }
}

/// There is room for no further key: all that the store holds is being worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the store of idempotency keys is full of calls that are being carried out: give it \
             a larger capacity, or admit fewer calls at once",
        )
    }
}

impl StdError for Full {}

/// The store without its lock.
#[derive(Debug)]
struct Shelf {
    records: HashMap<KeyId, Record>,
    /// Those that are settled, in the order in which they were. An entry whose record is gone or
    /// has another run is old and means nothing.
    settled: VecDeque<(KeyId, u128)>,
    weight: usize,
    capacity: usize,
    /// What times are counted from: the first claim's.
    origin: Option<Instant>,
}

/// What a key takes besides its answer: its record, its place in the map and in the queue.
const KEY_WEIGHT: usize = 320;

impl Shelf {
    fn new(capacity: usize) -> Self {
        let (records, settled) = (HashMap::new(), VecDeque::new());
        Self { records, settled, weight: 0, capacity, origin: None }
    }

    fn begin(&mut self, claim: &Claim) -> Result<Begin, Full> {
        let origin = *self.origin.get_or_insert(claim.now);
        let now = claim.now.saturating_duration_since(origin);
        self.forget(now);
        let id = claim.token.id();
        let begin = Record::meet(self.records.get(&id), claim, now);
        if begin == Begin::New {
            self.remove(id);
            self.make_room(now)?;
            self.weight += KEY_WEIGHT;
            self.records.insert(id, Record::new(claim, now));
        }
        Ok(begin)
    }

    fn settle(&mut self, token: Token, outcome: Outcome) -> Settled {
        let id = token.id();
        let change = Record::settle(self.records.get(&id).cloned(), token, outcome);
        let settled = change.settled();
        match change {
            Change::Save(record) => {
                self.remove(id);
                self.weight += KEY_WEIGHT + record.weight();
                self.settled.push_back((id, record.run));
                self.records.insert(id, record);
                self.evict();
                self.tidy();
            }
            Change::Remove => self.remove(id),
            Change::Stands | Change::Superseded => {}
        }
        settled
    }

    fn remove(&mut self, id: KeyId) {
        if let Some(record) = self.records.remove(&id) {
            self.weight -= KEY_WEIGHT + record.weight();
        }
    }

    /// Forgets what its time has come for. With one retention for all, what was settled first
    /// expires first, nearly; what waits behind another is forgotten with it, or when its key
    /// comes again.
    fn forget(&mut self, now: Duration) {
        while let Some(&(id, run)) = self.settled.front() {
            let stays = |record: &Record| record.run == run && !record.is_expired(now);
            if self.records.get(&id).is_some_and(stays) {
                return;
            }
            self.drop_oldest();
        }
    }

    /// Makes room for one more key.
    fn make_room(&mut self, now: Duration) -> Result<(), Full> {
        while self.weight + KEY_WEIGHT > self.capacity {
            if !self.drop_oldest() {
                break;
            }
        }
        if self.weight + KEY_WEIGHT > self.capacity {
            // Nothing settled is left. Work whose task ended with its runtime settles nothing.
            self.records.retain(|_, record| !record.is_expired(now));
            self.weight = self.records.values().map(|record| KEY_WEIGHT + record.weight()).sum();
        }
        if self.weight + KEY_WEIGHT > self.capacity { Err(Full) } else { Ok(()) }
    }

    /// An answer came, and others may have to go. The newest stays, whatever its size: it is the
    /// one that is going to be asked for.
    fn evict(&mut self) {
        while self.weight > self.capacity && self.settled.len() > 1 {
            self.drop_oldest();
        }
    }

    /// Takes the old entries out of the queue once they are more than half of it, so that it is
    /// never longer than what it is about.
    fn tidy(&mut self) {
        if self.settled.len() > 2 * self.records.len() + 16 {
            let records = &self.records;
            let stands = |(id, run): &(KeyId, u128)| {
                records.get(id).is_some_and(|record| record.run == *run)
            };
            self.settled.retain(stands);
        }
    }

    /// Gives up what was settled first. Says whether there was any.
    fn drop_oldest(&mut self) -> bool {
        let Some((id, run)) = self.settled.pop_front() else { return false };
        if self.records.get(&id).is_some_and(|record| record.run == run) {
            self.remove(id);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use proptest::prelude::*;

    use super::*;
    use crate::idempotency::server::{Answer, Fingerprint};

    const SECOND: Duration = Duration::from_secs(1);
    const DAY: Duration = Duration::from_secs(86_400);

    fn claim(key: u32, run: u128, now: Instant) -> Claim {
        let fingerprint = Fingerprint::of(["20"]);
        Claim::new(String::new(), key.to_string(), run, fingerprint, now, std::time::UNIX_EPOCH)
    }

    fn answered(bytes: usize) -> Outcome {
        Outcome::Answered(Answer::new(StatusCode::CREATED, vec![0; bytes]))
    }

    fn carry_out(shelf: &mut Shelf, key: u32, now: Instant) -> bool {
        let claim = claim(key, u128::from(key), now);
        let new = shelf.begin(&claim) == Ok(Begin::New);
        if new {
            assert_eq!(shelf.settle(claim.token, answered(100)), Settled::Recorded);
        }
        new
    }

    fn check(shelf: &Shelf) {
        let weight: usize = shelf.records.values().map(|r| KEY_WEIGHT + r.weight()).sum();
        assert_eq!(shelf.weight, weight);
    }

    #[test]
    fn remembers_for_as_long_as_it_should() {
        let mut shelf = Shelf::new(DEFAULT_CAPACITY);
        let start = crate::time::now();
        assert!(carry_out(&mut shelf, 1, start));
        assert!(!carry_out(&mut shelf, 1, start + DAY - SECOND));
        assert!(carry_out(&mut shelf, 2, start + SECOND));
        assert!(carry_out(&mut shelf, 3, start + DAY));
        assert_eq!(shelf.records.len(), 2, "the first is forgotten, with no one asking for it");
        check(&shelf);
    }

    #[test]
    fn the_oldest_answers_go_when_it_is_full() {
        let mut shelf = Shelf::new(10 * (KEY_WEIGHT + 100));
        let now = crate::time::now();
        for key in 0..100 {
            assert!(carry_out(&mut shelf, key, now));
            assert!(shelf.weight <= shelf.capacity);
        }
        assert!(shelf.records.len() >= 9, "{}", shelf.records.len());
        assert!(!carry_out(&mut shelf, 99, now), "the newest is still known");
        assert!(carry_out(&mut shelf, 0, now), "the oldest is not");
        check(&shelf);
    }

    #[test]
    fn what_is_running_is_never_given_up() {
        let mut shelf = Shelf::new(3 * KEY_WEIGHT);
        let now = crate::time::now();
        let claims: Vec<Claim> = (0..4).map(|key| claim(key, u128::from(key), now)).collect();
        for claim in &claims[..3] {
            assert_eq!(shelf.begin(claim), Ok(Begin::New));
        }
        assert_eq!(shelf.begin(&claims[3]), Err(Full));
        assert_eq!(shelf.begin(&claim(0, 9, now)), Ok(Begin::Running));
        assert_eq!(shelf.settle(claims[0].token, Outcome::Undone), Settled::Recorded);
        assert_eq!(shelf.begin(&claims[3]), Ok(Begin::New));
        check(&shelf);
        // Work that nobody settles is forgotten in the end.
        let late = claim(7, 7, now + DAY);
        assert_eq!(shelf.begin(&late), Ok(Begin::New));
        check(&shelf);
    }

    #[test]
    fn work_that_fails_again_and_again_leaves_nothing_behind() {
        let mut shelf = Shelf::new(DEFAULT_CAPACITY);
        let now = crate::time::now();
        assert!(carry_out(&mut shelf, 0, now));
        for run in 1..10_000 {
            let again = Claim { again: true, ..claim(1, run, now) };
            assert_eq!(shelf.begin(&again), Ok(Begin::New));
            assert_eq!(shelf.settle(again.token, Outcome::Unknown), Settled::Recorded);
        }
        assert!(shelf.settled.len() < 100, "{}", shelf.settled.len());
        check(&shelf);
    }

    #[test]
    fn an_answer_larger_than_the_store_is_kept_until_the_next() {
        let mut shelf = Shelf::new(4 * KEY_WEIGHT);
        let now = crate::time::now();
        let large = claim(1, 1, now);
        assert_eq!(shelf.begin(&large), Ok(Begin::New));
        assert_eq!(shelf.settle(large.token, answered(10_000)), Settled::Recorded);
        assert!(matches!(shelf.begin(&claim(1, 2, now)), Ok(Begin::Replay(_))));
        assert!(carry_out(&mut shelf, 2, now));
        assert_eq!(shelf.begin(&claim(1, 3, now)), Ok(Begin::New));
        check(&shelf);
    }

    proptest! {
        /// Against the records alone: with room enough the shelf says what a bare map would.
        #[test]
        fn says_what_its_records_say(
            steps in proptest::collection::vec((0_u32..4, 0_u32..4, 0_u64..30_000), 1..80),
        ) {
            let mut shelf = Shelf::new(DEFAULT_CAPACITY);
            let mut model: HashMap<KeyId, Record> = HashMap::new();
            let mut tokens: Vec<Token> = Vec::new();
            let start = crate::time::now();
            let mut since = Duration::ZERO;
            for (run, (key, what, wait)) in steps.into_iter().enumerate() {
                since += Duration::from_secs(wait);
                let coming = claim(key, run as u128, start + since);
                // The shelf counts from its first claim.
                let origin = shelf.origin.unwrap_or(coming.now);
                let now = coming.now.saturating_duration_since(origin);
                let token = tokens.get(run % 7).copied();
                match (what, token) {
                    (1..=3, Some(token)) => {
                        let outcome = match what {
                            1 => answered(3),
                            2 => Outcome::Undone,
                            _ => Outcome::Unknown,
                        };
                        let held = model.get(&token.id()).cloned();
                        let change = Record::settle(held, token, outcome.clone());
                        // What expired may be gone already: then the token is superseded.
                        let gone = !shelf.records.contains_key(&token.id());
                        let expected = if gone { Settled::Superseded } else { change.settled() };
                        prop_assert_eq!(shelf.settle(token, outcome), expected);
                        match change {
                            Change::Save(record) if !gone => {
                                model.insert(token.id(), record);
                            }
                            Change::Remove => {
                                model.remove(&token.id());
                            }
                            _ => {}
                        }
                    }
                    _ => {
                        let id = coming.token.id();
                        let expected = Record::meet(model.get(&id), &coming, now);
                        prop_assert_eq!(shelf.begin(&coming), Ok(expected.clone()));
                        if expected == Begin::New {
                            model.insert(id, Record::new(&coming, now));
                            tokens.push(coming.token);
                        }
                    }
                }
                check(&shelf);
            }
        }
    }
}
