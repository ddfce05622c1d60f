//! The contracts that the whole stack keeps, through the client. Under paused time, over
//! endpoints in memory.
#![cfg(feature = "hyper")]

mod support;

use std::{
    error::Error as StdError,
    future::{Future, pending, poll_fn, ready},
    io,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    task::{Context, Poll},
    time::Duration,
};

use buttress::{
    BoxError, Entropy, Observer,
    algo::{
        backoff::Backoff,
        bucket::{Class, Tariff},
    },
    balance::BalanceConfig,
    body::Body,
    breaker::{BreakerConfig, State},
    budget::Budget,
    call::{Attempts, Outcome, Words},
    classify::Sent,
    client::{AttemptBody, Builder, Client, InvalidClient, Kind},
    collect::CollectConfig,
    endpoint::{Change, Endpoint, Health, MakeEndpoint},
    find,
    health::HealthConfig,
    hedge::HedgeConfig,
    idempotency::IdempotencyConfig,
    limit::{AdaptiveConfig, LimitConfig},
    retry::RetryConfig,
    timeout::{Elapsed, Which},
    transport::TransportConfig,
};
use futures_core::Stream;
use futures_util::stream;
use http::{Request, Response};
use support::company::{
    Act, Company, MS,
    Piece::{Break, Data, Stall, Wait},
    address, answer, lock, now, status, streaming,
};
use tokio::{
    task::yield_now,
    time::{advance, sleep},
};
use tower::{limit::ConcurrencyLimitLayer, service_fn};

fn get() -> Request<Body> {
    Request::new(Body::empty())
}

fn post() -> Request<Body> {
    let mut request = Request::new(Body::from("charge"));
    *request.method_mut() = http::Method::POST;
    request
}

fn with_words(words: Words) -> Request<Body> {
    let mut request = get();
    request.extensions_mut().insert(words);
    request
}

fn retry(attempts: u32) -> RetryConfig {
    let backoff = Backoff::new(MS, MS).expect("sound");
    RetryConfig::new().backoff(backoff).max_attempts(attempts).expect("more than none")
}

/// Lets everything run that can.
async fn settle() {
    for _ in 0..20 {
        yield_now().await;
    }
}

fn in_flight(client: &Client) -> u32 {
    client.endpoints().iter().map(|status| status.in_flight).sum()
}

fn service_state(client: &Client) -> State {
    client.service_breaker().expect("asked for").state()
}

// Cancellation, at every await.

