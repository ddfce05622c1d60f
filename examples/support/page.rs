//! The operator's page: what a client knows of its service, in a browser.
//!
//! Three addresses on loopback: `/` for people, `/snapshot.json` for programs and for the page
//! itself, which asks for it each second, and `/snapshot.txt` for a terminal.

use std::{io, net::SocketAddr};

use axum::{
    Router,
    http::{HeaderName, StatusCode, header},
    response::Html,
    routing::get,
};
use buttress::client::Client;
use tokio::net::TcpListener;

/// One file, no other addresses: it works where the service is down and the network with it.
const PAGE: &str = include_str!("page.html");

/// A page that is not served yet.
#[derive(Debug)]
pub struct Page {
    listener: TcpListener,
    address: SocketAddr,
}

impl Page {
    /// Listens on loopback, for what it tells is nobody else's; at a port of the system's choice
    /// if it is 0.
    ///
    /// # Errors
    ///
    /// If the port is taken.
    pub async fn open(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Where to look.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Serves it until the future is dropped.
    ///
    /// # Errors
    ///
    /// If the listener fails.
    pub async fn serve(self, client: Client) -> io::Result<()> {
        let text = client.clone();
        let router = Router::new()
            .route("/", get(async || Html(PAGE)))
            .route("/snapshot.json", get(async move || json(&client)))
            .route("/snapshot.txt", get(async move || text.snapshot().to_string()));
        axum::serve(self.listener, router).await
    }
}

type Headers = [(HeaderName, &'static str); 2];

fn json(client: &Client) -> Result<(Headers, String), StatusCode> {
    let snapshot = serde_json::to_string(&client.snapshot());
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    snapshot.map(|text| (headers, text)).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}
