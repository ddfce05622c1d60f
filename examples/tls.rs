//! A transport of your own that speaks TLS: it dials the endpoint's address, and asks for a
//! certificate of the service's name. One of two instances has the certificate of another.
//!
//! `cargo run --example tls`

#![expect(clippy::print_stdout, reason = "an example prints what happens")]

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use buttress::{
    BoxError,
    call::Attempts,
    client::{AttemptBody, Client},
    endpoint::Endpoint,
};
use buttress_examples::support::answer;
use http::{Request, Response, StatusCode, Uri, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tower::{Service, ServiceBuilder};

/// For the connection and its handshake together. A limit of your own, within that of an attempt:
/// only what fails as a connection is known to have sent nothing.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Calls one endpoint over TLS, on connections of its own.
pub fn transport(
    endpoint: &Endpoint,
    tls: &ClientConfig,
) -> impl Service<
    Request<AttemptBody>,
    Response = Response<Incoming>,
    Error = legacy::Error,
    Future: Send,
> + Clone
+ Send
+ Sync
+ use<> {
    let address = endpoint.address();
    // Whatever the URI says: its name is for `Host`, for SNI and for the certificate.
    let dial = tower::service_fn(move |_: Uri| async move {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        io::Result::Ok(TokioIo::new(tcp))
    });
    let dial = HttpsConnectorBuilder::new()
        .with_tls_config(tls.clone())
        .https_only()
        .enable_http1()
        .wrap_connector(dial);
    let dial = ServiceBuilder::new().map_future(Box::pin).timeout(CONNECT_TIMEOUT).service(dial);
    legacy::Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(dial)
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let (anna, bert) = (certificate("payments")?, certificate("parcels")?);
    // Both are trusted. What is wrong with Bert's is the name.
    let mut roots = RootCertStore::empty();
    roots.add(anna.cert.der().clone())?;
    roots.add(bert.cert.der().clone())?;
    let tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let (anna, bert) = (start("Anna", server(&anna)?).await?, start("Bert", server(&bert)?).await?);
    println!("Anna at {anna} has the certificate of `payments`, Bert at {bert} of `parcels`.");

    let client = Client::builder("https://payments")
        .endpoints([anna, bert])
        .transport(move |endpoint: &Endpoint| transport(endpoint, &tls))
        .build()?;
    for number in 1..=20 {
        // Without a key: what may have been carried out is not sent again.
        let response = client.send(Request::post("/charges").body("20 EUR")?).await?;
        let attempts = response.extensions().get::<Attempts>().cloned();
        let text = response.into_body().collect().await?;
        println!("call {number:2}: {}", String::from_utf8_lossy(&text));
        // Only a call that took more than one attempt carries its history.
        for attempt in attempts.iter().flat_map(|attempts| attempts.iter()) {
            println!("         {attempt}");
        }
    }
    Ok(())
}

/// Of this name, signed by itself.
pub type Certificate = rcgen::CertifiedKey<rcgen::KeyPair>;

fn certificate(name: &str) -> Result<Certificate, rcgen::Error> {
    rcgen::generate_simple_self_signed([name.to_owned()])
}

fn server(of: &Certificate) -> Result<ServerConfig, BoxError> {
    let key = of.signing_key.serialize_der().try_into()?;
    Ok(ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![of.cert.der().clone()], key)?)
}

/// An instance that answers whom it was asked for.
pub async fn start(name: &'static str, tls: ServerConfig) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                // The client tells what went wrong.
                let Ok(stream) = acceptor.accept(tcp).await else { return };
                let sni = stream.get_ref().1.server_name().unwrap_or("nobody").to_owned();
                let service = service_fn(move |request: Request<Incoming>| {
                    let host = request.headers().get(header::HOST).cloned();
                    let text = format!("{name}, asked for {sni} (SNI) and {host:?} (Host)");
                    async { Ok::<_, Infallible>(answer(StatusCode::OK, text)) }
                });
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    Ok(address)
}
