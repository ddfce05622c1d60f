//! The server's half of a deadline: it is taken up from the request, handed to the handler, and
//! the work ends with it. What there is to say stands at [the room](super#in-a-server).

mod answer;
mod body;
mod config;
mod future;
mod overdue;
mod service;
mod state;

pub use self::{
    body::IncomingBody,
    config::IncomingDeadlineConfig,
    future::IncomingDeadlineFuture,
    overdue::Overdue,
    service::{IncomingDeadline, IncomingDeadlineLayer, pass_on},
    state::{Admission, Intake},
};
