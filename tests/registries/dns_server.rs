//! A name server on loopback, over UDP and TCP, that answers what a test says.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use hickory_resolver::proto::{
    op::{Message, ResponseCode},
    rr::{Name, RData, Record, RecordType, rdata::SRV},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UdpSocket},
    task::JoinSet,
};

/// What a question is answered with.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// These records, and those in addition.
    Records(Vec<Record>, Vec<Record>),
    Code(ResponseCode),
    /// As `Records`, but over UDP nothing, with the mark that it was cut off; over TCP too, if
    /// that is so.
    Truncated(Vec<Record>, bool),
    Silence,
    Garbage,
}

/// Runs until it is dropped.
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    zone: Arc<Zone>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Zone {
    replies: Mutex<HashMap<(String, RecordType), Reply>>,
    asked: Mutex<Vec<(String, RecordType, bool)>>,
}

impl NameServer {
    pub(crate) async fn start() -> Self {
        let (udp, tcp) = both().await;
        let address = tcp.local_addr().expect("it is bound");
        let zone = Arc::<Zone>::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(over_udp(udp, Arc::clone(&zone)));
        tasks.spawn(over_tcp(tcp, Arc::clone(&zone)));
        Self { address, zone, _tasks: tasks }
    }

    pub(crate) fn says(&self, name: &str, kind: RecordType, reply: Reply) {
        let mut replies = self.zone.replies.lock().expect("no test panics with it");
        replies.insert((name.to_owned(), kind), reply);
    }

    /// A records of these addresses.
    pub(crate) fn has(&self, name: &str, ttl: u32, ips: &[&str]) {
        let records = ips.iter().map(|ip| record(name, ttl, a(ip))).collect();
        self.says(name, RecordType::A, Reply::Records(records, Vec::new()));
    }

    /// SRV records of (priority, weight, port, target).
    pub(crate) fn lists(&self, name: &str, ttl: u32, services: &[(u16, u16, u16, &str)]) {
        let records = services.iter().map(|&service| record(name, ttl, srv(service))).collect();
        self.says(name, RecordType::SRV, Reply::Records(records, Vec::new()));
    }

    /// How often it was asked for this, over UDP and over TCP.
    pub(crate) fn asked(&self, name: &str, kind: RecordType) -> (usize, usize) {
        let asked = self.zone.asked.lock().expect("no test panics with it");
        let count = |over_tcp| {
            let same = |it: &&(String, RecordType, bool)| {
                (it.0.as_str(), it.1, it.2) == (name, kind, over_tcp)
            };
            asked.iter().filter(same).count()
        };
        (count(false), count(true))
    }
}

/// A port of loopback that is free for both.
pub(crate) async fn both() -> (UdpSocket, TcpListener) {
    loop {
        let tcp = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has ports");
        let address = tcp.local_addr().expect("it is bound");
        if let Ok(udp) = UdpSocket::bind(address).await {
            return (udp, tcp);
        }
    }
}

pub(crate) fn record(name: &str, ttl: u32, data: RData) -> Record {
    Record::from_rdata(Name::from_ascii(name).expect("a name"), ttl, data)
}

pub(crate) fn a(ip: &str) -> RData {
    RData::A(ip.parse().expect("an address"))
}

pub(crate) fn aaaa(ip: &str) -> RData {
    RData::AAAA(ip.parse().expect("an address"))
}

pub(crate) fn srv((priority, weight, port, target): (u16, u16, u16, &str)) -> RData {
    RData::SRV(SRV::new(priority, weight, port, Name::from_ascii(target).expect("a name")))
}

impl Zone {
    /// The answer to a question, or none.
    fn answer(&self, question: &[u8], over_tcp: bool) -> Option<Vec<u8>> {
        let question = Message::from_vec(question).expect("hickory asks well");
        let query = question.queries.first().expect("it asks for something").clone();
        let (name, kind) = (query.name().to_ascii().to_lowercase(), query.query_type());
        let asked = (name.clone(), kind, over_tcp);
        self.asked.lock().expect("no test panics with it").push(asked);
        let replies = self.replies.lock().expect("no test panics with it");
        let known = replies.keys().any(|(known, _)| *known == name);
        let code = if known { ResponseCode::NoError } else { ResponseCode::NXDomain };
        let reply = replies.get(&(name, kind)).cloned().unwrap_or(Reply::Code(code));

        let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
        answer.add_query(query);
        answer.metadata.recursion_available = true;
        match reply {
            Reply::Records(records, more) => {
                answer.add_answers(records).add_additionals(more);
            }
            Reply::Code(code) => answer.metadata.response_code = code,
            Reply::Truncated(records, always) if over_tcp && !always => {
                answer.add_answers(records);
            }
            Reply::Truncated(..) => answer.metadata.truncation = true,
            Reply::Silence => return None,
            Reply::Garbage => {
                let mut bytes = answer.to_vec().expect("it is small");
                bytes.truncate(12);
                // Claims an answer that is not there.
                bytes[7] = 9;
                return Some(bytes);
            }
        }
        Some(answer.to_vec().expect("it is small"))
    }
}

async fn over_udp(socket: UdpSocket, zone: Arc<Zone>) {
    let mut question = [0; 4096];
    while let Ok((length, from)) = socket.recv_from(&mut question).await {
        if let Some(answer) = zone.answer(&question[..length], false) {
            let _ = socket.send_to(&answer, from).await;
        }
    }
}

async fn over_tcp(listener: TcpListener, zone: Arc<Zone>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, Arc::clone(&zone)));
    }
}

async fn serve(mut stream: TcpStream, zone: Arc<Zone>) {
    while let Ok(length) = stream.read_u16().await {
        let mut question = vec![0; length.into()];
        if stream.read_exact(&mut question).await.is_err() {
            return;
        }
        if let Some(answer) = zone.answer(&question, true) {
            let length = u16::try_from(answer.len()).expect("it is small");
            let whole = [&length.to_be_bytes()[..], &answer].concat();
            if stream.write_all(&whole).await.is_err() {
                return;
            }
        }
    }
}
