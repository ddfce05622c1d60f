//! How long callers suffer after a fault is over.

use std::time::Duration;

/// Success is looked at over this much time.
const WINDOW: Duration = Duration::from_millis(500);
/// How close to the level before is recovered: one point of a hundred.
const POINT: f64 = 0.01;

/// How long after its end success was back, within one point, where it was before the fault.
///
/// `calls` are the times at which calls were due, in order, and whether they went well. Success
/// at a time is that of the calls due in the 500 ms before it. The level before is that of the
/// moment when the fault begins. It is looked at when the fault ends and then at each call. `None`
/// if it did not come back while the drill lasted.
pub(crate) fn recovered(
    calls: &[(Duration, bool)],
    begin: Duration,
    end: Duration,
) -> Option<Duration> {
    // A fault in the first moments has no before; callers then expect everything.
    // What is due in that very moment belongs to the fault.
    let just_before = begin.saturating_sub(Duration::from_nanos(1));
    let before = success(calls, just_before).unwrap_or(1.0);
    let first = calls.partition_point(|(due, _)| *due <= end);
    let times = std::iter::once(end).chain(calls[first..].iter().map(|(due, _)| *due));
    for time in times {
        // Sums of shares are not exact; a level of exactly one point below counts.
        if success(calls, time).is_some_and(|now| now >= before - POINT - 1e-9) {
            return Some(time - end);
        }
    }
    None
}

/// The share of calls that went well among those due in the window up to a time, if any were.
fn success(calls: &[(Duration, bool)], time: Duration) -> Option<f64> {
    let from = match time.checked_sub(WINDOW) {
        Some(start) => calls.partition_point(|(due, _)| *due <= start),
        None => 0,
    };
    let upto = calls.partition_point(|(due, _)| *due <= time);
    let window = &calls[from..upto];
    let well = window.iter().filter(|(_, well)| *well).count();
    (!window.is_empty()).then(|| well as f64 / window.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// One call each 10 ms for ten seconds; `bad` says which fail.
    fn calls(bad: impl Fn(u64) -> bool) -> Vec<(Duration, bool)> {
        (0..1000).map(|n| (ms(n * 10), !bad(n * 10))).collect()
    }

    #[test]
    fn is_zero_for_a_client_that_noticed_nothing() {
        assert_eq!(recovered(&calls(|_| false), ms(2000), ms(4000)), Some(ms(0)));
    }

    #[test]
    fn waits_until_the_window_is_clean() {
        // All fail until 4,200; 50 calls fill a window, so one failure is two points: the last
        // bad one, due at 4,200, leaves the window (4,200, 4,700] at 4,700.
        let all = calls(|due| (2000..=4200).contains(&due));
        assert_eq!(recovered(&all, ms(2000), ms(4000)), Some(ms(700)));
    }

    #[test]
    fn one_point_below_is_recovered() {
        // One call each 5 ms is 100 in a window, so one failure is exactly one point.
        let all: Vec<_> = (0..1000).map(|n| (ms(n * 5), n != 410 && n != 500)).collect();
        assert_eq!(recovered(&all, ms(1000), ms(2300)), Some(ms(0)));
        let two: Vec<_> = (0..1000).map(|n| (ms(n * 5), n != 440 && n != 450)).collect();
        assert_eq!(recovered(&two, ms(1000), ms(2300)), Some(ms(400)));
    }

    #[test]
    fn compares_with_the_level_before_and_not_with_perfection() {
        // Every tenth call fails throughout, so that nothing changed.
        assert_eq!(recovered(&calls(|due| due % 100 == 0), ms(2000), ms(3000)), Some(ms(0)));
    }

    #[test]
    fn is_none_if_it_never_comes_back() {
        assert_eq!(recovered(&calls(|due| due >= 2010), ms(2000), ms(4000)), None);
        // No calls afterwards, so nothing can be seen to be well.
        let early = calls(|due| due >= 2010);
        assert_eq!(recovered(&early, ms(2000), ms(20_000)), None);
    }
}
