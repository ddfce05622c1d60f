//! Keeps the spans of the library.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
};

use tracing::{
    Subscriber,
    field::{Field, Visit},
    span,
    subscriber::DefaultGuard,
};
use tracing_subscriber::{
    layer::{Context, SubscriberExt},
    registry::LookupSpan,
};

/// A span as it was seen.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub name: &'static str,
    /// Its parent's place among all spans.
    pub parent: Option<usize>,
    fields: BTreeMap<&'static str, String>,
}

impl Seen {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }
}

impl Visit for Seen {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.fields.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.fields.insert(field.name(), format!("{value:?}"));
    }
}

/// Every span since it began to listen on this thread.
#[derive(Clone, Default)]
pub struct Spans(Arc<Mutex<Vec<Seen>>>);

impl Spans {
    /// Listens until the guard is dropped.
    pub fn listen() -> (Self, DefaultGuard) {
        let spans = Self::default();
        let subscriber = tracing_subscriber::registry().with(spans.clone());
        (spans, tracing::subscriber::set_default(subscriber))
    }

    /// In the order in which they began.
    pub fn seen(&self) -> Vec<Seen> {
        self.0.lock().expect("no test panics with it").clone()
    }

    pub fn named(&self, name: &str) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.name == name).collect()
    }
}

impl<S> tracing_subscriber::Layer<S> for Spans
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn on_new_span(&self, attrs: &span::Attributes<'_>, id: &span::Id, ctx: Context<'_, S>) {
        let span = ctx.span(id).expect("it was just made");
        let parent = span.parent().and_then(|parent| parent.extensions().get::<usize>().copied());
        let mut seen = Seen { name: attrs.metadata().name(), parent, ..Seen::default() };
        attrs.record(&mut seen);
        let mut all = self.0.lock().expect("no test panics with it");
        // A number of our own, since the registry gives an id again once its span is closed.
        span.extensions_mut().insert(all.len());
        all.push(seen);
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, ctx: Context<'_, S>) {
        let number = ctx.span(id).and_then(|span| span.extensions().get::<usize>().copied());
        let mut all = self.0.lock().expect("no test panics with it");
        values.record(&mut all[number.expect("we numbered it")]);
    }
}
