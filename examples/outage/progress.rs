//! What is happening now, for those who watch.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::outage::BoxError;
use crate::outage::plan::Plan;

/// Calls that are settled, counted while the drill runs. For the eye only.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    well: AtomicU64,
    failed: AtomicU64,
}

/// The bar, or nothing where nobody looks.
pub(crate) struct Progress {
    bar: ProgressBar,
    tally: Arc<Tally>,
}

impl Tally {
    pub(crate) fn count(&self, well: bool) {
        // Nothing is ordered by these, so that they may be seen late.
        let counter = if well { &self.well } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl Progress {
    /// A bar for one client's turn; silent unless people see both outputs.
    ///
    /// # Errors
    /// The template is wrong.
    pub(crate) fn new(
        client: &'static str,
        plan: &Plan,
        tally: Arc<Tally>,
    ) -> Result<Self, BoxError> {
        let seen = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
        let bar = if seen { ProgressBar::new(plan.seconds * 1000) } else { ProgressBar::hidden() };
        // 8 + 1 + 20 + 1 and the message: {wide_msg} is cut where the terminal ends.
        bar.set_style(ProgressStyle::with_template("{prefix:8} {bar:20} {wide_msg}")?);
        bar.set_prefix(client);
        Ok(Self { bar, tally })
    }

    /// Shows the time, the calls so far and the faults that are on.
    pub(crate) fn show(&self, plan: &Plan, now: Duration) {
        if self.bar.is_hidden() {
            return;
        }
        let active: Vec<String> = plan
            .faults
            .iter()
            .filter(|fault| fault.end.is_some() && fault.is_active(now))
            .map(|fault| {
                // The label without the time at which it began.
                let label = fault.label.split_once(' ').map_or("", |(_, rest)| rest);
                label.replace("payments/", "")
            })
            .collect();
        let what = if active.is_empty() { "all well".to_owned() } else { active.join(", ") };
        let failed = self.tally.failed.load(Ordering::Relaxed);
        let all = failed + self.tally.well.load(Ordering::Relaxed);
        self.bar.set_position(u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
        self.bar
            .set_message(format!("{:4.1} s, {failed} of {all} failed: {what}", now.as_secs_f64()));
    }

    /// Says what follows the calls.
    pub(crate) fn say(&self, what: &'static str) {
        self.bar.set_message(what);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        // An interrupted drill leaves no half bar behind either.
        self.bar.finish_and_clear();
    }
}
