//! Runs the rows that are about balancing.

use std::{collections::BTreeMap, future::ready, num::NonZeroU32, time::Duration};

use buttress::{
    BoxError, Entropy,
    algo::{
        maglev::Table,
        p2c,
        ring::{DEFAULT_MAX, Ring, Size},
        shares::{DEFAULT_OVERPROVISIONING, by_priority},
        stride::Stride,
        subset::Aperture,
        xxh64::avalanche,
    },
    balance::{
        self, Balance, BalanceConfig, LeastRequest, Maglev, PeakEwma, Policy, RingHash, RoundRobin,
        Weighted,
    },
    call::Call,
    classify::PlainClassifier,
    endpoint::{Change, Endpoint, Open},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tower::ServiceExt;

use super::row::{Apertures, Fleet, Hosts, MaglevRow, RingRow};

type Checked = Result<(), String>;

fn named(hosts: &Hosts) -> Vec<(String, f64)> {
    let names = hosts.iter().flat_map(|&(first, last, weight)| {
        (first..=last).map(move |port| (format!("127.0.0.1:{port}"), weight))
    });
    names.collect()
}

/// The port of the host with this number.
fn port(hosts: &[(String, f64)], at: usize) -> u16 {
    let port = hosts[at].0.rsplit(':').next().and_then(|port| port.parse().ok());
    port.expect("it was made of one")
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, is: &T, expected: &T) -> Checked {
    if is == expected { Ok(()) } else { Err(format!("{what}: {is:?}, not {expected:?}")) }
}

fn counted(ports: impl Iterator<Item = u16>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    ports.for_each(|port| *counts.entry(port.to_string()).or_default() += 1);
    counts
}

pub(crate) fn ring(row: &RingRow) -> Checked {
    let hosts = named(&row.ring.hosts);
    let most = row.ring.most.unwrap_or(DEFAULT_MAX);
    let ring = Ring::new(&hosts, Size::Between(row.ring.least, most));
    let home = |hash| ring.owner(hash).map(|at| port(&hosts, at)).ok_or("nobody is on the ring");
    if !(row.ring.least..=most).contains(&ring.len()) {
        return Err(format!("{} entries", ring.len()));
    }
    let entries = counted(ring.from(0).map(|at| port(&hosts, at)));
    if !row.entries.is_empty() {
        same("entries", &entries, &row.entries)?;
    }
    if let Some(count) = row.entries_in_all {
        same("entries in all", &ring.len(), &count)?;
    }
    for (port, &share) in &row.shares {
        let is = entries.get(port).copied().unwrap_or_default() as f64 / ring.len() as f64;
        if (is / share - 1.0).abs() > 0.25 {
            return Err(format!("{port} has {is} of the entries, not {share}"));
        }
    }
    for &(hash, expected) in &row.homes {
        same(&format!("the home of {hash}"), &home(hash)?, &expected)?;
    }
    let Some(hits) = &row.hits else { return Ok(()) };
    let hashes = (0..hits.of).map(|nth| nth * (u64::MAX / hits.of));
    let homes = hashes.map(home).collect::<Result<Vec<_>, _>>()?;
    same("hits", &counted(homes.into_iter()), &hits.at)
}

pub(crate) fn maglev(row: &MaglevRow) -> Checked {
    let hosts = named(&row.maglev.hosts);
    let table = Table::new(&hosts, row.maglev.size);
    let ports: Vec<u16> = table.from(0).map(|at| port(&hosts, at)).collect();
    if let Some(expected) = &row.table {
        same("table", &ports, expected)?;
    }
    let entries = counted(ports.into_iter());
    for (port, count) in &row.entries {
        same(port, &entries.get(port).copied().unwrap_or_default(), count)?;
    }
    Ok(())
}

pub(crate) fn stride(weights: &[f64], picks: usize, expected: &[usize]) -> Checked {
    let Some(stride) = Stride::new(weights) else {
        return same("counts of no round", &Vec::new(), &expected.to_vec());
    };
    let mut counts = vec![0; weights.len()];
    (0..).filter_map(|step| stride.at(step)).take(picks).for_each(|at| counts[at] += 1);
    same("counts", &counts, &expected.to_vec())
}

pub(crate) fn levels(fit: &[f64], percent: &[u32]) -> Checked {
    let shares = by_priority(fit, DEFAULT_OVERPROVISIONING);
    let is: Vec<u32> = shares.iter().map(|share| (share * 100.0).round() as u32).collect();
    same("percent", &is, &percent.to_vec())
}

pub(crate) fn least_request(in_flight: &[u32], percent: &[u32]) -> Checked {
    const PICKS: u32 = 50_000;
    let (mut counts, mut drawn) = (vec![0_u32; in_flight.len()], 0);
    for _ in 0..PICKS {
        let draw = || {
            drawn += 1;
            avalanche(drawn)
        };
        let load = |at: usize| f64::from(in_flight[at]);
        let at = p2c::pick(in_flight.len(), |_| true, load, draw).ok_or("nobody was picked")?;
        counts[at] += 1;
    }
    for (count, &expected) in counts.iter().zip(percent) {
        let is = f64::from(count * 100) / f64::from(PICKS);
        if (is - f64::from(expected)).abs() > 1.0 || (expected == 0) != (*count == 0) {
            return Err(format!("{counts:?}, not {percent:?} percent"));
        }
    }
    Ok(())
}

pub(crate) fn apertures(of: &Apertures, expected: f64) -> Checked {
    let mut loads = vec![0.0; of.servers];
    for peer in 0..of.clients {
        let aperture = Aperture::new(peer, of.clients, of.servers, of.least);
        let whole: f64 = aperture.iter().map(|(_, part)| part).sum();
        if aperture.len() < of.least.min(of.servers) {
            return Err(format!("{} servers for client {peer}", aperture.len()));
        }
        aperture.iter().for_each(|(at, part)| loads[at] += part / whole);
    }
    let mean = f64::from(of.clients) / of.servers as f64;
    let variance = loads.iter().map(|load| (load / mean - 1.0).powi(2)).sum::<f64>();
    let deviation = (variance / of.servers as f64).sqrt();
    if (deviation - expected).abs() > 1e-9 { Err(deviation.to_string()) } else { Ok(()) }
}

type Make = Box<dyn Fn(u16) -> BalanceConfig>;

/// Every policy that spreads calls, by the number of the client.
fn policies(clients: u16) -> Vec<(&'static str, Make)> {
    fn plain<P: Policy + Clone + 'static>(policy: P) -> Make {
        Box::new(move |_| BalanceConfig::new().policy(policy.clone()))
    }
    let aperture = move |client: u16| {
        let peers = NonZeroU32::new(clients.into()).expect("there are clients");
        let aperture = balance::Aperture::new(client.into(), peers, LeastRequest::new());
        let aperture = aperture.and_then(|aperture| aperture.least(5)).expect("5 of 5 can be");
        BalanceConfig::new().policy(aperture)
    };
    vec![
        ("PeakEwma", plain(PeakEwma::new())),
        ("LeastRequest", plain(LeastRequest::new())),
        ("RoundRobin", plain(RoundRobin::new())),
        ("Weighted", plain(Weighted::new())),
        // Without a key these are a random choice.
        ("RingHash", plain(RingHash::new())),
        ("Maglev", plain(Maglev::new())),
        ("Aperture", Box::new(aperture)),
    ]
}

