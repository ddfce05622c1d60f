//! A fleet in virtual time: servers with a capacity, clients that balance, and faults.
//!
//! A thousand clients that each balance over a thousand servers run in seconds, on one thread,
//! without a runtime and without a network: an event loop of its own moves the time from one
//! event to the next. The clients decide by the code of [`balance`](crate::balance) itself, so
//! that what a policy does here it does in production; what is made up is the servers, their work,
//! and the network between.
//!
//! ```
//! use std::time::Duration;
//! use buttress::testing::{Fault, Fleet, Work};
//!
//! let report = Fleet::new(7)
//!     .servers(10)
//!     .clients(3)
//!     .rate(300.0)
//!     .work(Work::exponential(Duration::from_millis(10)))
//!     .fault(4, Duration::from_secs(2)..Duration::from_secs(8), Fault::Fail)
//!     .run(Duration::from_secs(10));
//! println!("{report}");
//! let failing = report.between(Duration::from_secs(3)..Duration::from_secs(8));
//! assert!(failing.share(4) < 0.02, "{report}");
//! ```
//!
//! # Servers
//!
//! A [`Server`] works either like a processor that all its requests share, up to one core each
//! (the model of Prequal's testbed), or like a queue before a fixed number of workers. Its cores may
//! be part of a machine whose other tenants come and go ([`Server::antagonists`]): then it always
//! has its own allocation, and what they leave of the rest.
//!
//! # Faults
//!
//! At any time a server may [fail](Fault::Fail) at once, [hang](Fault::Hang), answer a share of
//! its requests with a [stray error](Fault::Stray), get [slow](Fault::Slow), or [leave](Fleet::absent)
//! and come back.
//!
//! # Clients
//!
//! Calls come as an open loop (Poisson; they don't wait for each other), spread evenly over the
//! clients. Each client has a balancer of its own, built by [`Fleet::balance`]; a [`Chooser`] of your own
//! (for comparing, or an oracle) goes in by [`Fleet::choose_by`]. A failed attempt is repeated at once
//! elsewhere, if [`Fleet::attempts`] allows it; there are no breakers, budgets or backoffs, so that
//! what is seen is the balancing alone.
//!
//! Where their policy [probes](crate::balance::Probing), the servers answer in the place of the
//! policy's own probe, which is never called: with the requests that they have, and the median of what
//! answers of late took them at such a number ([`algo::by_load`](crate::algo::by_load)). A probe is as
//! long on the way as a request, each way, and takes no work. A server that [fails](Fault::Fail)
//! answers probes all the same; one that [hangs](Fault::Hang) does not.
//!
//! # Chance
//!
//! Everything is drawn from the one seed: the same seed is the same run, whatever the machine. `run`
//! prints it to standard error, which the test harness shows when a test fails, and so does a report.

mod calls;
mod chooser;
mod fleet;
mod machine;
mod report;
mod run;
mod server;
mod work;

pub use self::{
    chooser::{Chooser, Ended, Outcome, View},
    fleet::{DEFAULT_NETWORK, DEFAULT_TIMEOUT, Fleet},
    report::Report,
    server::{Antagonists, Fault, Server},
    work::Work,
};
