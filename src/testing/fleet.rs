//! What a fleet is made of.

use std::{fmt, ops::Range, time::Duration};

use super::{
    chooser::{Balancer, Chooser, Directory, View},
    report::Report,
    run::Run,
    server::{Fault, Server},
    work::Work,
};
use crate::{balance::BalanceConfig, entropy::Entropy};

/// How long a request and its answer each take on the way.
pub const DEFAULT_NETWORK: Duration = Duration::from_micros(250);

/// How long an attempt may take: the deadline of Prequal's testbed.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// A fleet of servers and of clients that call them.
///
/// One client and one server, at ten calls a second, if nothing else is said.
pub struct Fleet {
    pub(super) seed: u64,
    pub(super) servers: Vec<Server>,
    pub(super) clients: usize,
    pub(super) rate: f64,
    pub(super) work: Work,
    pub(super) network: Duration,
    pub(super) timeout: Duration,
    pub(super) attempts: u32,
    pub(super) reports: bool,
    pub(super) faults: Vec<(usize, Range<Duration>, Fault)>,
    pub(super) absences: Vec<(usize, Range<Duration>)>,
    chooser: Box<MakeChooser>,
}

type MakeChooser = dyn Fn(usize, &Entropy, &Directory, &View<'_>) -> Box<dyn Chooser>;

impl Fleet {
    /// A fleet that draws everything from this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            servers: vec![Server::sharing(1.0)],
            clients: 1,
            rate: 10.0,
            work: Work::exponential(Duration::from_millis(10)),
            network: DEFAULT_NETWORK,
            timeout: DEFAULT_TIMEOUT,
            attempts: 1,
            reports: false,
            faults: Vec::new(),
            absences: Vec::new(),
            chooser: balancers(BalanceConfig::new),
        }
    }

    /// So many servers of eight cores each.
    #[must_use]
    pub fn servers(self, count: usize) -> Self {
        self.servers_of(std::iter::repeat_n(Server::sharing(8.0), count))
    }

    /// These servers. They are numbered from 0 on.
    #[must_use]
    pub fn servers_of(mut self, servers: impl IntoIterator<Item = Server>) -> Self {
        self.servers = servers.into_iter().collect();
        self
    }

    /// So many clients, each with a balancer of its own.
    #[must_use]
    pub const fn clients(mut self, count: usize) -> Self {
        self.clients = count;
        self
    }

    /// How many calls come a second, at all clients together.
    ///
    /// # Panics
    ///
    /// If it is not above zero.
    #[must_use]
    pub const fn rate(mut self, calls: f64) -> Self {
        assert!(calls > 0.0, "some calls come: say how many a second");
        self.rate = calls;
        self
    }

    /// How much work a request is (default: exponential, 10 ms on average).
    #[must_use]
    pub const fn work(mut self, work: Work) -> Self {
        self.work = work;
        self
    }

    /// How long a request and its answer each take on the way (default: 250 µs).
    #[must_use]
    pub const fn network(mut self, one_way: Duration) -> Self {
        self.network = one_way;
        self
    }

    /// How long an attempt may take (default: 5 s). A server goes on with a request that was given
    /// up, as most do.
    #[must_use]
    pub const fn attempt_timeout(mut self, limit: Duration) -> Self {
        self.timeout = limit;
        self
    }

    /// How many attempts a call may take, the first included (default: 1).
    ///
    /// # Panics
    ///
    /// If it is none.
    #[must_use]
    pub const fn attempts(mut self, attempts: u32) -> Self {
        assert!(attempts > 0, "a call takes at least one attempt");
        self.attempts = attempts;
        self
    }

    /// Whether the servers say in each answer how busy they are (default: not).
    #[must_use]
    pub const fn reports(mut self, reports: bool) -> Self {
        self.reports = reports;
        self
    }

    /// What goes wrong with this server, and when.
    #[must_use]
    pub fn fault(mut self, server: usize, when: Range<Duration>, fault: Fault) -> Self {
        self.faults.push((server, when, fault));
        self
    }

    /// When this server is no member. It finishes what it has.
    #[must_use]
    pub fn absent(mut self, server: usize, when: Range<Duration>) -> Self {
        self.absences.push((server, when));
        self
    }

    /// How the clients balance (default: [`BalanceConfig::new`]). Their chance is drawn from the
    /// fleet's seed, whatever the settings say.
    #[must_use]
    pub fn balance(mut self, config: impl Fn() -> BalanceConfig + 'static) -> Self {
        self.chooser = balancers(config);
        self
    }

    /// Clients that choose by something else; `make` is told the number of each.
    #[must_use]
    pub fn choose_by<C>(mut self, make: impl Fn(usize) -> C + 'static) -> Self
    where
        C: Chooser + 'static,
    {
        self.chooser = Box::new(move |client, _, _, view| {
            let mut chooser = make(client);
            for server in (0..view.count()).filter(|&server| view.is_member(server)) {
                chooser.changed(server, true, view);
            }
            Box::new(chooser)
        });
        self
    }

    /// Runs it for this long, and until the last call that came in this time has ended. Prints the
    /// seed to standard error.
    ///
    /// # Panics
    ///
    /// If a fault or an absence is of a server that there is not.
    #[must_use]
    pub fn run(self, span: Duration) -> Report {
        let count = self.servers.len();
        let mut named = self.faults.iter().map(|(server, ..)| server);
        let mut absent = self.absences.iter().map(|(server, _)| server);
        if let Some(stranger) = named.find(|&&at| at >= count).or(absent.find(|&&at| at >= count)) {
            panic!("server {stranger} has a fault, but there are {count}, from 0 on");
        }
        eprintln!("buttress::testing: seed {}", self.seed);
        Run::new(self).run(span)
    }

    pub(super) fn chooser(
        &self,
        client: usize,
        entropy: &Entropy,
        directory: &Directory,
        view: &View<'_>,
    ) -> Box<dyn Chooser> {
        (self.chooser)(client, entropy, directory, view)
    }
}

fn balancers(config: impl Fn() -> BalanceConfig + 'static) -> Box<MakeChooser> {
    Box::new(move |_, entropy, directory, view| {
        let config = config().entropy(entropy.fork());
        Box::new(Balancer::new(config, directory, view))
    })
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet")
            .field("seed", &self.seed)
            .field("servers", &self.servers.len())
            .field("clients", &self.clients)
            .finish_non_exhaustive()
    }
}
