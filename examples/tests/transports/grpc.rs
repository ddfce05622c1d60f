//! gRPC over tonic's channels: statuses, streams and deadlines are those of our own transport.

use std::{net::SocketAddr, time::Duration};

use buttress::{
    call::Words,
    classify::GrpcClassifier,
    client::{Client, GrpcClient},
    endpoint::Endpoint,
};
use buttress_examples::support::rates::{Mood, RatesClient, Server, pair, safely};
use tonic::{Code, Request};

use crate::{contract::Result, over_tonic::transport, servers::Nobody};

fn rates(endpoints: &[SocketAddr]) -> Result<RatesClient<GrpcClient>> {
    let client = Client::builder("http://rates")
        .endpoints(endpoints.iter().copied())
        .classifier(GrpcClassifier::new())
        .transport(|endpoint: &Endpoint| transport("http://rates", endpoint))
        .build()?;
    Ok(RatesClient::new(client))
}

#[tokio::test]
async fn a_status_in_the_trailers_is_tried_again_elsewhere() -> Result {
    let (closing, well) = (Server::start(Mood::Closing).await?, Server::start(Mood::Well).await?);
    let mut rates = rates(&[closing.address(), well.address()])?;
    for _ in 0..20 {
        assert!((rates.get(safely(pair("EUR", "USD"))).await?.get_ref().value - 1.08).abs() < 1e-9);
    }
    assert!(closing.requests() > 0);
    assert_eq!(well.requests(), 20);
    let unknown = rates.get(safely(pair("EUR", "???"))).await.err().ok_or("known")?;
    assert_eq!(unknown.code(), Code::NotFound);
    Ok(())
}

#[tokio::test]
async fn a_stream_comes_as_it_is_sent_and_its_silence_is_a_status() -> Result {
    let well = Server::start(Mood::Well).await?;
    let mut request = Request::new(pair("EUR", "USD"));
    request.extensions_mut().insert(Words::new().lasting_body(Duration::from_millis(200)));
    let mut updates = rates(&[well.address()])?.watch(request).await?.into_inner();
    for value in [1.08, 1.09] {
        assert_eq!(updates.message().await?.map(|rate| rate.value), Some(value));
    }
    let silent = updates.message().await.err().ok_or("it goes on")?;
    assert_eq!(silent.code(), Code::DeadlineExceeded, "{silent:?}");
    Ok(())
}

/// tonic reads `grpc-timeout` as well, and gives a request up about when the stack does.
#[tokio::test]
async fn a_deadline_is_a_deadline_whoever_sees_it_first() -> Result {
    let hangs = Server::start(Mood::Hanging).await?;
    let mut rates = rates(&[hangs.address()])?;
    for micros in (20_000..40_000).step_by(501) {
        let mut request = safely(pair("EUR", "USD"));
        request.set_timeout(Duration::from_micros(micros));
        let status = rates.get(request).await.err().ok_or("answered")?;
        assert_eq!(status.code(), Code::DeadlineExceeded, "{micros} µs: {status:?}");
        assert!(status.message().contains("may have been carried out"), "{status:?}");
    }
    Ok(())
}

#[tokio::test]
async fn nobody_is_unavailable_and_was_sent_nothing() -> Result {
    let nobody = Nobody::new()?;
    let status = rates(&[nobody.address()?])?.get(pair("EUR", "USD")).await.err().ok_or("there")?;
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("the request was not carried out"), "{status:?}");
    Ok(())
}
