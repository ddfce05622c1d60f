//! Balancing over the endpoints of a service.
