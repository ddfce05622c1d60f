//! The operator's page over a socket, as a browser reads it.

use std::{
    error::Error,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::Value;

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// Ended with the test, whatever comes of that; by itself after a minute if the test is killed.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The example and where its page is. `cargo test` builds the examples beside the tests.
fn start() -> Result<(Running, SocketAddr)> {
    let me = std::env::current_exe()?;
    let target = me.parent().and_then(Path::parent).ok_or("the test has no target folder")?;
    let program = target.join("examples/operator").with_extension(std::env::consts::EXE_EXTENSION);
    let mut command = Command::new(program);
    command.args(["--seconds", "60"]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut running = Running(command.spawn()?);
    let output = running.0.stdout.take().ok_or("it has no output")?;
    let mut output = BufReader::new(output);
    let mut line = String::new();
    output.read_line(&mut line)?;
    let address = line.trim().strip_prefix("http://").and_then(|it| it.strip_suffix('/'));
    let address = address.ok_or_else(|| format!("no address: {line:?}"))?.parse()?;
    // Somebody has to read on, or it would fail when it says more.
    std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
    Ok((running, address))
}

/// The head and the body of an answer.
fn get(address: SocketAddr, path: &str) -> Result<(String, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no head")?;
    Ok((head.to_owned(), body.to_owned()))
}

/// The first snapshot in which this endpoint is as it should be.
fn wait_for(address: SocketAddr, id: &str, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
    let start = Instant::now();
    loop {
        let (head, body) = get(address, "/snapshot.json")?;
        assert!(head.contains("application/json"), "{head}");
        let snapshot: Value = serde_json::from_str(&body)?;
        let endpoints = snapshot["balance"]["endpoints"].as_array().ok_or("no endpoints")?;
        if let Some(endpoint) = endpoints.iter().find(|endpoint| endpoint["id"] == id) {
            if is_so(endpoint) {
                return Ok(endpoint.clone());
            }
            assert!(start.elapsed() < Duration::from_secs(20), "it stays so: {endpoint:#}");
        }
        sleep(Duration::from_millis(100));
    }
}

#[test]
fn who_is_killed_or_ejected_stands_on_the_page_with_state_and_reason() -> Result {
    let (_running, address) = start()?;
    assert!(address.ip().is_loopback());
    let (head, page) = get(address, "/")?;
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/html"), "{head}");
    assert!(page.contains("<table>") && page.contains("/snapshot.json"), "{page}");

    let dora = wait_for(address, "dora", |it| it["state"] == "unhealthy" || it["state"] == "open")?;
    assert!(dora["why"].as_str().is_some_and(|why| !why.is_empty()), "{dora:#}");
    assert!(dora["since_ms"].as_u64().is_some_and(|since| since < 30_000), "{dora:#}");

    let cleo = wait_for(address, "cleo", |it| it["state"] == "ejected")?;
    assert_eq!(cleo["ejected"]["by"], "failure_rate", "{cleo:#}");
    assert!(cleo["why"].as_str().is_some_and(|why| why.contains("failed")), "{cleo:#}");
    // Ten seconds for the first time, and jitter.
    assert!(cleo["until_ms"].as_u64().is_some_and(|left| left <= 20_000), "{cleo:#}");

    let emil = wait_for(address, "emil", |it| it["state"] == "unhealthy")?;
    assert_eq!(
        (&emil["health"], &emil["breaker"]["state"]),
        (&"unhealthy".into(), &"closed".into())
    );

    let (_, text) = get(address, "/snapshot.txt")?;
    assert!(text.starts_with("http://hello: 30s a call, 10s an attempt"), "{text}");
    Ok(())
}
