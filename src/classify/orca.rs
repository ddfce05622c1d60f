//! ORCA reports in the head of a response, or as one: what a server says of its own load.
//!
//! Of the message `xds.data.orca.v3.OrcaLoadReport` (cncf/xds, gRFC A51) in the four forms that
//! Envoy reads (`source/common/orca/orca_parser.cc`): `endpoint-load-metrics` with `TEXT`
//! (`cpu_utilization=0.3,named_metrics.queue=7`, a colon in the place of `=` as well), `JSON` or `BIN` before
//! it, and `endpoint-load-metrics-bin`. A part that can't be read is left out, and no report is an
//! error: it is only a hint.

use std::time::Duration;

use ::http::{HeaderMap, HeaderName};

use crate::{
    algo::{
        base64,
        protobuf::{Value, Wire},
    },
    endpoint::{IN_FLIGHT_METRIC, LATENCY_METRIC, LoadReport},
};

const HEADER: HeaderName = HeaderName::from_static("endpoint-load-metrics");
const BINARY: HeaderName = HeaderName::from_static("endpoint-load-metrics-bin");

/// [`IN_FLIGHT_METRIC`] by the path that it has in a text.
const IN_FLIGHT: &str = "named_metrics.requests_in_flight";

/// [`LATENCY_METRIC`], likewise.
const LATENCY: &str = "named_metrics.latency_seconds";

/// The report in these headers, or trailers.
pub(crate) fn load_report(headers: &HeaderMap) -> Option<LoadReport> {
    let mut report = Raw::default();
    if let Some(value) = headers.get(HEADER) {
        let value = value.to_str().ok()?.trim();
        let (form, rest) = value.split_once(' ')?;
        match form {
            "TEXT" => text(rest, &mut report),
            "JSON" => json(rest, &mut report),
            "BIN" => protobuf(&base64::decode_unpadded(rest.as_bytes())?, &mut report),
            _ => return None,
        }
    } else {
        protobuf(&base64::decode_unpadded(headers.get(BINARY)?.as_bytes())?, &mut report);
    }
    report.done()
}

/// The report that this page is: an object as in `JSON`, or pairs as in `TEXT`, one a line or
/// between commas.
pub(crate) fn load_report_in(page: &str) -> Option<LoadReport> {
    let mut report = Raw::default();
    if page.trim_start().starts_with('{') {
        json(page, &mut report);
    } else {
        page.lines().for_each(|line| text(line, &mut report));
    }
    report.done()
}

/// The values as they come.
#[derive(Default)]
struct Raw {
    processor: Option<f32>,
    application: Option<f32>,
    rate: Option<f32>,
    errors: Option<f32>,
    in_flight: Option<f32>,
    latency: Option<f32>,
}

impl Raw {
    fn take(&mut self, name: &str, value: f64) {
        let value = value as f32;
        let value = (value.is_finite() && value >= 0.0).then_some(value);
        let field = match name {
            "cpu_utilization" | "cpuUtilization" => &mut self.processor,
            "application_utilization" | "applicationUtilization" => &mut self.application,
            "rps_fractional" | "rpsFractional" => &mut self.rate,
            "eps" => &mut self.errors,
            IN_FLIGHT => &mut self.in_flight,
            LATENCY => &mut self.latency,
            _ => return,
        };
        *field = value;
    }

    /// The metrics that we know, by their names alone.
    fn take_metric(&mut self, name: &[u8], value: f64) {
        if name == IN_FLIGHT_METRIC.as_bytes() {
            self.take(IN_FLIGHT, value);
        } else if name == LATENCY_METRIC.as_bytes() {
            self.take(LATENCY, value);
        }
    }

    fn done(self) -> Option<LoadReport> {
        // Zero is how protobuf says nothing, and no server in use is used by nothing.
        let said = |value: Option<f32>| value.filter(|&value| value > 0.0);
        let report = LoadReport {
            in_flight: self.in_flight,
            utilization: said(self.application).or_else(|| said(self.processor)),
            rate: said(self.rate),
            errors: self.errors,
            latency: self.latency.and_then(|said| Duration::try_from_secs_f32(said).ok()),
        };
        (report != LoadReport { errors: report.errors, ..LoadReport::new() }).then_some(report)
    }
}

