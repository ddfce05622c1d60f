//! The whole job: deadline, key, retry, trace, breaker, balance over ten endpoints.

use std::sync::LazyLock;

use buttress::{
    body::Body,
    call::{Call, TraceParent, Words},
    client::{Builder, Client},
    endpoint::{Endpoint, MakeEndpoint},
};
use http::{Method, Request, Uri};

use crate::{Leaf, Visit, layers::ten};

/// A lean request: no headers, a short body in memory.
pub(crate) fn plain() -> Request<Body> {
    static URI: LazyLock<Uri> = LazyLock::new(|| Uri::from_static("http://payments/charges"));
    let mut request = Request::new(Body::full("amount=12"));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = URI.clone();
    request
}

/// The trace that came in with a request to this program.
pub(crate) fn parent() -> TraceParent {
    let parent = TraceParent::new(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, 0xf067_aa0b, 1);
    parent.expect("neither id is zero")
}

/// The request as the caller hands it over: with the trace in its words.
fn traced() -> Call<Request<Body>> {
    Call::with_words(plain(), Words::new().trace(parent()))
}

/// That the job was done: the leaf looks at the headers of every request, in the order in which
/// they were added. (To look one up by its name costs as much as to insert it, which would be
/// counted as the stack's.)
fn look<B>(request: &Request<B>) {
    let mut headers = request.headers().iter();
    let mut is = |name: &str, length: usize| match headers.next() {
        Some((own, value)) => own == name && value.len() == length,
        None => false,
    };
    assert!(is("idempotency-key", 38), "the key is missing");
    assert!(is("traceparent", 55), "the trace is missing");
}

pub(crate) fn stack(visit: &mut impl Visit) {
    visit.visit("stack", "leaf", || Leaf::new(|_: &Request<Body>| ()), plain);
    visit.visit(
        "stack",
        "Stack",
        || builder().build_stack().expect("the settings are sound"),
        traced,
    );
    visit.visit("stack", "Client", || builder().build().expect("the settings are sound"), traced);
}

fn builder() -> Builder<impl MakeEndpoint<Service = Leaf<Look>> + Send + Sync + 'static> {
    Client::builder("http://payments")
        .endpoints(ten())
        .idempotency_keys()
        .transport(|_: &Endpoint| Leaf::new(look as Look))
}

type Look = fn(&Request<buttress::client::AttemptBody>);
