//! How a client of the fleet chooses a server.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Instant,
};

use super::{machine::Machine, server::Server};
use crate::{
    balance::{BalanceConfig, Decision, Node, Order, Probed},
    call::Words,
    classify::{Blame, Retry, Sent, Verdict},
    endpoint::{Change, Endpoint, LoadReport, Open},
    entropy::Entropy,
};

/// How one client chooses a server, and what it learns.
///
/// For policies that are no [`Policy`](crate::balance::Policy): those of others, to compare
/// with, and oracles, which see what no client can.
pub trait Chooser {
    /// The server for one attempt; none if there is none to be had, which fails the call.
    fn choose(&mut self, view: &View<'_>) -> Option<usize>;

    /// An attempt at this server has ended.
    fn ended(&mut self, server: usize, ended: &Ended, view: &View<'_>);

    /// This server has joined, or left.
    fn changed(&mut self, server: usize, member: bool, view: &View<'_>);

    /// The servers to be probed now, if it probes. Asked after each choice, and when
    /// [`next_probe`](Self::next_probe) says so. A probe takes the way that a request takes, and no
    /// time at its server.
    fn probes(&mut self, view: &View<'_>) -> Vec<usize> {
        let _ = view;
        Vec::new()
    }

    /// When to ask for probes although nothing is chosen.
    fn next_probe(&self) -> Option<Instant> {
        None
    }

    /// What this server has answered to a probe. One that hangs does not.
    fn probed(&mut self, server: usize, said: Probed, view: &View<'_>) {
        let _ = (server, said, view);
    }
}

/// What a chooser may look at.
pub struct View<'a> {
    pub(super) now: Instant,
    pub(super) machines: &'a [Machine],
    pub(super) members: &'a [bool],
    pub(super) tried: &'a [usize],
    pub(super) entropy: &'a Entropy,
}

impl View<'_> {
    /// The time.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// How many servers there ever are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.machines.len()
    }

    /// Whether this one is a member now.
    #[must_use]
    pub fn is_member(&self, server: usize) -> bool {
        self.members[server]
    }

    /// The servers that the call's earlier attempts went to.
    #[must_use]
    pub const fn tried(&self) -> &[usize] {
        self.tried
    }

    /// The truth about a server, for oracles: how many requests it has.
    #[must_use]
    pub fn in_flight(&self, server: usize) -> usize {
        self.machines[server].in_flight()
    }

    /// The truth about a server, for oracles: how many cores of full speed it has now.
    #[must_use]
    pub fn capacity(&self, server: usize) -> f64 {
        self.machines[server].capacity()
    }

    /// What this server was made with.
    #[must_use]
    pub fn server(&self, server: usize) -> &Server {
        &self.machines[server].server
    }

    /// Uniform in `0..bound`.
    #[must_use]
    pub fn below(&self, bound: usize) -> usize {
        ((u128::from(self.entropy.draw()) * bound as u128) >> 64) as usize
    }
}

/// How an attempt has ended.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Ended {
    /// When it began.
    pub began: Instant,
    /// What became of it.
    pub outcome: Outcome,
    /// What the server said of its own load, if it does.
    pub report: Option<LoadReport>,
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// A good answer.
    Answered,
    /// The server failed.
    Failed,
    /// Nothing came in time.
    TimedOut,
}

/// A balancer of this library.
pub(super) struct Balancer {
    decision: Decision<Open, fn(&Endpoint) -> Open>,
    /// By server; none before it was picked.
    nodes: Vec<Option<Arc<Node<(), Open>>>>,
    /// The probes that are under way, by server, ...
    orders: Vec<Option<(Order, Instant)>>,
    /// ... and until when they are waited for, in that order.
    waited_for: VecDeque<(Instant, usize)>,
    endpoints: Arc<[Endpoint]>,
    numbers: Arc<HashMap<std::net::SocketAddr, usize>>,
}

/// The names of the servers, which all clients share.
#[derive(Clone)]
pub(super) struct Directory {
    endpoints: Arc<[Endpoint]>,
    numbers: Arc<HashMap<std::net::SocketAddr, usize>>,
}

