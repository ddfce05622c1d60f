//! What the stack promises, over each of these transports: real sockets, one contract.

use buttress::classify::Sent;

use self::contract::Result;

#[path = "transports/contract.rs"]
mod contract;
#[path = "transports/grpc.rs"]
mod grpc;
#[path = "transports/servers.rs"]
mod servers;

#[path = "../reqwest_transport.rs"]
#[expect(dead_code, reason = "its own program")]
pub mod over_reqwest;
#[path = "../tonic_transport.rs"]
#[expect(dead_code, reason = "its own program")]
pub mod over_tonic;

/// One test for each promise.
macro_rules! keeps_the_contract {
    ($transport:ident, $make:expr) => {
        mod $transport {
            use crate::contract::{self, Result};

            keeps_the_contract! { $make;
                the_services_name_is_told_to_the_endpoints_address
                a_refused_connection_goes_elsewhere_and_sent_nothing
                a_connection_that_was_not_made_in_time_sent_nothing
                a_lost_answer_is_asked_for_again_with_a_key_only
                an_attempt_that_times_out_goes_elsewhere
                bodies_stream_both_ways
                a_layer_of_ones_own_stands_around_each_endpoint
            }
        }
    };
    ($make:expr; $($promise:ident)*) => {$(
        #[tokio::test]
        async fn $promise() -> Result {
            contract::$promise($make).await
        }
    )*};
}

keeps_the_contract!(hyper_http1, contract::hyper_http1);
keeps_the_contract!(hyper_http2, contract::hyper_http2);
keeps_the_contract!(reqwest, contract::reqwest);
keeps_the_contract!(tonic, contract::tonic);

/// Where the two kinds differ: ours says when a request is handed to a connection.
#[tokio::test]
async fn what_is_given_up_while_it_connects_was_sent_nothing_if_the_transport_says_so() -> Result {
    for make in [contract::hyper_http1, contract::hyper_http2] {
        assert_eq!(contract::given_up_while_connecting(make).await?, Sent::No);
    }
    for make in [contract::reqwest, contract::tonic] {
        assert_eq!(contract::given_up_while_connecting(make).await?, Sent::Maybe);
    }
    Ok(())
}
