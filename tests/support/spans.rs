//! Keeps the spans of the library.
//!
//! One subscriber serves the whole process, and keeps what a thread sees while it listens.
//! Subscribers of single threads would not do: `tracing` asks about each place in the code once,
//! and takes the answer of a thread without a subscriber for that of all.

use std::{cell::RefCell, collections::BTreeMap, fmt, sync::Once};

use tracing::{
    Subscriber,
    field::{Field, Visit},
    span,
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

/// Every span of this thread since it began to listen, until it is dropped.
#[must_use]
pub struct Spans(());

thread_local! {
    static KEPT: RefCell<Option<Vec<Seen>>> = const { RefCell::new(None) };
}

impl Spans {
    pub fn listen() -> Self {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            let subscriber = tracing_subscriber::registry().with(Keeper);
            tracing::subscriber::set_global_default(subscriber).expect("no other is set");
            tracing::callsite::rebuild_interest_cache();
        });
        KEPT.set(Some(Vec::new()));
        Self(())
    }

    /// In the order in which they began.
    pub fn seen(&self) -> Vec<Seen> {
        KEPT.with_borrow(|kept| kept.clone().unwrap_or_default())
    }

    pub fn named(&self, name: &str) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.name == name).collect()
    }
}

impl Drop for Spans {
    fn drop(&mut self) {
        KEPT.set(None);
    }
}

struct Keeper;

impl<S> tracing_subscriber::Layer<S> for Keeper
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn on_new_span(&self, attrs: &span::Attributes<'_>, id: &span::Id, ctx: Context<'_, S>) {
        let span = ctx.span(id).expect("it was just made");
        let parent = span.parent().and_then(|parent| parent.extensions().get::<usize>().copied());
        let mut seen = Seen { name: attrs.metadata().name(), parent, ..Seen::default() };
        attrs.record(&mut seen);
        KEPT.with_borrow_mut(|kept| {
            let Some(kept) = kept else { return };
            // A number of our own, since the registry gives an id again once its span is closed.
            span.extensions_mut().insert(kept.len());
            kept.push(seen);
        });
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, ctx: Context<'_, S>) {
        let number = ctx.span(id).and_then(|span| span.extensions().get::<usize>().copied());
        KEPT.with_borrow_mut(|kept| {
            let (Some(kept), Some(number)) = (kept, number) else { return };
            values.record(&mut kept[number]);
        });
    }
}
