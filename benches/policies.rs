//! Each policy over few and many endpoints.

use std::{
    net::SocketAddr,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use buttress::{
    BoxError,
    algo::xxh64::avalanche,
    balance::{
        Aperture, Balance, BalanceConfig, LeastRequest, Maglev, Member, PeakEwma, Picker, Policy,
        Priorities, Probed, Probing, ProbingConfig, RingHash, RoundRobin, Weighted, Zones,
    },
    body::Body,
    call::Call,
    classify::HttpClassifier,
    endpoint::{Endpoint, Fixed, Open},
};
use http::Request;

use crate::{
    Visit,
    layers::{leaf, lean},
};

/// A lean request with a key of its own.
fn keyed() -> Call<Request<Body>> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut call = lean();
    call.words.affinity = Some(avalanche(NEXT.fetch_add(1, Ordering::Relaxed)));
    call
}

/// Endpoints of weights from 1 to 3, in pairs in three zones, every fourth a standby, none of which is
/// ever connected to. Of three, two are near, and none is a standby.
fn endpoints(count: u16) -> Vec<Endpoint> {
    let endpoint = |at: u16| {
        let address = SocketAddr::from(([127, 0, 0, 1], at + 1));
        let zone = ["a", "b", "c"][usize::from(at / 2 % 3)];
        let endpoint = Endpoint::from(address).with_zone(zone);
        endpoint.with_weight(u32::from(at % 3) + 1).with_priority(u32::from(at % 4 == 3))
    };
    (0..count).map(endpoint).collect()
}

/// Keeps its pickers for good. The balancer's task makes those of [`Zones`] and [`Priorities`] anew
/// each second, O(n): a second of callgrind's clock holds so few calls that their count would be that
/// of the task, once more or less.
#[derive(Debug)]
struct Kept<P>(P);

impl<P: Policy> Policy for Kept<P> {
    fn picker(&self, members: &[Member<'_>]) -> Arc<dyn Picker> {
        self.0.picker(members)
    }
}

/// How many endpoints there are, as a group.
const GROUPS: [(&str, u16); 5] = [
    ("over 3", 3),
    ("over 10", 10),
    ("over 100", 100),
    ("over 1,000", 1_000),
    ("over 10,000", 10_000),
];

pub(crate) fn policies(visit: &mut impl Visit) {
    for group in GROUPS {
        visit.visit(group.0, "leaf", leaf, lean);
        over(visit, group, "the default", None::<PeakEwma>, lean);
        over(visit, group, "LeastRequest", Some(LeastRequest::new()), lean);
        over(visit, group, "RoundRobin", Some(RoundRobin::new()), lean);
        over(visit, group, "Weighted", Some(Weighted::new()), lean);
        over(visit, group, "RingHash", Some(RingHash::new()), keyed);
        over(visit, group, "Maglev", Some(Maglev::new()), keyed);
        over(visit, group, "Probing, the pick alone", Some(pick_alone()), lean);
        over(
            visit,
            group,
            "Probing, its probes included",
            Some(probing(ProbingConfig::new())),
            lean,
        );
        let peers = NonZeroU32::new(10).expect("10 is not 0");
        let aperture = Aperture::new(3, peers, PeakEwma::new()).expect("3 is below 10");
        over(visit, group, "Aperture of PeakEwma", Some(aperture), lean);
        let near = Zones::new("a", PeakEwma::new());
        over(visit, group, "Zones of PeakEwma", Some(near.clone()), lean);
        let levels = Priorities::new(near);
        over(visit, group, "Priorities of Zones of PeakEwma", Some(levels), lean);
    }
}

/// A policy whose probes are answered at once, by as many tasks as of any other kind.
fn probing(config: ProbingConfig) -> Probing {
    let said = |_: &Endpoint| std::future::ready(Ok::<_, BoxError>(Probed::new(1.0)));
    Probing::new(said, config)
}

/// One that probes before the first call and hardly ever again, and whose answers serve for good: what
/// is left is what a pick costs a call.
fn pick_alone() -> Probing {
    let seldom = ProbingConfig::new().rates(1e-9, 0.0).expect("more come than go");
    let lasting = seldom.idle(None).and_then(|it| it.age(Duration::from_secs(86_400)));
    probing(lasting.and_then(|it| it.surplus(1e9)).expect("a day is above zero"))
}

fn over(
    visit: &mut impl Visit,
    (group, count): (&'static str, u16),
    name: &'static str,
    policy: Option<impl Policy + 'static>,
    request: fn() -> Call<Request<Body>>,
) {
    let make = || {
        let config = match policy {
            Some(policy) => BalanceConfig::new().policy(Kept(policy)),
            None => BalanceConfig::new(),
        };
        let (gates, make) = (|_: &Endpoint| Open::new(), |_: &Endpoint| leaf());
        let fixed = Fixed::new(endpoints(count));
        let balance = Balance::new(config, fixed, make, gates, HttpClassifier::new());
        balance.expect("subjects are made in a runtime")
    };
    visit.visit(group, name, make, request);
}
