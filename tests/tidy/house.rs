//! The plan of the house: who stands on which floor, and who may do what.

use super::check::Rule;

/// The rooms, from the roof down.
pub(crate) const FLOORS: [(u8, &[&str]); 5] = [
    // The guides are words about all of it, and no code.
    (4, &["client", "docs", "testing"]),
    (
        3,
        &[
            "timeout",
            "retry",
            "hedge",
            "breaker",
            "idempotency",
            "limit",
            "trace",
            "chaos",
            "balance",
            "discover",
            "health",
            "observe",
            "transport",
            "collect",
            "grpc",
            "throttle",
            "fallback",
            "refresh",
            "reconcile",
        ],
    ),
    (2, &["call", "classify", "endpoint", "event", "body", "budget"]),
    (1, &["algo"]),
    (0, &["time", "entropy", "error", "sync"]),
];

/// Floors whose rooms may use each other. Floor 2 is one vocabulary: a verdict is said of a
/// call, a call names endpoints, a body settles a verdict. Floor 0 stands on itself: chance
/// counts with the atomics of `sync`. The rooms of floor 3 may not: each has to be usable, and
/// readable, alone.
pub(crate) const SHARING: [u8; 2] = [0, 2];

/// The crate's root names every room: it is on no floor.
pub(crate) const ROOT: &str = "src/lib.rs";

/// Files may be this long without their tests.
pub(crate) const LONGEST: usize = 400;

/// A rule broken on purpose. An exception that nothing needs any more is an error, too.
pub(crate) struct Exception {
    pub(crate) path: &'static str,
    pub(crate) rule: Rule,
    /// The violation's sentence holds this.
    pub(crate) about: &'static str,
    #[allow(dead_code, reason = "it is for who reads this list")]
    pub(crate) reason: &'static str,
}

pub(crate) const EXCEPTIONS: &[Exception] = &[
    Exception {
        path: "src/breaker/state.rs",
        rule: Rule::Length,
        about: "lines without tests",
        reason: "one state machine, whose transitions are understood side by side or not at all",
    },
    Exception {
        path: "src/endpoint/identity.rs",
        rule: Rule::Shared,
        about: "std::sync::atomic",
        reason: "a static counter of unique keys: loom's atomics can't be made in a static, and \
                 nothing is ordered by it",
    },
    Exception {
        path: "src/balance/hashed.rs",
        rule: Rule::Model,
        about: "AtomicU64",
        reason: "the calls in flight as somebody counted them last: one word, stored and loaded, and \
                 as old as it is",
    },
    Exception {
        path: "src/balance/probing/desk.rs",
        rule: Rule::Model,
        about: "AtomicU64",
        reason: "counts for who looks, each true for itself: nothing is ordered by them",
    },
    Exception {
        path: "src/balance/probing/field.rs",
        rule: Rule::Model,
        about: "AtomicU64",
        reason: "a count of calls: whose call is missed by who sends the probes is seen with the next",
    },
    Exception {
        path: "src/breaker/mirror.rs",
        rule: Rule::Model,
        about: "AtomicU64",
        reason: "written under the lock of src/breaker/handle.rs, whose models read it",
    },
    Exception {
        path: "src/timeout/incoming/overdue.rs",
        rule: Rule::Model,
        about: "AtomicBool",
        reason: "a flag that is set once, by one thread, and nothing is read on the strength of it",
    },
];

pub(crate) fn floor(room: &str) -> Option<u8> {
    FLOORS.iter().find(|(_, rooms)| rooms.contains(&room)).map(|&(floor, _)| floor)
}
