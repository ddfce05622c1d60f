//! What the crate does not do, and where its word ends.
//!
//! # Of any client
//!
//! - **Nothing happens exactly once.** A request whose answer was lost may have been carried
//!   out. With a key the service can count it once; if it does not, or forgets the key before
//!   the last attempt, no client can help. [`idempotency`](crate::idempotency) is off until you
//!   say that the service honours keys. A server under
//!   [`idempotency::server`](crate::idempotency::server) comes closest where work and key commit
//!   in one transaction; elsewhere it says `outcome_unknown`.
//! - **A key lives as long as its call.** Whoever calls again after an error, or after a
//!   restart, needs a key of his own that is stored with the order.
//! - **`Sent::No` trusts what it is told**: the transport's marks, HTTP/2's promise about
//!   refused streams, and a service that says 421, 425 or 429. A service that does half of the
//!   work and then answers 429 is believed.
//! - **To drop a call undoes nothing.** The server may go on; so it may after a timeout.
//! - **A seed repeats draws, not schedules.** Two runs on several threads differ.
//!
//! # Of this one, on purpose
//!
//! - **Layers that talk must share a task.** What the layers below know (was it sent, to whom)
//!   reaches those above within one `poll`. `tower::Buffer`, or a `tokio::spawn`, between two of
//!   them cuts that: "no" becomes "maybe", the endpoints tried are forgotten, spans lose their
//!   parent. The stack has none, and needs none.
//! - **An attempt ends at the response's head**, unless its body is
//!   [collected](crate::collect) (up to 1 MiB). A body that breaks off after that is judged, so
//!   the breaker hears of it, but it is not asked for again: the caller has half of it.
//! - **A request's body is replayed up to 64 KiB.** A larger one is sent, once.
//! - **What is known is known to one process.** Breakers, budgets and loads are shared by a
//!   client's clones, not by two clients nor by two machines.
//! - **A [snapshot](crate::client::Snapshot) is one process's view.** It says in which state each
//!   endpoint is, why and since when, not which share of the calls it had.
//! - **A call cut off by its deadline has no history.** Its error says when and whether it may
//!   have happened; the attempts before are in the spans and events only.
//! - **Committed is committed.** Once the head, or a first message, is the caller's, nothing is
//!   tried again, whatever the trailers say ([`grpc`](crate::grpc) waits for the first frame).
//! - **Streams of gRPC have to say so**: nothing in a request tells one from a call with one
//!   answer. Without the word ([`lasting_body`](crate::call::Words::lasting_body)) a stream has to
//!   end within the deadline, and to send its first message within an attempt's time.
//! - **Layers above a client make other calls of it.** A second try after a
//!   [refused credential](crate::refresh) has attempts and a history of its own, and calls that
//!   begin while a credential is fetched go out with the old one.
//! - **A service is told of its time when the request goes out**, not when it arrives: as long
//!   as the way there takes, it may work on for nothing. Of a body past the cap of those that
//!   are collected, the rest is awaited until the call's deadline, but the service was told of
//!   the attempt's end.
//! - **Of timeouts, connecting alone is an event.** Calls and attempts that took too long are in
//!   the errors, the spans and the [`Retrying`](crate::Event::Retrying) that follows them.
//! - **A throttle is not fair.** The clients of a service hold it together to twice of what it
//!   accepts; which of them refuses how much is left to luck, and stays so for as long as the
//!   overload lasts ([`throttle`](crate::throttle)).
//! - **A stale answer is as old as it says**, and its rules are not all of HTTP's: what varies by
//!   a header is not remembered, unless your key says by what ([`fallback`](crate::fallback)).
//! - **Few calls, slow judgements.** A breaker needs five failures in a row or twenty calls in
//!   its window, and the balancer learns of an endpoint by calling it. With a call a minute,
//!   [`health`](crate::health) checks are what finds a dead instance.
//! - **Endpoints are addresses.** Names are for [`discover`](crate::discover) to resolve; any
//!   stream of changes will do. A registry that gives a host's name in the place of an address is
//!   reported, and that instance left out.
//! - **Consul and Kubernetes were never met.** Their clients are tested against servers of our own
//!   that speak the protocols; etcd's and that of DNS against the real ones.
//! - **Other transports say less.** [Over reqwest or tonic's channel
//!   ](crate::docs::stack#a-transport-of-your-own) a timeout while connecting may have sent the
//!   request, for all that is known, and what timed out does not condemn its connection.
//! - **Peak EWMA and least request know no weights.** Who gives them chooses
//!   [`Weighted`](crate::balance::Weighted), or a key's policy.
//! - **A probe asks the server, not the way there.** What an answer takes a server does not say how
//!   far it is. And a client that makes calls at once from many threads picks some of them without the
//!   answers, since none waits for the pool ([`Probing`](crate::balance::Probing)).
//! - **An ejection is a sentence.** Who is [ejected](crate::balance::EjectionConfig) stays out for
//!   half a minute and more, though he be well by then; so nobody is unless you ask for it.
//!
//! - **A thread keeps up to 32 idle timers** of the runtime in which it slept last, for the next
//!   calls to take: to take one takes no lock, and to make and drop one takes two. At the instant
//!   for which it was set last, once, it wakes for nothing the task that has it by then or had it
//!   last; and under a paused clock that instant is one to which the clock goes when there is
//!   nothing else to do. A task takes its own again without asking for its runtime: if it makes
//!   calls within the context of another one (`Handle::enter`) and then outside, on the same thread,
//!   its deadlines depend on that one, which has to be driven and to outlive them.
//!
//! # Not there yet
//!
//! - **TLS** in our own transport: it refuses `https`. A [transport of your own
//!   ](crate::docs::stack#a-transport-of-your-own) may speak it, as `examples/tls.rs` does.
//! - **The client's classifier** is HTTP's or [gRPC's](crate::client::GrpcClient); one of your own
//!   works with single layers. The spans of gRPC's calls are those of HTTP, without its codes.
//! - Limits of rate, HTTP/3. tower's own limits fit between the layers.
