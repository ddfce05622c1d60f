//! Each example runs to its end, and tells what its title promises.
//!
//! On loopback and in real time, so each takes up to two seconds. Run with `cargo test -p
//! buttress-examples`: with `--test stories` alone cargo builds no example, and old ones are told.

use std::{
    error::Error,
    path::Path,
    process::{Command, Stdio},
};

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// What an example prints. `cargo test` builds the examples beside the tests' own programs.
fn story(name: &str) -> Result<String> {
    story_of(name, &[])
}

/// The same, of one that is told something.
fn story_of(name: &str, args: &[&str]) -> Result<String> {
    story_in(name, args, &[])
}

/// The same, where these variables are set.
fn story_in(name: &str, args: &[&str], variables: &[(&str, &str)]) -> Result<String> {
    let me = std::env::current_exe()?;
    let target = me.parent().and_then(Path::parent).ok_or("the test has no target folder")?;
    let program =
        target.join("examples").join(name).with_extension(std::env::consts::EXE_EXTENSION);
    let variables = variables.iter().copied();
    let output = Command::new(program).args(args).envs(variables).stdin(Stdio::null()).output()?;
    let story = String::from_utf8(output.stdout)?;
    assert!(output.status.success(), "{}\n{story}", String::from_utf8_lossy(&output.stderr));
    Ok(story)
}

/// Each of the sentences is told.
fn tells(name: &str, sentences: &[&str]) -> Result {
    let story = story(name)?;
    for sentence in sentences {
        assert!(story.contains(sentence), "{name} does not say {sentence:?}:\n{story}");
    }
    Ok(())
}

#[test]
fn quick_start_loses_no_call_while_one_instance_lives() -> Result {
    tells(
        "quick_start",
        &[
            "call 18: answered by Bert",
            "call 19: no connection could be made on attempt 3",
            "the request was not carried out",
        ],
    )
}

#[test]
fn layers_alone_send_the_same_key_three_times() -> Result {
    let story = story("layers_alone")?;
    let keys: Vec<&str> =
        story.lines().filter_map(|line| line.trim().strip_prefix("attempt with key ")).collect();
    assert_eq!(keys.len(), 4, "{story}");
    assert!(keys[0].ends_with("from layers-alone"), "{story}");
    assert_eq!((keys[0], keys[1]), (keys[1], keys[2]), "{story}");
    assert_ne!(keys[2], keys[3], "{story}");
    assert_eq!(story.matches("-> 201 Created").count(), 2, "{story}");
    Ok(())
}

#[test]
fn retry_with_budget_bounds_the_storm() -> Result {
    let story = story("retry_with_budget")?;
    let outage = story.lines().find(|line| line.starts_with("brown-out")).ok_or("no outage")?;
    let counts: Vec<u32> = outage.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [without, 0, with, 0, _] = counts[..] else { panic!("five counts: {outage}") };
    assert_eq!(without, 3_000);
    // 35 retries out of a full bucket, and a few of the floor's if the machine is slow.
    assert!((1_035..1_050).contains(&with), "{outage}");
    Ok(())
}

#[test]
fn breaker_drill_goes_through_all_states() -> Result {
    tells(
        "breaker_drill",
        &[
            "==> open (consecutive",
            "==> half_open (waited)",
            "==> open (probe_failed",
            "==> closed (recovered)",
            "==> forced_open (forced)",
            "==> closed (released)",
        ],
    )
}

#[test]
fn idempotent_payments_charge_once() -> Result {
    tells(
        "idempotent_payments",
        &["30 charges asked for, 44 requests sent", "30 charges made, 30 confirmed"],
    )
}

#[test]
fn idempotent_server_survives_being_killed() -> Result {
    let story = story("idempotent_server")?;
    let lines: Vec<&str> = story.lines().map(str::trim).collect();
    let told = |how| format!("the same call got \"charge 1: 20 EUR\", {how}");
    let expected = [
        "The server is killed before the charge, and started again:",
        &told("carried out now"),
        "charges in the ledger: 1",
        "The server is killed after the charge, and started again:",
        &told("told again"),
        "charges in the ledger: 1",
    ];
    assert_eq!(lines, expected);
    Ok(())
}

