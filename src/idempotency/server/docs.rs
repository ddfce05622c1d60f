//! Where problems point to.

use http::HeaderValue;

use super::InvalidHonour;

/// A link, in the two forms in which a problem has it.
#[derive(Clone, Debug)]
pub(super) struct Docs {
    uri: Box<str>,
    link: HeaderValue,
}

impl Docs {
    pub(super) fn new(uri: &str) -> Result<Self, InvalidHonour> {
        let absolute = uri.parse::<http::Uri>().is_ok_and(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some()
        });
        // What would end the string in JSON, or the link in its header.
        let plain = uri.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\<>".contains(&byte));
        if !absolute || !plain {
            return Err(InvalidHonour::DOCS);
        }
        let link = format!("<{uri}>; rel=\"describedby\"; type=\"text/html\"");
        let link = HeaderValue::from_str(&link).map_err(|_| InvalidHonour::DOCS)?;
        Ok(Self { uri: uri.into(), link })
    }

    pub(super) fn as_str(&self) -> &str {
        &self.uri
    }

    pub(super) const fn link(&self) -> &HeaderValue {
        &self.link
    }
}

impl Default for Docs {
    fn default() -> Self {
        Self::new("https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/")
            .expect("it is an absolute URI of plain characters")
    }
}
