//! What one call costs in time: each layer alone over the leaf, beside tower's, and the whole
//! job beside the stack that one would build from tower.
//!
//! Compare within one run and one group only. `callgrind.sh` counts instructions, which differ
//! less from run to run.

use std::time::Duration;

use buttress_benches::{Runner, Visit, visit_all};
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
    visit_all(&mut Measure { criterion: &mut criterion });
    criterion.final_summary();
}

struct Measure<'a> {
    criterion: &'a mut Criterion,
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
        S: Send + 'static,
        R: Send + 'static,
        B: Body<Error: Into<BoxError>> + Send + 'static,
    {
        let runner = Runner::new();
        let mut service = Some(runner.set_up(make));
        let mut group: BenchmarkGroup<'_, WallTime> = self.criterion.benchmark_group(group);
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|count| {
                let called = service.take().expect("it is put back below");
                let (called, took) = runner.calls(called, request, count);
                service = Some(called);
                took
            });
        });
        group.finish();
    }
}