fn text(text: &str, report: &mut Raw) {
    for pair in text.split(',') {
        let Some((name, value)) = pair.split_once(['=', ':']) else { continue };
        if let Ok(value) = value.trim().parse() {
            report.take(name.trim(), value);
        }
    }
}

/// Reads the numbers of an object, and of the objects in it by their path. It is no validator: of what
/// is no JSON it reads what looks like it.
fn json(text: &str, report: &mut Raw) {
    let (mut outer, mut name) = ("", "");
    let mut rest = text;
    while let Some(at) = rest.find(['"', '{', '}', ':']) {
        let token = rest.as_bytes()[at];
        rest = &rest[at + 1..];
        match token {
            b'"' => {
                let Some(end) = rest.find('"') else { return };
                name = &rest[..end];
                rest = &rest[end + 1..];
            }
            b'{' => outer = std::mem::take(&mut name),
            b'}' => outer = "",
            _ => {
                let end = rest.find([',', '}', '{', '"']).unwrap_or(rest.len());
                let Ok(value) = rest[..end].trim().parse() else { continue };
                match outer {
                    "" => report.take(name, value),
                    "named_metrics" | "namedMetrics" => report.take_metric(name.as_bytes(), value),
                    _ => {}
                }
                rest = &rest[end..];
            }
        }
    }
}

/// The fields of the message by their numbers, in protobuf's wire format.
fn protobuf(bytes: &[u8], report: &mut Raw) {
    let mut wire = Wire::new(bytes);
    while let Ok(Some((number, value))) = wire.field() {
        match (number, value) {
            (1, Value::Double(value)) => report.take("cpu_utilization", value),
            (6, Value::Double(value)) => report.take("rps_fractional", value),
            (7, Value::Double(value)) => report.take("eps", value),
            (8, Value::Bytes(entry)) => named_metric(entry, report),
            (9, Value::Double(value)) => report.take("application_utilization", value),
            _ => {}
        }
    }
}

/// An entry of the map: its key is field 1, its value field 2.
fn named_metric(entry: &[u8], report: &mut Raw) {
    let (mut name, mut said) = (&[][..], 0.0);
    let mut wire = Wire::new(entry);
    while let Ok(Some((number, value))) = wire.field() {
        match (number, value) {
            (1, Value::Bytes(key)) => name = key,
            (2, Value::Double(value)) => said = value,
            _ => {}
        }
    }
    report.take_metric(name, said);
}

#[cfg(test)]
mod tests {
    use ::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;
    use crate::algo::base64::encode;

