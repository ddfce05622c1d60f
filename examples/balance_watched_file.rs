//! Endpoints from a file that is watched: instances come and go, and a bad file does no harm.
//!
//! `cargo run --example balance_watched_file`

#![expect(clippy::print_stdout, reason = "an example prints what happens")]

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use buttress::{BoxError, Event, Observer, client::Client, discover::File};
use buttress_examples::support::{Server, answer};
use http::{Request, StatusCode};
use tokio::task::JoinSet;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let path = std::env::temp_dir().join(format!("buttress-{}.toml", std::process::id()));
    let result = watch(&path).await;
    fs::remove_file(&path)?;
    result
}

async fn watch(path: &Path) -> Result<(), BoxError> {
    let [anna, bert, cleo] =
        [instance("Anna").await?, instance("Bert").await?, instance("Cleo").await?];
    let observer = Observer::new(|event| match event {
        Event::EndpointAdded(endpoint) => println!("  + {endpoint}"),
        Event::EndpointRemoved(endpoint) => println!("  - {endpoint}"),
        Event::DiscoveryFailed(error) => println!("  ! {error}"),
        _ => {}
    });

    println!("The file lists Anna and Bert:");
    list(path, &[("anna", &anna), ("bert", &bert)])?;
    let client = Client::builder("http://hello")
        // The default is every 500 ms.
        .discover(File::new(path).interval(Duration::from_millis(50))?)
        .observer(observer)
        .build()?;
    calls(&client).await?;

    println!("Cleo comes:");
    list(path, &[("anna", &anna), ("bert", &bert), ("cleo", &cleo)])?;
    noticed().await;
    calls(&client).await?;

    println!("Anna goes:");
    list(path, &[("bert", &bert), ("cleo", &cleo)])?;
    noticed().await;
    calls(&client).await?;

    println!("Somebody spoils the file; the last good list stays:");
    fs::write(path, "[[endpoint]]\nid = \"bert\"\naddress = \"around the corner\"\n")?;
    noticed().await;
    calls(&client).await?;
    Ok(())
}

async fn instance(name: &'static str) -> Result<Server, BoxError> {
    let server = Server::start(move |_| async move {
        tokio::time::sleep(Duration::from_millis(3)).await;
        Some(answer(StatusCode::OK, name))
    });
    Ok(server.await?)
}

fn list(path: &Path, endpoints: &[(&str, &Server)]) -> Result<(), BoxError> {
    let lines = endpoints.iter().map(|(id, server)| {
        format!("[[endpoint]]\nid = \"{id}\"\naddress = \"{}\"\n\n", server.address())
    });
    // Written aside and renamed, so that nobody reads half of it.
    let aside = path.with_extension("new");
    fs::write(&aside, lines.collect::<String>())?;
    fs::rename(&aside, path)?;
    Ok(())
}

/// A few intervals later.
async fn noticed() {
    tokio::time::sleep(Duration::from_millis(300)).await;
}

/// 300 calls, ten at a time.
async fn calls(client: &Client) -> Result<(), BoxError> {
    let mut callers = JoinSet::new();
    for _ in 0..10 {
        let client = client.clone();
        callers.spawn(async move {
            let mut names = Vec::new();
            for _ in 0..30 {
                let response = client.send(Request::get("/").body(())?).await?;
                names.push(response.into_body().collect().await?);
            }
            Ok::<_, BoxError>(names)
        });
    }
    let mut answers = BTreeMap::new();
    while let Some(names) = callers.join_next().await {
        for name in names?? {
            *answers.entry(String::from_utf8_lossy(&name).into_owned()).or_insert(0) += 1;
        }
    }
    println!("  300 calls, answered by {answers:?}");
    Ok(())
}
