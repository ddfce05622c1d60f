//! A request in the words of OpenTelemetry's semantic conventions for HTTP clients (1.44).
//!
//! Nothing here is built before a subscriber asks for it: fields are borrowed, or formatted
//! straight into the subscriber's own memory. Numbers are `i64`: OpenTelemetry knows no other,
//! and its layer would make a text of a `u64`.

use std::fmt;

use http::header::HOST;

use super::config::TraceConfig;
use crate::call::HttpHead;

/// `http.request.method`.
pub(super) fn method<'a, R: HttpHead>(request: &'a R, config: &TraceConfig) -> &'a str {
    let method = request.method();
    if config.knows(method) { method.as_str() } else { "_OTHER" }
}

/// `http.request.method_original`: only where it differs.
pub(super) fn method_original<'a, R: HttpHead>(
    request: &'a R,
    config: &TraceConfig,
) -> Option<&'a str> {
    let method = request.method();
    (!config.knows(method)).then(|| method.as_str())
}

/// The span's name: never the path, which has no end of values.
pub(super) fn name<'a, R: HttpHead>(request: &'a R, config: &TraceConfig) -> &'a str {
    let method = request.method();
    if config.knows(method) { method.as_str() } else { "HTTP" }
}

/// `server.address`: the service as the request names it, not the instance that was picked.
pub(super) fn address<R: HttpHead>(request: &R) -> Option<&str> {
    let (host, _) = split_port(authority(request)?.host);
    // Brackets belong to the URL, not to the address.
    Some(host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host))
}

/// `server.port`: as the request names it, or the scheme's own.
pub(super) fn port<R: HttpHead>(request: &R) -> Option<i64> {
    let named = authority(request).and_then(|authority| split_port(authority.host).1);
    named.map(i64::from).or_else(|| match request.uri().scheme_str()? {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    })
}

/// `url.full`, without what is secret in it.
pub(super) struct Url<'a, R> {
    pub(super) request: &'a R,
    pub(super) config: &'a TraceConfig,
}

impl<R: HttpHead> fmt::Display for Url<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uri = self.request.uri();
        if let Some(scheme) = uri.scheme_str() {
            write!(f, "{scheme}:")?;
        }
        if let Some(authority) = authority(self.request) {
            f.write_str("//")?;
            if authority.credentials {
                f.write_str("REDACTED:REDACTED@")?;
            }
            f.write_str(authority.host)?;
        }
        f.write_str(uri.path())?;
        let Some(query) = uri.query() else { return Ok(()) };
        for (n, pair) in query.split('&').enumerate() {
            f.write_str(if n == 0 { "?" } else { "&" })?;
            match pair.split_once('=') {
                Some((name, _)) if self.config.redacts(name) => write!(f, "{name}=REDACTED")?,
                _ => f.write_str(pair)?,
            }
        }
        Ok(())
    }
}

/// Where a request goes.
struct Authority<'a> {
    /// Host and port.
    host: &'a str,
    /// A user name, and perhaps a password, stood before them.
    credentials: bool,
}

/// The URI's own, else the `Host` header's: a request in origin form names its service there.
fn authority<R: HttpHead>(request: &R) -> Option<Authority<'_>> {
    let uri = request.uri().authority().map(|authority| authority.as_str());
    let text = uri.or_else(|| request.headers().get(HOST)?.to_str().ok())?;
    Some(match text.rsplit_once('@') {
        Some((_, host)) => Authority { host, credentials: true },
        None => Authority { host: text, credentials: false },
    })
}

/// The colons of an IPv6 address stand within brackets.
fn split_port(host: &str) -> (&str, Option<u16>) {
    match host.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()),
        _ => (host, None),
    }
}

#[cfg(test)]
mod tests {
    use http::{Method, Request};

    use super::*;
    use crate::trace::config::DEFAULT_REDACTED;

