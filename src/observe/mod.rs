//! Hands what the layers report on to `tracing`.
//!
//! A layer says what happened, as an [`Event`](crate::Event); this room alone says at which
//! level and under which name. To count instead of log, write an
//! [`Observer`](crate::Observer) of your own.
//!
//! ```
//! use buttress::{Event, Observer, observe};
//!
//! // Into the log:
//! let logging = observe::tracing_observer();
//! // Into a counter:
//! let counting = Observer::new(|event| {
//!     if let Event::Retrying { attempt, .. } = event {
//!         println!("retry after attempt {attempt}"); // or a metric
//!     }
//! });
//! # drop((logging, counting));
//! ```
//!
//! # Events
//!
//! The target is `buttress`. The name is also in the field `event`, since some subscribers
//! don't show names. Every value but an endpoint's and an error's is one of few, and all are
//! stable: dashboards and alerts may rest on them.
//!
//! | name | level | fields |
//! |---|---|---|
//! | `buttress.retry` | DEBUG | `attempt`, `blame`, `sent`, `delay_ms` |
//! | `buttress.gave_up` | INFO | `attempts`, `blame`, `sent`, `retry`, `reason` |
//! | `buttress.connect_timed_out` | INFO | `address`, `limit_ms` |
//! | `buttress.deadline.unreadable` | INFO | `header`, `refused` |
//! | `buttress.overdue` | INFO | `stage`, `limit_ms` |
//! | `buttress.credential.refreshed` | INFO | `took_ms` |
//! | `buttress.credential.refresh_failed` | WARN | `error` |
//! | `buttress.credential.refused` | INFO | `reason` |
//! | `buttress.reconciled` | INFO | `outcome`, `lookups` |
//! | `buttress.hedge` | DEBUG | `attempt`, `delay_ms` |
//! | `buttress.hedge.refused` | DEBUG | `reason` |
//! | `buttress.hedge.ended` | DEBUG | `attempt`, `winner` |
//! | `buttress.breaker` | WARN when it opens, else INFO | `endpoint`, `address`, `state`, `reason`, `open_for_ms` |
//! | `buttress.throttled` | DEBUG | `reason`, `probability` |
//! | `buttress.at_limit` | DEBUG | `endpoint`, `address`, `reason`, `limit` |
//! | `buttress.limit` | DEBUG | `endpoint`, `address`, `limit`, `reason` |
//! | `buttress.fault` | DEBUG | `endpoint`, `address`, `fault` |
//! | `buttress.fallback` | INFO | `by`, `reason`, `blame`, `sent`, `age_ms` |
//! | `buttress.no_fallback` | INFO | `by`, `reason`, `blame`, `sent` |
//! | `buttress.endpoint.added`, `.removed` | INFO | `endpoint`, `address` |
//! | `buttress.health` | WARN when unhealthy, INFO when healthy, else DEBUG | `endpoint`, `address`, `health` |
//! | `buttress.health.probe_failed` | DEBUG | `endpoint`, `address`, `error` |
//! | `buttress.balance.probe_failed` | DEBUG | `endpoint`, `address`, `error` |
//! | `buttress.outlier` | WARN when it is ejected, else INFO | `endpoint`, `address`, `by`, `action`, `ejected_for_ms`, `times`, `calls`, `failures`, `measured`, `usual`, `limit` |
//! | `buttress.ejection.ended` | INFO | `endpoint`, `address`, `by`, `reason` |
//! | `buttress.panic.began` | WARN | |
//! | `buttress.panic.ended` | INFO | |
//! | `buttress.discovery.failed` | WARN | `error` |
//! | `buttress.discovery.ended` | WARN | |
//! | `buttress.key.replayed` | DEBUG | |
//! | `buttress.key.not_honoured` | INFO | `code` |
//! | `buttress.key.store_failed` | WARN | `error` |
//!
//! No event is an ERROR. OpenTelemetry's layer takes such an event for a failure of the span
//! around it, but a call that was retried and succeeded did not fail; and one that failed says
//! so to its caller, who knows how bad that is. What one call meets is INFO at most, since it
//! happens as often as there are calls; what changes for all calls is WARN.

mod events;
mod words;

pub use self::events::tracing_observer;
