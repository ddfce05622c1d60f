//! What a server can do, and what can go wrong with it.

use std::time::Duration;

/// What a server can do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Server {
    /// Its own.
    pub(super) cores: f64,
    /// How many requests it works on at a time; the others wait in the order in which they came.
    pub(super) workers: Option<usize>,
    pub(super) speed: f64,
    pub(super) antagonists: Option<Antagonists>,
}

impl Server {
    /// One whose requests share this many cores: each is worked on at once, at the speed of one core
    /// while there are enough of them, and slower when there are not.
    ///
    /// # Panics
    ///
    /// If the number of cores is not above zero.
    #[must_use]
    pub const fn sharing(cores: f64) -> Self {
        assert!(cores > 0.0, "a server has some cores: say how many");
        Self { cores, workers: None, speed: 1.0, antagonists: None }
    }

    /// One with this many workers, before whom requests queue.
    ///
    /// # Panics
    ///
    /// If there are none.
    #[must_use]
    pub const fn queueing(workers: usize) -> Self {
        assert!(workers > 0, "a server has at least one worker");
        Self { cores: workers as f64, workers: Some(workers), speed: 1.0, antagonists: None }
    }

    /// How fast its cores are; 1 is as fast as [work](super::Work) is measured.
    ///
    /// # Panics
    ///
    /// If the speed is not above zero.
    #[must_use]
    pub const fn speed(mut self, speed: f64) -> Self {
        assert!(speed > 0.0, "a server without speed hangs: that is a fault");
        self.speed = speed;
        self
    }

    /// Others on the same machine, who come and go. What the server was made with is then its
    /// allocation: it always has that, and whatever the others leave.
    #[must_use]
    pub const fn antagonists(mut self, antagonists: Antagonists) -> Self {
        self.antagonists = Some(antagonists);
        self
    }
}

/// The other tenants of a server's machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Antagonists {
    pub(super) machine: f64,
    pub(super) least: f64,
    pub(super) most: f64,
    pub(super) every: Duration,
}

impl Antagonists {
    /// Tenants that use between `least` and `most` of all the machine's cores, drawn anew (uniformly)
    /// for each machine alone, after times that are `every` on average.
    ///
    /// # Panics
    ///
    /// If `least` is above `most`, either is negative, or `every` is zero.
    #[must_use]
    pub const fn new(machine: f64, least: f64, most: f64, every: Duration) -> Self {
        assert!(
            0.0 <= least && least <= most,
            "they use some part of the machine, from least to most"
        );
        assert!(!every.is_zero(), "their use changes after a time above zero");
        Self { machine, least, most, every }
    }
}

/// What can go wrong with a server for a while.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Fault {
    /// It fails each request at once.
    Fail,
    /// It takes requests and says nothing.
    Hang,
    /// It fails this share of its requests, at once.
    Stray(f64),
    /// Each request takes this much longer, and no work.
    Slow(Duration),
    /// Its cores run at this part of their speed.
    Throttled(f64),
}
