//! DNS against the server of hickory: a zone as a name server has it, with its SOA, CNAMEs and
//! what it gives along, changed while it is served.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use buttress::discover::{Dns, DnsConfig, Family, RegistryErrorKind};
use hickory_resolver::proto::rr::{
    Name, RData, Record, RecordSet, RrKey,
    rdata::{CNAME, SOA},
};
use hickory_server::{
    Server,
    store::in_memory::InMemoryZoneHandler,
    zone_handler::{AxfrPolicy, Catalog, ZoneHandler, ZoneType},
};
use tokio::{
    net::{TcpListener, UdpSocket},
    time::{Instant, timeout},
};

use crate::{
    dns::{NAME, SRV, asks, resilience},
    dns_server::{a, aaaa, both, record, srv},
    said::{self, error, silent},
};

const ZONE: &str = "test.";

/// hickory's server with one zone. It ends when it is dropped.
struct Hickory {
    address: SocketAddr,
    zone: Arc<InMemoryZoneHandler>,
    server: Server<Catalog>,
}

impl Hickory {
    async fn start(records: &[Record]) -> Self {
        let (udp, tcp) = both().await;
        Self::on(udp, Some(tcp), records).await
    }

    async fn on(udp: UdpSocket, tcp: Option<TcpListener>, records: &[Record]) -> Self {
        let address = udp.local_addr().expect("it is bound");
        let origin = name(ZONE);
        let zone = InMemoryZoneHandler::empty(origin.clone(), ZoneType::Primary, AxfrPolicy::Deny);
        let zone = Arc::new(zone);
        let mut catalog = Catalog::new();
        let handler: Arc<dyn ZoneHandler> = Arc::<InMemoryZoneHandler>::clone(&zone);
        catalog.upsert(origin.into(), vec![handler]);
        let mut server = Server::new(catalog);
        server.register_socket(udp);
        if let Some(tcp) = tcp {
            server.register_listener(tcp, Duration::from_secs(5), 16);
        }
        let this = Self { address, zone, server };
        this.has(records).await;
        this
    }

    /// The zone has these records from now on, and no others.
    async fn has(&self, records: &[Record]) {
        // Answers that there is none of something hold for its minimum, a second.
        let soa = SOA::new(name("ns.test."), name("admin.test."), 1, 60, 60, 60, 1);
        let soa = record(ZONE, 1, RData::SOA(soa));
        let mut sets = BTreeMap::<RrKey, RecordSet>::new();
        for record in records.iter().chain([&soa]) {
            let (name, kind) = (record.name.clone(), record.record_type());
            let key = RrKey::new((&name).into(), kind);
            let set = sets.entry(key).or_insert_with(|| RecordSet::new(name, kind, 0));
            assert!(set.insert(record.clone(), 0), "twice in the zone: {record}");
        }
        let sets = sets.into_iter().map(|(key, set)| (key, Arc::new(set))).collect();
        *self.zone.records_mut().await = sets;
    }

    async fn stop(mut self) {
        self.server.shutdown_gracefully().await.expect("it was well");
    }

    fn addresses(&self) -> Dns {
        self.of_family(Family::PreferV4)
    }

    fn of_family(&self, family: Family) -> Dns {
        Dns::new(asks(DnsConfig::new(NAME, 80).expect("a name").family(family), self.address))
    }

    fn services(&self) -> Dns {
        Dns::new(asks(DnsConfig::srv(SRV).expect("a name"), self.address))
    }
}

/// The next set, long before anything of a minute has expired.
async fn set(dns: &mut Dns) -> Vec<String> {
    timeout(Duration::from_secs(20), said::set(dns)).await.expect("it is said soon")
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).expect("a name")
}

/// A records of a name.
fn at(host: &str, ttl: u32, ips: &[&str]) -> Vec<Record> {
    ips.iter().map(|ip| record(host, ttl, a(ip))).collect()
}