    fn get(uri: &str, host: Option<&str>) -> Request<()> {
        let mut request = Request::get(uri);
        if let Some(host) = host {
            request = request.header(HOST, host);
        }
        request.body(()).expect("a request")
    }

    fn url(uri: &str, host: Option<&str>, config: &TraceConfig) -> String {
        Url { request: &get(uri, host), config }.to_string()
    }

    #[test]
    fn names_the_service_as_the_request_does() {
        let table = [
            ("http://orders/a", None, Some("orders"), Some(80)),
            ("https://orders/a", None, Some("orders"), Some(443)),
            ("http://orders:8080/a", None, Some("orders"), Some(8080)),
            ("http://user:secret@orders:8080/a", None, Some("orders"), Some(8080)),
            ("http://[::1]:8080/a", None, Some("::1"), Some(8080)),
            ("http://[::1]/a", None, Some("::1"), Some(80)),
            ("http://orders/a", Some("elsewhere:1"), Some("orders"), Some(80)),
            ("/a", Some("orders:8080"), Some("orders"), Some(8080)),
            ("/a", Some("orders"), Some("orders"), None),
            ("/a", None, None, None),
            ("orders:443", None, Some("orders"), Some(443)),
        ];
        for (uri, host, expected_address, expected_port) in table {
            let request = get(uri, host);
            assert_eq!(address(&request), expected_address, "{uri} {host:?}");
            assert_eq!(port(&request), expected_port, "{uri} {host:?}");
        }
    }

    #[test]
    fn keeps_secrets_out_of_the_url() {
        let config = TraceConfig::new();
        let table = [
            ("http://orders/a?b=1&c", "http://orders/a?b=1&c"),
            ("http://orders", "http://orders/"),
            ("https://user:pass@orders:1/", "https://REDACTED:REDACTED@orders:1/"),
            ("https://token@orders/", "https://REDACTED:REDACTED@orders/"),
            ("http://s3/o?X-Amz-Signature=1&x=2", "http://s3/o?X-Amz-Signature=REDACTED&x=2"),
            ("http://s3/o?a&sig=a=b&", "http://s3/o?a&sig=REDACTED&"),
            ("http://s3/o?sig=", "http://s3/o?sig=REDACTED"),
            // Names are told apart by case, as the conventions say; a bare name has no value.
            ("http://s3/o?Sig=1&sig", "http://s3/o?Sig=1&sig"),
        ];
        for (uri, expected) in table {
            assert_eq!(url(uri, None, &config), expected, "{uri}");
        }
        for name in DEFAULT_REDACTED {
            let written = url(&format!("http://s3/?{name}=secret"), None, &config);
            assert_eq!(written, format!("http://s3/?{name}=REDACTED"));
        }
        let own = TraceConfig::new().redacted(["api_key"]);
        assert_eq!(
            url("http://a/?api_key=1&sig=2", None, &own),
            "http://a/?api_key=REDACTED&sig=2"
        );
    }

    #[test]
    fn says_what_it_knows_of_a_url() {
        let config = TraceConfig::new();
        assert_eq!(url("/a?b", Some("orders:80"), &config), "//orders:80/a?b");
        assert_eq!(url("/a?b", None, &config), "/a?b");
    }

    #[test]
    fn names_no_span_by_an_unknown_method() {
        let config = TraceConfig::new();
        let with = |method: &Method| {
            let mut request = get("http://orders/", None);
            request.method_mut().clone_from(method);
            request
        };
        let purge = Method::from_bytes(b"PURGE").expect("a method");
        assert_eq!(method(&with(&purge), &config), "_OTHER");
        assert_eq!(method_original(&with(&purge), &config), Some("PURGE"));
        assert_eq!(name(&with(&purge), &config), "HTTP");
        let config = config.known_methods([purge.clone()]);
        assert_eq!(method(&with(&purge), &config), "PURGE");
        assert_eq!(method_original(&with(&purge), &config), None);
        assert_eq!(name(&with(&Method::GET), &config), "HTTP");
    }
}
