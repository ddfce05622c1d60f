//! Which calls get a key, and what it looks like.

use std::{error::Error as StdError, fmt, time::Instant};

use http::{HeaderName, HeaderValue, Method};

use super::{error::InvalidKey, key};
use crate::{call::OF_HTTP, entropy::Entropy};

/// The header of the IETF's draft (draft-ietf-httpapi-idempotency-key-header), and of Stripe.
pub const DEFAULT_HEADER: HeaderName = HeaderName::from_static("idempotency-key");

/// The methods that HTTP defines as not idempotent (RFC 9110, section 9.2.2; RFC 5789), and
/// that the draft is made for. The others are safe to repeat without a key.
pub const DEFAULT_METHODS: [Method; 2] = [Method::POST, Method::PATCH];

/// Which calls get a key, under which name, in which form, and who makes it.
pub struct IdempotencyConfig {
    header: HeaderName,
    quoting: Quoting,
    methods: Box<[Method]>,
    generator: Generator,
}

/// How a key stands in its header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Quoting {
    /// As a string of structured fields, in quotation marks: what the IETF's draft asks for.
    #[default]
    Quoted,
    /// As it is: what Stripe and most services of today read.
    Bare,
}

enum Generator {
    Uuid(Entropy),
    Custom(Box<Generate>),
}

/// Makes a key and hands it to the writer, so that it may be of any type that holds text.
type Generate = dyn Fn(&mut Write<'_>) -> Result<HeaderValue, InvalidKey> + Send + Sync;
type Write<'a> = dyn FnMut(&str) -> Result<HeaderValue, InvalidKey> + 'a;

impl IdempotencyConfig {
    /// The defaults: a quoted UUID (version 7) in `Idempotency-Key`, for POST and PATCH.
    #[must_use]
    pub fn new() -> Self {
        Self {
            header: DEFAULT_HEADER,
            quoting: Quoting::default(),
            methods: DEFAULT_METHODS.into(),
            generator: Generator::Uuid(Entropy::system()),
        }
    }

    /// The header that the service reads, such as `PayPal-Request-Id`.
    ///
    /// # Errors
    ///
    /// [`InvalidIdempotency`] if it is no header's name, or one that HTTP itself needs.
    pub fn header(mut self, name: impl TryInto<HeaderName>) -> Result<Self, InvalidIdempotency> {
        let name = name.try_into().map_err(|_| InvalidIdempotency::NAME)?;
        if OF_HTTP.contains(&name) {
            return Err(InvalidIdempotency::OF_HTTP);
        }
        self.header = name;
        Ok(self)
    }

    /// How the key stands in its header. [`Quoting::Bare`] for services that take quotation
    /// marks for a part of it, as Stripe does.
    #[must_use]
    pub const fn quoting(mut self, quoting: Quoting) -> Self {
        self.quoting = quoting;
        self
    }

    /// The methods whose calls get a key. With none, only keys of the caller's own count.
    #[must_use]
    pub fn methods(mut self, methods: impl IntoIterator<Item = Method>) -> Self {
        self.methods = methods.into_iter().collect();
        self
    }

    /// Makes keys with `generate` instead of UUIDs. A key is 1 to 255 visible ASCII characters,
    /// and never made twice.
    ///
    /// `generate` is asked for two keys here, so that one that can't work is found before the
    /// first call.
    ///
    /// # Errors
    ///
    /// [`InvalidIdempotency`] if one of the two can't be sent, or both are the same.
    pub fn generator<K>(
        mut self,
        generate: impl Fn() -> K + Send + Sync + 'static,
    ) -> Result<Self, InvalidIdempotency>
    where
        K: AsRef<str>,
    {
        let (first, second) = (generate(), generate());
        for probe in [&first, &second] {
            key::wire(probe.as_ref(), self.quoting).map_err(InvalidIdempotency::key)?;
        }
        if first.as_ref() == second.as_ref() {
            return Err(InvalidIdempotency::REPEATS);
        }
        self.generator = Generator::Custom(Box::new(move |write| write(generate().as_ref())));
        Ok(self)
    }

    /// Where UUIDs take their random bits from (default: the operating system).
    ///
    /// Under a seed the keys repeat in the next run, and the service would take them for those
    /// of the last: for tests and simulations alone.
    #[must_use]
    pub fn entropy(mut self, entropy: Entropy) -> Self {
        self.generator = Generator::Uuid(entropy);
        self
    }

    pub(super) const fn name(&self) -> &HeaderName {
        &self.header
    }

    pub(super) fn covers(&self, method: &Method) -> bool {
        self.methods.contains(method)
    }

    pub(super) fn mint(&self, now: impl FnOnce() -> Instant) -> Result<HeaderValue, InvalidKey> {
        match &self.generator {
            Generator::Uuid(entropy) => Ok(key::minted(entropy, now(), self.quoting)),
            Generator::Custom(generate) => generate(&mut |key| key::wire(key, self.quoting)),
        }
    }
}

impl Default for IdempotencyConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for IdempotencyConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let generator = match &self.generator {
            Generator::Uuid(_) => "uuid v7",
            Generator::Custom(_) => "custom",
        };
        f.debug_struct("IdempotencyConfig")
            .field("header", &self.header)
            .field("quoting", &self.quoting)
            .field("methods", &self.methods)
            .field("generator", &format_args!("{generator}"))
            .finish()
    }
}

/// A setting that can't work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidIdempotency {
    sentence: &'static str,
    key: Option<InvalidKey>,
}

impl InvalidIdempotency {
    const NAME: Self = Self::because(
        "this is no header's name: use letters, digits and dashes, such as \"Idempotency-Key\"",
    );
    const OF_HTTP: Self = Self::because(
        "HTTP itself needs this header: choose the one that the service reads keys from, such \
         as \"Idempotency-Key\"",
    );
    const REPEATS: Self = Self::because(
        "the generator made the same key twice, and the service would take two calls for one: \
         make a new key each time it is asked",
    );

    const fn because(sentence: &'static str) -> Self {
        Self { sentence, key: None }
    }

    const fn key(key: InvalidKey) -> Self {
        let sentence = "the generator makes keys that can't be sent: change what it returns";
        Self { sentence, key: Some(key) }
    }
}

impl fmt::Display for InvalidIdempotency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence)
    }
}

impl StdError for InvalidIdempotency {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.key.as_ref().map(|key| key as _)
    }
}
