//! Levels and names of what the layers report. They live here and nowhere else.

use std::time::Duration;

use tracing::Level;

use super::words::{blame, millis, retry, sent};
use crate::{
    endpoint::{Endpoint, Health},
    event::{Event, Observer},
};

/// An observer that hands every event on to `tracing`.
///
/// It costs nothing beyond the look at the level where no subscriber wants the event.
#[must_use]
pub fn tracing_observer() -> Observer {
    Observer::new(emit)
}

/// One event, with the target, the level and the name that the room's docs list.
macro_rules! event {
    ($level:ident, $name:literal, $message:literal $(, $field:ident = $value:expr)* $(,)?) => {
        tracing::event!(
            name: $name,
            target: "buttress",
            Level::$level,
            { event = $name $(, $field = $value)* },
            $message
        )
    };
}

fn emit(event: &Event<'_>) {
    match event {
        Event::Retrying { attempt, verdict, delay } => event!(
            DEBUG,
            "buttress.retry",
            "an attempt failed; another follows",
            attempt = i64::from(*attempt),
            blame = blame(verdict),
            sent = sent(verdict),
            delay_ms = millis(*delay),
        ),
        Event::GaveUp { attempts, verdict, reason } => event!(
            INFO,
            "buttress.gave_up",
            "an attempt failed; no other follows",
            attempts = i64::from(*attempts),
            blame = blame(verdict),
            sent = sent(verdict),
            retry = retry(verdict),
            reason = reason,
        ),
        Event::Hedged { attempt, delay } => event!(
            DEBUG,
            "buttress.hedge",
            "an attempt is slow; a second one races it",
            attempt = i64::from(*attempt),
            delay_ms = millis(*delay),
        ),
        Event::NotHedged { reason } => event!(
            DEBUG,
            "buttress.hedge.refused",
            "an attempt is slow; no second one is made",
            reason = reason,
        ),
        Event::HedgeEnded { attempt, winner } => event!(
            DEBUG,
            "buttress.hedge.ended",
            "a race of two attempts is over",
            attempt = i64::from(*attempt),
            winner = winner,
        ),
        Event::ConnectTimedOut { address, limit } => event!(
            INFO,
            "buttress.connect_timed_out",
            "no connection could be made in time",
            address = tracing::field::display(address),
            limit_ms = millis(*limit),
        ),
        Event::DeadlineUnreadable { header, refused } => event!(
            INFO,
            "buttress.deadline.unreadable",
            "a request came with a deadline that can't be read",
            header = header,
            refused = refused,
        ),
        Event::Overdue { stage, limit } => event!(
            INFO,
            "buttress.overdue",
            "nobody waits for the answer to a request any more",
            stage = stage,
            limit_ms = millis(*limit),
        ),
        Event::CredentialRefreshed { took } => event!(
            INFO,
            "buttress.credential.refreshed",
            "a new credential was fetched",
            took_ms = millis(*took),
        ),
        Event::CredentialRefreshFailed(error) => event!(
            WARN,
            "buttress.credential.refresh_failed",
            "no new credential could be fetched",
            error = *error,
        ),
        Event::CredentialRefused { reason } => event!(
            INFO,
            "buttress.credential.refused",
            "a credential was refused, and the caller is told",
            reason = reason,
        ),
        Event::Reconciled { outcome, lookups } => event!(
            INFO,
            "buttress.reconciled",
            "a call whose outcome was unknown was looked up",
            outcome = outcome,
            lookups = i64::from(*lookups),
        ),
        Event::Breaker { endpoint, state, reason, open_for } => {
            breaker(*endpoint, state, reason, *open_for);
        }
        Event::Throttled { reason, probability } => event!(
            DEBUG,
            "buttress.throttled",
            "a call was not sent; the service refuses too many",
            reason = reason,
            probability = *probability,
        ),
        Event::AtLimit { endpoint, reason, limit } => event!(
            DEBUG,
            "buttress.at_limit",
            "a call was not sent; as many are under way as may be",
            endpoint = endpoint.map(Endpoint::id),
            address = endpoint.map(|endpoint| tracing::field::display(endpoint.address())),
            reason = reason,
            limit = i64::from(*limit),
        ),
        Event::LimitChanged { endpoint, limit, reason } => event!(
            DEBUG,
            "buttress.limit",
            "an adaptive limit changed",
            endpoint = endpoint.map(Endpoint::id),
            address = endpoint.map(|endpoint| tracing::field::display(endpoint.address())),
            limit = i64::from(*limit),
            reason = reason,
        ),
        Event::FaultInjected { endpoint, fault } => event!(
            DEBUG,
            "buttress.fault",
            "a fault that was asked for struck a request",
            endpoint = endpoint.map(Endpoint::id),
            address = endpoint.map(|endpoint| tracing::field::display(endpoint.address())),
            fault = fault,
        ),
        Event::FellBack { by, reason, verdict, age } => event!(
            INFO,
            "buttress.fallback",
            "a fallback answers in the place of a call that failed",
            by = by,
            reason = reason,
            blame = blame(verdict),
            sent = sent(verdict),
            age_ms = age.map(millis),
        ),
        Event::NoFallback { by, reason, verdict } => event!(
            INFO,
            "buttress.no_fallback",
            "a call failed, and its fallback does not answer either",
            by = by,
            reason = reason,
            blame = blame(verdict),
            sent = sent(verdict),
        ),
        Event::EndpointAdded(endpoint) => event!(
            INFO,
            "buttress.endpoint.added",
            "an endpoint came",
            endpoint = endpoint.id(),
            address = tracing::field::display(endpoint.address()),
        ),
        Event::EndpointRemoved(endpoint) => event!(
            INFO,
            "buttress.endpoint.removed",
            "an endpoint went",
            endpoint = endpoint.id(),
            address = tracing::field::display(endpoint.address()),
        ),
        Event::HealthChanged(endpoint, health) => health_changed(endpoint, *health),
        Event::ProbeFailed(endpoint, error) => event!(
            DEBUG,
            "buttress.health.probe_failed",
            "an active check failed",
            endpoint = endpoint.id(),
            address = tracing::field::display(endpoint.address()),
            error = *error,
        ),
        Event::LoadProbeFailed(endpoint, error) => event!(
            DEBUG,
            "buttress.balance.probe_failed",
            "an endpoint did not say how busy it is",
            endpoint = endpoint.id(),
            address = tracing::field::display(endpoint.address()),
            error = *error,
        ),
        Event::Outlier { action: "ejected", .. } => outlier(event),
        Event::Outlier {
            endpoint, by, action, calls, failures, measured, usual, limit, ..
        } => event!(
            INFO,
            "buttress.outlier",
            "an endpoint does worse than its peers, and stays",
            endpoint = endpoint.id(),
            address = tracing::field::display(endpoint.address()),
            by = by,
            action = action,
            calls = i64::from(*calls),
            failures = i64::from(*failures),
            measured = measured,
            usual = *usual,
            limit = limit,
        ),
        Event::EjectionEnded { endpoint, by, reason } => event!(
            INFO,
            "buttress.ejection.ended",
            "an ejected endpoint is back",
            endpoint = endpoint.id(),
            address = tracing::field::display(endpoint.address()),
            by = by,
            reason = reason,
        ),
        Event::Panic(true) => {
            event!(WARN, "buttress.panic.began", "too few endpoints are eligible; all are used",)
        }
        Event::Panic(false) => {
            event!(INFO, "buttress.panic.ended", "enough endpoints are eligible again",)
        }
        Event::DiscoveryFailed(error) => event!(
            WARN,
            "buttress.discovery.failed",
            "discovery failed; the last good set stays in use",
            error = *error,
        ),
        Event::DiscoveryEnded => event!(
            WARN,
            "buttress.discovery.ended",
            "discovery ended; the last good set stays in use",
        ),
        Event::KeyReplayed => event!(
            DEBUG,
            "buttress.key.replayed",
            "an idempotency key came again and got its answer",
        ),
        Event::KeyNotHonoured { code } => event!(
            INFO,
            "buttress.key.not_honoured",
            "a request was refused for its idempotency key's sake",
            code = code,
        ),
        Event::KeyStoreFailed(error) => event!(
            WARN,
            "buttress.key.store_failed",
            "the store of idempotency keys failed",
            error = *error,
        ),
    }
}

