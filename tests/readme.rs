//! The front page says what is so. (Its code runs as a doc test of the crate.)
#![cfg(feature = "hyper")]

mod support;

use std::path::Path;

use buttress::{BoxError, client::Client};
use http::Request;
use support::Nobody;

const README: &str = include_str!("../README.md");

#[tokio::test]
async fn the_first_example_says_what_the_page_says() -> Result<(), BoxError> {
    let held = [Nobody::new(), Nobody::new()];
    let [one, other] = [held[0].address(), held[1].address()];
    let payments =
        Client::builder("http://payments").endpoints([one, other]).idempotency_keys().build()?;
    let error = payments
        .send(Request::post("/charges").body("12 EUR")?)
        .await
        .expect_err("nobody listens at either");
    // Which of the two is called at last is chance.
    let said = error.to_string();
    let said = said.replace(&one.to_string(), "127.0.0.1:8082");
    let said = said.replace(&other.to_string(), "127.0.0.1:8082");
    assert!(README.lines().any(|line| line == said), "the README does not say: {said}");
    Ok(())
}

#[test]
fn every_file_that_is_linked_to_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let targets: Vec<&str> = README
        .lines()
        .filter_map(|line| line.strip_prefix('[')?.split_once("]: "))
        .map(|(_, target)| target)
        .filter(|target| !target.starts_with("http"))
        .collect();
    assert!(targets.len() > 10, "the README has links: {targets:?}");
    for target in targets {
        assert!(root.join(target).is_file(), "{target} is not there");
    }
}

#[test]
fn every_example_that_is_named_is_declared() {
    let manifest = include_str!("../examples/Cargo.toml");
    let (_, examples) = README.split_once("## Examples").expect("there is a list of them");
    let (examples, _) = examples.split_once("\n## ").expect("something follows it");
    let names: Vec<&str> =
        examples.split('`').skip(1).step_by(2).filter(|name| !name.contains(' ')).collect();
    assert!(names.len() >= 7, "{names:?}");
    for name in names {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not declared");
    }
}
