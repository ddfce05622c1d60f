//! What a client has of hyper: connections of our own, and the clients themselves.

use http::{Request, Response};
use tower_service::Service;

use super::{
    AttemptBody, Builder, Client, GrpcClient, InvalidClient, builder::Connections, check::Boxed,
};
use crate::{
    classify::{GrpcClassifier, HttpClassifier},
    endpoint::MakeEndpoint,
    error::BoxError,
    health::{Checked, HealthConfig, HttpProbe},
    transport::{DEFAULT_CONNECT_TIMEOUT, HyperTransport, TransportConfig},
};

impl<Cl> Builder<HyperTransport<AttemptBody>, Cl> {
    /// How connections are made and kept; HTTP/1.1 by default, HTTP/2 for gRPC.
    pub fn connections(mut self, config: TransportConfig) -> Self {
        let connect = config.connecting_takes();
        self.connections = Some(Connections {
            http2: config.speaks_http2(),
            connect_timeout: (connect != DEFAULT_CONNECT_TIMEOUT).then_some(connect),
        });
        self.map(|_| HyperTransport::new(config), |classifier| classifier)
    }

    /// HTTP/2 without TLS, as the service is known to speak it.
    pub fn http2(self) -> Self {
        self.connections(TransportConfig::http2())
    }

    /// gRPC, over HTTP/2 without TLS: see [`GrpcClient`] for what that brings. Settings of
    /// [`connections`](Self::connections) are given after it. Over a transport of your own,
    /// [`classifier`](Self::classifier) does the same.
    pub fn grpc(self) -> Builder<HyperTransport<AttemptBody>, GrpcClassifier> {
        self.http2().classifier(GrpcClassifier::new())
    }
}

impl<M, Cl> Builder<M, Cl> {
    /// Asks every endpoint for this page, such as `/health`, whether there are calls or not,
    /// under the service's name and in the protocol of the calls. One that does not answer
    /// well gets no calls while enough others do.
    ///
    /// For other settings, and for services behind TLS, see
    /// [`health_check_with`](Self::health_check_with).
    pub fn health_check(mut self, path: impl Into<String>) -> Self {
        let path = path.into();
        self.health = Some(Box::new(move |discover, target, told, http2| {
            if !target.is_plain_http() {
                return Err(InvalidClient::HEALTH_NEEDS_TLS);
            }
            let probe = HttpProbe::new()
                .path(&path)
                .and_then(|probe| probe.authority(target.authority()))
                .map_err(InvalidClient::of)?;
            let probe = if http2 { probe.http2() } else { probe };
            let config = told.listening(HealthConfig::new(), HealthConfig::observer);
            let config = told.seeded(config, HealthConfig::entropy);
            Ok(Boxed::new(Checked::new(discover, probe, config)))
        }));
        self
    }
}

macro_rules! build {
    ($classifier:ty => $client:ty, $over:expr) => {
        impl<M> Builder<M, $classifier> {
            /// The client.
            ///
            /// # Errors
            ///
            /// [`InvalidClient`] if a setting can't be, or there is no tokio runtime.
            pub fn build<B>(self) -> Result<$client, InvalidClient>
            where
                M: MakeEndpoint + Send + Sync + 'static,
                M::Service: Service<Request<AttemptBody>, Response = Response<B>>,
                M::Service: Clone + Send + Sync + 'static,
                <M::Service as Service<Request<AttemptBody>>>::Error: Into<BoxError>,
                <M::Service as Service<Request<AttemptBody>>>::Future: Send + 'static,
                B: http_body::Body + Send + Unpin + 'static,
                B::Data: Send,
                B::Error: Into<BoxError>,
            {
                Ok($over(Client::new(self.build_stack()?)))
            }
        }
    };
}

build!(HttpClassifier => Client, std::convert::identity);
build!(GrpcClassifier => GrpcClient, GrpcClient::new);
