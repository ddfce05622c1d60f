//! Real etcd, alone and as a cluster.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, header::AUTHORIZATION};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::process::{Process, find};

/// The members of a cluster, and the folder that they write into.
pub(crate) struct Servers {
    program: PathBuf,
    folder: PathBuf,
    members: Vec<Member>,
    client: Client<HttpConnector, Full<Bytes>>,
}

struct Member {
    client: SocketAddr,
    peer: SocketAddr,
    process: Option<Process>,
}

impl Servers {
    /// Starts `count` of them and waits until they serve, if etcd is there.
    pub(crate) async fn start(count: usize) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let program = find("etcd", "etcd/usr/bin/etcd")?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("etcd-{}-{number}", std::process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&folder).expect("cargo's folder for tests can be written to");
        // etcd can't be given a socket: free ports, which nobody else takes in the moment
        // between. Bound all at once, so that none is given out twice.
        let sockets: Vec<_> = (0..2 * count)
            .map(|_| TcpListener::bind("127.0.0.1:0").expect("loopback has ports"))
            .collect();
        let addresses: Vec<_> =
            sockets.iter().map(|socket| socket.local_addr().expect("it is bound")).collect();
        drop(sockets);
        let members = addresses
            .chunks(2)
            .map(|two| Member { client: two[0], peer: two[1], process: None })
            .collect();
        let client = Client::builder(TokioExecutor::new()).build_http();
        let mut servers = Self { program, folder, members, client };
        (0..count).for_each(|at| servers.run(at));
        servers.serve().await;
        Some(servers)
    }

    /// Starts a member, with what it wrote before.
    pub(crate) fn run(&mut self, at: usize) {
        let peer = |(at, member): (usize, &Member)| format!("m{at}=http://{}", member.peer);
        let cluster: Vec<_> = self.members.iter().enumerate().map(peer).collect();
        let member = &self.members[at];
        let (client, peer) =
            (format!("http://{}", member.client), format!("http://{}", member.peer));
        let data = self.folder.join(format!("m{at}"));
        let data = data.to_str().expect("cargo's folder is UTF-8").to_owned();
        let arguments = [
            ("--name", format!("m{at}")),
            ("--data-dir", data),
            ("--listen-client-urls", client.clone()),
            ("--advertise-client-urls", client),
            ("--listen-peer-urls", peer.clone()),
            ("--initial-advertise-peer-urls", peer),
            ("--initial-cluster", cluster.join(",")),
            ("--log-level", "error".to_owned()),
        ];
        let arguments: Vec<_> =
            arguments.iter().flat_map(|(name, value)| [*name, value.as_str()]).collect();
        self.members[at].process = Some(Process::silent(&self.program, &arguments));
    }

    /// Stops a member.
    pub(crate) fn stop(&mut self, at: usize) {
        self.members[at].process = None;
    }

    /// Waits until the cluster serves.
    pub(crate) async fn serve(&self) {
        let serves = async {
            while self.ask("/v3/kv/range", &json!({ "key": "YQ==" })).await.is_none() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(30), serves).await.expect("a cluster is soon up");
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        self.members.iter().map(|member| format!("http://{}", member.client)).collect()
    }

    /// Asks the first member that answers well.
    pub(crate) async fn ask(&self, path: &str, body: &Value) -> Option<Value> {
        self.ask_as(None, path, body).await
    }

    pub(crate) async fn ask_as(
        &self,
        token: Option<&str>,
        path: &str,
        body: &Value,
    ) -> Option<Value> {
        for member in self.members.iter().filter(|member| member.process.is_some()) {
            let mut request = Request::post(format!("http://{}{path}", member.client));
            if let Some(token) = token {
                request = request.header(AUTHORIZATION, token);
            }
            let request = request.body(Full::from(body.to_string())).expect("it is one");
            let Ok(response) = self.client.request(request).await else { continue };
            if response.status().is_success() {
                let body = response.into_body().collect().await.ok()?.to_bytes();
                return serde_json::from_slice(&body).ok();
            }
        }
        None
    }

    pub(crate) async fn put(&self, key: &str, value: &str) {
        self.put_with(key, value, &Value::Null).await;
    }

    /// With a lease.
    pub(crate) async fn put_with(&self, key: &str, value: &str, lease: &Value) {
        let body = json!({ "key": base64(key), "value": base64(value), "lease": lease });
        self.ask("/v3/kv/put", &body).await.expect("it is put");
    }

    pub(crate) async fn delete(&self, key: &str) {
        let body = json!({ "key": base64(key) });
        self.ask("/v3/kv/deleterange", &body).await.expect("it is deleted");
    }

    /// Grants a lease of so many seconds.
    pub(crate) async fn lease(&self, seconds: u32) -> Value {
        let body = json!({ "TTL": seconds.to_string() });
        self.ask("/v3/lease/grant", &body).await.expect("it is granted")["ID"].clone()
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        // Before the folder that they write into.
        self.members.clear();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Of ASCII, by means other than those of the crate.
pub(crate) fn base64(text: &str) -> String {
    let bits: String = text.bytes().map(|byte| format!("{byte:08b}")).collect();
    let digits = bits.as_bytes().chunks(6).map(|six| {
        let six = format!("{:0<6}", String::from_utf8_lossy(six));
        match u8::from_str_radix(&six, 2).expect("it is binary") {
            digit @ 0..26 => char::from(b'A' + digit),
            digit @ 26..52 => char::from(b'a' + digit - 26),
            digit @ 52..62 => char::from(b'0' + digit - 52),
            62 => '+',
            _ => '/',
        }
    });
    let digits: String = digits.collect();
    format!("{digits}{}", ["", "==", "="][text.len() % 3])
}
