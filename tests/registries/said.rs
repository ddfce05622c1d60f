//! What a registry says.

use std::{net::SocketAddr, time::Duration};

use buttress::{
    Entropy,
    discover::{Change, RegistryError, ResilientConfig},
    endpoint::Endpoint,
};
use futures_util::{Stream, StreamExt};
use tokio::time::timeout;

pub(crate) type Said = Result<Change, RegistryError>;

/// The next thing that is said; under a paused clock, the wait costs nothing.
pub(crate) async fn next<S: Stream<Item = Said> + Unpin>(registry: &mut S) -> Said {
    let within = timeout(Duration::from_secs(3_600), registry.next()).await;
    within.expect("something is said within the hour").expect("it never ends")
}

/// The next set, as `id address wWEIGHT pPRIORITY zone`, sorted. Errors before it are passed over.
pub(crate) async fn set<S: Stream<Item = Said> + Unpin>(registry: &mut S) -> Vec<String> {
    loop {
        match next(registry).await {
            Ok(Change::Reset(endpoints)) => return endpoints.iter().map(described).collect(),
            Ok(other) => panic!("not a whole set: {other:?}"),
            Err(_) => {}
        }
    }
}

/// The next error.
pub(crate) async fn error<S: Stream<Item = Said> + Unpin>(registry: &mut S) -> RegistryError {
    match next(registry).await {
        Ok(change) => panic!("no error: {change:?}"),
        Err(error) => error,
    }
}

/// Nothing is said for so long.
pub(crate) async fn silent<S: Stream<Item = Said> + Unpin>(registry: &mut S, span: Duration) {
    let said = timeout(span, registry.next()).await;
    assert!(said.is_err(), "{said:?}");
}

pub(crate) fn described(endpoint: &Endpoint) -> String {
    let (id, address) = (endpoint.id(), endpoint.address());
    let id = if id.parse::<SocketAddr>() == Ok(address) { "" } else { id };
    let zone = endpoint.zone().unwrap_or("-");
    let said = format!("{id} {address} w{} p{} {zone}", endpoint.weight(), endpoint.priority());
    said.trim_start().to_owned()
}

/// With short waits, and from a seed.
pub(crate) fn resilience() -> ResilientConfig {
    let config = ResilientConfig::new().entropy(Entropy::seeded(7));
    config.backoff(Duration::from_millis(200), Duration::from_secs(5)).expect("it is right")
}
