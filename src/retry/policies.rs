//! Which policy holds for a call.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;

use super::Policy;

/// A policy that can be changed while calls are made. Its clones are the same.
///
/// A failure is decided on by the policy that holds when it is known.
///
/// ```
/// use std::num::NonZeroU32;
/// use buttress::retry::{LivePolicy, Policy, RetryConfig};
///
/// let live = LivePolicy::new(Policy::default());
/// let config = RetryConfig::new().live(live.clone());
/// // Later, on a bad day:
/// let mut none = Policy::default();
/// none.max_attempts = NonZeroU32::MIN;
/// live.set(none);
/// assert_eq!(config.policy().max_attempts.get(), 1);
/// ```
#[derive(Clone)]
pub struct LivePolicy {
    // Read without a lock, by every call that it holds for.
    current: Arc<ArcSwap<Policy>>,
}

impl LivePolicy {
    /// Begins with this policy.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self { current: Arc::new(ArcSwap::from_pointee(policy)) }
    }

    /// Decides by this policy from now on.
    pub fn set(&self, policy: Policy) {
        self.current.store(Arc::new(policy));
    }

    /// The policy at present.
    #[must_use]
    pub fn get(&self) -> Policy {
        **self.current.load()
    }
}

impl fmt::Debug for LivePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LivePolicy").field(&self.get()).finish()
    }
}

/// The policies of a retry: one for all calls, and others for some routes.
#[derive(Debug, Default)]
pub(super) struct Policies {
    /// What the setters of the settings change.
    pub(super) own: Policy,
    pub(super) live: Option<LivePolicy>,
    routes: Vec<(&'static str, Policy)>,
}

impl Policies {
    /// Of two policies for one route the later holds.
    pub(super) fn set(&mut self, route: &'static str, policy: Policy) {
        self.routes.retain(|&(known, _)| known != route);
        self.routes.push((route, policy));
    }

    /// The one for a call of this route.
    #[inline]
    pub(super) fn of(&self, route: Option<&'static str>) -> Policy {
        if let Some(route) = route.filter(|_| !self.routes.is_empty()) {
            // A few routes at most: to compare is as quick as to hash.
            if let Some((_, policy)) = self.routes.iter().find(|(known, _)| *known == route) {
                return *policy;
            }
        }
        self.live.as_ref().map_or(self.own, LivePolicy::get)
    }

    /// All that there are at present.
    pub(super) fn all(&self) -> impl Iterator<Item = Policy> + '_ {
        self.routes.iter().map(|&(_, policy)| policy).chain([self.of(None)])
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn attempts(count: u32) -> Policy {
        let max_attempts = NonZeroU32::new(count).expect("not zero");
        Policy { max_attempts, ..Policy::default() }
    }

    #[test]
    fn a_route_has_its_own_policy_and_all_others_the_common_one() {
        let mut policies = Policies::default();
        policies.set("search", attempts(5));
        policies.set("charge", attempts(1));
        policies.set("search", attempts(4));
        let of = |route| policies.of(route).max_attempts.get();
        assert_eq!(
            [of(Some("search")), of(Some("charge")), of(Some("rates")), of(None)],
            [4, 1, 3, 3]
        );
        assert_eq!(policies.all().count(), 3);
    }

    #[test]
    fn a_live_policy_holds_in_the_place_of_the_common_one_and_of_no_routes() {
        let live = LivePolicy::new(attempts(2));
        let mut policies = Policies { live: Some(live.clone()), ..Policies::default() };
        policies.set("search", attempts(5));
        assert_eq!(policies.of(None).max_attempts.get(), 2);
        live.set(attempts(7));
        assert_eq!(policies.of(None).max_attempts.get(), 7);
        assert_eq!(policies.of(Some("search")).max_attempts.get(), 5);
    }
}
