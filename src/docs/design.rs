//! The floors of the house, and the rules that its rooms keep.
//!
//! ```text
//! floor 4  client        builds the stack in the one right order, erases types once
//! floor 3  a room for each layer: they never import each other
//! floor 2  call classify endpoint event body budget     the words that rooms share
//! floor 1  algo          pure arithmetic
//! floor 0  time entropy error sync     the only doors to the clock, to chance, to threads
//! ```
//!
//! Arrows go down only, and a test holds the source to it. A layer is one folder with the same
//! files: `state.rs` decides, with `&mut self` and `now` and neither clock, lock nor async;
//! `service.rs` and `future.rs` ask it and obey. So the hard part can be read, and tested,
//! alone.
//!
//! # One verdict
//!
//! A [`Classify`](crate::classify::Classify) says once what an outcome means, and retry, breaker,
//! balancer and trace all ask the same one. It answers four questions, and every combination of
//! answers occurs:
//!
//! | question | answers |
//! |---|---|
//! | who is to blame? | nobody, the client, the endpoint, the service (overload), the caller (gave up) |
//! | did it happen? | no, maybe, processed |
//! | may it be tried again? | never, if it is safe, always |
//! | when? | nothing said, after a while, not for this call |
//!
//! ```
//! use buttress::classify::{HttpClassifier, Sent, Verdict};
//! use http::StatusCode;
//!
//! // A proxy lost its upstream: a GET goes on, a POST only with a key.
//! let lost = HttpClassifier::new().verdict(StatusCode::BAD_GATEWAY, false);
//! assert_eq!(lost.sent, Sent::Maybe);
//! assert!(lost.permits_retry(true));
//! assert!(!lost.permits_retry(false));
//!
//! // Refused because of too many calls: it did not happen, so anything goes on.
//! let refused = HttpClassifier::new().verdict(StatusCode::TOO_MANY_REQUESTS, false);
//! assert_eq!(refused.sent, Sent::No);
//! assert!(refused.permits_retry(false));
//! ```
//!
//! A verdict is *settled* once: at the response's head where that decides, else at the end of
//! the body, or where the call is dropped. What the call holds (a breaker's permit, its place in
//! flight, what it owes the budget) travels in the future and then in the body, so that it is
//! given back wherever the call ends.
//!
//! # Did it happen?
//!
//! A request is *unsent* until a connection takes it. The transport marks that moment, and the
//! layers above, which poll it on the same thread, see it (a [`Trail`](crate::call::Trail)). So
//! a timeout while connecting says "no" and one after it says "maybe". Errors carry that answer
//! at the end of their sources as a [`Mark`](crate::classify::Mark), which an error of your own
//! may do as well:
//!
//! ```
//! use std::{error::Error, fmt};
//! use buttress::classify::{Blame, Mark, Retry, Sent, Verdict, verdict_on_error};
//!
//! #[derive(Debug)]
//! struct QueueFull(Mark);
//!
//! impl fmt::Display for QueueFull {
//!     fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
//!         f.write_str("the queue is full")
//!     }
//! }
//!
//! impl Error for QueueFull {
//!     fn source(&self) -> Option<&(dyn Error + 'static)> {
//!         Some(&self.0)
//!     }
//! }
//!
//! let unsent = Verdict::new(Blame::Service, Sent::No, Retry::Always);
//! let error = QueueFull(Mark::new(unsent));
//! assert!(verdict_on_error(&error).permits_retry(false)); // a POST, too
//! ```
//!
//! # What travels with a call
//!
//! Its deadline, its attempt, the endpoints already tried, whether it has a key, and its trace:
//! the [`Words`](crate::call::Words). The client's stack carries them beside the request, both in
//! one box; a layer used alone finds them in a [`Call`](crate::call::Call), at no allocation, or
//! in the extensions of an [`http::Request`]. A caller may set some:
//!
//! ```
//! use std::time::Duration;
//! use buttress::call::Words;
//! use http::Request;
//!
//! let mut search = Request::post("/search").body("apples")?;
//! search.extensions_mut().insert(Words::new().idempotent(true)); // a POST that only reads
//!
//! let mut events = Request::get("/events").body("")?;
//! events.extensions_mut().insert(Words::new().lasting_body(Duration::from_secs(30)));
//! # Ok::<(), http::Error>(())
//! ```
//!
//! # The other rules
//!
//! - **tower's contract.** `poll_ready` forwards and reserves nothing, since readiness can't be
//!   handed back; the instance that was polled is the one that is called; a breaker that is open
//!   or a balancer without endpoints is ready, and refuses in the call's future.
//! - **The budget** is one bucket for a service's retries and hedges. Successes fill it, a retry
//!   that succeeds is refunded, and what this program refuses itself costs nothing.
//! - **A breaker's permit** carries the generation that issued it. An outcome of another
//!   generation says nothing about now, and is not counted.
//! - **The balancer's snapshot** is immutable. One task makes it, a call loads it once and takes
//!   no lock. An endpoint is its id *and* its address: one that was restarted elsewhere begins
//!   anew.
//! - **Time and chance** are arguments. Under tokio's paused clock and a
//!   [seed](crate::Entropy::seeded) a test repeats itself; keys come from the operating system
//!   all the same, for two runs must not make one charge.
//! - **Errors** are small and named for what happened, found by [`find`](crate::find), and
//!   become one opaque type at the roof alone.
