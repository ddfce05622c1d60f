//! `Idempotency-Key`: what a caller put there, and what a generator of the caller's makes.
//!
//! Each line is one header's value. All of it together is tried as a generator's key.

use std::{
    convert::Infallible,
    sync::atomic::{AtomicU32, Ordering},
};

use buttress::{
    call::Call,
    idempotency::{DEFAULT_HEADER, IdempotencyConfig, IdempotencyLayer, MAX_KEY, Quoting},
};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, Method, Request};
use tower::{Layer, ServiceExt, service_fn};

pub(crate) fn holds(bytes: &[u8]) {
    if let Some(values) = super::values(bytes) {
        a_callers_own_goes_out_as_it_came(&values);
    }
    if let Ok(key) = std::str::from_utf8(bytes) {
        a_made_key_is_sent_whole_or_not_at_all(key);
    }
}

fn a_callers_own_goes_out_as_it_came(values: &[HeaderValue]) {
    let own = super::headers(&DEFAULT_HEADER, values);
    let (sent, keyed) = send(IdempotencyConfig::new(), own.clone());
    assert_eq!(sent, own);
    // Two keys are none, and so is one without a character in it.
    let text = values[0].as_bytes().trim_ascii();
    let is_key = values.len() == 1 && !text.is_empty() && text != b"\"\"";
    assert_eq!(keyed, is_key, "{values:?}");
}

fn a_made_key_is_sent_whole_or_not_at_all(key: &str) {
    // Keys must differ. One digit does it, of the four that are made.
    let valid = key.len() < MAX_KEY && key.bytes().all(|byte| byte.is_ascii_graphic());
    for quoting in [Quoting::Quoted, Quoting::Bare] {
        let (prefix, count) = (key.to_owned(), AtomicU32::new(0));
        let generate = move || format!("{prefix}{}", count.fetch_add(1, Ordering::Relaxed));
        let config = IdempotencyConfig::new().quoting(quoting).generator(generate);
        assert_eq!(config.is_ok(), valid, "{key:?}");
        let Ok(config) = config else { continue };
        let (sent, keyed) = send(config, HeaderMap::new());
        assert!(keyed);
        let value = sent[DEFAULT_HEADER].to_str().expect("visible ASCII");
        // The generator was asked for two keys before.
        let expected = Some(format!("{key}2"));
        match quoting {
            Quoting::Quoted => assert_eq!(unquoted(value), expected),
            _ => assert_eq!(Some(value.to_owned()), expected),
        }
    }
}

/// The headers that are sent with a POST, and whether it counts as keyed.
fn send(config: IdempotencyConfig, headers: HeaderMap) -> (HeaderMap, bool) {
    let mut request = Request::new(());
    *request.method_mut() = Method::POST;
    *request.headers_mut() = headers;
    let service = service_fn(async |call: Call<Request<()>>| {
        let keyed = call.words.keyed;
        Ok::<_, Infallible>((call.request.into_parts().0.headers, keyed))
    });
    let sent = IdempotencyLayer::new(config).layer(service).oneshot(Call::new(request));
    sent.now_or_never().expect("nothing is waited for").expect("nothing refuses it")
}

/// RFC 9651, section 4.2.5.
fn unquoted(text: &str) -> Option<String> {
    let mut read = String::new();
    let mut rest = text.strip_prefix('"')?.chars();
    loop {
        match rest.next()? {
            '\\' => read.push(rest.next().filter(|it| matches!(it, '"' | '\\'))?),
            '"' => return rest.next().is_none().then_some(read),
            it => read.push(it),
        }
    }
}
