//! What is kept of a key, as bytes. All bytes are the record's.

use std::time::{Duration, Instant, UNIX_EPOCH};

use buttress::idempotency::server::{Answer, Begin, Claim, Fingerprint, KeyId, Record};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

pub(crate) fn holds(bytes: &[u8]) {
    let (read, expected) = (Record::from_bytes(bytes), Expected::of(bytes));
    let (record, expected) = match (read, expected) {
        (Ok(record), Some(expected)) => (record, expected),
        (Err(_), None) => return,
        (read, expected) => panic!("read as {read:?} instead of {expected:?}"),
    };
    assert_eq!(record.token(KeyId::new("", "")).run(), expected.run);
    assert_eq!(record.expires(), expected.expires);
    assert_eq!(record.is_answered(), matches!(expected.state, State::Answered(_)));
    for now in [Duration::ZERO, expected.lease_ends, expected.expires, Duration::MAX] {
        expected.is_met_by(&record, now);
    }

    // What is written is read, and what was read once is written as it is.
    let written = record.to_bytes();
    assert_eq!(written.len(), bytes.len());
    let again = Record::from_bytes(&written).expect("it was just written");
    assert_eq!(again, record);
    assert_eq!(again.to_bytes(), written);
}

#[derive(Debug)]
struct Expected {
    run: u128,
    fingerprint: [u8; 32],
    lease_ends: Duration,
    expires: Duration,
    state: State,
}

#[derive(Debug)]
enum State {
    Running,
    Answered(Answer),
    Unknown,
}

impl Expected {
    /// By the places where things stand, and not one after the other.
    fn of(bytes: &[u8]) -> Option<Self> {
        let state = match (bytes.get(73)?, bytes.len()) {
            (0, 74) => State::Running,
            (1, _) => State::Answered(answer(&bytes[74..])?),
            (2, 74) => State::Unknown,
            _ => return None,
        };
        let time = |at: usize| {
            let nanos = u32::try_from(number(&bytes[at + 8..at + 12])).ok()?;
            let seconds = u64::try_from(number(&bytes[at..at + 8])).ok()?;
            (nanos <= 999_999_999).then(|| Duration::new(seconds, nanos))
        };
        (bytes[0] == 1).then_some(())?;
        Some(Self {
            run: number(&bytes[1..17]),
            fingerprint: bytes[17..49].try_into().ok()?,
            lease_ends: time(49)?,
            expires: time(61)?,
            state,
        })
    }

    /// What the same payload and another one are told by it.
    fn is_met_by(&self, record: &Record, now: Duration) {
        let claim = |fingerprint| {
            let fingerprint = Fingerprint::from_bytes(fingerprint);
            let (key, scope) = (String::new(), String::new());
            Claim::new(scope, key, !self.run, fingerprint, Instant::now(), UNIX_EPOCH)
        };
        let met = Record::meet(Some(record), &claim(self.fingerprint), now);
        let expected = match &self.state {
            _ if now >= self.expires => Begin::New,
            State::Answered(answer) => Begin::Replay(answer.clone()),
            State::Running if now < self.lease_ends => Begin::Running,
            State::Running | State::Unknown => Begin::Unknown,
        };
        assert_eq!(met, expected);
        let other = Record::meet(Some(record), &claim(self.fingerprint.map(|byte| !byte)), now);
        assert_eq!(other, if now >= self.expires { Begin::New } else { Begin::Mismatch });
    }
}

fn answer(bytes: &[u8]) -> Option<Answer> {
    let status = StatusCode::from_u16(u16::try_from(number(bytes.get(..2)?)).ok()?).ok()?;
    let (mut headers, mut at) = (HeaderMap::new(), 6);
    for _ in 0..number(bytes.get(2..6)?) {
        let name = text(bytes, &mut at)?;
        let value = text(bytes, &mut at)?;
        headers.append(HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?);
    }
    Some(Answer::new(status, bytes[at..].to_vec()).with_headers(headers))
}

/// The text of which the length stands at `at`, which moves behind it.
fn text<'a>(bytes: &'a [u8], at: &mut usize) -> Option<&'a [u8]> {
    let begins = *at + 4;
    let length = usize::try_from(number(bytes.get(*at..begins)?)).ok()?;
    *at = begins.checked_add(length)?;
    bytes.get(begins..*at)
}

fn number(bytes: &[u8]) -> u128 {
    bytes.iter().fold(0, |number, byte| number << 8 | u128::from(*byte))
}
