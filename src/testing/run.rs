//! The event loop.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::{Duration, Instant},
};

use super::{
    chooser::{Chooser, Directory, Ended, Outcome, View},
    fleet::Fleet,
    machine::{Machine, Said, Ticket},
    report::{Called, Hit, Report},
    server::Fault,
    work::exponential,
};
use crate::{entropy::Entropy, time};

/// A run of a fleet.
pub(super) struct Run {
    fleet: Fleet,
    machines: Vec<Machine>,
    members: Vec<bool>,
    clients: Vec<Box<dyn Chooser>>,
    calls: Calls,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    /// All attempts have the same limit, so they time out in the order in which they began.
    timeouts: VecDeque<(u64, Ticket)>,
    sequence: u64,
    began: Instant,
    now: u64,
    entropy: Entropy,
    report: Report,
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

/// The calls that are under way, in places that are used again.
#[derive(Default)]
struct Calls {
    places: Vec<Call>,
    free: Vec<u32>,
    under_way: usize,
}

#[derive(Clone, Default)]
struct Call {
    client: usize,
    came: u64,
    work: f64,
    server: usize,
    began: u64,
    /// Counted on through all calls that have this place, so that a late event finds nobody.
    attempt: u32,
    attempts: u32,
    /// The server has taken it and will say nothing.
    hangs: bool,
    tried: Vec<usize>,
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
        let began = time::now();
        let directory = Directory::new(servers);
        let clients = (0..fleet.clients)
            .map(|client| {
                let (machines, members, entropy) = (&machines[..], &members[..], &entropy);
                let view = View { now: began, machines, members, tried: &[], entropy };
                fleet.chooser(client, entropy, &directory, &view)
            })
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
            machines,
            members,
            clients,
            calls: Calls::default(),
            events: BinaryHeap::new(),
            timeouts: VecDeque::new(),
            sequence: 0,
            began,
            now: 0,
            entropy,
            report,
        }
    }

    pub(super) fn run(mut self, span: Duration) -> Report {
        let end = nanos(span);
        self.report.span = Duration::ZERO..span;
        self.plan();
        self.next_call();
        while let Some((at, event)) = self.next() {
            self.now = at;
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
                Event::Antagonists { server } => {
                    let next = self.machines[server as usize].redraw(at, &self.entropy);
                    self.reschedule(server as usize);
                    if let Some(next) = next {
                        self.at(next, Event::Antagonists { server });
                    }
                }
                Event::Throttle { server } => {
                    let part = self.throttled(server as usize);
                    self.machines[server as usize].throttle(at, part);
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
        for server in 0..self.machines.len() {
            if self.machines[server].server.antagonists.is_some() {
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
        let span = exponential(1.0 / self.fleet.rate, &self.entropy);
        self.at(self.now + (span * 1e9) as u64, Event::Call);
    }

    fn call(&mut self) {
        let client = (self.entropy.draw() % self.clients.len().max(1) as u64) as usize;
        let work = self.fleet.work.draw(&self.entropy);
        let call = self.calls.take(client, self.now, work);
        self.attempt(call);
    }

    fn attempt(&mut self, number: u32) {
        let call = &mut self.calls.places[number as usize];
        let view = View {
            now: self.began + Duration::from_nanos(self.now),
            machines: &self.machines,
            members: &self.members,
            tried: &call.tried,
            entropy: &self.entropy,
        };
        let Some(server) = self.clients[call.client].choose(&view) else {
            return self.finish(number, false);
        };
        call.server = server;
        call.began = self.now;
        call.attempt = call.attempt.wrapping_add(1);
        call.attempts += 1;
        let ticket = Ticket { call: number, attempt: call.attempt };
        self.report.hits.push(Hit { at: self.now, server: server as u32 });
        self.at(self.now + nanos(self.fleet.network), Event::Request(ticket));
        self.timeouts.push_back((self.now + nanos(self.fleet.timeout), ticket));
    }

    fn request(&mut self, ticket: Ticket) {
        let Some(Call { server, work, .. }) = self.calls.get(ticket) else { return };
        let (server, work) = (*server, *work);
        for fault in self.faults(server).collect::<Vec<_>>() {
            match fault {
                Fault::Fail => return self.answer(ticket, server, false, 0),
                Fault::Stray(share) if self.entropy.unit() < share => {
                    return self.answer(ticket, server, false, 0);
                }
                Fault::Hang => {
                    self.machines[server].hang();
                    self.calls.places[ticket.call as usize].hangs = true;
                    return;
                }
                Fault::Stray(_) | Fault::Slow(_) | Fault::Throttled(_) => {}
            }
        }
        self.machines[server].arrive(self.now, ticket, work);
        self.reschedule(server);
    }

    fn done(&mut self, server: usize, epoch: u32) {
        if self.machines[server].epoch != epoch {
            return;
        }
        let ticket = self.machines[server].complete(self.now);
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
        let report = self.fleet.reports.then(|| self.machines[server].said());
        let at = self.now + extra + nanos(self.fleet.network);
        self.at(at, Event::Answer { ticket, ok, report });
    }

    fn ended(&mut self, ticket: Ticket, outcome: Outcome, said: Option<Said>) {
        let Some(call) = self.calls.get(ticket) else { return };
        let (server, client) = (call.server, call.client);
        let began = self.began + Duration::from_nanos(call.began);
        if std::mem::take(&mut call.hangs) {
            self.machines[server].unhang();
        }
        let ended = Ended { began, outcome, report: said.map(Said::report) };
        let view = View {
            now: self.began + Duration::from_nanos(self.now),
            machines: &self.machines,
            members: &self.members,
            tried: &[],
            entropy: &self.entropy,
        };
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
        self.report.calls.push(Called { at: came, took: self.now - came, ok });
        self.calls.give_back(number);
    }

    fn member(&mut self, server: usize, member: bool) {
        self.members[server] = member;
        let view = View {
            now: self.began + Duration::from_nanos(self.now),
            machines: &self.machines,
            members: &self.members,
            tried: &[],
            entropy: &self.entropy,
        };
        self.clients.iter_mut().for_each(|client| client.changed(server, member, &view));
    }

    fn reschedule(&mut self, server: usize) {
        if let Some(at) = self.machines[server].next() {
            let epoch = self.machines[server].epoch;
            self.at(at, Event::Done { server: server as u32, epoch });
        }
    }

    /// What is wrong with this server now.
    fn faults(&self, server: usize) -> impl Iterator<Item = Fault> {
        let now = Duration::from_nanos(self.now);
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

impl Calls {
    fn take(&mut self, client: usize, now: u64, work: f64) -> u32 {
        let number = self.free.pop().unwrap_or_else(|| {
            self.places.push(Call::default());
            self.places.len() as u32 - 1
        });
        let place = &mut self.places[number as usize];
        place.tried.clear();
        (place.client, place.came, place.work) = (client, now, work);
        (place.attempts, place.hangs) = (0, false);
        self.under_way += 1;
        number
    }

    fn give_back(&mut self, number: u32) {
        let place = &mut self.places[number as usize];
        place.attempt = place.attempt.wrapping_add(1);
        self.free.push(number);
        self.under_way -= 1;
    }

    /// The call, if this attempt of it is the one under way.
    fn get(&mut self, ticket: Ticket) -> Option<&mut Call> {
        let call = &mut self.places[ticket.call as usize];
        (call.attempt == ticket.attempt).then_some(call)
    }
}

/// As late as can be counted, which is 584 years, for what is later.
fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX / 2)
}
