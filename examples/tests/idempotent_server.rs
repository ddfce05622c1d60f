//! The durable server of the example, killed (SIGKILL) where it hurts, and started again on the
//! same file.
//!
//! Real processes and real time: a lease is a second long here. Run with `cargo test -p
//! buttress-examples`, which builds the example.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use buttress::{BoxError, client::Client, retry::RetryConfig};
use buttress_examples::support::child::Child;
use http::Request;
use tokio::time::sleep;

/// A little more than the example's lease.
const LEASE: Duration = Duration::from_millis(1_100);

type Result<T = ()> = std::result::Result<T, BoxError>;

/// A file of the test's own, new.
fn file(name: &str) -> Result<PathBuf> {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.redb"));
    if file.exists() {
        std::fs::remove_file(&file)?;
    }
    Ok(file)
}

/// The server on this file, and a client that tells all it hears and repeats nothing.
struct Server {
    child: Child,
    client: Client,
}

impl Server {
    async fn start(file: &Path, args: &[&str]) -> Result<Self> {
        let me = std::env::current_exe()?;
        let target = me.parent().and_then(Path::parent).ok_or("the test has no target folder")?;
        let program = target
            .join("examples")
            .join("idempotent_server")
            .with_extension(std::env::consts::EXE_EXTENSION);
        let mut all = vec![PathBuf::from("serve"), file.to_path_buf()];
        all.extend(args.iter().map(PathBuf::from));
        let mut child = Child::start(&program, &all)?;
        let address: SocketAddr = child.says("listening").await?.parse()?;
        let client = Client::builder("http://payments")
            .endpoints([address])
            .retry(RetryConfig::new().max_attempts(1)?)
            .build()?;
        Ok(Self { child, client })
    }

    /// Begins a charge under this key, and kills the server where it halts.
    async fn dies_at_a_charge(mut self, key: &str) -> Result {
        let (client, request) = (self.client.clone(), charge(key)?);
        let call = tokio::spawn(async move { client.send(request).await });
        self.child.says("halted").await?;
        self.child.kill().await?;
        assert!(call.await?.is_err(), "nobody was there to answer");
        Ok(())
    }

    /// Status, body, and whether the answer was told again.
    async fn charge(&self, key: &str) -> Result<(u16, String, bool)> {
        let response = self.client.send(charge(key)?).await?;
        let replayed = response.headers().contains_key("idempotent-replayed");
        let status = response.status().as_u16();
        let body = response.into_body().collect().await?;
        Ok((status, String::from_utf8(body.into())?, replayed))
    }

    async fn charges(&self) -> Result<String> {
        let response = self.client.send(Request::get("/charges").body("")?).await?;
        Ok(String::from_utf8(response.into_body().collect().await?.into())?)
    }
}

fn charge(key: &str) -> Result<Request<&'static str>> {
    Ok(Request::post("/charges").header("Idempotency-Key", format!("\"{key}\"")).body("20 EUR")?)
}

fn first(replayed: bool) -> (u16, String, bool) {
    (201, "charge 1: 20 EUR".to_owned(), replayed)
}

#[tokio::test]
async fn killed_between_taking_the_key_and_the_work_it_works_once_after_the_lease() -> Result {
    let file = file("begun")?;
    Server::start(&file, &["begun"]).await?.dies_at_a_charge("a").await?;
    let server = Server::start(&file, &[]).await?;
    assert_eq!(server.charges().await?, "0");
    sleep(LEASE).await;
    assert_eq!(server.charge("a").await?, first(false));
    assert_eq!(server.charge("a").await?, first(true));
    assert_eq!(server.charges().await?, "1");
    Ok(())
}

#[tokio::test]
async fn until_the_lease_ends_it_is_at_work_as_far_as_anybody_knows() -> Result {
    let file = file("lease")?;
    Server::start(&file, &["begun", "lease=60"]).await?.dies_at_a_charge("a").await?;
    let server = Server::start(&file, &["lease=60"]).await?;
    let (status, body, _) = server.charge("a").await?;
    assert_eq!(status, 409, "{body}");
    assert_eq!(server.charges().await?, "0");
    Ok(())
}

#[tokio::test]
async fn killed_between_the_work_and_the_answer_it_tells_the_answer() -> Result {
    let file = file("done")?;
    Server::start(&file, &["done"]).await?.dies_at_a_charge("a").await?;
    let server = Server::start(&file, &[]).await?;
    assert_eq!(server.charge("a").await?, first(true), "no lease is waited for");
    assert_eq!(server.charges().await?, "1");
    Ok(())
}

#[tokio::test]
async fn killed_again_and_again_it_still_works_once() -> Result {
    let file = file("again")?;
    for halt in ["begun", "begun", "done"] {
        Server::start(&file, &[halt]).await?.dies_at_a_charge("a").await?;
        sleep(LEASE).await;
    }
    let server = Server::start(&file, &[]).await?;
    assert_eq!(server.charge("a").await?, first(true));
    assert_eq!(server.charges().await?, "1");
    let (status, body, _) = server.charge("b").await?;
    assert_eq!((status, &*body), (201, "charge 2: 20 EUR"));
    Ok(())
}

#[tokio::test]
async fn work_apart_from_the_key_is_never_done_again_and_its_outcome_said_to_be_unknown() -> Result
{
    for (halt, charges) in [("begun", "0"), ("done", "1")] {
        let file = file(&format!("apart-{halt}"))?;
        Server::start(&file, &["apart", halt]).await?.dies_at_a_charge("a").await?;
        let server = Server::start(&file, &["apart"]).await?;
        sleep(LEASE).await;
        for _ in 0..2 {
            let (status, body, replayed) = server.charge("a").await?;
            assert_eq!((status, replayed), (500, false), "{body}");
            assert!(body.contains(r#""code":"outcome_unknown""#), "{body}");
        }
        assert_eq!(server.charges().await?, charges);
        let (status, ..) = server.charge("b").await?;
        assert_eq!(status, 201, "other keys are not touched");
    }
    Ok(())
}

#[tokio::test]
async fn it_ends_when_its_standard_input_closes() -> Result {
    let server = Server::start(&file("ends")?, &[]).await?;
    assert!(server.child.end().await?.success());
    Ok(())
}
