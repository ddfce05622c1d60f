//! DNS: dnsmasq, and for what no real server can be made to answer a name server of our own. A
//! real one inside the test is in `dns_zone.rs`.

use std::{
    fs,
    net::{SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    time::Duration,
};

use buttress::discover::{Dns, DnsConfig, Family, RegistryErrorKind, ResilientConfig};
use hickory_resolver::proto::{op::ResponseCode, rr::RecordType};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    dns_server::{NameServer, Reply, a, aaaa, record, srv},
    process::{Process, find},
    said::{self, error, set, silent},
};

pub(crate) const NAME: &str = "payments.test.";
pub(crate) const SRV: &str = "_http._tcp.payments.test.";

/// These tests wait in real time.
pub(crate) fn resilience() -> ResilientConfig {
    let (first, longest) = (Duration::from_millis(50), Duration::from_millis(200));
    said::resilience().backoff(first, longest).expect("it is right")
}

pub(crate) fn asks(config: DnsConfig, server: SocketAddr) -> DnsConfig {
    let config = config.servers([server]).expect("a server").resilience(resilience());
    let config = config.timeout(Duration::from_millis(200)).expect("long enough");
    config.ttl(Duration::from_secs(1), Duration::from_secs(60)).expect("in order")
}

fn addresses(server: &NameServer) -> Dns {
    Dns::new(asks(DnsConfig::new(NAME, 80).expect("a name"), server.address))
}

fn services(server: &NameServer) -> Dns {
    Dns::new(asks(DnsConfig::srv(SRV).expect("a name"), server.address))
}

#[tokio::test]
async fn addresses_are_asked_for_again_when_they_have_expired() {
    let server = NameServer::start().await;
    server.has(NAME, 1, &["10.0.0.1", "10.0.0.2"]);
    let mut dns = addresses(&server);
    let before = Instant::now();
    assert_eq!(set(&mut dns).await, ["10.0.0.1:80 w1 p0 -", "10.0.0.2:80 w1 p0 -"]);
    assert!(before.elapsed() < Duration::from_millis(900), "the first time, at once");
    server.has(NAME, 60, &["10.0.0.2", "10.0.0.3"]);
    assert_eq!(set(&mut dns).await, ["10.0.0.2:80 w1 p0 -", "10.0.0.3:80 w1 p0 -"]);
    assert!(before.elapsed() >= Duration::from_secs(1), "not before");
    assert_eq!(server.asked(NAME, RecordType::A), (2, 0));
    server.has(NAME, 60, &["10.0.0.9"]);
    silent(&mut dns, Duration::from_millis(1500)).await;
    assert_eq!(server.asked(NAME, RecordType::A), (2, 0), "now it holds for a minute");
}

#[tokio::test]
async fn one_family_is_used() {
    let server = NameServer::start().await;
    let six = vec![record(NAME, 60, aaaa("2001:db8::1"))];
    server.says(NAME, RecordType::AAAA, Reply::Records(six, Vec::new()));
    let of = |family| {
        let config = DnsConfig::new(NAME, 80).expect("a name").family(family);
        Dns::new(asks(config, server.address))
    };
    let v6 = ["[2001:db8::1]:80 w1 p0 -"];
    assert_eq!(set(&mut of(Family::PreferV4)).await, v6, "there is no other");
    server.has(NAME, 60, &["10.0.0.1"]);
    assert_eq!(set(&mut of(Family::PreferV4)).await, ["10.0.0.1:80 w1 p0 -"]);
    assert_eq!(set(&mut of(Family::PreferV6)).await, v6);
    assert_eq!(set(&mut of(Family::OnlyV6)).await, v6);
    // An error of the first family is no reason to believe that there are none of it.
    server.says(NAME, RecordType::A, Reply::Code(ResponseCode::ServFail));
    assert_eq!(error(&mut of(Family::PreferV4)).await.kind(), RegistryErrorKind::Refused);
}

