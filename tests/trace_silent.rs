//! A program in which nobody ever listened.

use std::convert::Infallible;

use buttress::{
    call::{Call, HttpHead},
    trace::{AttemptSpanLayer, CallSpanLayer},
};
use http::{HeaderMap, Method, Response, Uri};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

/// A request that nobody may look at.
struct Sealed;

impl HttpHead for Sealed {
    fn method(&self) -> &Method {
        panic!("nobody asked for the method")
    }

    fn uri(&self) -> &Uri {
        panic!("nobody asked for the target")
    }

    fn headers(&self) -> &HeaderMap {
        panic!("nobody asked for the headers")
    }

    fn headers_mut(&mut self) -> &mut HeaderMap {
        panic!("nobody asked for the headers")
    }
}

/// Alone in its program: whether anybody listens is one word for all threads.
#[tokio::test]
async fn nothing_is_looked_at_when_nobody_listens_and_no_trace_came_in() {
    let service = || {
        ServiceBuilder::new()
            .layer(CallSpanLayer::default())
            .layer(AttemptSpanLayer::default())
            .service(service_fn(async |_: Call<Sealed>| Ok::<_, Infallible>(Response::new(()))))
    };
    let answered = service().oneshot(Call::new(Sealed)).await;
    assert!(answered.is_ok());
    // The trap works: with a listener, it goes off.
    let looked = std::panic::catch_unwind(|| {
        let subscriber = tracing_subscriber::registry();
        tracing::subscriber::with_default(subscriber, || drop(service().call(Call::new(Sealed))));
    });
    assert!(looked.is_err());
}