    fn read(name: HeaderName, value: &str) -> Option<LoadReport> {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).ok()?);
        load_report(&headers)
    }

    fn whole() -> LoadReport {
        LoadReport {
            in_flight: Some(7.0),
            utilization: Some(0.8),
            rate: Some(1000.0),
            errors: Some(2.0),
            latency: None,
        }
    }

    #[test]
    fn reads_text_with_either_sign() {
        for sign in ['=', ':'] {
            let text = "TEXT cpu_utilization=0.7,application_utilization=0.8, mem_utilization=0.9,\
                        rps_fractional=1000,eps=2,named_metrics.foo=1,\
                        named_metrics.requests_in_flight=7";
            assert_eq!(read(HEADER, &text.replace('=', &sign.to_string())), Some(whole()));
        }
        let processor = read(HEADER, "TEXT cpu_utilization=0.7").and_then(|said| said.utilization);
        assert_eq!(processor, Some(0.7), "where the application has no measure of its own");
    }

    #[test]
    fn reads_json_in_both_spellings() {
        let snake = r#"JSON {"cpu_utilization": 0.7, "application_utilization": 0.8,
            "utilization": {"requests_in_flight": 99, "eps": 50}, "rps_fractional": 1000, "eps": 2,
            "named_metrics": {"foo": 1, "requests_in_flight": 7}}"#;
        assert_eq!(read(HEADER, &snake.replace('\n', " ")), Some(whole()));
        let camel = r#"JSON {"applicationUtilization":8e-1,"rpsFractional":1e3,"eps":2.0,"namedMetrics":{"requests_in_flight":7.0}}"#;
        assert_eq!(read(HEADER, camel), Some(whole()));
    }

    /// The bytes as `protoc --encode=xds.data.orca.v3.OrcaLoadReport` makes them, by hand: tag, then
    /// a little-endian double; a map's entry is a message of key and value.
    #[test]
    fn reads_protobuf() {
        let mut bytes = Vec::new();
        let double = |bytes: &mut Vec<u8>, number: u8, value: f64| {
            bytes.push(number << 3 | 1);
            bytes.extend(value.to_le_bytes());
        };
        double(&mut bytes, 1, 0.7);
        double(&mut bytes, 2, 0.9);
        bytes.extend([3 << 3, 0xe8, 0x07]);
        double(&mut bytes, 6, 1000.0);
        double(&mut bytes, 7, 2.0);
        let mut entry = vec![1 << 3 | 2, IN_FLIGHT_METRIC.len() as u8];
        entry.extend(IN_FLIGHT_METRIC.as_bytes());
        double(&mut entry, 2, 7.0);
        bytes.extend([8 << 3 | 2, entry.len() as u8]);
        bytes.extend(entry);
        double(&mut bytes, 9, 0.8);
        let text = encode(&bytes);
        assert_eq!(read(BINARY, &text), Some(whole()));
        assert_eq!(read(BINARY, text.trim_end_matches('=')), Some(whole()));
        assert_eq!(read(HEADER, &format!("BIN {text}")), Some(whole()));
    }

    #[test]
    fn reads_what_an_answer_takes_from_each_form() {
        let mut entry = vec![1 << 3 | 2, LATENCY_METRIC.len() as u8];
        entry.extend(LATENCY_METRIC.as_bytes());
        entry.push(2 << 3 | 1);
        entry.extend(0.25_f64.to_le_bytes());
        let bytes = [&[8 << 3 | 2, entry.len() as u8], &entry[..]].concat();
        for (name, value) in [
            (HEADER, "TEXT named_metrics.latency_seconds=0.25".to_owned()),
            (HEADER, r#"JSON {"named_metrics": {"latency_seconds": 0.25}}"#.to_owned()),
            (BINARY, encode(&bytes)),
        ] {
            let said = read(name, &value).and_then(|report| report.latency);
            assert_eq!(said, Some(Duration::from_millis(250)), "{value}");
        }
        let report =
            read(HEADER, "TEXT named_metrics.latency_seconds=1e30,eps=1,cpu_utilization=1");
        assert_eq!(report.and_then(|report| report.latency), None, "longer than can be");
    }

    #[test]
    fn a_page_may_be_a_report() {
        let said = LoadReport {
            in_flight: Some(7.0),
            latency: Some(Duration::from_millis(250)),
            ..LoadReport::new()
        };
        for page in [
            "named_metrics.requests_in_flight=7\nnamed_metrics.latency_seconds=0.25\n",
            "named_metrics.requests_in_flight: 7, named_metrics.latency_seconds: 0.25",
            "\n{\"named_metrics\": {\n\"requests_in_flight\": 7,\n\"latency_seconds\": 0.25}}",
        ] {
            assert_eq!(load_report_in(page), Some(said), "{page}");
        }
        for page in ["", "OK", "<html>", "{}", "requests_in_flight=7"] {
            assert_eq!(load_report_in(page), None, "{page}");
        }
    }

    #[test]
    fn what_says_nothing_is_no_report() {
        for value in [
            "",
            "TEXT",
            "TEXT ",
            "YAML a=1",
            "TEXT cpu_utilization=-1",
            "TEXT cpu_utilization=NaN",
            "TEXT cpu_utilization=inf",
            "TEXT mem_utilization=0.5",
            "JSON {",
            "JSON {\"eps\":}",
            "BIN !",
            "TEXT cpu_utilization=\"0.7\"",
        ] {
            assert_eq!(read(HEADER, value), None, "{value}");
        }
        assert_eq!(read(BINARY, "CQ=="), None, "a double that is cut off");
        assert_eq!(load_report(&HeaderMap::new()), None);
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_without_a_panic(
            form in "(TEXT|JSON|BIN) ", value in "[ -~]{0,80}", bytes in any::<Vec<u8>>(),
        ) {
            read(HEADER, &[form, value].concat());
            read(BINARY, &encode(&bytes));
        }
    }
}
