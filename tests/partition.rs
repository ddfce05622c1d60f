//! Real faults: five instances, each a process in a network namespace of its own, of which two
//! are cut off and come back, then one is killed and one is stopped.
//!
//! The client is as by default but for the attempt timeout, since ten seconds for each of them
//! would make minutes of this. Its calls keep their pace whatever becomes of them: two POSTs
//! without a key, then a GET, two more, then a POST with a key. Each instance writes down what
//! it carries out, so that nobody has to believe the client.
//!
//! Needs root, Linux, `ip` and `nft`, and is skipped with a word where it can't be done.

#![cfg(all(feature = "hyper", target_os = "linux"))]

#[path = "partition/instance.rs"]
mod instance;
#[path = "partition/load.rs"]
mod load;
#[path = "partition/network.rs"]
mod network;

use std::{
    collections::HashMap,
    io::{self, Write},
    net::SocketAddr,
    ops::Range,
    time::Duration,
};

use buttress::{client::Client, idempotency::IdempotencyConfig};
use tokio::time::sleep;

use self::{
    instance::Instance,
    load::{Load, Record, What},
    network::{Cut, Network},
};

const SIZE: u8 = 5;
const SEED: u64 = 7;
const ATTEMPT: Duration = Duration::from_secs(1);
/// How long a cut lasts, and a stop: breakers open, and probe in vain.
const ILL: Duration = Duration::from_secs(6);
/// By when who returned has its share again.
const WINDOW: Duration = Duration::from_secs(30);
/// Half of one's share.
const HALF: f64 = 0.5 / SIZE as f64;
/// What is looked at to know a share: the last hundred calls.
const LOOK: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_heals_and_nothing_is_sent_twice_without_a_key() {
    let Some(network) = Network::build(SIZE) else { return };
    let mut instances: Vec<_> = (0..SIZE).map(|number| Instance::start(&network, number)).collect();
    let at: Vec<SocketAddr> = instances.iter().map(Instance::address).collect();
    let client = Client::builder("http://payments")
        .endpoints(at.iter().copied())
        .attempt_timeout(ATTEMPT)
        // Who has a key brings it.
        .idempotency_keys_with(IdempotencyConfig::new().methods([]))
        .seed(SEED)
        .build()
        .expect("these settings can be");
    say(&format!("seed {SEED}"));
    let load = Load::start(client);

    sleep(2 * LOOK).await;
    returned(&load, "all five are well", &at, 0..5, Duration::ZERO).await;

    // One hears nothing any more, the other is not heard: what it is asked, it does.
    network.cut(0, Cut::Both);
    network.cut(1, Cut::Answers);
    let cut = load.now();
    sleep(ILL).await;
    let healed = load.now();
    network.heal(0);
    network.heal(1);
    returned(&load, "two were cut off", &at, 0..2, healed).await;

    instances[2].kill();
    instances[3].hang();
    let ill = load.now();
    sleep(ILL).await;
    let well = load.now();
    instances[3].wake();
    instances[2].restart(&network);
    returned(&load, "one was killed and one hung", &at, 2..4, well).await;

    let records = load.end().await;
    say(&table(&records, &at));
    judge("cut off", &records, &at[..2], cut..healed);
    judge("killed and hung", &records, &at[2..4], ill..well);
    nothing_was_done_twice_without_a_key(&records, &instances);
}

/// Waits until each of these has had half of its share of a second's calls.
async fn returned(load: &Load, what: &str, at: &[SocketAddr], who: Range<usize>, since: Duration) {
    let mut missing: Vec<usize> = who.collect();
    while !missing.is_empty() {
        sleep(LOOK / 10).await;
        let now = load.now();
        if now < since + LOOK {
            continue;
        }
        let shares = load.shares(now - LOOK..now);
        missing.retain(|who| {
            let returned = shares.get(&at[*who]).is_some_and(|share| *share >= HALF);
            if returned {
                say(&format!("{what}: instance {who} has its share after {:.1?}", now - since));
            }
            !returned
        });
        if now >= since + WINDOW && !missing.is_empty() {
            say(&load.with_records(|records| table(records, at)));
            say(&format!("{:#?}", load.client().endpoints()));
            panic!("{what}: {missing:?} do not have half of their share after {WINDOW:?}");
        }
    }
}

