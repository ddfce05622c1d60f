//! The rules, as a pure function of a file's path and source.

use std::{collections::BTreeSet, fmt};

use super::{
    house::{EXCEPTIONS, Exception, FLOORS, LONGEST, ROOT, SHARING, floor},
    read::{File, Mention, Segments, What, module_of},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    Parse,
    Arrows,
    Clock,
    Chance,
    Shared,
    Model,
    Forbidden,
    Length,
    Docs,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Violation {
    pub(crate) path: String,
    pub(crate) line: usize,
    pub(crate) rule: Rule,
    /// What is wrong, and what to do.
    pub(crate) sentence: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.sentence)
    }
}

impl Exception {
    pub(crate) fn covers(&self, violation: &Violation) -> bool {
        self.path == violation.path
            && self.rule == violation.rule
            && violation.sentence.contains(self.about)
    }
}

/// What breaks the rules of the house in one file, apart from the exceptions made on purpose.
pub(crate) fn check(path: &str, source: &str) -> Vec<Violation> {
    let excused =
        |violation: &Violation| EXCEPTIONS.iter().any(|exception| exception.covers(violation));
    check_strictly(path, source).into_iter().filter(|violation| !excused(violation)).collect()
}

/// The same without exceptions.
pub(crate) fn check_strictly(path: &str, source: &str) -> Vec<Violation> {
    let is_modelled = source.contains("mod loom_tests");
    let mut report = Report { path, is_modelled, found: BTreeSet::new() };
    let own = own_room(path);
    if path != ROOT && floor(&own).is_none() {
        let sentence = format!(
            "`{own}` is on no floor: give it one in tests/tidy/house.rs, and in the comments of \
             src/lib.rs"
        );
        report.add(1, Rule::Arrows, sentence);
    }
    match File::read(path, source) {
        Ok(file) => {
            for mention in &file.mentions {
                for meaning in file.meanings(mention) {
                    report.judge(mention, &meaning);
                }
            }
            for remark in &file.remarks {
                report.remark(remark.what, remark.line);
            }
            report.length(source, file.test_lines);
        }
        Err(error) => {
            let line = error.span().start().line;
            report.add(line, Rule::Parse, format!("it is not Rust: {error}"));
        }
    }
    if path.ends_with("/mod.rs") && !source.trim_start().starts_with("//!") {
        let sentence =
            "a room is entered here: begin with `//!` and say in one sentence what it does";
        report.add(1, Rule::Docs, sentence.to_owned());
    }
    // One line breaks a rule once, however many of its names do.
    let mut found: Vec<Violation> = report.found.into_iter().collect();
    found.dedup_by_key(|violation| (violation.line, violation.rule));
    found
}

/// The room that a file belongs to.
fn own_room(path: &str) -> String {
    module_of(path).into_iter().next().unwrap_or_default()
}

struct Report<'a> {
    path: &'a str,
    is_modelled: bool,
    found: BTreeSet<Violation>,
}

