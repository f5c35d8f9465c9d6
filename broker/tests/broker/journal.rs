//! What a broker logs, as a test can read it.

use std::fmt::Debug;
use std::fmt::Write;
use std::sync::Arc;

use parking_lot::Mutex;
use tracing::Dispatch;
use tracing::Event;
use tracing::Metadata;
use tracing::Subscriber;
use tracing::field::Field;
use tracing::field::Visit;
use tracing::span;
use tracing::subscriber::DefaultGuard;

/// Lines logged by this thread while it lives.
pub(crate) struct Journal {
    lines: Arc<Mutex<Vec<String>>>,
    _guard: DefaultGuard,
    /// While there is only one collector, a line that another thread logs first is taken to interest
    /// nobody if that thread has none; with two, all are asked.
    _second: Dispatch,
}

impl Journal {
    pub(crate) fn open() -> Self {
        let lines = Arc::default();
        let guard = tracing::subscriber::set_default(Collector(Arc::clone(&lines)));
        Self {
            lines,
            _guard: guard,
            _second: Dispatch::new(Collector(Arc::default())),
        }
    }

    /// The first line with all of these in it.
    pub(crate) fn find(&self, parts: &[&str]) -> String {
        let lines = self.lines.lock();
        let found = lines
            .iter()
            .find(|line| parts.iter().all(|part| line.contains(part)));
        found
            .unwrap_or_else(|| panic!("no line with {parts:?} in {lines:#?}"))
            .clone()
    }
}

struct Collector(Arc<Mutex<Vec<String>>>);

impl Subscriber for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("quorate_broker")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.0.lock().push(line.0);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}