impl Directory {
    pub(super) fn new(servers: usize) -> Self {
        let endpoint = |at: usize| {
            let [_, a, b, c] = (at as u32).to_be_bytes();
            Endpoint::new(at.to_string(), ([10, a, b, c], 80).into())
        };
        let endpoints: Arc<[Endpoint]> = (0..servers).map(endpoint).collect();
        let numbers =
            endpoints.iter().enumerate().map(|(at, endpoint)| (endpoint.address(), at)).collect();
        Self { endpoints, numbers: Arc::new(numbers) }
    }
}

impl Balancer {
    pub(super) fn new(config: BalanceConfig, directory: &Directory, view: &View<'_>) -> Self {
        let open: fn(&Endpoint) -> Open = |_| Open::new();
        let Directory { endpoints, numbers } = directory.clone();
        let mut decision = Decision::new(config, open, view.now);
        let present = (0..view.count()).filter(|&at| view.is_member(at));
        let all = present.map(|at| endpoints[at].clone()).collect();
        decision.apply(Change::Reset(all), view.now);
        let nodes = vec![None; endpoints.len()];
        let orders = endpoints.iter().map(|_| None).collect();
        Self { decision, nodes, orders, waited_for: VecDeque::new(), endpoints, numbers }
    }
}

const FAILED: Verdict = Verdict::new(Blame::Endpoint, Sent::Maybe, Retry::IfSafe);

impl Chooser for Balancer {
    fn choose(&mut self, view: &View<'_>) -> Option<usize> {
        let mut words = Words::new();
        for &server in view.tried {
            if let Some(node) = &self.nodes[server] {
                words.tried.insert(node.key());
            }
        }
        let (node, _) = self.decision.pick(&words, view.now)?;
        node.begin(view.now);
        let server = self.numbers[&node.endpoint.address()];
        self.nodes[server] = Some(node);
        Some(server)
    }

    fn ended(&mut self, server: usize, ended: &Ended, view: &View<'_>) {
        let Some(node) = &self.nodes[server] else { return };
        // In the order in which the future of a call does it.
        let verdict = match ended.outcome {
            Outcome::Answered => Verdict::SUCCESS,
            Outcome::Failed => FAILED,
            Outcome::TimedOut => Verdict::TIMED_OUT,
        };
        node.answered(verdict, || ended.report, ended.began, view.now);
        node.settled(verdict, ended.began, || view.now);
        node.end();
    }

    fn changed(&mut self, server: usize, member: bool, view: &View<'_>) {
        let endpoint = self.endpoints[server].clone();
        let change = if member { Change::Add(endpoint) } else { Change::Remove(endpoint) };
        self.decision.apply(change, view.now);
    }

    fn probes(&mut self, view: &View<'_>) -> Vec<usize> {
        while let Some(&(until, server)) = self.waited_for.front() {
            if until > view.now {
                break;
            }
            self.waited_for.pop_front();
            // Another one may be under way by now, since the one that was waited for was answered.
            if self.orders[server].as_ref().is_some_and(|&(_, ordered)| ordered == until) {
                self.orders[server] = None;
            }
        }
        let until = view.now + self.decision.probe_timeout();
        let mut servers = Vec::new();
        for order in self.decision.orders(view.now) {
            let server = self.numbers[&order.endpoint().address()];
            self.waited_for.push_back((until, server));
            self.orders[server] = Some((order, until));
            servers.push(server);
        }
        servers
    }

    fn next_probe(&self) -> Option<Instant> {
        let overdue = self.waited_for.front().map(|&(until, _)| until);
        self.decision.next_order().into_iter().chain(overdue).min()
    }

    fn probed(&mut self, server: usize, said: Probed, view: &View<'_>) {
        if let Some((order, until)) = self.orders[server].take() {
            if view.now < until {
                // A machine has a number of requests that can be.
                let _ = order.answered(said, view.now, self.decision.draw());
            }
        }
    }
}