impl Report<'_> {
    fn add(&mut self, line: usize, rule: Rule, sentence: String) {
        self.found.insert(Violation { path: self.path.to_owned(), line, rule, sentence });
    }

    fn judge(&mut self, mention: &Mention, meaning: &Segments) {
        let names: Vec<&str> = meaning.iter().map(String::as_str).collect();
        let verdicts = [
            (Rule::Arrows, self.arrow(mention, &names)),
            (Rule::Clock, self.clock(mention, &names)),
            (Rule::Chance, self.chance(mention, &names)),
            (Rule::Shared, self.shared(mention, &names)),
            (Rule::Model, self.model(mention, &names)),
        ];
        for (rule, sentence) in verdicts {
            if let Some(sentence) = sentence {
                self.add(mention.line, rule, sentence);
            }
        }
    }

    fn arrow(&self, mention: &Mention, names: &[&str]) -> Option<String> {
        if self.path == ROOT || names.first() != Some(&"crate") {
            return None;
        }
        let own = own_room(self.path);
        let from = floor(&own)?;
        let Some(&room) = names.get(1) else {
            return mention.glob.then(|| {
                "this takes in every room of the house: name the rooms that you use".to_owned()
            });
        };
        if room == own {
            return None;
        }
        let Some(to) = floor(room) else {
            return Some(format!(
                "`crate::{room}` is on no floor: if it is exported again at the root, name its \
                 room (`crate::error::BoxError`); if it is a new room, give it a floor in \
                 tests/tidy/house.rs"
            ));
        };
        if to < from || to == from && SHARING.contains(&to) {
            return None;
        }
        Some(if to == from && to == 3 {
            format!(
                "rooms of floor 3 never use each other, and `{own}` uses `{room}`: move what \
                 both need down to floor 2, or let `client` join them"
            )
        } else if to == from {
            format!("rooms of floor {to} never use each other, and `{own}` uses `{room}`")
        } else {
            format!(
                "arrows only go down, and `{own}` on floor {from} uses `{room}` on floor {to}: \
                 move what both need to floor {from} or below"
            )
        })
    }

    fn is_door_to_the_clock(&self) -> bool {
        self.path.starts_with("src/time/")
    }

    fn clock(&self, mention: &Mention, names: &[&str]) -> Option<String> {
        if self.is_door_to_the_clock() {
            return None;
        }
        let (what, instead) = match names {
            [.., "SystemTime", "now"] => ("SystemTime::now", "ask `crate::time::wall()`"),
            [.., "Instant", "now"] => {
                ("Instant::now", "take `now` as an argument, or ask `crate::time::now()`")
            }
            [.., "Instant" | "SystemTime", "elapsed"] => ("elapsed", ELAPSED),
            ["std", "thread", "sleep" | "sleep_ms", ..] | [.., "thread", "sleep" | "sleep_ms"] => {
                ("std::thread::sleep", "wait with `crate::time::Sleep`")
            }
            // Under a paused clock tests may wait as they like.
            ["tokio", "time", name, ..] if TIMERS.contains(name) && !mention.in_test => {
                ("tokio's clock", "wait with `crate::time::Sleep`, ask `crate::time::now()`")
            }
            _ => return None,
        };
        Some(format!("only src/time/ reads the clock ({what}): {instead}"))
    }

    fn chance(&self, mention: &Mention, names: &[&str]) -> Option<String> {
        let made = match names {
            [name, rest @ ..] if CHANCE.contains(name) => mention.import || !rest.is_empty(),
            names => names.iter().any(|name| HASHERS.contains(name)),
        };
        (made && self.path != "src/entropy.rs").then(|| {
            format!(
                "only src/entropy.rs makes chance ({}): take an `Entropy`, so that a seed can \
                 repeat it",
                names.join("::")
            )
        })
    }

    fn shared(&self, mention: &Mention, names: &[&str]) -> Option<String> {
        // Loom checks what is built on `sync`; what only tests share needs no checking.
        if self.path == "src/sync.rs" || mention.in_test {
            return None;
        }
        let what = match names {
            ["std" | "core" | "alloc", "sync", what, ..] if SHARED.contains(what) => what,
            ["loom" | "parking_lot", ..] if mention.import || names.len() > 1 => names[0],
            _ => return None,
        };
        let at = if SHARED.contains(&what) { "std::sync::" } else { "" };
        Some(format!(
            "only src/sync.rs opens the door to what threads share ({at}{what}): use its twin in \
             `crate::sync`, which loom can take the place of"
        ))
    }

    fn model(&self, mention: &Mention, names: &[&str]) -> Option<String> {
        let ["crate", "sync", what, ..] = names else { return None };
        let is_lock_free = what.starts_with("Atomic") && mention.import && !mention.in_test;
        (is_lock_free && !self.is_modelled).then(|| {
            format!(
                "what threads share without a lock ({what}) has a model: show every order of what \
                 two of them do in `mod loom_tests` (or say in EXCEPTIONS in tests/tidy/house.rs why \
                 there is nothing to show)"
            )
        })
    }

    fn remark(&mut self, what: What, line: usize) {
        let (rule, sentence) = match what {
            What::Elapsed if self.is_door_to_the_clock() => return,
            What::Elapsed => {
                (Rule::Clock, format!("only src/time/ reads the clock (elapsed): {ELAPSED}"))
            }
            What::Unsafe => {
                (Rule::Forbidden, "`unsafe` is forbidden here: find the safe way".to_owned())
            }
            What::Unfinished => {
                (Rule::Forbidden, "unfinished: write it, or leave it out".to_owned())
            }
            What::Ignored => {
                let sentence = "a test that is ignored proves nothing: mend it, or remove it";
                (Rule::Forbidden, sentence.to_owned())
            }
            What::IgnoredExample => {
                let sentence = "an example that is ignored may lie: make it compile and assert, \
                                or mark it `text`";
                (Rule::Forbidden, sentence.to_owned())
            }
            What::AllowedWithoutReason => {
                (Rule::Forbidden, "say why the lint is wrong here: `reason = \"…\"`".to_owned())
            }
            What::Elsewhere => {
                let sentence =
                    "code stands where its module path says: no `include!`, no `#[path]`";
                (Rule::Arrows, sentence.to_owned())
            }
        };
        self.add(line, rule, sentence);
    }

    fn length(&mut self, source: &str, test_lines: usize) {
        let lines = source.lines().count().saturating_sub(test_lines);
        if lines > LONGEST {
            let sentence = format!(
                "{lines} lines without tests, where {LONGEST} are the most: a concept in it wants \
                 a name and a file (or add it to EXCEPTIONS in tests/tidy/house.rs, with the reason)"
            );
            self.add(1, Rule::Length, sentence);
        }
    }
}

const ELAPSED: &str = "subtract instants, `now.saturating_duration_since(then)`";

const TIMERS: [&str; 10] = [
    "Instant",
    "Interval",
    "Sleep",
    "Timeout",
    "interval",
    "interval_at",
    "sleep",
    "sleep_until",
    "timeout",
    "timeout_at",
];

const CHANCE: [&str; 6] = ["fastrand", "getrandom", "rand", "rand_chacha", "rand_core", "oorandom"];

/// Seeded at random, each of them.
const HASHERS: [&str; 2] = ["DefaultHasher", "RandomState"];

const SHARED: [&str; 9] = [
    "Barrier",
    "Condvar",
    "Mutex",
    "MutexGuard",
    "RwLock",
    "RwLockReadGuard",
    "RwLockWriteGuard",
    "atomic",
    "mpsc",
];

/// Each room stands on one floor.
pub(crate) fn rooms_on_two_floors() -> Vec<&'static str> {
    let mut seen = BTreeSet::new();
    FLOORS
        .iter()
        .flat_map(|(_, rooms)| *rooms)
        .copied()
        .filter(|room| !seen.insert(*room))
        .collect()
}
