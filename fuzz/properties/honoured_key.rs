//! `Idempotency-Key` as a server reads it. Each line is one header's value.

use std::convert::Infallible;

use buttress::{
    body::Body,
    idempotency::{
        DEFAULT_HEADER, MAX_KEY,
        server::{
            Answer, Begin, Claim, HeldBody, HonourConfig, HonourLayer, Outcome, Settled, Store,
            Token,
        },
    },
};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt;
use tower::{Layer, ServiceExt, service_fn};

pub(crate) fn holds(bytes: &[u8]) {
    let Some(values) = super::values(bytes) else { return };
    for bare in [false, true] {
        let expected = match &values[..] {
            [one] => key(one.as_bytes(), bare),
            _ => None,
        };
        let expected = expected.filter(|key| (1..=MAX_KEY).contains(&key.len()));
        let (status, body) = ask(&values, bare);
        match expected {
            Some(key) => assert_eq!((status, body), (StatusCode::OK, key), "{values:?}"),
            None => {
                assert_eq!(status, StatusCode::BAD_REQUEST, "{values:?}: {body}");
                assert!(body.contains(r#""code":"idempotency_key_invalid""#), "{body}");
            }
        }
    }
}

/// Answers every key with itself, so that no work is ever done.
struct Echo;

impl Store for Echo {
    type Error = Infallible;

    async fn begin(&self, claim: &Claim) -> Result<Begin, Infallible> {
        Ok(Begin::Replay(Answer::new(StatusCode::OK, claim.key.clone())))
    }

    async fn settle(&self, _: Token, _: Outcome) -> Result<Settled, Infallible> {
        panic!("nothing was carried out")
    }
}

fn ask(values: &[HeaderValue], bare: bool) -> (StatusCode, String) {
    let mut request = Request::post("/charges").body(Body::empty()).expect("it is sound");
    *request.headers_mut() = super::headers(&DEFAULT_HEADER, values);
    type Handled = Result<Response<Body>, Infallible>;
    let service = service_fn(async |_: Request<HeldBody<Body>>| -> Handled {
        panic!("what has a key is answered, and what has none is refused")
    });
    let honour = HonourLayer::new(HonourConfig::new().accept_bare(bare), Echo).layer(service);
    super::in_runtime(async {
        let response = honour.oneshot(request).await.expect("the layer has no errors");
        let (head, body) = response.into_parts();
        let body = body.collect().await.expect("it lies in memory").to_bytes();
        (head.status, String::from_utf8(body.to_vec()).expect("a key, or a problem"))
    })
}

fn key(field: &[u8], bare: bool) -> Option<String> {
    let text = std::str::from_utf8(field).ok()?;
    if !bare {
        return item(text);
    }
    let text = text.trim_matches([' ', '\t']);
    if text.starts_with('"') {
        return item(text);
    }
    text.chars().all(|it| ('!'..='~').contains(&it) && it != ',').then(|| text.to_owned())
}

/// An Item of type String with its parameters (RFC 9651, section 4.2). Not from left to right:
/// cut at every semicolon, and put together again as long as that makes no sense.
fn item(field: &str) -> Option<String> {
    if !field.chars().all(|it| (' '..='~').contains(&it)) {
        return None;
    }
    let mut pieces = field.trim_matches(' ').split(';');
    let key = joined(pieces.next()?, &mut pieces, string)?;
    while let Some(piece) = pieces.next() {
        let piece = piece.trim_start_matches(' ');
        let Some((name, value)) = piece.split_once('=') else {
            is_name(piece).then_some(())?;
            continue;
        };
        is_name(name).then_some(())?;
        match value.chars().next()? {
            '"' => drop(joined(value, &mut pieces, string)?),
            '%' => joined(value, &mut pieces, display_string)?,
            _ => is_short(value).then_some(())?,
        }
    }
    Some(key)
}

/// The shortest that can be read, of the first piece and those that follow.
fn joined<'a, T>(
    first: &str,
    pieces: &mut impl Iterator<Item = &'a str>,
    read: fn(&str) -> Option<T>,
) -> Option<T> {
    let mut text = first.to_owned();
    loop {
        if let Some(whole) = read(&text) {
            return Some(whole);
        }
        text.push(';');
        text.push_str(pieces.next()?);
    }
}

/// Section 4.2.5: what stands between two escaped backslashes has no other backslash than those
/// before a quotation mark, and no other quotation mark than those.
fn string(text: &str) -> Option<String> {
    let inside = text.strip_prefix('"')?.strip_suffix('"')?;
    let parts: Option<Vec<_>> = inside
        .split(r"\\")
        .map(|part| part.replace(r#"\""#, "\0"))
        .map(|part| (!part.contains(['\\', '"'])).then(|| part.replace('\0', "\"")))
        .collect();
    Some(parts?.join("\\"))
}

/// Section 4.2.10.
fn display_string(text: &str) -> Option<()> {
    let inside = text.strip_prefix("%\"")?.strip_suffix('"')?;
    let mut parts = inside.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        let lower = digits.chars().all(|it| it.is_ascii_digit() || ('a'..='f').contains(&it));
        bytes.push(u8::from_str_radix(digits, 16).ok().filter(|_| lower)?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    (!inside.contains('"') && String::from_utf8(bytes).is_ok()).then_some(())
}

/// Whether it is a boolean, a date, a byte sequence, a number or a token.
fn is_short(text: &str) -> bool {
    let inside = |mark| text.strip_prefix(mark).and_then(|rest| rest.strip_suffix(mark));
    let token = |it: char| it.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~:/".contains(it);
    matches!(text, "?0" | "?1")
        || text.strip_prefix('@').is_some_and(is_integer)
        || inside(':').is_some_and(is_base64)
        || is_integer(text)
        || text.split_once('.').is_some_and(is_decimal)
        || text.starts_with(|it: char| it.is_ascii_alphabetic() || it == '*')
            && text.chars().all(token)
}

fn is_integer(text: &str) -> bool {
    has_digits(text.strip_prefix('-').unwrap_or(text), 15)
}

fn is_decimal((whole, fraction): (&str, &str)) -> bool {
    has_digits(whole.strip_prefix('-').unwrap_or(whole), 12) && has_digits(fraction, 3)
}

fn has_digits(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && text.chars().all(|it| it.is_ascii_digit())
}

fn is_base64(text: &str) -> bool {
    let digits = text.trim_end_matches('=');
    let padding = text.len() - digits.len();
    let fits = match padding {
        0 => digits.len() % 4 != 1,
        1 | 2 => text.len() % 4 == 0,
        _ => false,
    };
    fits && digits.chars().all(|it| it.is_ascii_alphanumeric() || "+/".contains(it))
}

fn is_name(text: &str) -> bool {
    let others = |it: char| it.is_ascii_lowercase() || it.is_ascii_digit() || "_-.*".contains(it);
    text.starts_with(|it: char| it.is_ascii_lowercase() || it == '*') && text.chars().all(others)
}
