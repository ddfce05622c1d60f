//! The whole stack in ten lines: one client, two instances, one of which dies.
//!
//! `cargo run --example quick_start`

#![expect(clippy::print_stdout, reason = "an example prints what happens")]

use std::time::Duration;

use buttress::{BoxError, call::Attempts, client::Client};
use buttress_examples::support::{Server, answer};
use http::{Request, StatusCode};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let anna = Server::start(async |_| Some(answer(StatusCode::OK, "Anna"))).await?;
    let bert = Server::start(async |_| Some(answer(StatusCode::OK, "Bert"))).await?;
    println!("Two instances of `hello`: Anna at {}, Bert at {}.", anna.address(), bert.address());

    // This is all that a program needs.
    let client =
        Client::builder("http://hello").endpoints([anna.address(), bert.address()]).build()?;

    for number in 1..=6 {
        say_hello(&client, number).await?;
    }
    println!("Anna dies, with all her connections.");
    die(anna).await;
    for number in 7..=18 {
        say_hello(&client, number).await?;
    }

    println!("Bert dies, too.");
    die(bert).await;
    let request = Request::get("/").body(())?;
    if let Err(error) = client.send(request).await {
        println!("call 19: {error}");
        for attempt in error.attempts() {
            println!("         {attempt}");
        }
    }
    Ok(())
}

async fn say_hello(client: &Client, number: u32) -> Result<(), BoxError> {
    let response = client.send(Request::get("/").body(())?).await?;
    let attempts = response.extensions().get::<Attempts>().cloned();
    let name = response.into_body().collect().await?;
    println!("call {number:2}: answered by {}", String::from_utf8_lossy(&name));
    // Only a call that took more than one attempt carries its history.
    for attempt in attempts.iter().flat_map(|attempts| attempts.iter()) {
        println!("         {attempt}");
    }
    Ok(())
}

async fn die(server: Server) {
    drop(server);
    // Until it is known of the connections. Without this a request may still be sent on one of
    // them, and then nobody can say whether it was carried out.
    tokio::time::sleep(Duration::from_millis(50)).await;
}
