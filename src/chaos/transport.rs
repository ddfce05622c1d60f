//! A transport whose endpoints meet faults.

use super::{handle::Chaos, service::ChaosService};
use crate::{
    endpoint::{Endpoint, MakeEndpoint},
    event::Observer,
};

/// Makes what another maker makes, with a chaos before it that knows the endpoint; see
/// [`Chaos::around`].
#[derive(Clone, Debug)]
pub struct Chaotic<M> {
    chaos: Chaos,
    make: M,
}

impl<M> Chaotic<M> {
    pub(super) const fn new(chaos: Chaos, make: M) -> Self {
        Self { chaos, make }
    }
}

impl<M: MakeEndpoint> MakeEndpoint for Chaotic<M> {
    type Service = ChaosService<M::Service>;

    fn make(&self, endpoint: &Endpoint) -> Self::Service {
        let inner = self.make.make(endpoint);
        ChaosService::new(inner, self.chaos.clone(), Some(endpoint.clone()))
    }

    fn report_to(&mut self, observer: &Observer) {
        self.make.report_to(observer);
    }
}
