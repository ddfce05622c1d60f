//! One instance: a process that writes down each call it begins to carry out, and answers.

use std::{
    collections::HashMap,
    convert::Infallible,
    env, fs,
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::network::Network;

/// Nobody else is in its namespace.
const PORT: u16 = 8080;
/// What a call takes. Much more than a busy machine's accidents, after which a balancer would
/// rightly prefer others, and so long that each instance is at work whenever it falls ill.
const WORK: Duration = Duration::from_millis(50);
/// Which book an instance writes, in its environment.
const BOOK: &str = "BUTTRESS_PARTITION_BOOK";
/// How long it may take to listen, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(20);

/// An instance in its namespace.
#[derive(Debug)]
pub(crate) struct Instance {
    number: u8,
    address: SocketAddr,
    book: PathBuf,
    process: Child,
}

impl Instance {
    /// Starts it, with an empty book, and waits until it listens.
    pub(crate) fn start(network: &Network, number: u8) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let book = folder.join(format!("partition-{}-{number}", std::process::id()));
        fs::write(&book, "").expect("the tests' folder can be written");
        let address = SocketAddr::from((network.address(number), PORT));
        let process = spawn(network, number, &book);
        let instance = Self { number, address, book, process };
        instance.wait_until_it_listens();
        instance
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it is our child");
    }

    /// Starts it again where it was.
    pub(crate) fn restart(&mut self, network: &Network) {
        self.process = spawn(network, self.number, &self.book);
        self.wait_until_it_listens();
    }

    /// SIGSTOP: the system goes on to take its connections, and nothing is done with them.
    pub(crate) fn hang(&self) {
        self.signal("STOP");
    }

    /// SIGCONT.
    pub(crate) fn wake(&self) {
        self.signal("CONT");
    }

    /// How often it began to carry out each call.
    pub(crate) fn carried_out(&self) -> HashMap<u64, u32> {
        let mut times = HashMap::new();
        let book = fs::read_to_string(&self.book).expect("the book can be read");
        for call in book.lines() {
            let call = call.parse().unwrap_or_else(|_| panic!("{call:?} is no call"));
            *times.entry(call).or_default() += 1;
        }
        times
    }

    fn signal(&self, name: &str) {
        let command = format!("kill -{name} {}", self.process.id());
        let status = Command::new("/bin/sh").args(["-c", &command]).status();
        assert!(status.expect("there is a shell").success(), "{command}");
    }

    fn wait_until_it_listens(&self) {
        let end = Instant::now() + PATIENCE;
        while let Err(error) = std::net::TcpStream::connect_timeout(&self.address, PATIENCE) {
            assert!(Instant::now() < end, "instance {} does not listen: {error}", self.number);
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_file(&self.book);
    }
}

/// This program again, in the namespace and in the role below.
fn spawn(network: &Network, number: u8, book: &Path) -> Child {
    let mut command = network.command(number, &env::current_exe().expect("it has a name"));
    command
        .args(["--ignored", "--exact", "instance::the_role_of_an_instance"])
        .env(BOOK, book)
        // It ends when this closes.
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("ip is there")
}

#[test]
#[ignore = "the role in which the test starts itself again; alone, there is nothing in it"]
fn the_role_of_an_instance() {
    let Some(book) = env::var_os(BOOK) else { return };
    thread::spawn(|| {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        std::process::exit(0);
    });
    let book = fs::OpenOptions::new().append(true).open(book).expect("our parent made it");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(serve(Arc::new(book)));
}

async fn serve(book: Arc<fs::File>) {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).await.expect("a free port");
    while let Ok((stream, _)) = listener.accept().await {
        let Ok(at) = stream.local_addr() else { continue };
        let book = Arc::clone(&book);
        let service = service_fn(move |request| {
            let book = Arc::clone(&book);
            async move { Ok::<_, Infallible>(answer(&book, at, request).await) }
        });
        tokio::spawn(async move {
            // A client that goes away is no failure of the server.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// Says who answers.
async fn answer(
    mut book: &fs::File,
    at: SocketAddr,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let call = request.uri().path().trim_start_matches('/').to_owned();
    // Whoever was cut off in the middle of it asked for nothing.
    if request.into_body().collect().await.is_ok() {
        // In one piece and at once: what is killed has written all it did.
        book.write_all(format!("{call}\n").as_bytes()).expect("the book can be written");
    }
    tokio::time::sleep(WORK).await;
    Response::new(Full::from(at.to_string()))
}
