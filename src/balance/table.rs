//! A snapshot as text, for logs and terminals.

use std::{fmt, time::Duration};

use super::{
    picture::{BalanceSnapshot, DiscoverySnapshot},
    probing::ProbingSnapshot,
    summary::EndpointState,
};

impl fmt::Display for EndpointState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A table with a row for each endpoint.
impl fmt::Display for BalanceSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} endpoints", self.endpoints.len())?;
        if self.panic {
            f.write_str(", in panic")?;
        }
        if self.waiting > 0 {
            write!(f, ", {} calls wait for one", self.waiting)?;
        }
        writeln!(f, "; {}", self.discovery)?;
        if let Some(probing) = &self.probing {
            writeln!(f, "{probing}")?;
        }
        writeln!(
            f,
            "{:<24} {:<10} {:>8} {:>8} {:>9} {:>9}  why",
            "endpoint", "state", "since", "left", "in flight", "cost"
        )?;
        for it in &self.endpoints {
            let name = if it.id == it.address.to_string() {
                it.id.clone()
            } else {
                format!("{} {}", it.id, it.address)
            };
            writeln!(
                f,
                "{name:<24} {:<10} {:>8} {:>8} {:>9} {:>9}  {}",
                it.state,
                Span(it.since),
                Span(it.until),
                it.in_flight,
                format!("{:.1}ms", it.cost.as_secs_f64() * 1e3),
                it.why.as_deref().unwrap_or("-"),
            )?;
        }
        Ok(())
    }
}

/// One sentence.
impl fmt::Display for DiscoverySnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.last_change {
            Some(_) => write!(f, "discovery named them {} ago", Span(self.last_change))?,
            None => f.write_str("discovery has named none yet")?,
        }
        if self.ended.is_some() {
            f.write_str(" and has ended")?;
        }
        if let (true, Some(error)) = (self.keeps_last_good, &self.last_error) {
            write!(f, ", and failed {} ago: {error}", Span(self.last_error_age))?;
        }
        Ok(())
    }
}

/// One line.
impl fmt::Display for ProbingSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pooled, under_way, sent, failed, picks, without_answers } = self;
        write!(
            f,
            "{sent} probes, {failed} without an answer, {under_way} under way; {pooled} answers in \
             the pool; {picks} picks, {without_answers} without them"
        )
    }
}

/// A span as people read it.
struct Span(Option<Duration>);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(span) = self.0 else { return f.pad("-") };
        let seconds = span.as_secs();
        f.pad(&match seconds {
            0..60 => format!("{:.1}s", span.as_secs_f64()),
            60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
            _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        })
    }
}
