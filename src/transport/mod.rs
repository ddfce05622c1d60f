//! Calls one endpoint over hyper-util.