#[tokio::test]
async fn services_have_ports_weights_and_priorities() {
    let server = NameServer::start().await;
    let listed = [(0, 70, 8081, "a.test."), (0, 0, 8082, "B.test."), (1, 5, 8083, "a.test.")];
    server.lists(SRV, 60, &listed);
    server.has("a.test.", 60, &["10.0.0.1"]);
    server.has("b.test.", 1, &["10.0.0.2"]);
    let mut dns = services(&server);
    let said = [
        "a.test 10.0.0.1:8081 w70 p0 -",
        "a.test 10.0.0.1:8083 w5 p1 -",
        "b.test 10.0.0.2:8082 w0 p0 -",
    ];
    assert_eq!(set(&mut dns).await, said);
    assert_eq!(server.asked("a.test.", RecordType::A), (1, 0), "once for two records");
    // The smallest TTL is that of an address.
    server.has("b.test.", 60, &["10.0.0.3"]);
    let soon = timeout(Duration::from_secs(20), set(&mut dns)).await;
    assert_eq!(soon.expect("long before the others")[2], "b.test 10.0.0.3:8082 w0 p0 -");
}

#[tokio::test]
async fn addresses_that_come_along_are_not_asked_for() {
    let server = NameServer::start().await;
    let records = vec![
        record(SRV, 60, srv((0, 1, 80, "a.test."))),
        record(SRV, 60, srv((0, 1, 80, "b.test."))),
    ];
    // Of b, only what is of the other family came along.
    let along =
        vec![record("a.test.", 60, a("10.0.0.1")), record("b.test.", 60, aaaa("2001:db8::1"))];
    server.says(SRV, RecordType::SRV, Reply::Records(records, along));
    server.has("b.test.", 60, &["10.0.0.2"]);
    let mut dns = services(&server);
    assert_eq!(set(&mut dns).await, ["a.test 10.0.0.1:80 w1 p0 -", "b.test 10.0.0.2:80 w1 p0 -"]);
    assert_eq!(server.asked("a.test.", RecordType::A), (0, 0));
}

#[tokio::test]
async fn a_target_that_fails_keeps_its_last_addresses() {
    let server = NameServer::start().await;
    server.lists(SRV, 1, &[(0, 1, 80, "a.test."), (0, 1, 80, "b.test.")]);
    server.has("a.test.", 1, &["10.0.0.1"]);
    server.has("b.test.", 1, &["10.0.0.2"]);
    let mut dns = services(&server);
    let both = ["a.test 10.0.0.1:80 w1 p0 -", "b.test 10.0.0.2:80 w1 p0 -"];
    assert_eq!(set(&mut dns).await, both);
    server.says("a.test.", RecordType::A, Reply::Code(ResponseCode::ServFail));
    let said = error(&mut dns).await;
    assert_eq!((said.kind(), said.retry_in()), (RegistryErrorKind::Malformed, None));
    let expected = "`a.test` can't be looked up (a name server answered Server Failure), its last \
                    addresses stay; the rest is used";
    assert!(said.to_string().ends_with(expected), "{said}");
    server.has("b.test.", 1, &["10.0.0.3"]);
    assert_eq!(set(&mut dns).await, [both[0], "b.test 10.0.0.3:80 w1 p0 -"]);
    server.says("b.test.", RecordType::A, Reply::Code(ResponseCode::Refused));
    let said = error(&mut dns).await;
    assert_eq!(said.kind(), RegistryErrorKind::Refused, "{said}");
    assert!(said.to_string().contains("none of its targets can be looked up"), "{said}");
}

#[tokio::test]
async fn a_negative_answer_is_empty_and_a_decision() {
    let server = NameServer::start().await;
    for (names, says) in [(false, "there is no such name (NXDOMAIN)"), (true, "no such address")] {
        server.has(NAME, 1, &["10.0.0.1"]);
        let mut keeps = addresses(&server);
        let config = asks(DnsConfig::new(NAME, 80).expect("a name"), server.address);
        let mut clears = Dns::new(config.resilience(resilience().keep_when_empty(false)));
        set(&mut keeps).await;
        set(&mut clears).await;
        let code = if names { ResponseCode::NoError } else { ResponseCode::NXDomain };
        server.says(NAME, RecordType::A, Reply::Code(code));
        server.says(NAME, RecordType::AAAA, Reply::Code(code));
        let said = error(&mut keeps).await;
        assert_eq!(said.kind(), RegistryErrorKind::Empty, "{said}");
        let text = said.to_string();
        assert!(text.contains(says) && text.ends_with("the last good set stays"), "{said}");
        assert_eq!(set(&mut clears).await, [""; 0]);
    }
    // The root as the only target.
    server.lists(SRV, 60, &[(0, 0, 0, ".")]);
    let said = error(&mut services(&server)).await;
    assert!(said.to_string().contains("says that the service is not available"), "{said}");
}

