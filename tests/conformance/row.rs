//! What a row may say. What it leaves out is the default of the library.

use std::collections::BTreeMap;

use serde::Deserialize;

/// One case.
#[derive(Debug, Deserialize)]
pub(crate) struct Row {
    /// Where it comes from.
    pub(crate) source: String,
    /// What is shown, in words.
    pub(crate) case: String,
    /// The section of `DIFFERENCES.md`, if the source says otherwise.
    pub(crate) differs: Option<String>,
    #[serde(flatten)]
    pub(crate) what: What,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum What {
    /// Calls through the layers, one after the other.
    Calls {
        #[serde(default)]
        settings: Box<Settings>,
        script: Vec<Rule>,
        expected: Vec<Call>,
    },
    /// Steps of a budget alone.
    Budget { tariff: Tariff, steps: Vec<Step>, expected: Books },
    /// Waits of a backoff alone: of the retry `n`, from 0, at `draw`, `ms`.
    Backoff { backoff: Backoff, delays: Vec<Delay> },
    /// A balancer over so many endpoints, and who is ejected after each sweep.
    Ejection { ejection: Box<Ejection>, endpoints: u16, sweeps: Vec<Sweep> },
    /// A balancer over so many endpoints of which so many are healthy, and who is called then: the
    /// `healthy` ones, `all` or `none`.
    Panic { panic: Panic, endpoints: u16, healthy: Vec<(u16, String)> },
    /// A ring of hashes.
    Ring(RingRow),
    /// A table of Maglev.
    Maglev(MaglevRow),
    /// How often each of these weights is picked, from the first step on; nobody at all where
    /// there is no round by weight.
    Stride { stride: Vec<f64>, picks: usize, counts: Vec<usize> },
    /// The shares of levels of priority, by their healthy parts.
    Levels { levels: Vec<f64>, percent: Vec<u32> },
    /// The shares of endpoints with so many calls in flight.
    LeastRequest { in_flight: Vec<u32>, percent: Vec<u32> },
    /// The most calls that any server of a fleet may have had in the end, whatever the policy.
    Fleet { fleet: Fleet, most: u32 },
    /// How far the load of servers deviates from even, relative to it.
    Apertures { apertures: Apertures, deviation: f64 },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ejection {
    /// `grpc` or `envoy`.
    pub(crate) mode: String,
    pub(crate) max_percent: Option<u32>,
    #[serde(default)]
    pub(crate) always_one: bool,
    #[serde(default)]
    pub(crate) split_local: bool,
    pub(crate) success_rate: Option<Test>,
    pub(crate) failure_percentage: Option<Test>,
    pub(crate) consecutive: Option<Rows>,
}

/// What of the success rate's or the failure percentage's settings is not the default.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Test {
    pub(crate) stdev_factor: Option<u32>,
    pub(crate) threshold: Option<u32>,
    pub(crate) minimum_hosts: Option<usize>,
    pub(crate) volume: Option<u32>,
    pub(crate) enforcing: Option<u32>,
}

/// How many failures in a row, and how many of a hundred such endpoints are ejected.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rows {
    pub(crate) server_errors: Option<(u32, u32)>,
    pub(crate) gateway_failures: Option<(u32, u32)>,
}

/// What the endpoints do, and who is ejected when they are compared: at the next sweep, `at_once`,
/// or at the first one after so many seconds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sweep {
    /// Scripts, each for the next so many endpoints. `+7-2` is seven calls that are served and two
    /// that fail by a server error; `g` is a gateway's failure, `l` one without an answer, `w` a
    /// wrong request, and `mixed9` nine times one that is served and one that fails.
    pub(crate) calls: Vec<(String, u16)>,
    #[serde(default)]
    pub(crate) at_once: bool,
    pub(crate) after_s: Option<u64>,
    /// From 1 on.
    pub(crate) ejected: Option<Vec<u16>>,
    pub(crate) ejected_count: Option<usize>,
}

/// Hosts `127.0.0.1:port` of these ports, first and last, each of this weight.
pub(crate) type Hosts = Vec<(u16, u16, f64)>;

