//! Makes calls for callgrind, and nothing else that depends on their number.
//!
//! `callgrind --list` says what can be measured, `callgrind --policies` what else can be;
//! `callgrind SUBJECT CALLS` makes the calls.

use std::{env, process::ExitCode};

use buttress_benches::{Runner, Visit, visit_all, visit_policies};
use http::Response;
use http_body::Body;
use tower::{BoxError, Service};

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let subject = arguments.next().unwrap_or_default();
    let calls = arguments.next().and_then(|calls| calls.parse().ok());
    match (&*subject, calls) {
        ("--list", None) => visit_all(&mut List),
        ("--policies", None) => visit_policies(&mut List),
        (_, Some(calls)) => {
            let mut make = Make { subject, calls, found: false };
            visit_all(&mut make);
            visit_policies(&mut make);
            if !make.found {
                eprintln!("there is no \"{}\"", make.subject);
                return ExitCode::FAILURE;
            }
        }
        _ => {
            eprintln!("callgrind --list, callgrind --policies, or callgrind SUBJECT CALLS");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

struct List;

impl Visit for List {
    #[expect(clippy::print_stdout, reason = "it is asked to")]
    fn visit<S, R, B>(
        &mut self,
        group: &'static str,
        name: &'static str,
        _: impl FnOnce() -> S,
        _: fn() -> R,
    ) where
        S: Service<R, Response = Response<B>, Future: Send, Error: Into<BoxError>>,
        S: Clone + Send + 'static,
        R: Send + 'static,
        B: Body<Error: Into<BoxError>> + Send + 'static,
    {
        println!("{group}/{name}");
    }
}

struct Make {
    subject: String,
    calls: u64,
    found: bool,
}

impl Visit for Make {
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
        if self.subject.split_once('/') != Some((group, name)) {
            return;
        }
        self.found = true;
        let runner = Runner::new();
        let service = runner.set_up(make);
        runner.calls(&service, request, self.calls);
    }
}
