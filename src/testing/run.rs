//! The event loop.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::{Duration, Instant},
};

use super::{
    calls::{Call, Calls},
    chooser::{Chooser, Directory, Ended, Outcome, View},
    fleet::Fleet,
    machine::{Answered, Machine, Said, Ticket},
    report::{Called, Hit, Report},
    server::Fault,
    work::exponential,
};
use crate::{entropy::Entropy, time};

/// A run of a fleet.
pub(super) struct Run {
    fleet: Fleet,
    world: World,
    clients: Vec<Box<dyn Chooser>>,
    calls: Calls,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    /// All attempts have the same limit, so they time out in the order in which they began.
    timeouts: VecDeque<(u64, Ticket)>,
    sequence: u64,
    report: Report,
}

/// What a client may look at.
struct World {
    machines: Vec<Machine>,
    members: Vec<bool>,
    began: Instant,
    /// In nanoseconds since then.
    now: u64,
    entropy: Entropy,
}

impl World {
    fn view<'a>(&'a self, tried: &'a [usize]) -> View<'a> {
        let now = self.began + Duration::from_nanos(self.now);
        let Self { machines, members, entropy, .. } = self;
        View { now, machines, members, tried, entropy }
    }
}

/// What happens next. Numbers are those of servers and calls; a call's comes with the attempt
/// that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The next call comes.
    Call,
    /// A request has come to its server.
    Request(Ticket),
    /// A server is done with a request, unless something has changed since this was announced.
    Done {
        server: u32,
        epoch: u32,
    },
    /// An answer is with its client.
    Answer {
        ticket: Ticket,
        ok: bool,
        report: Option<Said>,
    },
    Timeout(Ticket),
    /// A probe has come to its server.
    Probe {
        client: u32,
        server: u32,
    },
    /// An answer to a probe is with its client.
    Probed {
        client: u32,
        server: u32,
        said: Answered,
    },
    /// A client wanted to be asked for probes.
    Probes {
        client: u32,
    },
    Antagonists {
        server: u32,
    },
    Throttle {
        server: u32,
    },
    Join {
        server: u32,
    },
    Leave {
        server: u32,
    },
}

impl Run {
    pub(super) fn new(fleet: Fleet) -> Self {
        let entropy = Entropy::seeded(fleet.seed);
        let machines: Vec<Machine> = fleet.servers.iter().copied().map(Machine::new).collect();
        let servers = machines.len();
        let mut members = vec![true; servers];
        for (server, when) in &fleet.absences {
            if when.start.is_zero() {
                members[*server] = false;
            }
        }
        let world = World { machines, members, began: time::now(), now: 0, entropy };
        let directory = Directory::new(servers);
        let clients = (0..fleet.clients)
            .map(|client| fleet.chooser(client, &world.entropy, &directory, &world.view(&[])))
            .collect();
        let report = Report {
            seed: fleet.seed,
            span: Duration::ZERO..Duration::ZERO,
            servers,
            calls: Vec::new(),
            hits: Vec::new(),
        };
        Self {
            fleet,
            world,
            clients,
            calls: Calls::default(),
            events: BinaryHeap::new(),
            timeouts: VecDeque::new(),
            sequence: 0,
            report,
        }
    }

    pub(super) fn run(mut self, span: Duration) -> Report {
        let end = nanos(span);
        self.report.span = Duration::ZERO..span;
        self.plan();
        self.next_call();
        while let Some((at, event)) = self.next() {
            self.world.now = at;
            if at > end && self.calls.under_way == 0 {
                break;
            }
            match event {
                Event::Call if at > end => {}
                Event::Call => {
                    self.next_call();
                    self.call();
                }
                Event::Request(ticket) => self.request(ticket),
                Event::Done { server, epoch } => self.done(server as usize, epoch),
                Event::Answer { ticket, ok, report } => {
                    let outcome = if ok { Outcome::Answered } else { Outcome::Failed };
                    self.ended(ticket, outcome, report);
                }
                Event::Timeout(ticket) => self.ended(ticket, Outcome::TimedOut, None),
                Event::Probe { client, server } => self.probe(client, server),
                Event::Probed { client, server, said } => self.probed(client, server, said),
                Event::Probes { client } => {
                    self.send_probes(client as usize);
                    self.plan_probes(client as usize);
                }
                Event::Antagonists { server } => {
                    let next = self.world.machines[server as usize].redraw(at, &self.world.entropy);
                    self.reschedule(server as usize);
                    if let Some(next) = next {
                        self.at(next, Event::Antagonists { server });
                    }
                }
                Event::Throttle { server } => {
                    let part = self.throttled(server as usize);
                    self.world.machines[server as usize].throttle(at, part);
                    self.reschedule(server as usize);
                }
                Event::Join { server } => self.member(server as usize, true),
                Event::Leave { server } => self.member(server as usize, false),
            }
        }
        self.report
    }