#[derive(Debug, Deserialize)]
pub(crate) struct RingRow {
    pub(crate) ring: RingOf,
    /// The number of entries of each host, by its port.
    #[serde(default)]
    pub(crate) entries: BTreeMap<String, usize>,
    pub(crate) entries_in_all: Option<usize>,
    /// The part of the entries that each host has, give or take a quarter.
    #[serde(default)]
    pub(crate) shares: BTreeMap<String, f64>,
    /// Hashes, and the port of the host where each is at home.
    #[serde(default)]
    pub(crate) homes: Vec<(u64, u16)>,
    pub(crate) hits: Option<Hits>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Panic {
    pub(crate) threshold: f64,
    #[serde(default)]
    pub(crate) fail: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RingOf {
    pub(crate) hosts: Hosts,
    pub(crate) least: usize,
    pub(crate) most: Option<usize>,
}

/// Where so many hashes are at home that are spread evenly over the ring.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Hits {
    pub(crate) of: u64,
    pub(crate) at: BTreeMap<String, usize>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct MaglevRow {
    pub(crate) maglev: MaglevOf,
    /// The port of each entry's host.
    pub(crate) table: Option<Vec<u16>>,
    #[serde(default)]
    pub(crate) entries: BTreeMap<String, usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MaglevOf {
    pub(crate) hosts: Hosts,
    pub(crate) size: usize,
}

/// Each client makes so many calls at each of these sets of servers, first and last.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fleet {
    pub(crate) clients: u16,
    pub(crate) calls: u32,
    pub(crate) sets: Vec<(u16, u16)>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Apertures {
    pub(crate) clients: u32,
    pub(crate) servers: usize,
    pub(crate) least: usize,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    pub(crate) protocol: Protocol,
    /// `POST` for gRPC and `GET` for HTTP, if nothing is said.
    pub(crate) method: Option<String>,
    /// The caller's word on whether the call may be repeated.
    pub(crate) idempotent: Option<bool>,
    /// It carries an idempotency key.
    pub(crate) keyed: bool,
    /// The length of the request's body.
    pub(crate) request_bytes: usize,
    pub(crate) max_attempts: Option<u32>,
    pub(crate) backoff: Option<Backoff>,
    pub(crate) pushback_cap_ms: Option<u64>,
    pub(crate) replay_cap: Option<usize>,
    /// gRPC's codes that are (or are not) tried again.
    pub(crate) retry: BTreeMap<String, bool>,
    /// Who pays; nobody, if nothing is said.
    pub(crate) budget: Option<Tariff>,
    /// What is left of the call's deadline at its beginning.
    pub(crate) deadline_ms: Option<u64>,
    /// A `PeekLayer` below the retry.
    pub(crate) peek: bool,
    /// An `AttemptHeaderLayer` below the retry: `grpc`, or a name, with a `#` in front of one
    /// that counts from 1.
    pub(crate) attempt_header: Option<String>,
    /// How many endpoints a balancer has to choose from; without any there is no balancer.
    pub(crate) endpoints: u16,
    pub(crate) seed: u64,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Protocol {
    #[default]
    Grpc,
    Http,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Backoff {
    pub(crate) base_ms: u64,
    pub(crate) cap_ms: u64,
    /// The least and the most part of the ceiling; full jitter, if nothing is said.
    pub(crate) spread: Option<(f64, f64)>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub(crate) enum Tariff {
    /// gRPC's throttle, the ratio in thousandths.
    Grpc { max_tokens: u32, ratio: u32 },
    /// The default, but for what is said. A floor of 0 is none.
    Tokens {
        capacity: Option<u32>,
        deposit: Option<u32>,
        transient: Option<u32>,
        throttled: Option<u32>,
        floor_ms: Option<u64>,
        gives_back: Option<bool>,
    },
}

/// What the server does with the attempts `at` these numbers, counted from 0 over all calls; with
/// all of them, if it names none. The first rule that holds is followed.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    #[serde(default)]
    pub(crate) at: Vec<usize>,
    /// One of gRPC's codes, an HTTP status, or how it fails: `refused`, `reset`, `unprocessed`.
    pub(crate) answer: String,
    /// Where the code is: in the `head` (the default for failures), or in the trailers `after
    /// head`, or `after message` (the default for `OK`).
    #[serde(rename = "in")]
    pub(crate) place: Option<String>,
    /// Further headers, beside the code.
    #[serde(default)]
    pub(crate) fields: Vec<(String, String)>,
    #[serde(default)]
    pub(crate) takes_ms: u64,
}

/// A call, and what comes of it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Call {
    /// One of gRPC's codes, an HTTP status, `error`, or `given up`.
    pub(crate) result: String,
    /// The number of the server's last attempt.
    pub(crate) last: Option<usize>,
    /// How many attempts this call took.
    pub(crate) attempts: Option<usize>,
    /// How long after the one before each further attempt came: exactly, or between.
    pub(crate) waits_ms: Option<Vec<Span>>,
    /// Why there was no further attempt.
    pub(crate) stopped: Option<String>,
    /// What is left in the budget.
    pub(crate) balance: Option<u32>,
    /// What the server read of the attempts before, at each attempt.
    pub(crate) counted: Option<Vec<Option<String>>>,
    /// How many endpoints were asked.
    pub(crate) endpoints: Option<usize>,
    /// How long the caller waits for it.
    pub(crate) give_up_after_ms: Option<u64>,
    /// How many such calls there are; what is expected holds for each, and the balance for the
    /// last.
    #[serde(default = "one")]
    pub(crate) times: usize,
}

fn one() -> usize {
    1
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Span {
    Exactly(u64),
    Between(u64, u64),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Step {
    pub(crate) times: usize,
    #[serde(rename = "do")]
    pub(crate) acts: Vec<Act>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Act {
    /// A call succeeded at its first try.
    Deposit,
    /// A retry is asked for; if it is granted, it succeeds.
    RetryThatSucceeds,
    /// A retry is asked for; if it is granted, it fails.
    RetryThatFails,
    /// A retry is asked for whose end is never told.
    Retry,
    WaitMs(u64),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Books {
    pub(crate) granted: Span,
    pub(crate) balance: Option<u32>,
    /// Refusals by their codes; those that are not named are none.
    #[serde(default)]
    pub(crate) refused: Option<BTreeMap<String, u64>>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Delay {
    pub(crate) n: u32,
    pub(crate) draw: f64,
    pub(crate) ms: u64,
}