pub(crate) fn fleet(of: &Fleet, most: u32) -> Checked {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .map_err(|error| error.to_string())?;
    for (name, config) in policies(of.clients) {
        let loads = runtime.block_on(loads(of, &config)).map_err(|error| error.to_string())?;
        if let Some((server, load)) = loads.iter().find(|&(_, &load)| load > most) {
            return Err(format!("{name}: {load} calls for server {server}"));
        }
    }
    Ok(())
}

/// How many calls each server has had in the end.
async fn loads(of: &Fleet, config: &Make) -> Result<BTreeMap<u16, u32>, BoxError> {
    let mut loads = BTreeMap::new();
    for client in 0..of.clients {
        let (changes, stream) = mpsc::unbounded_channel::<Result<Change, BoxError>>();
        let make = |endpoint: &Endpoint| {
            let port = endpoint.address().port();
            tower::service_fn(move |_: Call<()>| ready(Ok::<u16, BoxError>(port)))
        };
        let config = config(client).entropy(Entropy::seeded(client.into()));
        let stream = UnboundedReceiverStream::new(stream);
        let open = |_: &Endpoint| Open::new();
        let balance = Balance::new(config, stream, make, open, PlainClassifier::new())?;
        for &(first, last) in &of.sets {
            let servers = (first..=last).map(|port| Endpoint::from(address(port)));
            changes.send(Ok(Change::Reset(servers.collect())))?;
            tokio::time::sleep(Duration::from_millis(1)).await;
            for _ in 0..of.calls {
                let port = balance.clone().oneshot(Call::new(())).await?;
                *loads.entry(port).or_default() += 1;
            }
        }
    }
    Ok(loads)
}

fn address(port: u16) -> std::net::SocketAddr {
    ([127, 0, 0, 1], port).into()
}
