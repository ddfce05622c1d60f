//! What two threads that share one balancer reach of what two reach that share nothing, and of
//! what two reach that share tower's.
//!
//!     cargo run --profile bench -p buttress-benches --bin sharing
//!
//! Times, so on a machine that has nothing else to do: the medians of eleven rounds, in each of
//! which all are measured one right after the other.

use buttress_benches::{Rates, Sharing, Way};

#[expect(clippy::print_stdout, reason = "it is what it is for")]
fn main() {
    let sharing = Sharing::new(200_000);
    for endpoints in [10, 100] {
        for way in [Way::Default, Way::RoundRobin, Way::Weighted] {
            let rounds: Vec<Rates> = (0..11).map(|_| sharing.round(endpoints, way)).collect();
            let median = |of: fn(&Rates) -> f64| {
                let mut values: Vec<f64> = rounds.iter().map(of).collect();
                values.sort_unstable_by(f64::total_cmp);
                values[values.len() / 2]
            };
            println!(
                "{endpoints:>3} endpoints, {way:?}: shared {:.0}/s, {:.2} of nothing shared, \
                 {:.2} of tower's",
                median(|rates| rates.shared),
                median(|rates| rates.shared / rates.apart),
                median(|rates| rates.shared / rates.buffered),
            );
        }
    }
}
