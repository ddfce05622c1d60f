//! Answers get lost, charges don't double: one key for a whole call, whatever its attempts.
//!
//! `cargo run --example idempotent_payments`

#![expect(clippy::print_stdout, reason = "an example prints what happens")]

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use buttress::{BoxError, client::Client};
use buttress_examples::support::{Server, answer};
use http::{Request, StatusCode};

const CHARGES: u32 = 30;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    println!("Every third request is carried out, but its answer is lost.");
    println!();
    for with_keys in [true, false] {
        let ledger = Arc::new(Ledger::default());
        let (anna, bert) = (payments(&ledger).await?, payments(&ledger).await?);
        let builder =
            Client::builder("http://payments").endpoints([anna.address(), bert.address()]);
        let client = if with_keys {
            // Our word that `payments` honours keys. It does, see below.
            builder.idempotency_keys().build()?
        } else {
            builder.build()?
        };

        let (mut confirmed, mut unknown) = (0, None);
        for _ in 0..CHARGES {
            match client.send(Request::post("/charges").body("12 EUR")?).await {
                Ok(response) if response.status().is_success() => confirmed += 1,
                Ok(response) => println!("  {}", response.status()),
                Err(error) => unknown = Some(error),
            }
        }
        let requests = anna.requests() + bert.requests();
        println!("{} idempotency keys:", if with_keys { "With" } else { "Without" });
        println!("  {CHARGES} charges asked for, {requests} requests sent");
        println!("  {} charges made, {confirmed} confirmed", ledger.charges());
        if let Some(error) = unknown {
            println!("  the others were not sent again, since nobody could tell them apart:");
            println!("  \"{error}\"");
        }
        println!();
    }
    Ok(())
}

/// What all instances of the service share.
#[derive(Default)]
struct Ledger {
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    requests: u32,
    charges: u32,
    by_key: HashMap<String, u32>,
}

impl Ledger {
    /// Makes a charge, unless this key has made it before. Says its number, or nothing if the
    /// answer is lost on its way.
    fn charge(&self, key: Option<String>) -> Option<u32> {
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        let Book { requests, charges, by_key } = &mut *book;
        let mut make = || {
            *charges += 1;
            *charges
        };
        let number = match key {
            Some(key) => *by_key.entry(key).or_insert_with(make),
            None => make(),
        };
        *requests += 1;
        (*requests % 3 != 0).then_some(number)
    }

    fn charges(&self) -> u32 {
        self.book.lock().unwrap_or_else(PoisonError::into_inner).charges
    }
}

/// An instance of the service.
async fn payments(ledger: &Arc<Ledger>) -> Result<Server, BoxError> {
    let ledger = Arc::clone(ledger);
    let server = Server::start(move |request| {
        let key = request.headers().get("idempotency-key");
        let key = key.and_then(|key| key.to_str().ok()).map(str::to_owned);
        let charge = ledger.charge(key);
        let answer = charge.map(|number| answer(StatusCode::CREATED, format!("charge {number}")));
        std::future::ready(answer)
    });
    Ok(server.await?)
}