/// Polls a future so many times, then drops it.
async fn polled<F: Future>(future: F, times: usize) -> Option<F::Output> {
    let mut future = Box::pin(future);
    let mut left = times;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// A client, what it calls, and what it is asked.
struct Scene {
    client: Client,
    company: Company,
    budget: Budget,
    /// From now on every endpoint does well at once.
    healed: Arc<AtomicBool>,
    request: Request<Body>,
}

const CAPACITY: u32 = 500;

impl Scene {
    async fn new<M>(
        request: Request<Body>,
        script: impl Fn(usize) -> Act + Send + Sync + 'static,
        build: impl FnOnce(Builder<Company>) -> Builder<M>,
    ) -> Result<Self, BoxError>
    where
        M: MakeEndpoint + Send + Sync + 'static,
        M::Service: tower::Service<Request<AttemptBody>, Response = Response<Body>>,
        M::Service: Clone + Send + Sync + 'static,
        <M::Service as tower::Service<Request<AttemptBody>>>::Error: Into<BoxError>,
        <M::Service as tower::Service<Request<AttemptBody>>>::Future: Send + 'static,
    {
        let healed = Arc::new(AtomicBool::new(false));
        let is_healed = Arc::clone(&healed);
        let company =
            Company::new(
                move |seen| {
                    if is_healed.load(SeqCst) { answer(200) } else { script(seen.nth) }
                },
            );
        let budget = Budget::new(Tariff::default());
        // One probe, and no panic that would call a closed endpoint all the same: a place that
        // is not given back closes the service for good.
        let breaker = || {
            let config = BreakerConfig::new().open_time(100 * MS, 100 * MS)?;
            config.consecutive_failures(3)?.probes(1)?.ramp(Duration::ZERO)
        };
        let builder = company
            .builder([1])
            .retry(retry(3).budget(budget.clone()))
            .breaker(breaker()?)
            .service_breaker(breaker()?)
            .attempt_timeout(200 * MS)
            .balance(BalanceConfig::new().panic_threshold(0.0)?);
        let client = build(builder).build()?;
        Ok(Self { client, company, budget, healed, request })
    }

    /// The whole call, its body included.
    fn run(&mut self) -> impl Future<Output = Result<u16, BoxError>> + use<> {
        let (client, request) = (self.client.clone(), std::mem::take(&mut self.request));
        async move {
            let response = client.send(request).await?;
            let status = response.status().as_u16();
            response.into_body().collect().await?;
            Ok(status)
        }
    }

    /// Nothing is left behind, and the next call is served.
    async fn check(&self, what: &str) -> Result<(), BoxError> {
        settle().await;
        assert_eq!(in_flight(&self.client), 0, "{what}");
        if let State::HalfOpen { under_way, .. } = service_state(&self.client) {
            assert_eq!(under_way, 0, "{what}");
        }
        let balance = self.budget.balance();
        let spent = u32::try_from(self.company.calls())? * Tariff::default().transient;
        assert!(balance <= CAPACITY && balance >= CAPACITY - spent, "{what}: {balance}");

        self.healed.store(true, SeqCst);
        // Past any open time.
        sleep(200 * MS).await;
        let response =
            self.client.send(get()).await.map_err(|error| format!("{what}: {error:?}"))?;
        assert_eq!(response.status(), 200, "{what}");
        assert!(response.extensions().get::<Attempts>().is_none(), "{what}: at its first attempt");
        Ok(())
    }
}

type Making = Pin<Box<dyn Future<Output = Result<Scene, BoxError>>>>;

type Named = (&'static str, fn() -> Making);

fn scenes() -> Vec<Named> {
    vec![
        ("a success after a while", || {
            Box::pin(Scene::new(get(), |_| Act::After(20 * MS, status(200)), |builder| builder))
        }),
        ("two failures and a success", || {
            Box::pin(Scene::new(
                get(),
                |nth| Act::After(5 * MS, status(if nth < 2 { 503 } else { 200 })),
                |builder| builder,
            ))
        }),
        ("a failure to the end", || {
            Box::pin(Scene::new(get(), |_| Act::Fail(io::ErrorKind::ConnectionReset), |b| b))
        }),
        ("a body as it comes", || {
            let pieces = [Data("a"), Wait(20 * MS), Data("b"), Wait(20 * MS), Data("c")];
            Box::pin(Scene::new(get(), move |_| streaming(pieces), |builder| builder))
        }),
        ("a collected body that stalls first", || {
            let pieces = [Data("a"), Wait(20 * MS), Data("b"), Wait(20 * MS), Data("c")];
            Box::pin(Scene::new(
                post(),
                move |nth| if nth == 0 { streaming([Data("a"), Stall]) } else { streaming(pieces) },
                |builder| builder.collect_bodies().idempotency_keys(),
            ))
        }),
        ("a timeout and a success", || {
            let script = |nth| if nth == 0 { Act::Hang } else { answer(200) };
            Box::pin(Scene::new(get(), script, |builder| builder))
        }),
        ("a hedge that wins", || {
            let script = |nth| if nth == 0 { Act::Hang } else { Act::After(20 * MS, status(200)) };
            Box::pin(async move {
                let hedge = HedgeConfig::after(50 * MS)?;
                let build = |builder: Builder<Company>| {
                    builder.endpoints([address(1), address(2)]).hedge(hedge)
                };
                Scene::new(get(), script, build).await
            })
        }),
        ("a hedge that loses", || {
            let script = |nth| match nth {
                0 => Act::After(80 * MS, status(200)),
                _ => Act::Hang,
            };
            Box::pin(async move {
                let hedge = HedgeConfig::after(50 * MS)?;
                Scene::new(get(), script, |builder| builder.hedge(hedge)).await
            })
        }),
        ("the wait for a first endpoint", || {
            let late = stream::once(async {
                sleep(50 * MS).await;
                Ok::<_, BoxError>(Change::Reset(vec![address(1).into()]))
            });
            Box::pin(Scene::new(get(), |_| answer(200), |builder| builder.discover(late)))
        }),
        ("the wait for a first check", || {
            let slow = |_: &Endpoint| async {
                sleep(50 * MS).await;
                Ok::<_, BoxError>(())
            };
            Box::pin(Scene::new(
                get(),
                |_| answer(200),
                move |builder| builder.health_check_with(slow, HealthConfig::new()),
            ))
        }),
        ("the wait for a layer's readiness", || {
            Box::pin(async {
                let scene = Scene::new(
                    get(),
                    |nth| if nth == 0 { Act::After(100 * MS, status(200)) } else { answer(200) },
                    |builder| builder.endpoint_layer(ConcurrencyLimitLayer::new(1)),
                )
                .await?;
                let ahead = scene.client.send(get());
                tokio::spawn(ahead);
                settle().await;
                Ok(scene)
            })
        }),
        ("a probe of both breakers", || {
            Box::pin(async {
                let scene = Scene::new(
                    get(),
                    |nth| Act::After(20 * MS, status(if nth < 3 { 500 } else { 200 })),
                    |builder| builder,
                )
                .await?;
                assert_eq!(scene.client.send(get()).await?.status(), 500);
                assert!(matches!(service_state(&scene.client), State::Open { .. }));
                assert!(!scene.client.endpoints()[0].open);
                sleep(100 * MS).await;
                Ok(scene)
            })
        }),
        ("the wait for an open breaker", || {
            Box::pin(async {
                let scene = Scene::new(
                    get(),
                    |nth| Act::After(MS, status(if nth < 3 { 500 } else { 200 })),
                    |builder| builder,
                )
                .await?;
                assert_eq!(scene.client.send(get()).await?.status(), 500);
                Ok(scene)
            })
        }),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_at_any_await_leaves_nothing_behind() -> Result<(), BoxError> {
    for (what, make) in scenes() {
        let mut times = 0;
        loop {
            let mut scene = make().await?;
            let ended = polled(scene.run(), times).await;
            let what = format!("{what}, dropped after {times} polls");
            if what.contains("readiness") {
                // The call that is ahead ends by itself.
                sleep(200 * MS).await;
            }
            scene.check(&what).await?;
            if ended.is_some() {
                break;
            }
            times += 1;
            assert!(times < 100, "{what}");
        }
        assert!(times > 1, "{what}: it has to wait somewhere");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_response_that_is_dropped_at_any_piece_of_its_body_leaves_nothing_behind()
-> Result<(), BoxError> {
    for read in 0..4 {
        let pieces = [Data("a"), Wait(20 * MS), Data("b"), Wait(20 * MS), Data("c")];
        let scene = Scene::new(get(), move |_| streaming(pieces), |builder| builder).await?;
        let mut body = scene.client.send(get()).await?.into_body();
        assert_eq!(in_flight(&scene.client), 1, "until the body has been read");
        for _ in 0..read {
            use http_body_util::BodyExt;
            body.frame().await.transpose()?;
        }
        drop(body);
        scene.check(&format!("after {read} pieces")).await?;
    }
    Ok(())
}

// One verdict, settled once.

/// What the service breaker and the budget learned of one call in the half-open state.
#[derive(Debug, PartialEq, Eq)]
enum Learned {
    /// So many successes, so many under way, and so many tokens paid in.
    Successes(u32, u32, u32),
    Failure(u32),
}

struct Judged {
    client: Client,
    budget: Budget,
    before: u32,
}

impl Judged {
    async fn new(
        act: impl Fn() -> Act + Send + Sync + 'static,
        collected: bool,
    ) -> Result<Self, BoxError> {
        let company = Company::new(move |seen| if seen.nth == 0 { answer(500) } else { act() });
        let breaker = BreakerConfig::new().open_time(10 * MS, 10 * MS)?.consecutive_failures(1)?;
        let budget = Budget::new(Tariff::default());
        let _ = budget.withdraw(Class::Transient, now());
        let builder = company
            .builder([1])
            .service_breaker(breaker)
            .deadline(1000 * MS)
            .attempt_timeout(1000 * MS)
            .retry(retry(1).budget(budget.clone()));
        let builder = if collected { builder.collect_bodies() } else { builder };
        let client = builder.build()?;
        client.send(get()).await?;
        sleep(10 * MS).await;
        let before = budget.balance();
        Ok(Self { client, budget, before })
    }

    fn learned(&self) -> Learned {
        let paid = self.budget.balance() - self.before;
        match service_state(&self.client) {
            State::HalfOpen { under_way, succeeded } => {
                Learned::Successes(succeeded, under_way, paid)
            }
            State::Open { .. } => Learned::Failure(paid),
            state => panic!("{state:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_verdict_is_settled_once_whatever_the_end() -> Result<(), BoxError> {
    use Learned::{Failure, Successes};
    let open_body = || streaming([Data("a"), Wait(20 * MS), Data("b")]);

    let at_head = Judged::new(|| answer(404), false).await?;
    let response = at_head.client.send(get()).await?;
    assert_eq!(at_head.learned(), Successes(1, 0, 0), "the service is there; the client was wrong");
    drop(response);
    assert_eq!(at_head.learned(), Successes(1, 0, 0));

    let to_the_end = Judged::new(open_body, false).await?;
    let response = to_the_end.client.send(get()).await?;
    assert_eq!((to_the_end.learned(), in_flight(&to_the_end.client)), (Successes(0, 1, 0), 1));
    response.into_body().collect().await?;
    assert_eq!((to_the_end.learned(), in_flight(&to_the_end.client)), (Successes(1, 0, 1), 0));

    let collected = Judged::new(open_body, true).await?;
    let response = collected.client.send(get()).await?;
    assert_eq!((collected.learned(), in_flight(&collected.client)), (Successes(1, 0, 1), 0));
    drop(response);
    assert_eq!(collected.learned(), Successes(1, 0, 1));

    let broken = Judged::new(|| streaming([Data("a"), Break]), false).await?;
    let response = broken.client.send(get()).await?;
    assert!(response.into_body().collect().await.is_err());
    assert_eq!((broken.learned(), in_flight(&broken.client)), (Failure(0), 0));

    let unread = Judged::new(open_body, false).await?;
    drop(unread.client.send(get()).await?);
    assert_eq!((unread.learned(), in_flight(&unread.client)), (Successes(1, 0, 1), 0));

    let forgotten = Judged::new(open_body, false).await?;
    let response = forgotten.client.send(get()).await?;
    sleep(1500 * MS).await;
    drop(response);
    assert_eq!(forgotten.learned(), Successes(1, 0, 1), "held past its deadline by the caller");

    let given_up = Judged::new(|| Act::Hang, false).await?;
    let mut call = pin!(given_up.client.send(get()));
    assert!(futures_util::poll!(call.as_mut()).is_pending());
    assert_eq!(given_up.learned(), Successes(0, 1, 0));
    call.set(given_up.client.send(get()));
    assert_eq!((given_up.learned(), in_flight(&given_up.client)), (Successes(0, 0, 0), 0));

    let cut_off = Judged::new(|| Act::Hang, false).await?;
    assert!(cut_off.client.send(get()).await.expect_err("it hangs").is_timeout());
    assert_eq!((cut_off.learned(), in_flight(&cut_off.client)), (Failure(0), 0));

    let stalled = Judged::new(|| streaming([Data("a"), Stall]), false).await?;
    let response = stalled.client.send(get()).await?;
    let error = response.into_body().collect().await.expect_err("the deadline");
    assert_eq!(find::<Elapsed>(&*error).map(Elapsed::which), Some(Which::Body));
    assert_eq!((stalled.learned(), in_flight(&stalled.client)), (Failure(0), 0));
    Ok(())
}

// The deadline.

#[tokio::test(start_paused = true)]
async fn the_earlier_of_two_deadlines_ends_the_call() -> Result<(), BoxError> {
    let company = Company::new(|_| Act::Hang);
    let client = company.builder([1]).deadline(1000 * MS).attempt_timeout(1000 * MS).build()?;
    for (own, ends) in [(300, 300), (5000, 1000), (0, 0)] {
        let began = now();
        let request = with_words(Words::new().deadline(began + own * MS));
        let error = client.send(request).await.expect_err("it hangs");
        assert_eq!((error.kind(), now() - began), (Kind::Timeout, ends * MS), "{own}");
    }
    assert_eq!(company.calls(), 2, "what has no time left is not begun");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_meant_to_last_has_an_idle_limit_instead() -> Result<(), BoxError> {
    let pieces = [Data("a"), Wait(900 * MS), Data("b"), Wait(900 * MS), Data("c"), Stall];
    let company = Company::new(move |_| streaming(pieces));
    let client = company
        .builder([1])
        .deadline(1000 * MS)
        .attempt_timeout(500 * MS)
        .collect_bodies()
        .build()?;
    let began = now();
    let words = Words::new().lasting_body(1000 * MS);
    let response = client.send(with_words(words)).await?;
    let error = response.into_body().collect().await.expect_err("silent at last");
    assert_eq!(find::<Elapsed>(&*error).map(Elapsed::which), Some(Which::Idle));
    assert_eq!(now() - began, 2800 * MS);
    Ok(())
}

// Errors.

fn sources(error: &dyn StdError) -> Vec<String> {
    let mut words = Vec::new();
    let mut next = error.source();
    while let Some(error) = next {
        words.push(error.to_string());
        next = error.source();
    }
    words
}

/// What happens, to how many attempts, and how that is called.
type Failing = (fn() -> Act, u32, Kind, &'static str);

#[tokio::test(start_paused = true)]
async fn an_error_says_what_where_which_attempt_and_whether_it_may_have_happened()
-> Result<(), BoxError> {
    let table: [Failing; 5] = [
        (
            || Act::Hang,
            2,
            Kind::Timeout,
            "the call took too long on attempt 2 (to 10.0.0.1:1); the request may have been \
             carried out",
        ),
        (
            || Act::Fail(io::ErrorKind::ConnectionRefused),
            1,
            Kind::Connect,
            "no connection could be made on attempt 1 (to 10.0.0.1:1); the request was not \
             carried out",
        ),
        (
            || Act::Fail(io::ErrorKind::ConnectionReset),
            3,
            Kind::Connection,
            "the connection broke on attempt 3 (to 10.0.0.1:1); the request may have been \
             carried out",
        ),
        (
            || streaming([Data("a"), Break]),
            1,
            Kind::Body,
            "the response's body broke off on attempt 1 (to 10.0.0.1:1); the request may have \
             been carried out",
        ),
        (
            || Act::Error("strange".into()),
            1,
            Kind::Other,
            "the call failed on attempt 1 (to 10.0.0.1:1); the request may have been carried out",
        ),
    ];
    for (act, attempts, kind, words) in table {
        let company = Company::new(move |_| act());
        let client = company
            .builder([1])
            .attempt_timeout(100 * MS)
            .collect_bodies()
            .retry(retry(attempts))
            .build()?;
        let error = client.send(get()).await.expect_err(words);
        assert_eq!((error.to_string().as_str(), error.kind()), (words, kind));
        assert_eq!(error.attempts().len(), attempts as usize);
        assert_eq!(error.attempts()[0].target.map(|target| target.address), Some(address(1)));
        let below = sources(&error);
        assert!(below.iter().any(|words| words == "calling 10.0.0.1:1 failed"), "{below:?}");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn an_error_of_what_was_not_sent_says_so_and_when_to_come_back() -> Result<(), BoxError> {
    let unknown = Company::new(|_| answer(200));
    let nobody = stream::pending::<Result<Change, BoxError>>();
    let client = unknown.builder([]).discover(nobody).build()?;
    let error = client.send(get()).await.expect_err("nobody is known");
    assert_eq!((error.kind(), error.sent(), error.retry_at()), (Kind::NoEndpoint, Sent::No, None));
    assert_eq!(
        error.to_string(),
        "there is no endpoint to call on attempt 1; the request was not carried out"
    );

    let busy = Company::new(|_| {
        let mut response = status(429);
        response.headers_mut().insert("retry-after", 20.into());
        Act::Answer(response)
    });
    let client = busy.builder([1]).retry(retry(1)).deadline(10_000 * MS).build()?;
    assert_eq!(client.send(get()).await?.status(), 429);
    let error = client.send(get()).await.expect_err("it asked to be left alone");
    assert_eq!((error.kind(), error.retry_at()), (Kind::NoEndpoint, Some(now() + 20_000 * MS)));
    assert_eq!(
        error.to_string(),
        "there is no endpoint to call on attempt 1; the request was not carried out; try again \
         in 20s"
    );

    let ill = Company::new(|_| answer(500));
    let breaker = BreakerConfig::new().consecutive_failures(1)?;
    let client = ill.builder([1]).service_breaker(breaker).retry(retry(1)).build()?;
    client.send(get()).await?;
    let error = client.send(get()).await.expect_err("open");
    let State::Open { until } = service_state(&client) else { panic!("open") };
    assert_eq!((error.kind(), error.retry_at()), (Kind::Rejected, Some(until)));
    assert_eq!(
        error.to_string(),
        format!(
            "the circuit breaker is open on attempt 1; the request was not carried out; try \
             again in {:?}",
            until - now()
        )
    );

    let client = Client::builder("http://payments").endpoints([address(1)]).build()?;
    let request = Request::get("https://payments/").body(())?;
    let error = client.send(request).await.expect_err("no TLS");
    assert_eq!((error.kind(), error.sent()), (Kind::Request, Sent::No));
    assert_eq!(
        error.to_string(),
        "the request can't be sent on attempt 1 (to 10.0.0.1:1); the request was not carried out"
    );

    let twice = Company::new(|_| answer(200));
    let (nth, ill) = (AtomicUsize::new(0), Arc::new(AtomicBool::new(false)));
    let is_ill = Arc::clone(&ill);
    let keys = IdempotencyConfig::new().generator(move || match is_ill.load(SeqCst) {
        true => "\u{7f}".to_owned(),
        false => nth.fetch_add(1, SeqCst).to_string(),
    })?;
    ill.store(true, SeqCst);
    let client = twice.builder([1]).idempotency_keys_with(keys).build()?;
    let error = client.send(post()).await.expect_err("no key can stand in a header like this");
    assert_eq!((error.kind(), error.sent()), (Kind::Request, Sent::No));
    assert_eq!(
        error.to_string(),
        "the request can't be sent; the request was not carried out",
        "no attempt was begun"
    );
    assert!(error.attempts().is_empty());
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_caller_gets_the_last_real_response_with_all_attempts() -> Result<(), BoxError> {
    let company = Company::new(|seen| match seen.nth {
        0 => Act::Fail(io::ErrorKind::ConnectionRefused),
        1 => answer(503),
        _ => answer(504),
    });
    let client = company.builder(1..=3).retry(retry(3)).build()?;
    let response = client.send(get()).await?;
    assert_eq!(response.status(), 504);
    let attempts = response.extensions().get::<Attempts>().expect("three");
    let outcomes: Vec<_> = attempts.iter().map(|attempt| &attempt.outcome).collect();
    assert!(matches!(outcomes[0], Outcome::Error(words) if words.contains("refused")));
    assert_eq!(*outcomes[1], Outcome::Response(Some(503)));
    assert_eq!(*outcomes[2], Outcome::Response(Some(504)));
    assert_eq!(attempts.iter().map(|attempt| attempt.number).collect::<Vec<_>>(), [1, 2, 3]);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn clients_in_a_chain_do_not_multiply_their_attempts() -> Result<(), BoxError> {
    let acts: [fn() -> Act; 2] = [|| answer(503), || Act::Fail(io::ErrorKind::ConnectionRefused)];
    for act in acts {
        let company = Company::new(move |_| act());
        let inner = company.builder(1..=9).retry(retry(3)).build()?;
        let outer = Client::builder("http://proxy")
            .endpoints([address(100), address(101)])
            .retry(retry(3))
            .transport(move |_: &Endpoint| {
                let inner = inner.clone();
                service_fn(move |request: Request<AttemptBody>| inner.send(request.map(Body::new)))
            })
            .build()?;
        let _ = outer.send(get()).await;
        assert_eq!(company.calls(), 3, "and not nine");
    }
    Ok(())
}

// Telemetry.

fn listener() -> (Arc<Mutex<Vec<String>>>, Observer) {
    let heard = Arc::<Mutex<Vec<String>>>::default();
    let log = Arc::clone(&heard);
    let observer = Observer::new(move |event| {
        let words = format!("{event:?}");
        let name = words.split([' ', '(']).next().unwrap_or_default().to_owned();
        lock(&log).push(name);
    });
    (heard, observer)
}

/// A maker with something to report.
struct Talking(Company, Option<Observer>, Arc<AtomicBool>);

impl MakeEndpoint for Talking {
    type Service = <Company as MakeEndpoint>::Service;

    fn make(&self, endpoint: &Endpoint) -> Self::Service {
        self.2.store(self.1.is_some(), SeqCst);
        self.0.make(endpoint)
    }

    fn report_to(&mut self, observer: &Observer) {
        self.1 = Some(observer.clone());
    }
}

#[tokio::test(start_paused = true)]
async fn one_observer_hears_of_all_layers() -> Result<(), BoxError> {
    let (heard, observer) = listener();
    let company = Company::new(|seen| match seen.nth {
        0 => Act::After(100 * MS, status(200)),
        _ => answer(500),
    });
    let told = Arc::new(AtomicBool::new(false));
    let failing = |endpoint: &Endpoint| {
        let ill = endpoint.address().port() == 3;
        ready(if ill { Err("ill") } else { Ok(()) })
    };
    let client = company
        .builder(1..=4)
        .transport(Talking(company.clone(), None, Arc::clone(&told)))
        .endpoint_layer(tower::layer::util::Identity::new())
        .observer(observer)
        .hedge(HedgeConfig::after(50 * MS)?)
        .service_breaker(BreakerConfig::new().consecutive_failures(3)?)
        .breaker(BreakerConfig::new().consecutive_failures(1)?)
        .health_check_with(failing, HealthConfig::new())
        .retry(retry(3))
        .build()?;
    client.send(get()).await?;
    let _ = client.send(get()).await;
    let heard = lock(&heard);
    for event in
        ["EndpointAdded", "HealthChanged", "ProbeFailed", "Hedged", "Retrying", "GaveUp", "Breaker"]
    {
        assert!(heard.iter().any(|name| name == event), "{event}: {heard:?}");
    }
    assert!(told.load(SeqCst), "the transport, too, and through layers around it");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_client_without_observer_or_seed_leaves_those_of_its_layers_alone() -> Result<(), BoxError>
{
    let (heard, observer) = listener();
    let company = Company::new(|_| answer(500));
    let breaker = || BreakerConfig::new().consecutive_failures(1);
    let client = Client::builder("http://payments")
        .endpoints([address(1), address(2)])
        .transport(company.clone())
        .retry(retry(2).observer(observer.clone()).entropy(Entropy::seeded(1)))
        .balance(BalanceConfig::new().observer(observer.clone()))
        .breaker(breaker()?.observer(observer.clone()))
        .build()?;
    client.send(get()).await?;
    let heard = lock(&heard);
    for event in ["EndpointAdded", "Retrying", "GaveUp", "Breaker"] {
        assert!(heard.iter().any(|name| name == event), "{event}: {heard:?}");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn nothing_is_added_to_a_request_when_nobody_listens() -> Result<(), BoxError> {
    let company = Company::new(|_| answer(200));
    let client = company.builder([1]).idempotency_keys().build()?;
    client.send(get()).await?;
    let seen = company.seen();
    assert!(seen[0].headers.is_empty(), "{seen:?}");
    assert_eq!(seen[0].uri, "http://payments/");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_request_may_name_a_path_alone_or_all() -> Result<(), BoxError> {
    let company = Company::new(|_| answer(200));
    let client = company.builder([1]).build()?;
    for (uri, seen) in [
        ("/charges?n=1", "http://payments/charges?n=1"),
        ("http://payments:81/charges", "http://payments:81/charges"),
        // `OPTIONS *` asks about the server: its path is an asterisk without a slash.
        ("*", "http://payments*"),
    ] {
        client.send(Request::options(uri).body(())?).await?;
        assert_eq!(company.seen().last().map(|seen| seen.uri.clone()), Some(seen.to_owned()));
    }
    Ok(())
}

// What runs in the background.

/// Counts itself as long as it lives.
struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Names two endpoints, and then nothing more.
struct Registry {
    first: bool,
    _alive: Alive,
}

impl Stream for Registry {
    type Item = Result<Change, BoxError>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if std::mem::take(&mut self.first) {
            let endpoints = vec![address(1).into(), address(2).into()];
            return Poll::Ready(Some(Ok(Change::Reset(endpoints))));
        }
        Poll::Pending
    }
}

#[tokio::test(start_paused = true)]
async fn what_runs_in_the_background_ends_with_the_last_client() -> Result<(), BoxError> {
    let (registries, probes) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let probing = Arc::clone(&probes);
    // The first probe of each endpoint is good, the second hangs.
    let asked = Arc::<AtomicUsize>::default();
    let probe = move |_: &Endpoint| {
        let (alive, nth) = (Alive::new(&probing), asked.fetch_add(1, Relaxed));
        async move {
            let _alive = alive;
            if nth >= 2 {
                pending::<()>().await;
            }
            Ok::<_, BoxError>(())
        }
    };
    let company = Company::new(|_| Act::After(20 * MS, status(200)));
    let client = company
        .builder([])
        .discover(Registry { first: true, _alive: Alive::new(&registries) })
        .health_check_with(probe, HealthConfig::new().timeout(Duration::from_secs(3600))?)
        .build()?;
    let clone = client.clone();
    assert_eq!(client.send(get()).await?.status(), 200);
    advance(Duration::from_secs(10)).await;
    settle().await;
    drop(client);
    settle().await;
    assert_eq!((registries.load(Relaxed), probes.load(Relaxed)), (1, 2), "a clone is left");
    let call = clone.send(get());
    drop(clone);
    settle().await;
    assert_eq!(call.await?.status(), 200, "a call under way has what it needs");
    settle().await;
    assert_eq!((registries.load(Relaxed), probes.load(Relaxed)), (0, 0));
    Ok(())
}

// What can't be is refused when it is built.

fn refused<M>(builder: Builder<M>) -> String
where
    M: MakeEndpoint + Send + Sync + 'static,
    M::Service: Send + Sync + 'static,
{
    builder.build_stack().map(drop).expect_err("it can't be").to_string()
}

#[tokio::test]
async fn settings_that_cannot_be_are_refused_with_what_to_change() -> Result<(), BoxError> {
    let client = || Client::builder("http://payments").endpoints([address(1)]);
    let probes = BreakerConfig::new().probe_timeout(Duration::from_secs(2))?;
    let connect = TransportConfig::http1().connect_timeout(Duration::from_secs(20))?;
    let hedge = HedgeConfig::after(Duration::from_secs(10))?;
    let backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(20))?;
    let second = Duration::from_secs(1);
    let places = |calls| LimitConfig::fixed(calls).expect("more than none");
    let few = AdaptiveConfig::new().bounds(1, 10)?;
    for (words, advice) in [
        (
            refused(Client::builder("http://payments")),
            "there is nobody to call: name the endpoints with `endpoints` or `discover`",
        ),
        (
            refused(Client::builder("http://payments").endpoints([])),
            "the list of endpoints is empty and never changes: name some, or watch for them with \
             `discover`",
        ),
        (
            refused(client().deadline(Duration::ZERO)),
            "a deadline of zero lets no call succeed: set it above zero",
        ),
        (
            refused(client().attempt_timeout(Duration::ZERO)),
            "an attempt timeout of zero lets no call succeed: set it above zero",
        ),
        (
            refused(client().deadline(second)),
            "an attempt may take 10s but the whole call only 1s: raise the deadline, or lower \
             the attempt timeout",
        ),
        (
            refused(
                client()
                    .deadline(second)
                    .attempt_timeout(second)
                    .retry(RetryConfig::new().backoff(backoff)),
            ),
            "a first backoff of up to 2s does not fit into a deadline of 1s: lower the backoff's \
             base, or raise the deadline",
        ),
        (
            refused(client().hedge(hedge)),
            "a hedge after 10s never comes, as an attempt ends after 10s: lower the hedge's \
             delay, or raise the attempt timeout",
        ),
        (
            refused(client().breaker(probes.clone())),
            "a breaker's probe may take 2s but an attempt 10s, so a slow endpoint would never \
             come back: raise the breaker's probe timeout, or lower the attempt timeout",
        ),
        (
            refused(client().service_breaker(probes)),
            "a breaker's probe may take 2s but an attempt 10s, so a slow endpoint would never \
             come back: raise the breaker's probe timeout, or lower the attempt timeout",
        ),
        (
            refused(client().connections(connect)),
            "connecting may take 20s but an attempt only 10s: lower the connect timeout, or \
             raise the attempt timeout",
        ),
        (
            refused(client().limit(places(5).max_wait(30 * second)?)),
            "a call may wait 30s for a place but take only 30s in all: lower the limit's longest \
             wait, or raise the deadline",
        ),
        (
            refused(client().endpoint_limit(places(5).max_wait(10 * second)?)),
            "an attempt may wait 10s for a place at its endpoint but take only 10s in all: lower \
             the longest wait of the endpoint's limit, or raise the attempt timeout",
        ),
        (
            refused(
                client()
                    .limit(places(5).max_wait(25 * second)?)
                    .endpoint_limit(places(2).max_wait(5 * second)?),
            ),
            "a call may wait 25s for a place and 5s for one at its endpoint, but take only 30s in \
             all: lower one of the two waits, or raise the deadline",
        ),
        (
            refused(client().limit(places(5)).endpoint_limit(places(5))),
            "5 attempts at one endpoint are never reached, as 5 may be under way at all of them \
             together: lower the endpoint's limit, or leave it out",
        ),
        (
            refused(client().limit(LimitConfig::adaptive(few)).endpoint_limit(places(20))),
            "20 attempts at one endpoint are never reached, as 10 may be under way at all of them \
             together: lower the endpoint's limit, or leave it out",
        ),
        (
            refused(client().limit(places(1)).hedge_slowest()),
            "a hedge needs a place beside the attempt that it races, and the limit is 1: raise \
             the limit, or leave the hedge out",
        ),
        (
            refused(client().collect_bodies_with(CollectConfig::new().cap(0))),
            "bodies of up to 0 bytes are none: raise the cap, or leave `collect_bodies` out",
        ),
        (
            refused(client().health_check("health")),
            "a health check's path must be written as in `/health`",
        ),
        (
            refused(Client::builder("https://payments").endpoints([address(1)])),
            "\"https://payments\" needs TLS or another protocol, which this transport does not \
             speak: say http://, or set a transport of your own",
        ),
        (
            refused(
                Client::builder("https://payments")
                    .endpoints([address(1)])
                    .transport(Company::new(|_| answer(200)))
                    .health_check("/health"),
            ),
            "the health check speaks plain HTTP, the service does not: give `health_check_with` \
             a probe that speaks as the service does",
        ),
    ] {
        assert_eq!(words, advice);
    }
    for name in [
        "payments",
        "payments:80",
        "http://",
        "http://:80",
        "http://a/b",
        "http://a?b",
        "http://me:secret@payments",
        "/charges",
        "",
        "http://pay ments",
    ] {
        assert_eq!(
            refused(Client::builder(name).endpoints([address(1)])),
            format!(
                "{name:?} names no service: say its scheme and name, such as \"http://payments\""
            )
        );
    }
    Ok(())
}

#[tokio::test]
async fn settings_that_go_well_together_are_not_refused() -> Result<(), BoxError> {
    let client = || Client::builder("http://payments:8080/").endpoints([address(1)]);
    client().build()?;
    // The default connect timeout is longer, but the attempt timeout ends it all the same.
    client().attempt_timeout(Duration::from_millis(80)).build()?;
    client().deadline(Duration::from_secs(10)).build()?;
    client().retry(RetryConfig::new().max_attempts(1)?).build()?;
    let company = Company::new(|_| answer(200));
    Client::builder("https://payments").endpoints([address(1)]).transport(company).build()?;
    client().endpoints([]).discover(stream::pending::<Result<Change, BoxError>>()).build()?;

    let places = |calls| LimitConfig::fixed(calls).expect("more than none");
    let (half, minute) = (Duration::from_millis(500), Duration::from_secs(60));
    // The default wait is longer, but the deadline ends it all the same.
    client().deadline(half).attempt_timeout(half).limit(places(5)).build()?;
    client().attempt_timeout(half).endpoint_limit(places(5)).build()?;
    // Where nobody waits, it does not matter how long.
    client().limit(places(5).queue(0).max_wait(minute)?).build()?;
    client().limit(places(5)).endpoint_limit(places(4)).build()?;
    client().limit(places(2)).hedge_slowest().build()?;
    // One that finds out may be reached, whatever the other finds out.
    let found_out = || LimitConfig::adaptive(AdaptiveConfig::new());
    client().limit(found_out()).endpoint_limit(found_out()).build()?;
    // A limit that went with the transport that it stood around.
    let company = Company::new(|_| answer(200));
    client().limit(places(5)).endpoint_limit(places(9)).transport(company).build()?;
    Ok(())
}

#[test]
fn to_build_outside_of_a_runtime_is_an_error_that_says_so() {
    let error: InvalidClient =
        Client::builder("http://payments").endpoints([address(1)]).build().expect_err("no runtime");
    assert_eq!(
        error.to_string(),
        "a balancer drives its discovery in a task: build it inside a tokio runtime"
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_check_found_is_seen_from_outside() -> Result<(), BoxError> {
    let company = Company::new(|_| answer(200));
    let probe = |endpoint: &Endpoint| {
        ready(if endpoint.address().port() == 1 { Err("ill") } else { Ok(()) })
    };
    let client = company.builder(1..=3).health_check_with(probe, HealthConfig::new()).build()?;
    for _ in 0..20 {
        client.send(get()).await?;
    }
    assert_eq!(company.calls_at(1), 0);
    let ill = client.endpoints().into_iter().filter(|status| status.health == Health::Unhealthy);
    assert_eq!(ill.map(|status| status.endpoint.address()).collect::<Vec<_>>(), [address(1)]);
    Ok(())
}