#[tokio::test]
async fn a_zone_is_followed_as_its_ttl_says() {
    let server = Hickory::start(&at(NAME, 1, &["10.0.0.1", "10.0.0.2"])).await;
    let mut dns = server.addresses();
    let before = Instant::now();
    assert_eq!(set(&mut dns).await, ["10.0.0.1:80 w1 p0 -", "10.0.0.2:80 w1 p0 -"]);
    assert!(before.elapsed() < Duration::from_millis(900), "the first time, at once");
    server.has(&at(NAME, 60, &["10.0.0.2", "10.0.0.3"])).await;
    assert_eq!(set(&mut dns).await, ["10.0.0.2:80 w1 p0 -", "10.0.0.3:80 w1 p0 -"]);
    assert!(before.elapsed() >= Duration::from_secs(1), "not before");
    server.has(&at(NAME, 60, &["10.0.0.9"])).await;
    silent(&mut dns, Duration::from_millis(1500)).await;
}

/// Goal: the smallest TTL counts, of an alias, too.
#[tokio::test]
async fn an_alias_is_followed_to_wherever_it_leads_now() {
    let alias = |ttl, to| record(NAME, ttl, RData::CNAME(CNAME(name(to))));
    let zone = |to| {
        let hosts = [("blue.test.", "10.0.0.1"), ("green.test.", "10.0.0.2")];
        let hosts = hosts.into_iter().map(|(host, ip)| record(host, 60, a(ip)));
        hosts.chain([alias(1, to)]).collect::<Vec<_>>()
    };
    let server = Hickory::start(&zone("blue.test.")).await;
    let mut dns = server.addresses();
    assert_eq!(set(&mut dns).await, ["10.0.0.1:80 w1 p0 -"]);
    server.has(&zone("green.test.")).await;
    assert_eq!(set(&mut dns).await, ["10.0.0.2:80 w1 p0 -"]);
}

#[tokio::test]
async fn one_family_of_a_zone_is_used() {
    let six = record(NAME, 60, aaaa("2001:db8::1"));
    let server = Hickory::start(std::slice::from_ref(&six)).await;
    let v6 = ["[2001:db8::1]:80 w1 p0 -"];
    assert_eq!(set(&mut server.of_family(Family::PreferV4)).await, v6, "there is no other");
    let none = error(&mut server.of_family(Family::OnlyV4)).await;
    assert_eq!(none.kind(), RegistryErrorKind::Empty, "{none}");
    assert!(none.to_string().contains("no such address"), "{none}");
    server.has(&[six, record(NAME, 60, a("10.0.0.1"))]).await;
    assert_eq!(set(&mut server.of_family(Family::PreferV4)).await, ["10.0.0.1:80 w1 p0 -"]);
    assert_eq!(set(&mut server.of_family(Family::PreferV6)).await, v6);
}

#[tokio::test]
async fn services_of_a_zone_have_ports_weights_and_priorities() {
    let zone = |services: &[(u16, u16, u16, &str)], hosts: &[(&str, &[&str])]| {
        let hosts = hosts.iter().flat_map(|(host, ips)| at(host, 1, ips));
        let services = services.iter().map(|&service| record(SRV, 60, srv(service)));
        services.chain(hosts).collect::<Vec<_>>()
    };
    let (low, high) = ((0, 70, 8081, "a.test."), (0, 0, 8082, "B.test."));
    let hosts: [(&str, &[&str]); 2] = [("a.test.", &["10.0.0.1"]), ("b.test.", &["10.0.0.2"])];
    let server = Hickory::start(&zone(&[low, high, (1, 5, 8083, "a.test.")], &hosts)).await;
    let mut dns = server.services();
    let said = [
        "a.test 10.0.0.1:8081 w70 p0 -",
        "a.test 10.0.0.1:8083 w5 p1 -",
        "b.test 10.0.0.2:8082 w0 p0 -",
    ];
    assert_eq!(set(&mut dns).await, said);
    // Another weight, one less, and one that moved to two addresses.
    let hosts: [(&str, &[&str]); 2] =
        [("a.test.", &["10.0.0.1"]), ("b.test.", &["10.0.0.3", "10.0.0.4"])];
    server.has(&zone(&[(0, 30, 8081, "a.test."), high], &hosts)).await;
    let said = [
        "a.test 10.0.0.1:8081 w30 p0 -",
        "b.test 10.0.0.3:8082 w0 p0 -",
        "b.test 10.0.0.4:8082 w0 p0 -",
    ];
    assert_eq!(set(&mut dns).await, said, "the addresses have expired, and not the services");
    // A target of which the zone has no address is left out, and said.
    server.has(&zone(&[(0, 30, 8081, "a.test."), (0, 1, 80, "c.test.")], &hosts)).await;
    let mut anew = server.services();
    assert_eq!(set(&mut anew).await, ["a.test 10.0.0.1:8081 w30 p0 -"]);
    let odd = error(&mut anew).await;
    assert_eq!(odd.kind(), RegistryErrorKind::Malformed, "{odd}");
    assert!(odd.to_string().contains("`c.test`"), "{odd}");
}