#[tokio::test]
async fn an_error_keeps_the_last_good_set() {
    let server = NameServer::start().await;
    let mut dns = addresses(&server);
    server.says(NAME, RecordType::A, Reply::Code(ResponseCode::ServFail));
    let said = error(&mut dns).await;
    let text = said.to_string();
    assert!(text.starts_with("DNS for the addresses of `payments.test.`: "), "{text}");
    assert!(text.contains("answered Server Failure; it has named no endpoint so far"), "{text}");
    server.has(NAME, 1, &["10.0.0.1"]);
    assert_eq!(set(&mut dns).await, ["10.0.0.1:80 w1 p0 -"]);
    for (reply, kind) in [
        (Reply::Code(ResponseCode::Refused), RegistryErrorKind::Refused),
        (Reply::Silence, RegistryErrorKind::TimedOut),
        (Reply::Truncated(Vec::new(), true), RegistryErrorKind::Malformed),
    ] {
        server.says(NAME, RecordType::A, reply.clone());
        let said = error(&mut dns).await;
        assert_eq!(said.kind(), kind, "{reply:?}: {said}");
        assert!(said.to_string().contains("the last good set stays"), "{said}");
        // Well again, and as it was: that is said once.
        server.has(NAME, 1, &["10.0.0.1"]);
        assert_eq!(set(&mut dns).await, ["10.0.0.1:80 w1 p0 -"]);
        silent(&mut dns, Duration::from_millis(300)).await;
    }
    server.says(NAME, RecordType::A, Reply::Garbage);
    assert!(error(&mut dns).await.named_some());
    server.has(NAME, 1, &["10.0.0.2"]);
    assert_eq!(set(&mut dns).await, ["10.0.0.2:80 w1 p0 -"]);
}

#[tokio::test]
async fn what_is_cut_off_is_asked_for_over_tcp() {
    let server = NameServer::start().await;
    let many: Vec<_> = (0..200).map(|n| record(NAME, 60, a(&format!("10.0.0.{n}")))).collect();
    server.says(NAME, RecordType::A, Reply::Truncated(many, false));
    assert_eq!(set(&mut addresses(&server)).await.len(), 200);
    assert_eq!(server.asked(NAME, RecordType::A), (1, 1));
}

#[tokio::test]
async fn another_server_is_asked_where_one_is_silent() {
    let (server, silent) = (NameServer::start().await, NameServer::start().await);
    silent.says(NAME, RecordType::A, Reply::Silence);
    server.has(NAME, 60, &["10.0.0.1"]);
    let config = asks(DnsConfig::new(NAME, 80).expect("a name"), silent.address);
    let config = config.servers([silent.address, server.address]).expect("servers");
    assert_eq!(set(&mut Dns::new(config)).await, ["10.0.0.1:80 w1 p0 -"]);
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for name in ["", ".", "10.0.0.7", "::1", "a..b", &"a".repeat(64)] {
        assert!(DnsConfig::new(name, 80).is_err(), "{name:?}");
        assert!(DnsConfig::srv(name).is_err(), "{name:?}");
    }
    assert!(DnsConfig::new(NAME, 0).is_err());
    let config = || DnsConfig::new(NAME, 80).expect("a name");
    assert!(config().servers([]).is_err());
    let second = Duration::from_secs(1);
    assert!(config().ttl(Duration::ZERO, second).is_err());
    assert!(config().ttl(2 * second, second).is_err());
    assert!(config().ttl(second, Duration::MAX).is_err());
    assert!(config().timeout(Duration::ZERO).is_err());
    assert!(config().timeout(61 * second).is_err());
}

/// dnsmasq, with these lines in its configuration.
struct Dnsmasq {
    address: SocketAddr,
    folder: PathBuf,
    process: Option<Process>,
}

