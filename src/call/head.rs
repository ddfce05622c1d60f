//! A request's head, as it is kept for further attempts.

use http::{
    Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version,
    uri::{Authority, Parts, Scheme},
};

/// What is kept of a request's head. Headers in a list, without hashing: hardly any is ever made
/// into a map again. Most requests of programs have the key and one or two of their own.
///
/// It is filled where it stays: each move of it, just written, would wait until that is done.
#[derive(Debug)]
pub(super) struct Head {
    method: Method,
    target: Target,
    version: Version,
    headers: Headers,
    extensions: Extensions,
}

/// A URI. Its text, if that is short and of the usual form: to copy it is cheaper than to count one
/// more reference to each of its parts, which other threads may count too, and one less again.
#[derive(Debug)]
struct Target {
    form: Form,
    authority: u8,
    length: u8,
    text: [u8; LONGEST],
    /// The URI itself, if it is another.
    whole: Option<Box<Uri>>,
}

/// The forms of which the text is kept.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// A path alone.
    Path,
    Http,
    Https,
}

/// As long as the targets of requests to services mostly are.
const LONGEST: usize = 93;

#[derive(Debug)]
enum Headers {
    None,
    /// In place, so that the key alone costs no allocation.
    One(HeaderName, HeaderValue),
    Many(Vec<(HeaderName, HeaderValue)>),
}

impl Headers {
    #[inline(always)]
    fn of(map: &HeaderMap) -> Self {
        let mut each = map.iter().map(|(name, value)| (name.clone(), value.clone()));
        match map.len() {
            0 => Self::None,
            1 => each.next().map_or(Self::None, |(name, value)| Self::One(name, value)),
            count => {
                let mut many = Vec::with_capacity(count);
                many.extend(each);
                Self::Many(many)
            }
        }
    }

    /// Adds them to those that are there.
    fn add_to(&self, map: &mut HeaderMap) {
        let (one, many) = match self {
            Self::None => (None, &[][..]),
            Self::One(name, value) => (Some((name, value.clone())), &[][..]),
            Self::Many(many) => (None, &many[..]),
        };
        map.reserve(many.len());
        let many = many.iter().map(|(name, value)| (name, value.clone()));
        for (name, value) in one.into_iter().chain(many) {
            map.append(name, value);
        }
    }
}

impl Head {
    #[inline(always)]
    pub(super) fn empty() -> Self {
        Self {
            method: Method::GET,
            target: Target::EMPTY,
            version: Version::HTTP_11,
            headers: Headers::None,
            extensions: Extensions::new(),
        }
    }

    #[inline(always)]
    pub(super) fn fill<B>(&mut self, request: &Request<B>) {
        self.method = request.method().clone();
        self.target.fill(request.uri());
        self.version = request.version();
        self.headers = Headers::of(request.headers());
        if !request.extensions().is_empty() {
            self.extensions = request.extensions().clone();
        }
    }

    /// Lets go what others may wait for, and what is large.
    #[inline(always)]
    pub(super) fn clear(&mut self) {
        self.headers = Headers::None;
        self.target.whole = None;
        if !self.extensions.is_empty() {
            self.extensions = Extensions::new();
        }
    }

    pub(super) fn request<B>(&self, body: B) -> Request<B> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.target.uri();
        *request.version_mut() = self.version;
        *request.extensions_mut() = self.extensions.clone();
        self.headers.add_to(request.headers_mut());
        request
    }
}

impl Target {
    const EMPTY: Self =
        Self { form: Form::Path, authority: 0, length: 0, text: [0; LONGEST], whole: None };

    #[inline(always)]
    fn fill(&mut self, uri: &Uri) {
        let whole = self.write(uri).is_none();
        self.whole = whole.then(|| Box::new(uri.clone()));
    }

    /// Its text, if there is room.
    #[inline(always)]
    fn write(&mut self, uri: &Uri) -> Option<()> {
        let path = uri.path_and_query()?.as_str();
        let authority = uri.authority().map_or("", Authority::as_str);
        self.form = match uri.scheme() {
            None if authority.is_empty() => Form::Path,
            Some(scheme) if *scheme == Scheme::HTTP => Form::Http,
            Some(scheme) if *scheme == Scheme::HTTPS => Form::Https,
            _ => return None,
        };
        let length = authority.len() + path.len();
        self.text.get_mut(..authority.len())?.copy_from_slice(authority.as_bytes());
        self.text.get_mut(authority.len()..length)?.copy_from_slice(path.as_bytes());
        (self.authority, self.length) = (authority.len() as u8, length as u8);
        Some(())
    }

