//! Which credential holds, and what follows when it is refused.

use std::time::{Duration, Instant};

use crate::time::after;

/// Keeps the credential that all calls share, and decides what a refusal of it calls for. Pure:
/// the fetching itself is somebody else's.
///
/// Credentials are told apart by their generation, not by their values. A refusal of one that
/// has been replaced meanwhile says nothing about the present one.
///
/// ```
/// use std::time::{Duration, Instant};
/// use buttress::refresh::{Keeper, Refusal};
///
/// let (limit, pause) = (Duration::from_secs(10), Duration::from_secs(1));
/// let mut keeper = Keeper::<&str, &str>::new(Some("old"), limit, pause);
/// let now = Instant::now();
/// let used = keeper.held().generation;
/// assert_eq!(keeper.refused(used, now), Refusal::Fetch); // the first one fetches
/// assert_eq!(keeper.refused(used, now), Refusal::Wait); // the others wait for it
/// keeper.renewed("new", now);
/// let Refusal::Repeat(held) = keeper.refused(used, now) else { panic!("a late one has it at once") };
/// assert_eq!(held.credential, Some("new"));
/// ```
#[derive(Clone, Debug)]
pub struct Keeper<C, E> {
    held: Held<C>,
    limit: Duration,
    pause: Duration,
    /// When the fetching under way will be given up.
    expires: Option<Instant>,
    last: Option<Last<E>>,
}

/// A credential, if there is one yet, and the how manieth it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Held<C> {
    /// The credential.
    pub credential: Option<C>,
    /// How many were fetched before it was here.
    pub generation: u64,
}

/// How the last fetching ended.
#[derive(Clone, Debug)]
struct Last<E> {
    at: Instant,
    error: Option<E>,
}

/// What follows a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal<C, E> {
    /// There is a newer credential already: try again with that.
    Repeat(Held<C>),
    /// Fetch a new one; it is under way from now on.
    Fetch,
    /// Wait for the one that is being fetched.
    Wait,
    /// The credential is as new as can be: the refusal stands.
    Stands,
    /// No new one could be fetched a moment ago.
    Failed(E),
}

/// How it stands with a credential that is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Awaited<C, E> {
    /// It is here.
    Renewed(Held<C>),
    /// It could not be fetched.
    Failed(E),
    /// It is being fetched, until then at the latest.
    UnderWay(Instant),
    /// The time for that is over: say so by [`Keeper::failed`].
    Expired,
}

impl<C: Clone, E: Clone> Keeper<C, E> {
    /// Keeps `first`. To fetch another may take `limit`, and is not begun for a `pause` after
    /// the last.
    pub const fn new(first: Option<C>, limit: Duration, pause: Duration) -> Self {
        let held = Held { credential: first, generation: 0 };
        Self { held, limit, pause, expires: None, last: None }
    }

    /// Decides on the refusal of a call that was made with the credential of this `generation`.
    pub fn refused(&mut self, generation: u64, now: Instant) -> Refusal<C, E> {
        if generation < self.held.generation {
            return Refusal::Repeat(self.held.clone());
        }
        // One that expired without anybody who waited for it is no reason to wait or to fail.
        if self.expires.is_some_and(|expires| now < expires) {
            return Refusal::Wait;
        }
        if let (None, Some(last)) = (self.expires, &self.last) {
            if now.saturating_duration_since(last.at) < self.pause {
                return last.error.clone().map_or(Refusal::Stands, Refusal::Failed);
            }
        }
        self.expires = Some(after(now, self.limit));
        Refusal::Fetch
    }

    /// A new credential has come.
    pub fn renewed(&mut self, credential: C, now: Instant) {
        self.held.credential = Some(credential);
        self.held.generation += 1;
        self.end(now, None);
    }

    /// None came.
    pub fn failed(&mut self, error: E, now: Instant) {
        self.end(now, Some(error));
    }

    /// How it stands for a call that waits in place of the credential of this `generation`.
    pub fn awaited(&self, generation: u64, now: Instant) -> Awaited<C, E> {
        if generation < self.held.generation {
            return Awaited::Renewed(self.held.clone());
        }
        match (self.expires, &self.last) {
            (Some(expires), _) if now < expires => Awaited::UnderWay(expires),
            (None, Some(Last { error: Some(error), .. })) => Awaited::Failed(error.clone()),
            _ => Awaited::Expired,
        }
    }

    /// The credential for the next call.
    pub fn held(&self) -> Held<C> {
        self.held.clone()
    }

    fn end(&mut self, at: Instant, error: Option<E>) {
        self.expires = None;
        self.last = Some(Last { at, error });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn keeper() -> Keeper<u8, &'static str> {
        Keeper::new(Some(0), 10 * SECOND, SECOND)
    }

    fn held(credential: u8) -> Held<u8> {
        Held { credential: Some(credential), generation: credential.into() }
    }

    #[test]
    fn one_fetches_and_the_others_wait() {
        let (mut keeper, now) = (keeper(), crate::time::now());
        assert_eq!(keeper.refused(0, now), Refusal::Fetch);
        assert_eq!(keeper.refused(0, now + SECOND), Refusal::Wait);
        assert_eq!(keeper.awaited(0, now), Awaited::UnderWay(now + 10 * SECOND));
        keeper.renewed(1, now + SECOND);
        assert_eq!(keeper.awaited(0, now + SECOND), Awaited::Renewed(held(1)));
        assert_eq!(keeper.refused(0, now + SECOND), Refusal::Repeat(held(1)));
        assert_eq!(keeper.held(), held(1));
    }

    #[test]
    fn a_new_credential_that_is_refused_is_not_replaced_at_once() {
        let (mut keeper, now) = (keeper(), crate::time::now());
        keeper.refused(0, now);
        keeper.renewed(1, now);
        assert_eq!(keeper.refused(1, now + SECOND / 2), Refusal::Stands);
        assert_eq!(keeper.refused(1, now + SECOND), Refusal::Fetch);
    }

    #[test]
    fn who_comes_after_a_failure_fails_with_it_until_the_pause_is_over() {
        let (mut keeper, now) = (keeper(), crate::time::now());
        keeper.refused(0, now);
        keeper.failed("down", now);
        assert_eq!(keeper.awaited(0, now), Awaited::Failed("down"));
        assert_eq!(keeper.refused(0, now + SECOND / 2), Refusal::Failed("down"));
        assert_eq!(keeper.refused(0, now + SECOND), Refusal::Fetch);
        assert_eq!(keeper.awaited(0, now + SECOND), Awaited::UnderWay(now + 11 * SECOND));
    }

    #[test]
    fn what_takes_too_long_expires_for_those_who_wait_and_is_begun_anew_by_who_comes() {
        let (mut keeper, now) = (keeper(), crate::time::now());
        keeper.refused(0, now);
        let late = now + 10 * SECOND;
        assert_eq!(keeper.awaited(0, late), Awaited::Expired);
        assert_eq!(keeper.refused(0, late), Refusal::Fetch);
        assert_eq!(keeper.refused(0, late), Refusal::Wait);
    }

    #[test]
    fn without_a_first_credential_the_first_refusal_fetches_it() {
        let mut keeper = Keeper::<u8, ()>::new(None, SECOND, SECOND);
        let now = crate::time::now();
        assert_eq!(keeper.held().credential, None);
        assert_eq!(keeper.refused(0, now), Refusal::Fetch);
        keeper.renewed(1, now);
        assert_eq!(keeper.held(), held(1));
    }
}
