//! What a reading of the file means.

use std::io;

use super::{
    error::{Fault, FileErrorKind},
    parse::parse,
};
use crate::endpoint::Endpoint;

/// What was read so far, and what was made of it.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// What was judged last.
    judged: Option<Seen>,
    /// What was read last and is to be read once more before it is judged.
    doubted: Option<Seen>,
    /// The last good set, sorted.
    good: Option<Vec<Endpoint>>,
    /// It was no good since then.
    failed: bool,
}

/// What was found at the path. Contents are compared, not times: a file that replaced another
/// within the clock's grain, or with an older date, is another file.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Contents(Vec<u8>),
    Failure(io::ErrorKind),
}

/// What is to be done about a reading.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing: it is as it was, or was reported already.
    Nothing,
    /// Read it again soon: somebody may be in the middle of writing it.
    ReadAgain,
    /// Another set of endpoints, or the same one after a fault, in the order of the file.
    Set(Vec<Endpoint>),
    /// The file is no good, which was not said before.
    Fault(Fault),
}

impl Watch {
    /// Judges a reading.
    ///
    /// While there is a good set, what is new is believed only when it was read twice the same:
    /// a file that is written in place is empty, and then half of itself, for a moment; half of
    /// a list is a list, and would take endpoints away.
    pub(super) fn read(&mut self, reading: io::Result<Vec<u8>>) -> Step {
        let failure = reading.as_ref().err().map(unreadable);
        let seen = reading.map_or_else(|error| Seen::Failure(error.kind()), Seen::Contents);
        if self.judged.as_ref() == Some(&seen) {
            self.doubted = None;
            return Step::Nothing;
        }
        if self.good.is_some() && self.doubted.as_ref() != Some(&seen) {
            self.doubted = Some(seen);
            return Step::ReadAgain;
        }
        self.doubted = None;
        let parsed = match (&seen, failure) {
            (Seen::Contents(bytes), _) => parse(bytes),
            (Seen::Failure(_), fault) => Err(fault.expect("a failure has its fault")),
        };
        self.judged = Some(seen);
        match parsed {
            Ok(set) => self.changed(set),
            Err(fault) => {
                self.failed = true;
                Step::Fault(fault)
            }
        }
    }

    /// A set, unless it is the one there was, perhaps in another order. After a fault it is said all
    /// the same, so that it is known to hold.
    fn changed(&mut self, set: Vec<Endpoint>) -> Step {
        let mut sorted = set.clone();
        sorted.sort_unstable_by(|a, b| (a.id(), a.address()).cmp(&(b.id(), b.address())));
        let same = |good: &Vec<Endpoint>| {
            good.len() == sorted.len() && !good.iter().zip(&sorted).any(|(a, b)| a.differs(b))
        };
        let failed = std::mem::replace(&mut self.failed, false);
        if !failed && self.good.as_ref().is_some_and(same) {
            return Step::Nothing;
        }
        self.good = Some(sorted);
        Step::Set(set)
    }
}

fn unreadable(error: &io::Error) -> Fault {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => FileErrorKind::Missing,
        _ => FileErrorKind::Unreadable,
    };
    let text = match kind {
        FileErrorKind::Missing => "there is no such file; create it, or correct the path".into(),
        _ => format!("it can't be read: {error}"),
    };
    Fault { kind, line: None, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(ports: &[u16]) -> Vec<u8> {
        let endpoint = |port| format!("[[endpoint]]\naddress = \"127.0.0.1:{port}\"\n");
        ports.iter().map(endpoint).collect::<String>().into_bytes()
    }

    fn ports(step: Step) -> Vec<u16> {
        let Step::Set(set) = step else { panic!("no set: {step:?}") };
        set.iter().map(|endpoint| endpoint.address().port()).collect()
    }

    #[test]
    fn the_first_reading_is_believed_at_once_and_a_change_when_it_is_read_twice() {
        let mut watch = Watch::default();
        assert_eq!(ports(watch.read(Ok(listing(&[1, 2])))), [1, 2]);
        assert_eq!(watch.read(Ok(listing(&[1, 2]))), Step::Nothing);
        assert_eq!(watch.read(Ok(listing(&[1, 2, 3]))), Step::ReadAgain);
        assert_eq!(ports(watch.read(Ok(listing(&[1, 2, 3])))), [1, 2, 3]);
    }

    #[test]
    fn a_file_in_the_middle_of_being_written_takes_nothing_away() {
        let mut watch = Watch::default();
        watch.read(Ok(listing(&[1, 2])));
        assert_eq!(watch.read(Ok(Vec::new())), Step::ReadAgain, "truncated");
        assert_eq!(watch.read(Ok(listing(&[3]))), Step::ReadAgain, "half written");
        assert_eq!(watch.read(Ok(listing(&[3, 4]))), Step::ReadAgain);
        assert_eq!(ports(watch.read(Ok(listing(&[3, 4])))), [3, 4]);
    }

    #[test]
    fn a_glimpse_is_forgotten() {
        let mut watch = Watch::default();
        watch.read(Ok(listing(&[1])));
        for _ in 0..3 {
            assert_eq!(watch.read(Ok(Vec::new())), Step::ReadAgain);
            assert_eq!(watch.read(Ok(listing(&[1]))), Step::Nothing);
        }
    }

    #[test]
    fn a_fault_is_said_once_and_the_good_set_stays() {
        let mut watch = Watch::default();
        watch.read(Ok(listing(&[1])));
        assert_eq!(watch.read(Ok(b"[[".to_vec())), Step::ReadAgain);
        assert!(matches!(watch.read(Ok(b"[[".to_vec())), Step::Fault(_)));
        assert_eq!(watch.read(Ok(b"[[".to_vec())), Step::Nothing);
        // Another fault is another sentence.
        let missing = || Err(io::Error::from(io::ErrorKind::NotFound));
        assert_eq!(watch.read(missing()), Step::ReadAgain);
        let Step::Fault(fault) = watch.read(missing()) else { panic!("it is missing") };
        assert_eq!(fault.kind, FileErrorKind::Missing);
        assert_eq!(watch.read(missing()), Step::Nothing);
        // Back as it was: that is said once.
        assert_eq!(watch.read(Ok(listing(&[1]))), Step::ReadAgain);
        assert_eq!(ports(watch.read(Ok(listing(&[1])))), [1]);
        assert_eq!(watch.read(Ok(listing(&[1]))), Step::Nothing);
    }

    #[test]
    fn another_weight_makes_a_set() {
        let mut watch = Watch::default();
        watch.read(Ok(listing(&[1])));
        let heavy = || Ok([listing(&[1]), b"weight = 2\n".to_vec()].concat());
        assert_eq!(watch.read(heavy()), Step::ReadAgain);
        let Step::Set(set) = watch.read(heavy()) else { panic!("it is another weight") };
        assert_eq!(set[0].weight(), 2);
    }

    #[test]
    fn the_order_makes_no_set() {
        let mut watch = Watch::default();
        watch.read(Ok(listing(&[1, 2])));
        watch.read(Ok(listing(&[2, 1])));
        assert_eq!(watch.read(Ok(listing(&[2, 1]))), Step::Nothing);
    }
}
