//! What one call costs in time: each layer alone over the leaf, beside tower's, and the whole
//! job beside the stack that one would build from tower.
//!
//! One caller on a current-thread runtime. The stacks are measured again on a runtime of two
//! workers, with one caller and with eight: a `Buffer` has a task of its own, which the caller
//! wakes there across threads. What is told is the time for all calls through their number, so
//! with eight callers it is less than one call takes.
//!
//! Compare within one run and one group only. `callgrind.sh` counts instructions, which differ
//! less from run to run.

use std::time::Duration;

use buttress_benches::{Runner, Visit, visit_all, visit_stacks};
use criterion::{BenchmarkGroup, Criterion, measurement::WallTime};
use http::Response;
use http_body::Body;
use tower::{BoxError, Service};

fn main() {
    let mut criterion = Criterion::default()
        // Two minutes for all of them together.
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(50)
        .configure_from_args();
    let new: fn() -> Runner = Runner::new;
    visit_all(&mut Measure { criterion: &mut criterion, runner: new, suffix: "" });
    for (runner, suffix) in [
        ((|| Runner::two_workers(1)) as fn() -> Runner, ", two workers, one caller"),
        (|| Runner::two_workers(8), ", two workers, eight callers"),
    ] {
        visit_stacks(&mut Measure { criterion: &mut criterion, runner, suffix });
    }
    criterion.final_summary();
}

struct Measure<'a> {
    criterion: &'a mut Criterion,
    runner: fn() -> Runner,
    /// What is added to the names of the groups.
    suffix: &'static str,
}

impl Visit for Measure<'_> {
    fn visit<S, R, B>(
        &mut self,
        group: &'static str,
        name: &'static str,
        make: impl FnOnce() -> S,
        request: fn() -> R,
    ) where
        S: Service<R, Response = Response<B>, Future: Send, Error: Into<BoxError>>,
        S: Clone + Send + 'static,
        R: Send + 'static,
        B: Body<Error: Into<BoxError>> + Send + 'static,
    {
        let runner = (self.runner)();
        let service = runner.set_up(make);
        let group = format!("{group}{}", self.suffix);
        let mut group: BenchmarkGroup<'_, WallTime> = self.criterion.benchmark_group(group);
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|count| runner.calls(&service, request, count));
        });
        group.finish();
    }
}