    /// What is known ahead.
    fn plan(&mut self) {
        for client in 0..self.clients.len() {
            self.send_probes(client);
            self.plan_probes(client);
        }
        for server in 0..self.world.machines.len() {
            if self.world.machines[server].server.antagonists.is_some() {
                self.at(0, Event::Antagonists { server: server as u32 });
            }
        }
        for (server, when, fault) in self.fleet.faults.clone() {
            if matches!(fault, Fault::Throttled(_)) {
                let server = server as u32;
                self.at(nanos(when.start), Event::Throttle { server });
                self.at(nanos(when.end), Event::Throttle { server });
            }
        }
        for (server, when) in self.fleet.absences.clone() {
            let server = server as u32;
            if !when.start.is_zero() {
                self.at(nanos(when.start), Event::Leave { server });
            }
            self.at(nanos(when.end), Event::Join { server });
        }
    }

    fn next(&mut self) -> Option<(u64, Event)> {
        while let Some(&(_, ticket)) = self.timeouts.front() {
            if self.calls.get(ticket).is_some() {
                break;
            }
            self.timeouts.pop_front();
        }
        let timeout = self.timeouts.front().map_or(u64::MAX, |&(at, _)| at);
        let planned = self.events.peek().map_or(u64::MAX, |Reverse((at, ..))| *at);
        if timeout < planned {
            return self.timeouts.pop_front().map(|(at, ticket)| (at, Event::Timeout(ticket)));
        }
        self.events.pop().map(|Reverse((at, _, event))| (at, event))
    }

    fn at(&mut self, at: u64, event: Event) {
        // In the order in which they were planned where they are at the same time.
        self.sequence += 1;
        self.events.push(Reverse((at, self.sequence, event)));
    }

    fn next_call(&mut self) {
        let span = exponential(1.0 / self.fleet.rate, &self.world.entropy);
        self.at(self.world.now + (span * 1e9) as u64, Event::Call);
    }

    fn call(&mut self) {
        let client = (self.world.entropy.draw() % self.clients.len().max(1) as u64) as usize;
        let work = self.fleet.work.draw(&self.world.entropy);
        let call = self.calls.take(client, self.world.now, work);
        self.attempt(call);
    }

    fn attempt(&mut self, number: u32) {
        let call = &mut self.calls.places[number as usize];
        let client = call.client;
        let view = self.world.view(&call.tried);
        let Some(server) = self.clients[client].choose(&view) else {
            return self.finish(number, false);
        };
        call.server = server;
        call.began = self.world.now;
        call.attempt = call.attempt.wrapping_add(1);
        call.attempts += 1;
        let ticket = Ticket { call: number, attempt: call.attempt };
        self.report.hits.push(Hit { at: self.world.now, server: server as u32 });
        self.at(self.world.now + nanos(self.fleet.network), Event::Request(ticket));
        self.timeouts.push_back((self.world.now + nanos(self.fleet.timeout), ticket));
        self.send_probes(client);
    }

    /// The probes that this client wants to send now are on their way.
    fn send_probes(&mut self, client: usize) {
        let view = self.world.view(&[]);
        for server in self.clients[client].probes(&view) {
            let (client, server) = (client as u32, server as u32);
            self.at(self.world.now + nanos(self.fleet.network), Event::Probe { client, server });
        }
    }

    /// It is asked again when it said, and whenever it chooses.
    fn plan_probes(&mut self, client: usize) {
        if let Some(next) = self.clients[client].next_probe() {
            let at =
                nanos(next.saturating_duration_since(self.world.began)).max(self.world.now + 1);
            self.at(at, Event::Probes { client: client as u32 });
        }
    }