impl Dnsmasq {
    async fn start(name: &str, lines: &[String]) -> Option<Self> {
        let program = find("dnsmasq", "dnsmasq/usr/sbin/dnsmasq")?;
        let name = format!("dnsmasq-{}-{name}", std::process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&folder).expect("cargo's folder for tests can be written to");
        // It can't be given a socket: a port that is free for both, and that nobody else takes
        // in the moment between.
        let address = loop {
            let tcp = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
            let address = tcp.local_addr().expect("it is bound");
            if UdpSocket::bind(address).is_ok() {
                break address;
            }
        };
        let mut dnsmasq = Self { address, folder, process: None };
        dnsmasq.run(&program, lines).await;
        Some(dnsmasq)
    }

    async fn run(&mut self, program: &Path, lines: &[String]) {
        self.process = None;
        let file = self.folder.join("dnsmasq.conf");
        let ours = format!(
            "port={}\nlisten-address=127.0.0.1\nbind-interfaces\nno-resolv\nno-hosts\nuser=root\n\
             local=/test/\nlocal-ttl=2\npid-file\n{}\n",
            self.address.port(),
            lines.join("\n"),
        );
        fs::write(&file, ours).expect("as above");
        let conf = format!("--conf-file={}", file.display());
        self.process = Some(Process::silent(program, &["--no-daemon", &conf]));
        let up = async {
            while tokio::net::TcpStream::connect(self.address).await.is_err() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(10), up).await.expect("dnsmasq is soon up");
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        // Before the folder that it reads from.
        self.process = None;
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[tokio::test]
async fn real_services_are_followed_while_their_server_comes_and_goes() {
    let lines = |hosts: &[(&str, u8, u16)]| -> Vec<String> {
        let lines = hosts.iter().flat_map(|(host, n, weight)| {
            [
                format!("srv-host=_http._tcp.payments.test,{host}.test,808{n},{},{weight}", n - 1),
                format!("host-record={host}.test,10.0.0.{n}"),
            ]
        });
        lines.collect()
    };
    let Some(mut dnsmasq) = Dnsmasq::start("services", &lines(&[("a", 1, 70), ("b", 2, 30)])).await
    else {
        return;
    };
    let program = find("dnsmasq", "dnsmasq/usr/sbin/dnsmasq").expect("it was there");
    let mut dns = Dns::new(asks(DnsConfig::srv(SRV).expect("a name"), dnsmasq.address));
    let said = set(&mut dns).await;
    assert_eq!(said, ["a.test 10.0.0.1:8081 w70 p0 -", "b.test 10.0.0.2:8082 w30 p1 -"]);

    dnsmasq.process = None;
    let gone = error(&mut dns).await;
    assert!(gone.named_some() && gone.to_string().contains("the last good set stays"), "{gone}");
    dnsmasq.run(&program, &lines(&[("b", 2, 35), ("c", 3, 0)])).await;
    let said = set(&mut dns).await;
    assert_eq!(said, ["b.test 10.0.0.2:8082 w35 p1 -", "c.test 10.0.0.3:8083 w0 p2 -"]);
    dnsmasq.run(&program, &[]).await;
    loop {
        let said = error(&mut dns).await;
        if said.kind() == RegistryErrorKind::Empty {
            break;
        }
    }
}

#[tokio::test]
async fn real_addresses_that_need_tcp_are_all_there() {
    let hosts: Vec<_> =
        (1..=150).map(|n| format!("host-record=payments.test,10.0.1.{n}")).collect();
    let Some(dnsmasq) = Dnsmasq::start("many", &hosts).await else { return };
    let config = asks(DnsConfig::new(NAME, 80).expect("a name"), dnsmasq.address);
    assert_eq!(set(&mut Dns::new(config)).await.len(), 150);
    // A name that exists without such records, and one that does not.
    for (name, says) in [("_x.payments.test.", "NXDOMAIN"), (NAME, "no such address")] {
        let config = DnsConfig::new(name, 80).expect("a name").family(Family::OnlyV6);
        let said = error(&mut Dns::new(asks(config, dnsmasq.address))).await;
        assert!(said.to_string().contains(says), "{said}");
    }
}

#[tokio::test]
async fn without_servers_the_system_is_asked() {
    // Every system knows this one, with or without a network.
    let config = DnsConfig::new("localhost.", 80).expect("a name").resilience(resilience());
    let said = set(&mut Dns::new(config.family(Family::OnlyV4))).await;
    assert_eq!(said, ["127.0.0.1:80 w1 p0 -"]);
}
