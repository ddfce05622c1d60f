//! How calls are shared between groups of endpoints: levels of priority, and zones.

/// How much more than its share of the calls a group is trusted with (Envoy,
/// `overprovisioning_factor`): a level of which 72 % are fit still takes all.
pub const DEFAULT_OVERPROVISIONING: f64 = 1.4;

/// The shares of levels of priority, by the part of each that is fit, from 0 to 1.
///
/// A level's health is its fit part times the factor, and 1 at the most; the first level takes
/// as much as its health is, the next of the rest as much as its own, and so on. Where all
/// together come to less than 1, all are raised alike. Where nobody is fit, the first takes all.
/// (Envoy, "Priority levels".)
#[must_use]
pub fn by_priority(fit: &[f64], overprovisioning: f64) -> Vec<f64> {
    let health = |fit: &f64| (fit * overprovisioning).clamp(0.0, 1.0);
    let sum = fit.iter().map(health).sum::<f64>().min(1.0);
    let mut left = 1.0;
    let take = |(at, fit): (usize, &f64)| {
        let share = match (sum > 0.0, at) {
            (true, _) => (health(fit) / sum).min(left),
            (false, 0) => 1.0,
            (false, _) => 0.0,
        };
        left -= share;
        share
    };
    fit.iter().enumerate().map(take).collect()
}

/// The shares of zones for a client in the first of them.
///
/// `fit` says what is fit in each zone, as a part of all there is, and `own` which part of all
/// clients is in the client's zone. Its own zone takes what it can: its part of the capacity, times the
/// factor, over its part of the clients. The rest goes to the others in proportion to the capacity that
/// their own clients leave, where these are spread evenly; if they leave none, to their
/// capacity. (Envoy, "Zone aware routing", with the factor of its priority levels, so that one
/// endpoint of a zone may fail before calls leave it.)
#[must_use]
pub fn by_zone(fit: &[f64], own: f64, overprovisioning: f64) -> Vec<f64> {
    let Some((&near, others)) = fit.split_first() else { return Vec::new() };
    let elsewhere: f64 = others.iter().sum();
    if elsewhere <= 0.0 {
        return std::iter::once(1.0).chain(others.iter().map(|_| 0.0)).collect();
    }
    let stays = if own > 0.0 { (near * overprovisioning / own).min(1.0) } else { 1.0 };
    let stays = if near > 0.0 { stays } else { 0.0 };
    let clients = (1.0 - own).max(0.0) / others.len() as f64;
    let spare = |fit: &f64| (fit * overprovisioning - clients).max(0.0);
    let left: f64 = others.iter().map(spare).sum();
    let part = |fit: &f64| if left > 0.0 { spare(fit) / left } else { fit / elsewhere };
    std::iter::once(stays).chain(others.iter().map(|fit| (1.0 - stays) * part(fit))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(shares: &[f64], wanted: &[f64]) -> bool {
        let same = |(share, wanted): (&f64, &f64)| (share - wanted).abs() < 0.005;
        shares.len() == wanted.len() && shares.iter().zip(wanted).all(same)
    }

    #[test]
    fn the_shares_of_levels_are_all_that_there_is() {
        for fit in [&[0.3, 0.1, 0.9][..], &[0.0, 0.0], &[0.0, 0.2, 0.1], &[1.0]] {
            let shares = by_priority(fit, 1.4);
            assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{fit:?}: {shares:?}");
        }
        assert!(close(&by_priority(&[0.0, 0.0], 1.4), &[1.0, 0.0]));
        assert!(close(&by_priority(&[0.0, 0.2, 0.1], 1.4), &[0.0, 0.667, 0.333]));
    }

    #[test]
    fn a_zone_keeps_its_calls_until_it_has_too_little() {
        let third = 1.0 / 3.0;
        // As many endpoints as clients everywhere.
        assert!(close(&by_zone(&[third, third, third], third, 1.4), &[1.0, 0.0, 0.0]));
        // A quarter of its own are gone, and half.
        assert!(close(&by_zone(&[0.25, third, third], third, 1.4), &[1.0, 0.0, 0.0]));
        assert!(close(&by_zone(&[third / 2.0, third, third], third, 1.4), &[0.7, 0.15, 0.15]));
        // Nobody is left, or nobody elsewhere, or nobody at all.
        assert!(close(&by_zone(&[0.0, 0.5, 0.25], third, 1.4), &[0.0, 0.957, 0.043]));
        assert!(close(&by_zone(&[0.1, 0.0, 0.0], third, 1.4), &[1.0, 0.0, 0.0]));
        assert!(close(&by_zone(&[0.0, 0.0], 0.5, 1.4), &[1.0, 0.0]));
        // The others have nothing to spare, so they share what there is.
        assert!(close(&by_zone(&[0.05, 0.2, 0.1], third, 1.4), &[0.21, 0.527, 0.263]));
    }
}