/// A level is fixed where an event is written, so each level has a line of its own.
fn breaker(
    endpoint: Option<&Endpoint>,
    state: &'static str,
    reason: &'static str,
    open_for: Option<Duration>,
) {
    let id = endpoint.map(Endpoint::id);
    let address = endpoint.map(|endpoint| tracing::field::display(endpoint.address()));
    let open_for_ms = open_for.map(millis);
    if matches!(state, "open" | "forced_open") {
        event!(
            WARN,
            "buttress.breaker",
            "a circuit breaker changed its state",
            endpoint = id,
            address = address,
            state = state,
            reason = reason,
            open_for_ms = open_for_ms,
        );
    } else {
        event!(
            INFO,
            "buttress.breaker",
            "a circuit breaker changed its state",
            endpoint = id,
            address = address,
            state = state,
            reason = reason,
            open_for_ms = open_for_ms,
        );
    }
}

fn outlier(event: &Event<'_>) {
    let Event::Outlier {
        endpoint,
        by,
        action,
        ejected_for,
        times,
        calls,
        failures,
        measured,
        usual,
        limit,
    } = event
    else {
        return;
    };
    event!(
        WARN,
        "buttress.outlier",
        "an endpoint does worse than its peers, and is ejected",
        endpoint = endpoint.id(),
        address = tracing::field::display(endpoint.address()),
        by = by,
        action = action,
        ejected_for_ms = ejected_for.map(millis),
        times = i64::from(*times),
        calls = i64::from(*calls),
        failures = i64::from(*failures),
        measured = measured,
        usual = *usual,
        limit = limit,
    );
}