    /// A probe is answered at once, whatever the server does with requests, unless it hangs; from a
    /// server that is slow without doing anything it takes as long as that.
    fn probe(&mut self, client: u32, server: u32) {
        let mut takes = nanos(self.fleet.network);
        for fault in self.faults(server as usize) {
            match fault {
                Fault::Hang => return,
                Fault::Slow(by) => takes += nanos(by),
                Fault::Fail | Fault::Stray(_) | Fault::Throttled(_) => {}
            }
        }
        let said = self.world.machines[server as usize].answered(self.world.now);
        self.at(self.world.now + takes, Event::Probed { client, server, said });
    }

    fn probed(&mut self, client: u32, server: u32, said: Answered) {
        let view = self.world.view(&[]);
        self.clients[client as usize].probed(server as usize, said.probed(), &view);
    }

    fn request(&mut self, ticket: Ticket) {
        let Some(Call { server, work, .. }) = self.calls.get(ticket) else { return };
        let (server, work) = (*server, *work);
        for fault in self.faults(server).collect::<Vec<_>>() {
            match fault {
                Fault::Fail => return self.answer(ticket, server, false, 0),
                Fault::Stray(share) if self.world.entropy.unit() < share => {
                    return self.answer(ticket, server, false, 0);
                }
                Fault::Hang => {
                    self.world.machines[server].hang();
                    self.calls.places[ticket.call as usize].hangs = true;
                    return;
                }
                Fault::Stray(_) | Fault::Slow(_) | Fault::Throttled(_) => {}
            }
        }
        self.world.machines[server].arrive(self.world.now, ticket, work);
        self.reschedule(server);
    }

    fn done(&mut self, server: usize, epoch: u32) {
        if self.world.machines[server].epoch != epoch {
            return;
        }
        let ticket = self.world.machines[server].complete(self.world.now);
        self.reschedule(server);
        if let Some(ticket) = ticket {
            let slow = |fault| match fault {
                Fault::Slow(by) => nanos(by),
                _ => 0,
            };
            let extra = self.faults(server).map(slow).sum();
            self.answer(ticket, server, true, extra);
        }
    }

    fn answer(&mut self, ticket: Ticket, server: usize, ok: bool, extra: u64) {
        let report = self.fleet.reports.then(|| self.world.machines[server].said());
        let at = self.world.now + extra + nanos(self.fleet.network);
        self.at(at, Event::Answer { ticket, ok, report });
    }

    fn ended(&mut self, ticket: Ticket, outcome: Outcome, said: Option<Said>) {
        let Some(call) = self.calls.get(ticket) else { return };
        let (server, client) = (call.server, call.client);
        let began = self.world.began + Duration::from_nanos(call.began);
        if std::mem::take(&mut call.hangs) {
            self.world.machines[server].unhang();
        }
        let ended = Ended { began, outcome, report: said.map(Said::report) };
        let view = self.world.view(&[]);
        self.clients[client].ended(server, &ended, &view);
        let call = &mut self.calls.places[ticket.call as usize];
        if outcome != Outcome::Answered && call.attempts < self.fleet.attempts {
            call.tried.push(server);
            return self.attempt(ticket.call);
        }
        self.finish(ticket.call, outcome == Outcome::Answered);
    }

    fn finish(&mut self, number: u32, ok: bool) {
        let Call { came, .. } = self.calls.places[number as usize];
        self.report.calls.push(Called { at: came, took: self.world.now - came, ok });
        self.calls.give_back(number);
    }

    fn member(&mut self, server: usize, member: bool) {
        self.world.members[server] = member;
        let view = self.world.view(&[]);
        self.clients.iter_mut().for_each(|client| client.changed(server, member, &view));
    }

    fn reschedule(&mut self, server: usize) {
        if let Some(at) = self.world.machines[server].next() {
            let epoch = self.world.machines[server].epoch;
            self.at(at, Event::Done { server: server as u32, epoch });
        }
    }

    /// What is wrong with this server now.
    fn faults(&self, server: usize) -> impl Iterator<Item = Fault> {
        let now = Duration::from_nanos(self.world.now);
        let faults = self.fleet.faults.iter();
        let ours = faults.filter(move |(at, when, _)| *at == server && when.contains(&now));
        ours.map(|(_, _, fault)| *fault)
    }

    fn throttled(&self, server: usize) -> f64 {
        let part = |fault| match fault {
            Fault::Throttled(part) => part,
            _ => 1.0,
        };
        self.faults(server).map(part).product()
    }
}

/// As late as can be counted, which is 584 years, for what is later.
fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX / 2)
}
