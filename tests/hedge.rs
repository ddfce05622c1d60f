//! Hedging through its public interface.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use buttress::{
    BoxError,
    algo::bucket::Tariff,
    budget::Budget,
    call::{AttemptKind, Call, Words},
    classify::PlainClassifier,
    hedge::{HedgeConfig, HedgeLayer},
};
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceExt, limit::ConcurrencyLimit, service_fn};

const MS: Duration = Duration::from_millis(1);
const DELAY: Duration = Duration::from_millis(50);

fn hedge(budget: &Budget) -> HedgeLayer<PlainClassifier> {
    let config = HedgeConfig::after(DELAY).expect("above zero").budget(budget.clone());
    HedgeLayer::new(config, PlainClassifier::new())
}

fn repeatable() -> Call<&'static str> {
    Call::with_words("read", Words::new().idempotent(true))
}

/// Counts its calls, and answers each after what `lasts` says of it.
fn leaf(
    calls: &Arc<AtomicU32>,
    lasts: impl Fn(u32) -> Option<Duration> + Clone,
) -> impl Service<Call<&'static str>, Response = AttemptKind, Error = BoxError, Future: Send> + Clone
{
    let calls = Arc::clone(calls);
    service_fn(move |call: Call<&'static str>| {
        let lasts = lasts(calls.fetch_add(1, SeqCst));
        async move {
            match lasts {
                Some(lasts) => sleep(lasts).await,
                None => pending().await,
            }
            Ok(call.words.kind)
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_concurrency_limit_beneath_neither_panics_nor_leaks_its_permits() -> Result<(), BoxError>
{
    let calls = Arc::default();
    let leaf = leaf(&calls, |nth| if nth % 2 == 0 { None } else { Some(10 * MS) });
    let service = hedge(&Budget::default()).layer(ConcurrencyLimit::new(leaf, 2));
    for _ in 0..20 {
        let kind = service.clone().oneshot(repeatable()).await?;
        assert_eq!(kind, AttemptKind::Hedge);
    }
    assert_eq!(calls.load(SeqCst), 40);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_hedge_that_never_got_ready_costs_nothing() -> Result<(), BoxError> {
    let (calls, budget) = (Arc::default(), Budget::new(Tariff::default()));
    let leaf = leaf(&calls, |_| Some(100 * MS));
    let service = hedge(&budget).layer(ConcurrencyLimit::new(leaf, 1));
    let kind = service.clone().oneshot(repeatable()).await?;
    assert_eq!((kind, calls.load(SeqCst)), (AttemptKind::First, 1));
    assert_eq!(budget.balance(), 500);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_hedge_that_lost_is_paid_and_one_that_won_is_not() -> Result<(), BoxError> {
    for (first, second, left) in [(100, 100, 486), (500, 100, 500)] {
        let (calls, budget) = (Arc::default(), Budget::new(Tariff::default()));
        let leaf = leaf(&calls, move |nth| Some(if nth == 0 { first } else { second } * MS));
        let began = Instant::now();
        hedge(&budget).layer(leaf).oneshot(repeatable()).await?;
        assert_eq!(began.elapsed(), MS * first.min(second + 50));
        assert_eq!((calls.load(SeqCst), budget.balance()), (2, left));
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn only_what_is_slow_and_safe_to_repeat_is_hedged() -> Result<(), BoxError> {
    for (call, lasts, made) in [
        (repeatable(), 49, 1),
        (repeatable(), 51, 2),
        (Call::new("write"), 51, 1),
        (Call::with_words("write", Words::new().idempotent(false)), 51, 1),
    ] {
        let calls = Arc::default();
        let leaf = leaf(&calls, move |_| Some(lasts * MS));
        hedge(&Budget::default()).layer(leaf).oneshot(call).await?;
        assert_eq!(calls.load(SeqCst), made, "{lasts} ms");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn a_delay_too_long_to_be_counted_is_no_hedge_and_no_panic() -> Result<(), BoxError> {
    let calls = Arc::default();
    let leaf = leaf(&calls, |_| Some(10 * MS));
    let config = HedgeConfig::after(Duration::MAX)?;
    let service = HedgeLayer::new(config, PlainClassifier::new()).layer(leaf);
    assert_eq!(service.oneshot(repeatable()).await?, AttemptKind::First);
    assert_eq!(calls.load(SeqCst), 1);
    Ok(())
}