    fn uri(&self) -> Uri {
        const WAS: &str = "it was part of a URI";
        if let Some(whole) = &self.whole {
            return Uri::clone(whole);
        }
        let text = &self.text[..usize::from(self.length)];
        let (authority, path) = text.split_at(usize::from(self.authority));
        let mut parts = Parts::default();
        parts.scheme = match self.form {
            Form::Path => None,
            Form::Http => Some(Scheme::HTTP),
            Form::Https => Some(Scheme::HTTPS),
        };
        parts.authority = parts.scheme.as_ref().map(|_| authority.try_into().expect(WAS));
        parts.path_and_query = Some(path.try_into().expect(WAS));
        Uri::from_parts(parts).expect(WAS)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kept(request: &Request<()>) -> Head {
        let mut head = Head::empty();
        head.fill(request);
        head
    }

    fn asked(uri: Uri) -> Request<()> {
        let mut request = Request::new(());
        *request.uri_mut() = uri;
        request
    }

    #[test]
    fn a_uri_of_any_form_is_made_again() {
        let longest = format!("http://payments/{}", "c".repeat(LONGEST - "payments/".len()));
        let longer = format!("{longest}c");
        // (URI, whether it is kept as text)
        let table = [
            ("http://payments/charges", true),
            ("https://payments:8443/charges/7?expand=true&q=%C3%A4", true),
            ("http://user@payments/", true),
            ("http://[::1]:80/", true),
            ("http://payments", true),
            ("http://payments?all", true),
            (&longest, true),
            (&longer, false),
            ("grpc://payments/charges", false),
            ("/charges?all", true),
            ("*", true),
            ("payments:8080", false),
        ];
        for (text, is_text) in table {
            let uri: Uri = text.parse().expect("it is one");
            let head = kept(&asked(uri.clone()));
            assert_eq!(head.target.whole.is_none(), is_text, "{text}");
            let again = head.request(());
            assert_eq!((again.uri(), again.uri().to_string()), (&uri, uri.to_string()), "{text}");
            assert_eq!(again.uri().query(), uri.query(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_uri_is_made_again(text in "(https?://[a-z]{1,50}(:[0-9]{1,4})?)?(/[!-\"$-~]{0,60})?") {
            let Ok(uri) = text.parse::<Uri>() else { return Ok(()) };
            let again = kept(&asked(uri.clone())).request(());
            prop_assert_eq!(again.uri(), &uri);
            prop_assert_eq!(again.uri().to_string(), uri.to_string());
        }
    }

    #[test]
    fn all_of_a_head_is_made_again() {
        for count in 0..4 {
            let mut request = asked(Uri::from_static("http://payments/charges"));
            *request.method_mut() = Method::from_bytes(b"MKCALENDAR").expect("it is one");
            *request.version_mut() = Version::HTTP_2;
            request.extensions_mut().insert(7_u8);
            for nth in 0..count {
                let name = if nth == 2 { "x-1".to_owned() } else { format!("x-{nth}") };
                let mut value = HeaderValue::from(nth);
                value.set_sensitive(nth == 0);
                let name = HeaderName::from_bytes(name.as_bytes()).expect("it is one");
                request.headers_mut().append(name, value);
            }
            let head = kept(&request);
            for again in [head.request(()), head.request(())] {
                assert_eq!(again.method(), request.method());
                assert_eq!(again.version(), request.version());
                assert_eq!(again.extensions().get(), Some(&7_u8));
                assert_eq!(again.headers(), request.headers());
                let sensitive = again.headers().get("x-0").map(HeaderValue::is_sensitive);
                assert_eq!(sensitive, (count > 0).then_some(true));
            }
        }
    }

    #[test]
    fn nothing_large_stays_when_it_is_let_go() {
        let mut request = asked(Uri::from_static("payments:8080"));
        request.extensions_mut().insert(7_u8);
        request.headers_mut().insert("x", HeaderValue::from_static("y"));
        let mut head = kept(&request);
        head.clear();
        assert!(head.extensions.is_empty() && head.target.whole.is_none());
        assert!(matches!(head.headers, Headers::None));
    }
}
