//! ORCA's reports, by the front door: the classifiers of HTTP and of gRPC. The first line is
//! `endpoint-load-metrics`, the second `endpoint-load-metrics-bin`.

use buttress::{
    body::Body,
    classify::{Classify, GrpcClassifier, HttpClassifier},
    endpoint::LoadReport,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response};

const TEXT: HeaderName = HeaderName::from_static("endpoint-load-metrics");
const BINARY: HeaderName = HeaderName::from_static("endpoint-load-metrics-bin");

pub(crate) fn holds(bytes: &[u8]) {
    let Some([text, binary]) = super::lists(bytes) else { return };
    let mut headers = super::headers(&TEXT, &text);
    headers.extend(super::headers(&BINARY, &binary));
    let Some(report) = read(headers) else { return };
    assert!(!report.is_empty());
    let LoadReport { in_flight, utilization, rate, errors, .. } = report;
    for value in [in_flight, utilization, rate, errors].into_iter().flatten() {
        assert!(value.is_finite() && value >= 0.0, "{value}");
    }
    assert!(utilization.is_none_or(|part| part > 0.0) && rate.is_none_or(|rate| rate > 0.0));
    // Written in the simplest of the forms it is the same report.
    let mut headers = HeaderMap::new();
    headers.insert(TEXT, HeaderValue::from_str(&written(&report)).expect("digits and names"));
    assert_eq!(read(headers), Some(report));
}

fn read(headers: HeaderMap) -> Option<LoadReport> {
    let mut response = Response::new(Body::empty());
    *response.headers_mut() = headers;
    let report = HttpClassifier::new().load_report(&response);
    assert_eq!(GrpcClassifier::new().load_report(&response), report, "there is one reader");
    report
}

fn written(report: &LoadReport) -> String {
    let mut text = String::from("TEXT ");
    for (name, value) in [
        ("application_utilization", report.utilization),
        ("rps_fractional", report.rate),
        ("eps", report.errors),
        ("named_metrics.requests_in_flight", report.in_flight),
    ] {
        if let Some(value) = value {
            text += &format!("{name}={value},");
        }
    }
    text
}