#[tokio::test]
async fn a_name_that_leaves_its_zone_is_empty_and_comes_back() {
    let (here, other) = (at(NAME, 1, &["10.0.0.1"]), at("other.test.", 1, &["10.0.0.8"]));
    let server = Hickory::start(&here).await;
    let mut keeps = server.addresses();
    let config = asks(DnsConfig::new(NAME, 80).expect("a name"), server.address);
    let mut clears = Dns::new(config.resilience(resilience().keep_when_empty(false)));
    set(&mut keeps).await;
    set(&mut clears).await;
    server.has(&other).await;
    let gone = error(&mut keeps).await;
    assert_eq!(gone.kind(), RegistryErrorKind::Empty, "{gone}");
    let text = gone.to_string();
    assert!(text.contains("NXDOMAIN") && text.ends_with("the last good set stays"), "{gone}");
    assert_eq!(set(&mut clears).await, [""; 0]);
    // Of the last good set nothing has to be said anew; of the empty one it has.
    server.has(&here).await;
    assert_eq!(set(&mut clears).await, ["10.0.0.1:80 w1 p0 -"]);
    // A zone that this server does not have at all.
    let config = DnsConfig::new("payments.example.", 80).expect("a name");
    let refused = error(&mut Dns::new(asks(config, server.address))).await;
    assert_eq!(refused.kind(), RegistryErrorKind::Refused, "{refused}");
}

#[tokio::test]
async fn what_does_not_fit_into_a_datagram_is_asked_for_over_tcp() {
    let ips: Vec<String> = (0..200).map(|n| format!("10.0.0.{n}")).collect();
    let ips: Vec<&str> = ips.iter().map(String::as_str).collect();
    let many = at(NAME, 60, &ips);
    let server = Hickory::start(&many).await;
    assert_eq!(set(&mut server.addresses()).await.len(), 200);
    // Without TCP there is only the mark that it was cut off.
    let (udp, tcp) = both().await;
    drop(tcp);
    let server = Hickory::on(udp, None, &many).await;
    let cut = error(&mut server.addresses()).await;
    assert_eq!(cut.kind(), RegistryErrorKind::Malformed, "{cut}");
    server.has(&many[..10]).await;
    assert_eq!(set(&mut server.addresses()).await.len(), 10, "these fit");
}

#[tokio::test]
async fn a_server_that_comes_back_with_another_zone_is_followed() {
    let server = Hickory::start(&at(NAME, 1, &["10.0.0.1"])).await;
    let (address, mut dns) = (server.address, server.addresses());
    assert_eq!(set(&mut dns).await, ["10.0.0.1:80 w1 p0 -"]);
    server.stop().await;
    let gone = error(&mut dns).await;
    assert!(gone.named_some() && gone.to_string().contains("the last good set stays"), "{gone}");
    let tcp = TcpListener::bind(address).await.expect("nobody else has it");
    let udp = UdpSocket::bind(address).await.expect("as above");
    let server = Hickory::on(udp, Some(tcp), &at(NAME, 1, &["10.0.0.2"])).await;
    assert_eq!(set(&mut dns).await, ["10.0.0.2:80 w1 p0 -"]);
    drop(server);
}
