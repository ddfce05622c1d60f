//! Where the endpoints are.
