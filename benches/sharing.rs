//! Two threads that share a balancer, beside two that share nothing.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use buttress::{
    balance::{Balance, BalanceConfig, RoundRobin, Weighted},
    classify::HttpClassifier,
    endpoint::{Endpoint, Fixed, Open},
};
use http::Response;
use http_body::Body;
use tokio::runtime::{Builder, Runtime};
use tower::{BoxError, Service};

use crate::{
    layers::{leaf, lean},
    peers, runner,
};

/// Two workers, and on each a caller.
#[derive(Debug)]
pub struct Sharing {
    runtime: Runtime,
    calls: u32,
}

/// How the balancers pick.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Way {
    /// By the default.
    Default,
    /// In turn.
    RoundRobin,
    /// In turn, by weight.
    Weighted,
}

impl Way {
    fn config(self) -> BalanceConfig {
        let config = BalanceConfig::new();
        match self {
            Self::Default => config,
            Self::RoundRobin => config.policy(RoundRobin::new()),
            Self::Weighted => config.policy(Weighted::new()),
        }
    }
}

/// How many calls two callers make a second.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Rates {
    /// Over how many endpoints.
    pub endpoints: u16,
    /// Each with a balancer of its own.
    pub apart: f64,
    /// With one balancer for both.
    pub shared: f64,
    /// With tower's `Balance` behind one `Buffer`, over ten.
    pub buffered: f64,
}

impl Sharing {
    /// Callers of so many calls each.
    ///
    /// # Panics
    ///
    /// If the system has no room for a runtime.
    #[must_use]
    pub fn new(calls: u32) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_time().build();
        Self { runtime: runtime.expect("the system has room for a runtime"), calls }
    }

    /// One round, one after the other: what the machine does besides is nearly the same for all
    /// three.
    #[must_use]
    pub fn round(&self, endpoints: u16, way: Way) -> Rates {
        let enter = self.runtime.enter();
        let balance = || {
            let addresses = (1..=endpoints).map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
            let (gates, make) = (|_: &Endpoint| Open::new(), |_: &Endpoint| leaf());
            let fixed = Fixed::new(addresses);
            let classifier = HttpClassifier::new();
            Balance::new(way.config(), fixed, make, gates, classifier).expect("within the runtime")
        };
        let (one, other, both) = (balance(), balance(), balance());
        let buffered = peers::balanced();
        drop(enter);
        std::thread::sleep(Duration::from_millis(20));
        Rates {
            endpoints,
            apart: self.rate([one, other], lean),
            shared: self.rate([both.clone(), both], lean),
            buffered: self.rate([buffered.clone(), buffered], peers::lean),
        }
    }

    fn rate<S, R, B>(&self, services: [S; 2], request: fn() -> R) -> f64
    where
        S: Service<R, Response = Response<B>, Future: Send, Error: Into<BoxError>>,
        S: Send + 'static,
        R: Send + 'static,
        B: Body<Error: Into<BoxError>> + Send + 'static,
    {
        let calls = self.calls;
        let begun = Instant::now();
        let callers = services.map(|service| {
            self.runtime.spawn(async move {
                let made = runner::calls(service, request, u64::from(calls)).await;
                made.expect("the leaf answers");
            })
        });
        for caller in callers {
            self.runtime.block_on(caller).expect("no call panics");
        }
        f64::from(2 * calls) / begun.elapsed().as_secs_f64()
    }
}
