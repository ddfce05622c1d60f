//! The user's own layers around each endpoint's transport.

use tower_layer::Layer;

use crate::{
    endpoint::{Endpoint, MakeEndpoint},
    event::Observer,
};

/// Puts a layer of the user's around what another maker makes.
#[derive(Clone, Debug)]
pub struct Layered<M, L> {
    pub(super) make: M,
    pub(super) layer: L,
}

impl<M, L> MakeEndpoint for Layered<M, L>
where
    M: MakeEndpoint,
    L: Layer<M::Service>,
{
    type Service = L::Service;

    fn make(&self, endpoint: &Endpoint) -> L::Service {
        self.layer.layer(self.make.make(endpoint))
    }

    fn report_to(&mut self, observer: &Observer) {
        self.make.report_to(observer);
    }
}