/// What calls met while two instances were ill.
fn judge(what: &str, records: &[Record], ill: &[SocketAddr], when: Range<Duration>) {
    let during = || records.iter().filter(|record| when.contains(&record.begun));
    let wasted = |record: &Record| record.failed.iter().filter(|at| ill.contains(at)).count();
    let all = during().count();
    let failed = during().filter(|record| record.error.is_some()).count();
    let most = during().map(wasted).max().unwrap_or_default();
    let attempts: usize = during().map(wasted).sum();
    let slowest = during().map(|record| record.lasted).max().unwrap_or_default();
    say(&format!(
        "{what}: of {all} calls {failed} failed; {attempts} attempts were wasted, \
         {most} of one call at most; the slowest took {slowest:.1?}"
    ));
    // Those who were under way may still have been heard.
    let settled = when.start + ATTEMPT / 2;
    for record in during().filter(|record| record.begun > settled) {
        assert!(!record.by.is_some_and(|by| ill.contains(&by)), "{what}, and answers: {record:?}");
    }
    let late = |record: &&Record| record.begun >= when.start + ATTEMPT;
    for record in during() {
        // Both in their first second, when nobody can know of either; never one of them twice.
        let most = if late(&record) { 1 } else { ill.len() };
        assert!(wasted(record) <= most, "{what}, and asked again: {record:?}");
        let twice = |at: &SocketAddr| record.failed.iter().filter(|it| *it == at).count() > 1;
        assert!(!ill.iter().any(twice), "{what}, and asked twice: {record:?}");
    }
    let repeatable = || during().filter(late).filter(|record| record.what != What::Post);
    let (all, failed) =
        (repeatable().count(), repeatable().filter(|record| record.error.is_some()).count());
    assert!(all > 100, "calls were made: {all}");
    assert!(100 * failed <= all, "{what}: {failed} of {all} calls failed that may be repeated");
}

fn nothing_was_done_twice_without_a_key(records: &[Record], instances: &[Instance]) {
    let mut times: HashMap<u64, u32> = HashMap::new();
    for instance in instances {
        for (call, more) in instance.carried_out() {
            *times.entry(call).or_default() += more;
        }
    }
    let times = |record: &Record| times.get(&record.call).copied().unwrap_or_default();
    let (mut unknown, mut done) = (0, 0);
    for record in records.iter().filter(|record| record.what == What::Post) {
        match &record.error {
            None => assert_eq!(times(record), 1, "it was answered: {record:?}"),
            Some(_) => {
                assert!(times(record) <= 1, "done {} times: {record:?}", times(record));
                unknown += 1;
                done += times(record);
            }
        }
    }
    let keyed = records.iter().filter(|record| record.what == What::Keyed);
    let again = keyed.filter(|record| times(record) > 1).count();
    say(&format!(
        "without a key {unknown} calls failed, {done} of which had been carried out; \
         with a key {again} were sent twice"
    ));
    assert!(unknown > 0, "no call was caught by any of it, so nothing was shown");
}

/// Who answered which share of each second's calls, in percent.
fn table(records: &[Record], at: &[SocketAddr]) -> String {
    let end = records.iter().map(|record| record.begun.as_secs()).max().unwrap_or_default();
    let mut table = "second: percent of the calls that each answered".to_owned();
    for second in 0..=end {
        let these = records.iter().filter(|record| record.begun.as_secs() == second);
        let these: Vec<_> = these.filter_map(|record| record.by).collect();
        table += &format!("\n{second:>6}:");
        for who in at {
            let count = these.iter().filter(|by| *by == who).count();
            table += &format!(" {:>4}", 100 * count / these.len().max(1));
        }
    }
    table
}

/// To who watches; the harness would keep what `eprintln!` says for itself.
fn say(what: &str) {
    let _ = writeln!(io::stderr(), "{what}");
}
