//! The drill: `cargo run --release --example outage`.
//!
//! It is a module of the examples' library, so that its unit tests run with `cargo test` and its
//! processes can be tested from outside; here it only gets its name.

use std::process::ExitCode;

#[cfg(unix)]
fn main() -> ExitCode {
    buttress_examples::outage::main()
}

#[cfg(not(unix))]
fn main() -> ExitCode {
    eprintln!("outage: the drill stops and kills processes by signals, and needs Unix for that");
    ExitCode::FAILURE
}
