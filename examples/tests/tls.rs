//! Real handshakes, over the transport of the example: what failed in one has sent nothing.

use std::{
    future::pending,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use buttress::{
    BoxError, Event, Observer,
    balance::{BalanceConfig, RoundRobin},
    body::Body,
    call::{Attempt, Attempts, Outcome},
    classify::{Blame, Sent},
    client::{Client, Error, Kind},
    endpoint::Endpoint,
    retry::RetryConfig,
};
use http::{Method, Request};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig, pki_types::PrivateKeyDer,
    server::WebPkiClientVerifier, version,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

#[path = "../tls.rs"]
#[expect(dead_code, reason = "its own program")]
pub mod example;

use example::{Certificate, start, transport};

type Result<T = ()> = std::result::Result<T, BoxError>;

const SERVICE: &str = "payments";

#[tokio::test]
async fn sni_and_host_are_the_services_name_whatever_the_address() -> Result {
    let good = certificate(SERVICE, 2999)?;
    let anna = start("Anna", server(&good)?).await?;
    // A port in the name is not dialled either.
    for authority in [SERVICE, "payments:8443"] {
        let client = client_of(authority, &[anna], trusting(&[&good])?, 1, &Opened::default())?;
        let response = client.send(Request::get("/").body("")?).await?;
        let text = response.into_body().collect().await?;
        let expected = format!("Anna, asked for payments (SNI) and Some({authority:?}) (Host)");
        assert_eq!(String::from_utf8_lossy(&text), expected);
    }
    Ok(())
}

#[tokio::test]
async fn an_instance_with_the_certificate_of_another_name_costs_no_call() -> Result {
    one_of_two_is_wrong(&certificate("parcels", 2999)?, "not valid for name").await
}

#[tokio::test]
async fn an_instance_that_let_its_certificate_expire_costs_no_call() -> Result {
    one_of_two_is_wrong(&certificate(SERVICE, 1999)?, "expired").await
}

/// Both are trusted, and one has this certificate.
async fn one_of_two_is_wrong(wrong: &Certificate, words: &str) -> Result {
    let good = certificate(SERVICE, 2999)?;
    let anna = start("Anna", server(&good)?).await?;
    let bert = start("Bert", server(wrong)?).await?;
    let opened = Opened::default();
    let client = client(&[anna, bert], trusting(&[&good, wrong])?, 3, &opened)?;
    // All at once, so that each is under way before the first failure is known, and every second
    // one goes to Bert first.
    let mut calls = JoinSet::new();
    for number in 0..10 {
        let client = client.clone();
        calls.spawn(async move { call(&client, number).await });
    }
    let mut failed = Vec::new();
    while let Some(attempts) = calls.join_next().await {
        failed.extend(attempts??);
    }
    assert_eq!(failed.len(), 5, "{failed:?}");
    for attempt in &failed {
        assert_eq!(attempt.target.map(|target| target.address), Some(bert), "{attempt}");
        sent_nothing(attempt, words);
    }
    assert_eq!(*opened.lock().expect("not poisoned"), [bert]);
    for number in 0..10 {
        let failed = call(&client, number).await?;
        assert!(failed.is_empty(), "its breaker is open: {failed:?}");
    }
    Ok(())
}

/// The failed attempts of a call that was answered. Every second pair of calls posts, without a
/// key: what may have been carried out is not sent again.
async fn call(client: &Client, number: u32) -> Result<Vec<Attempt>> {
    let method = if number & 2 == 0 { Method::GET } else { Method::POST };
    let request = Request::builder().method(method).uri("/charges").body("20 EUR")?;
    let response = client.send(request).await?;
    let attempts = response.extensions().get::<Attempts>().cloned().unwrap_or_default();
    response.into_body().collect().await?;
    Ok(attempts.iter().filter(|attempt| attempt.verdict.is_failure()).cloned().collect())
}

#[tokio::test]
async fn a_peer_that_closes_in_its_handshake_was_sent_nothing() -> Result {
    never_connects(async |mut tcp| hello(&mut tcp).await, "eof").await
}

#[tokio::test]
async fn a_peer_that_answers_an_alert_was_sent_nothing() -> Result {
    never_connects(
        async |mut tcp| {
            hello(&mut tcp).await?;
            // RFC 8446, 5.1 and 6: a record of an alert: fatal, handshake_failure.
            tcp.write_all(&[21, 3, 3, 0, 2, 2, 40]).await
        },
        "HandshakeFailure",
    )
    .await
}

#[tokio::test]
async fn a_peer_that_speaks_plain_http_was_sent_nothing() -> Result {
    never_connects(
        async |mut tcp| {
            hello(&mut tcp).await?;
            tcp.write_all(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n").await
        },
        "corrupt message",
    )
    .await
}

#[tokio::test]
async fn a_peer_that_is_silent_in_its_handshake_was_sent_nothing() -> Result {
    never_connects(async |_tcp| pending().await, "timed out").await
}

/// Reads the client's hello to its end, as what is left would turn a close into a reset: one record
/// (RFC 8446, 5.1).
async fn hello(tcp: &mut TcpStream) -> io::Result<()> {
    let mut head = [0; 5];
    tcp.read_exact(&mut head).await?;
    let mut rest = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
    tcp.read_exact(&mut rest).await?;
    Ok(())
}

/// A call to this peer fails as a connection that could not be made.
async fn never_connects<P>(peer: P, words: &str) -> Result
where
    P: AsyncFn(TcpStream) -> io::Result<()> + 'static,
{
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let client =
        client(&[address], trusting(&[&certificate(SERVICE, 2999)?])?, 1, &Opened::default())?;
    let serve = async {
        loop {
            let served = async { peer(listener.accept().await?.0).await };
            if let Err(error) = served.await {
                break error;
            }
        }
    };
    let error = tokio::select! {
        result = post(&client) => result.err().ok_or("answered")?,
        result = serve => return Err(result.into()),
    };
    assert!(error.is_connect(), "{error:?}");
    assert_eq!(error.sent(), Sent::No);
    let [attempt] = error.attempts() else { panic!("one attempt: {error:?}") };
    sent_nothing(attempt, words);
    Ok(())
}

/// The server asks for a certificate of the client's, which has none.
#[tokio::test]
async fn a_client_that_tls_1_2_refuses_has_sent_nothing() -> Result {
    let error = refused_client(&version::TLS12).await?;
    assert!(error.is_connect(), "{error:?}");
    assert_eq!(error.sent(), Sent::No);
    for attempt in error.attempts() {
        sent_nothing(attempt, "received fatal alert");
    }
    Ok(())
}

/// The client's side of the handshake ends before the server has seen what it sends of a
/// certificate (RFC 8446, 2), so the request follows at once, and the alert (4.4.2.4) comes over a
/// connection that stands. That nothing of the request was read is not to be known here, and a
/// POST without a key is not sent again.
#[tokio::test]
async fn a_client_that_tls_1_3_refuses_may_have_been_heard() -> Result {
    let error = refused_client(&version::TLS13).await?;
    assert_eq!(error.kind(), Kind::Connection, "{error:?}");
    assert_eq!(error.sent(), Sent::Maybe);
    let [attempt] = error.attempts() else { panic!("one attempt: {error:?}") };
    assert_eq!(attempt.verdict.blame, Blame::Endpoint);
    assert!(attempt.to_string().contains("received fatal alert: CertificateRequired"), "{attempt}");
    Ok(())
}

async fn refused_client(version: &'static rustls::SupportedProtocolVersion) -> Result<Error> {
    let good = certificate(SERVICE, 2999)?;
    let clients = WebPkiClientVerifier::builder(Arc::new(roots(&[&good])?)).build()?;
    let tls = ServerConfig::builder_with_protocol_versions(&[version])
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![good.cert.der().clone()], key(&good)?)?;
    let anna = start("Anna", tls).await?;
    let client = client(&[anna], trusting(&[&good])?, 3, &Opened::default())?;
    Ok(post(&client).await.err().ok_or("answered")?)
}

async fn post(client: &Client) -> std::result::Result<http::Response<Body>, Error> {
    client.send(Request::post("/charges").body("20 EUR").expect("sound")).await
}

fn sent_nothing(attempt: &Attempt, words: &str) {
    assert_eq!(attempt.verdict.sent, Sent::No, "{attempt}");
    assert_eq!(attempt.verdict.blame, Blame::Endpoint, "{attempt}");
    let Outcome::Error(text) = &attempt.outcome else { panic!("answered: {attempt}") };
    assert!(text.contains(words), "{text}");
}

/// The endpoints whose breakers opened.
type Opened = Arc<Mutex<Vec<SocketAddr>>>;

/// Asks the endpoints in turn. Five failures open a breaker, as by default.
fn client(
    endpoints: &[SocketAddr],
    tls: ClientConfig,
    attempts: u32,
    opened: &Opened,
) -> Result<Client> {
    client_of(SERVICE, endpoints, tls, attempts, opened)
}

fn client_of(
    authority: &str,
    endpoints: &[SocketAddr],
    tls: ClientConfig,
    attempts: u32,
    opened: &Opened,
) -> Result<Client> {
    let opened = Arc::clone(opened);
    Ok(Client::builder(format!("https://{authority}"))
        .endpoints(endpoints.iter().copied())
        .transport(move |endpoint: &Endpoint| transport(endpoint, &tls))
        .retry(RetryConfig::new().max_attempts(attempts)?)
        .balance(BalanceConfig::new().policy(RoundRobin::new()))
        .observer(Observer::new(move |event| {
            if let Event::Breaker { endpoint: Some(endpoint), state: "open", .. } = event {
                opened.lock().expect("not poisoned").push(endpoint.address());
            }
        }))
        .build()?)
}

/// Signed by itself, and good until the year begins.
fn certificate(name: &str, until: i32) -> Result<Certificate> {
    let mut parameters = rcgen::CertificateParams::new([name.to_owned()])?;
    parameters.not_after = rcgen::date_time_ymd(until, 1, 1);
    let signing_key = rcgen::KeyPair::generate()?;
    let cert = parameters.self_signed(&signing_key)?;
    Ok(Certificate { cert, signing_key })
}

fn server(of: &Certificate) -> Result<ServerConfig> {
    Ok(ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![of.cert.der().clone()], key(of)?)?)
}

fn key(of: &Certificate) -> Result<PrivateKeyDer<'static>> {
    Ok(of.signing_key.serialize_der().try_into()?)
}

fn trusting(these: &[&Certificate]) -> Result<ClientConfig> {
    Ok(ClientConfig::builder().with_root_certificates(roots(these)?).with_no_client_auth())
}

fn roots(these: &[&Certificate]) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in these {
        roots.add(certificate.cert.der().clone())?;
    }
    Ok(roots)
}
