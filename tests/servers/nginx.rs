//! nginx, before an upstream of the test's.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use super::process::{Process, find};

/// A running nginx, and the folder that it writes into.
#[derive(Debug)]
pub(crate) struct Nginx {
    address: SocketAddr,
    folder: PathBuf,
    process: Option<Process>,
}

impl Nginx {
    /// Starts it, if it is there. `requests` is after how many a connection is closed.
    pub(crate) fn start(http2: bool, requests: u32, upstream: SocketAddr) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let program = find("nginx", "nginx/usr/sbin/nginx")?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("nginx-{}-{number}", std::process::id());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&folder).expect("cargo's folder for tests can be written to");

        let socket = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
        let address = socket.local_addr().expect("it is bound");
        let config = include_str!("nginx.conf")
            .replace("@PORT@", &address.port().to_string())
            .replace("@HTTP2@", if http2 { "http2" } else { "" })
            .replace("@REQUESTS@", &requests.to_string())
            .replace("@UPSTREAM@", &upstream.to_string());
        let file = folder.join("nginx.conf");
        fs::write(&file, config).expect("as above");
        let log = folder.join("error.log");
        let arguments = ["-p".into(), folder.clone(), "-c".into(), file, "-e".into(), log];
        let process = Some(Process::listening(&program, &arguments, socket.into()));
        Some(Self { address, folder, process })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it complained about.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("error.log")).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Before the folder that it writes into.
        self.process = None;
        let _ = fs::remove_dir_all(&self.folder);
    }
}