fn health_changed(endpoint: &Endpoint, health: Health) {
    let address = tracing::field::display(endpoint.address());
    match health {
        Health::Unhealthy => event!(
            WARN,
            "buttress.health",
            "an endpoint failed its checks",
            endpoint = endpoint.id(),
            address = address,
            health = "unhealthy",
        ),
        Health::Healthy => event!(
            INFO,
            "buttress.health",
            "an endpoint passed its checks",
            endpoint = endpoint.id(),
            address = address,
            health = "healthy",
        ),
        Health::Pending => event!(
            DEBUG,
            "buttress.health",
            "an endpoint awaits its first check",
            endpoint = endpoint.id(),
            address = address,
            health = "pending",
        ),
        Health::Unchecked => event!(
            DEBUG,
            "buttress.health",
            "an endpoint is not checked",
            endpoint = endpoint.id(),
            address = address,
            health = "unchecked",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fmt,
        net::SocketAddr,
        sync::{Arc, Mutex},
    };

    use tracing::{Subscriber, field::Visit};
    use tracing_subscriber::{Layer, layer::Context, prelude::*};

    use super::*;
    use crate::classify::{Blame, Retry, Sent, Verdict};

    /// One line for each event.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Lines {
        fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
            let metadata = event.metadata();
            assert_eq!(metadata.target(), "buttress");
            let mut line = Line(format!("{} {}", metadata.level(), metadata.name()));
            event.record(&mut line);
            self.0.lock().expect("no test panics with the lock").push(line.0);
        }
    }

    struct Line(String);

    impl Visit for Line {
        fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
            match field.name() {
                "message" => {}
                "event" => assert_eq!(self.0.split(' ').nth(1), Some(&*format!("{value:?}"))),
                name => self.0.push_str(&format!(" {name}={value:?}")),
            }
        }

        fn record_str(&mut self, field: &tracing::field::Field, value: &str) {
            self.record_debug(field, &format_args!("{value}"));
        }
    }

    fn lines<const N: usize>(events: [Event<'_>; N]) -> Vec<String> {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::registry().with(lines.clone());
        let observer = tracing_observer();
        tracing::subscriber::with_default(subscriber, || {
            for event in events {
                observer.on(|| event);
            }
        });
        let lines = lines.0.lock().expect("no test panics with the lock");
        lines.clone()
    }

    fn endpoint() -> Endpoint {
        Endpoint::new("orders-2", SocketAddr::from(([10, 0, 0, 7], 8080)))
    }

    #[test]
    fn each_event_has_its_name_its_level_and_its_fields() {
        let endpoint = endpoint();
        let error = std::io::Error::other("no file");
        let verdict = Verdict::new(Blame::Service, Sent::Maybe, Retry::IfSafe);
        let second = Duration::from_secs(1);
        let breaker = |state, endpoint, open_for| Event::Breaker {
            endpoint,
            state,
            reason: "consecutive",
            open_for,
        };
        let outlier = |action, ejected_for, usual| Event::Outlier {
            endpoint: &endpoint,
            by: "failure_rate",
            action,
            ejected_for,
            times: 1,
            calls: 200,
            failures: 20,
            measured: 0.1,
            usual,
            limit: 0.0205,
        };
        let events = [
            Event::Retrying { attempt: 1, verdict, delay: Duration::from_micros(2500) },
            Event::GaveUp { attempts: 3, verdict, reason: "budget" },
            Event::Hedged { attempt: 2, delay: second },
            Event::NotHedged { reason: "extra_load" },
            Event::HedgeEnded { attempt: 2, winner: "second" },
            Event::ConnectTimedOut { address: ([127, 0, 0, 1], 80).into(), limit: second },
            Event::DeadlineUnreadable { header: "grpc-timeout", refused: true },
            Event::Overdue { stage: "dropped", limit: second },
            Event::CredentialRefreshed { took: second },
            Event::CredentialRefreshFailed(&error),
            Event::CredentialRefused { reason: "again" },
            Event::Reconciled { outcome: "found", lookups: 2 },
            breaker("open", Some(&endpoint), Some(second)),
            breaker("half_open", None, None),
            breaker("forced_open", None, None),
            Event::Throttled { reason: "few_accepts", probability: 0.25 },
            Event::AtLimit { endpoint: None, reason: "queue_full", limit: 10 },
            Event::LimitChanged { endpoint: Some(&endpoint), limit: 11, reason: "room" },
            Event::FaultInjected { endpoint: None, fault: "hang" },
            Event::FellBack { by: "eu", reason: "service", verdict, age: None },
            Event::FellBack { by: "stale", reason: "service", verdict, age: Some(second) },
            Event::NoFallback { by: "eu", reason: "not_repeatable", verdict },
            Event::EndpointAdded(&endpoint),
            Event::EndpointRemoved(&endpoint),
            Event::HealthChanged(&endpoint, Health::Unhealthy),
            Event::HealthChanged(&endpoint, Health::Healthy),
            Event::HealthChanged(&endpoint, Health::Pending),
            Event::HealthChanged(&endpoint, Health::Unchecked),
            outlier("ejected", Some(second * 30), Some(0.0005)),
            outlier("capped", None, None),
            Event::EjectionEnded { endpoint: &endpoint, by: "failure_rate", reason: "returned" },
            Event::Panic(true),
            Event::Panic(false),
            Event::DiscoveryFailed(&error),
            Event::DiscoveryEnded,
            Event::KeyReplayed,
            Event::KeyNotHonoured { code: "request_outstanding" },
            Event::KeyStoreFailed(&error),
        ];
        let at = "endpoint=orders-2 address=10.0.0.7:8080";
        let expected = [
            "DEBUG buttress.retry attempt=1 blame=service sent=maybe delay_ms=2".to_owned(),
            "INFO buttress.gave_up attempts=3 blame=service sent=maybe retry=if_safe reason=budget"
                .to_owned(),
            "DEBUG buttress.hedge attempt=2 delay_ms=1000".to_owned(),
            "DEBUG buttress.hedge.refused reason=extra_load".to_owned(),
            "DEBUG buttress.hedge.ended attempt=2 winner=second".to_owned(),
            "INFO buttress.connect_timed_out address=127.0.0.1:80 limit_ms=1000".to_owned(),
            "INFO buttress.deadline.unreadable header=grpc-timeout refused=true".to_owned(),
            "INFO buttress.overdue stage=dropped limit_ms=1000".to_owned(),
            "INFO buttress.credential.refreshed took_ms=1000".to_owned(),
            "WARN buttress.credential.refresh_failed error=no file".to_owned(),
            "INFO buttress.credential.refused reason=again".to_owned(),
            "INFO buttress.reconciled outcome=found lookups=2".to_owned(),
            format!("WARN buttress.breaker {at} state=open reason=consecutive open_for_ms=1000"),
            "INFO buttress.breaker state=half_open reason=consecutive".to_owned(),
            "WARN buttress.breaker state=forced_open reason=consecutive".to_owned(),
            "DEBUG buttress.throttled reason=few_accepts probability=0.25".to_owned(),
            "DEBUG buttress.at_limit reason=queue_full limit=10".to_owned(),
            format!("DEBUG buttress.limit {at} limit=11 reason=room"),
            "DEBUG buttress.fault fault=hang".to_owned(),
            "INFO buttress.fallback by=eu reason=service blame=service sent=maybe".to_owned(),
            "INFO buttress.fallback by=stale reason=service blame=service sent=maybe age_ms=1000"
                .to_owned(),
            "INFO buttress.no_fallback by=eu reason=not_repeatable blame=service sent=maybe"
                .to_owned(),
            format!("INFO buttress.endpoint.added {at}"),
            format!("INFO buttress.endpoint.removed {at}"),
            format!("WARN buttress.health {at} health=unhealthy"),
            format!("INFO buttress.health {at} health=healthy"),
            format!("DEBUG buttress.health {at} health=pending"),
            format!("DEBUG buttress.health {at} health=unchecked"),
            format!(
                "WARN buttress.outlier {at} by=failure_rate action=ejected ejected_for_ms=30000 \
                 times=1 calls=200 failures=20 measured=0.1 usual=0.0005 limit=0.0205"
            ),
            format!(
                "INFO buttress.outlier {at} by=failure_rate action=capped calls=200 failures=20 \
                 measured=0.1 limit=0.0205"
            ),
            format!("INFO buttress.ejection.ended {at} by=failure_rate reason=returned"),
            "WARN buttress.panic.began".to_owned(),
            "INFO buttress.panic.ended".to_owned(),
            "WARN buttress.discovery.failed error=no file".to_owned(),
            "WARN buttress.discovery.ended".to_owned(),
            "DEBUG buttress.key.replayed".to_owned(),
            "INFO buttress.key.not_honoured code=request_outstanding".to_owned(),
            "WARN buttress.key.store_failed error=no file".to_owned(),
        ];
        assert_eq!(lines(events), expected);
    }
}
