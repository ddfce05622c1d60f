//! What an operator asks, in a browser: eight instances, some of which fall ill, and the page
//! that says which, why, since when and with what load.
//!
//! `cargo run --example operator`, and open the address that it prints. `--port` chooses one,
//! `--seconds` ends it by itself. The same page shows the drill: `cargo run --release --example
//! outage -- --client buttress --page 8080`.

#![expect(clippy::print_stdout, reason = "an example prints what happens")]

mod company;

use std::time::Duration;

use buttress::{
    BoxError,
    balance::{BalanceConfig, EjectionConfig},
    client::Client,
    health::{HealthConfig, HttpProbe},
};
use buttress_examples::support::page::Page;
use clap::Parser;
use http::Request;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::company::Company;

/// A service whose instances fall ill in turn, and the page that shows it.
#[derive(Parser)]
struct Options {
    /// Of the page, on loopback; the system's choice if it is 0
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// End after so many
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: Option<u64>,
}

/// How many callers there are, each with a pause of 10 ms between its calls.
const CALLERS: usize = 4;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let options = Options::parse();
    let (company, registry) = Company::open().await?;
    let client = client(UnboundedReceiverStream::new(registry))?;

    let page = Page::open(options.port).await?;
    println!("{}", page.url());

    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        callers.spawn(call(client.clone()));
    }
    let seconds = options.seconds.map_or(Duration::MAX, Duration::from_secs);
    let both = async {
        tokio::select! {
            ended = company.play() => ended.map(drop),
            ended = page.serve(client.clone()) => ended.map_err(BoxError::from),
        }
    };
    // That the time is over is no error.
    timeout(seconds, both).await.unwrap_or(Ok(()))?;
    // What the page has shown last, as a log has it.
    println!("{}", client.snapshot());
    Ok(())
}

/// All of it by default, but that comparing and checking are quicker, for who waits to see them.
fn client(
    registry: UnboundedReceiverStream<Result<buttress::endpoint::Change, std::convert::Infallible>>,
) -> Result<Client, BoxError> {
    let second = Duration::from_secs(1);
    let ejection =
        EjectionConfig::new().interval(second)?.ejection_time(second * 10, second * 60)?;
    let checks = HealthConfig::new().interval(second)?.unhealthy_interval(second)?;
    let checks = checks.edge_interval(second / 5)?.timeout(second / 5)?;
    let client = Client::builder("http://hello")
        .discover(registry)
        .health_check_with(HttpProbe::new().path("/health")?, checks)
        .balance(BalanceConfig::new().ejection(ejection))
        .build()?;
    Ok(client)
}

async fn call(client: Client) {
    loop {
        // What becomes of it is on the page.
        if let Ok(request) = Request::get("/").body(())
            && let Ok(response) = client.send(request).await
        {
            let _ = response.into_body().collect().await;
        }
        sleep(Duration::from_millis(10)).await;
    }
}