#[test]
fn balance_watched_file_follows_the_file_and_survives_a_bad_one() -> Result {
    let story = story("balance_watched_file")?;
    assert!(story.contains("`around the corner` is not an address"), "{story}");
    let answers: Vec<Vec<&str>> = story
        .lines()
        .filter(|line| line.contains("300 calls"))
        .map(|line| ["Anna", "Bert", "Cleo"].into_iter().filter(|n| line.contains(n)).collect())
        .collect();
    let (all, left) = (vec!["Anna", "Bert", "Cleo"], vec!["Bert", "Cleo"]);
    assert_eq!(answers, [vec!["Anna", "Bert"], all, left.clone(), left], "{story}");
    Ok(())
}

#[test]
fn custom_classifier_is_heard_by_every_layer() -> Result {
    tells(
        "custom_classifier",
        &[
            "attempts: 1, outcome: Some(\"busy\")",
            "attempts: 3, outcome: Some(\"done\"), body: b\"the receipt\"",
            "the breaker is open",
        ],
    )
}

#[test]
fn grpc_is_answered_with_statuses_through_a_tonic_client() -> Result {
    tells(
        "grpc",
        &[
            "20 of 20 rates were answered",
            "Anna was asked first by some: true",
            "Bert answered each: true",
            "NotFound: no such currency",
            "  1.08\n  1.09\n  DeadlineExceeded: ",
            "DeadlineExceeded: the call took too long on attempt 1",
            "Unavailable: no connection could be made on attempt 3",
            "the request was not carried out",
        ],
    )
}

#[test]
fn reqwest_transport_loses_no_call_to_an_instance_that_is_gone() -> Result {
    // The proxy of a company, at which there is nobody.
    let story = story_in("reqwest_transport", &[], &[("HTTP_PROXY", "http://127.0.0.1:1")])?;
    assert_eq!(story.matches("Bert, asked for Some(\"payments\")").count(), 20, "{story}");
    assert!(story.contains("307 Temporary Redirect to \"http://elsewhere/\""), "{story}");
    assert!(story.contains("Bert was asked 21 times"), "{story}");
    the_first_was_refused(&story)
}

#[test]
fn tonic_transport_loses_no_call_to_an_instance_that_is_gone() -> Result {
    let story = story("tonic_transport")?;
    assert_eq!(story.matches(": 1.08\n").count(), 20, "{story}");
    assert!(story.contains("Bert was asked 20 times"), "{story}");
    assert!(story.contains("  1.08\n  1.09\n  DeadlineExceeded: "), "{story}");
    the_first_was_refused(&story)
}

/// Some of the calls went to nobody first; his breaker opens after five.
fn the_first_was_refused(story: &str) -> Result {
    let failed: Vec<&str> = story.lines().filter(|line| line.contains(" attempt 1 to ")).collect();
    assert!((1..=5).contains(&failed.len()), "{story}");
    assert!(failed.iter().all(|line| line.contains("Connection refused")), "{story}");
    Ok(())
}

#[test]
fn operator_prints_what_its_page_shows_and_ends_by_itself() -> Result {
    let story = story_of("operator", &["--seconds", "2"])?;
    assert!(story.starts_with("http://127.0.0.1:"), "{story}");
    assert!(story.contains("dora is killed"), "{story}");
    let rows: Vec<&str> = story.lines().skip_while(|line| !line.starts_with("endpoint")).collect();
    assert_eq!(rows.len(), 1 + 8 + 1, "{story}");
    let dora = rows.iter().find(|row| row.starts_with("dora")).ok_or("no dora")?;
    assert!(!dora.contains("serving"), "{story}");
    Ok(())
}

#[test]
fn tls_loses_no_call_to_a_wrong_certificate() -> Result {
    let story = story("tls")?;
    let answered = "Anna, asked for payments (SNI) and Some(\"payments\") (Host)";
    assert_eq!(story.matches(answered).count(), 20, "{story}");
    let failed: Vec<&str> = story.lines().filter(|line| line.contains(" attempt 1 to ")).collect();
    // Now and then it is asked again; its breaker opens after five.
    assert!((1..=5).contains(&failed.len()), "{story}");
    assert!(failed.iter().all(|line| line.contains("not valid for name \"payments\"")), "{story}");
    Ok(())
}
