//! A client that was generated for tonic, over the whole stack in the place of tonic's channel.
//!
//! `cargo run --example grpc`

#![expect(clippy::print_stdout, reason = "an example prints what happens")]

use std::{net::SocketAddr, time::Duration};

use buttress::{
    BoxError,
    call::Words,
    client::{Client, GrpcClient},
};
use buttress_examples::support::rates::{Mood, Rate, RatesClient, Server, pair, safely};
use tonic::{Request, Response, Status};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let (anna, bert) = (Server::start(Mood::Closing).await?, Server::start(Mood::Well).await?);
    let client: GrpcClient = Client::builder("http://rates")
        .grpc()
        .endpoints([anna.address(), bert.address()])
        .deadline(Duration::from_secs(2))
        .attempt_timeout(Duration::from_secs(1))
        .build()?;
    let mut rates = RatesClient::new(client);

    println!("Anna is closing, and answers UNAVAILABLE:");
    let mut answered = 0;
    for _ in 0..20 {
        answered += u32::from(rates.get(safely(pair("EUR", "USD"))).await.is_ok());
    }
    println!("  {answered} of 20 rates were answered");
    println!("  Anna was asked first by some: {}", anna.requests() > 0);
    println!("  Bert answered each: {}", bert.requests() == 20);

    println!("What the service itself says is the caller's to see:");
    print(&rates.get(safely(pair("EUR", "???"))).await.map(Response::into_inner));

    println!("A stream is meant to last, and comes as it is sent:");
    let mut request = Request::new(pair("EUR", "USD"));
    request.extensions_mut().insert(Words::new().lasting_body(Duration::from_millis(200)));
    let mut updates = rates.watch(request).await?.into_inner();
    loop {
        match updates.message().await {
            Ok(Some(rate)) => print(&Ok(rate)),
            Ok(None) => break,
            // It falls silent, and that is a status, too.
            Err(status) => {
                print(&Err(status));
                break;
            }
        }
    }

    println!("A timeout of the request's own, at a service that hangs:");
    let hangs = Server::start(Mood::Hanging).await?;
    let mut rates = RatesClient::new(client_of(&[hangs.address()])?);
    let mut request = safely(pair("EUR", "USD"));
    request.set_timeout(Duration::from_millis(100));
    print(&rates.get(request).await.map(Response::into_inner));

    println!("And when nobody is there:");
    let gone = hangs.address();
    drop(hangs);
    let mut rates = RatesClient::new(client_of(&[gone])?);
    print(&rates.get(pair("EUR", "USD")).await.map(Response::into_inner));
    Ok(())
}

fn client_of(endpoints: &[SocketAddr]) -> Result<GrpcClient, BoxError> {
    Ok(Client::builder("http://rates").grpc().endpoints(endpoints.iter().copied()).build()?)
}

fn print(outcome: &Result<Rate, Status>) {
    match outcome {
        Ok(rate) => println!("  {}", rate.value),
        Err(status) => println!("  {:?}: {}", status.code(), status.message()),
    }
}
