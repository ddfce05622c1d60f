//! The drill from outside: what it writes, what it refuses, and that nobody outlives it.
//!
//! Real processes and real time, so each of these takes a second or some; the numbers of the
//! clients are not judged here.

#![cfg(target_os = "linux")]

use std::collections::BTreeSet;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// Beside the tests' own programs, where `cargo test` puts the examples.
fn outage() -> Result<Command> {
    let me = std::env::current_exe()?;
    let target = me.parent().and_then(Path::parent).ok_or("the test has no target folder")?;
    Ok(Command::new(target.join("examples").join("outage")))
}

/// A scenario in a file of its own.
fn scenario(name: &str, text: &str) -> Result<PathBuf> {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.toml"));
    std::fs::write(&file, text)?;
    Ok(file)
}

fn play(args: &[&str]) -> Result<Output> {
    Ok(outage()?.args(args).stdin(Stdio::null()).output()?)
}

/// A process by its number and the time of its start, since numbers come back.
type Someone = (i32, String);

/// The fields of `/proc/PID/stat` after the name, which may hold anything.
fn stat(pid: i32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    Some(rest.split(' ').map(str::to_owned).collect())
}

fn children(parent: i32) -> Result<Vec<Someone>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Some(stat) = stat(pid).filter(|stat| stat[1] == parent.to_string()) {
            found.push((pid, stat[19].clone()));
        }
    }
    Ok(found)
}

fn is_alive(someone: &Someone) -> bool {
    // A zombie has ended; whoever is its parent now will notice.
    stat(someone.0).is_some_and(|stat| stat[19] == someone.1 && stat[0] != "Z")
}

fn is_stopped(someone: &Someone) -> bool {
    stat(someone.0).is_some_and(|stat| stat[0] == "T")
}

fn folders(pid: i32) -> Result<BTreeSet<PathBuf>> {
    let mine = format!("outage-{pid}-");
    let all = std::fs::read_dir(std::env::temp_dir())?;
    let names = all.filter_map(|entry| Some(entry.ok()?.path()));
    Ok(names.filter(|path| path.to_string_lossy().contains(&mine)).collect())
}

fn wait_until(what: &str, mut happened: impl FnMut() -> Result<bool>) -> Result {
    let end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < end {
        if happened()? {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(format!("waited in vain until {what}").into())
}

/// Ends a drill in the worst moment, while two of its instances are stopped, and looks for those
/// who stay behind.
fn end_with(name: &str, signal: Signal) -> Result<Option<i32>> {
    let file = scenario(
        name,
        "name = \"x\"\nseconds = 60\nrate = 20\ninstances = 5\n\
         [[fault]]\nkind = \"hang\"\nat = \"100ms\"\nfor = \"50s\"\ntarget = \"payments/2 of 5\"\n",
    )?;
    let mut drill: Child = outage()?
        .args(["--client", "bare", "--scenario"])
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let pid = i32::try_from(drill.id())?;
    let ready = wait_until("two instances are stopped", || {
        Ok(children(pid)?.iter().filter(|child| is_stopped(child)).count() == 2)
    });
    let everybody = children(pid)?;
    kill_process(Pid::from_raw(pid).ok_or("no process")?, signal)?;
    let code = drill.wait()?.code();
    ready?;
    assert_eq!(everybody.len(), 7, "five instances, the ledger and the warden: {everybody:?}");
    wait_until("everybody has gone home", || Ok(!everybody.iter().any(is_alive)))?;
    wait_until("the folder is put away", || Ok(folders(pid)?.is_empty()))?;
    Ok(code)
}

#[test]
fn nobody_stays_behind_when_the_drill_is_killed() -> Result {
    assert_eq!(end_with("killed", Signal::KILL)?, None);
    Ok(())
}

#[test]
fn nobody_stays_behind_when_the_drill_is_terminated() -> Result {
    assert_eq!(end_with("terminated", Signal::TERM)?, Some(143));
    Ok(())
}

#[test]
fn nobody_stays_behind_when_the_drill_is_interrupted() -> Result {
    assert_eq!(end_with("interrupted", Signal::INT)?, Some(130));
    Ok(())
}

fn plays_over(http: &str) -> Result {
    let file = scenario(
        &format!("http{http}"),
        "name = \"short\"\nseconds = 3\nrate = 100\ninstances = 3\n\
         [[fault]]\nkind = \"kill\"\nat = \"500ms\"\nfor = \"500ms\"\ntarget = \"payments/1\"\n\
         [[fault]]\nkind = \"refuse\"\nat = \"500ms\"\nfor = \"500ms\"\ntarget = \"payments/2\"\n\
         [[fault]]\nkind = \"lose_answer\"\nat = \"1500ms\"\nfor = \"500ms\"\n\
         target = \"payments/3\"\n\
         [[fault]]\nkind = \"stall_body\"\nat = \"1500ms\"\nfor = \"200ms\"\n\
         target = \"payments/2\"\n\
         [[fault]]\nkind = \"leave\"\nat = \"2s\"\nfor = \"500ms\"\ntarget = \"payments/1\"\n",
    )?;
    let json = file.with_extension("json");
    let output = outage()?
        .args(["--client", "bare", "--http", http, "--scenario"])
        .arg(&file)
        .arg("--json")
        .arg(&json)
        .output()?;
    let table = String::from_utf8(output.stdout)?;
    assert!(output.status.success(), "{table}{}", String::from_utf8_lossy(&output.stderr));
    assert!(!table.contains(|c: char| c.is_control() && c != '\n'), "{table:?}");
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");

    let report: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(json)?)?;
    assert_eq!((&report["seed"], &report["scenario"]), (&1.into(), &"short".into()));
    let bare = &report["clients"]["bare"];
    let number = |path: &str| bare.pointer(path).and_then(serde_json::Value::as_u64);
    let calls = number("/calls").ok_or("no calls")?;
    assert_eq!(number("/charges/asked"), Some(calls));
    assert_eq!(number("/charges/duplicates"), Some(0));
    assert_eq!(number("/charges/confirmed_but_missing"), Some(0));
    assert_eq!((number("/hedges"), table.contains("hedges")), (Some(0), false), "{table}");
    // Work was done of which the caller never heard: answers were lost and bodies stalled.
    assert!(number("/charges/made") > number("/ok"), "{bare}");
    for kind in ["kill", "refuse", "lose_answer", "stall_body", "leave"] {
        assert!(number(&format!("/faults_met/{kind}")) > Some(0), "{kind} of {bare}");
    }
    let recovered = bare["recovered_ms"].as_object().ok_or("no recovery")?;
    assert!(recovered.contains_key("500ms kill payments/1"), "{recovered:?}");
    Ok(())
}

#[test]
fn writes_the_table_and_the_numbers() -> Result {
    plays_over("1")
}

#[test]
fn writes_the_table_and_the_numbers_over_http_2() -> Result {
    plays_over("2")
}

#[test]
fn buttress_hedges_when_it_is_asked_to() -> Result {
    // What a hedge waits for is known after three seconds.
    let file = scenario(
        "hedged",
        "name = \"hedged\"\nseconds = 7\nrate = 100\ninstances = 3\nwork = \"10ms\"\n\
         [[fault]]\nkind = \"slow\"\nat = \"4s\"\nfor = \"2s\"\ntarget = \"payments/*\"\n\
         latency = \"150ms\"\nshare = 0.2\n",
    )?;
    let json = file.with_extension("json");
    let (file, written) = (file.to_string_lossy(), json.to_string_lossy());
    let args = ["--client", "buttress", "--hedge", "--scenario", &file, "--json", &written];
    let output = play(&args)?;
    let table = String::from_utf8(output.stdout)?;
    assert!(output.status.success(), "{table}{}", String::from_utf8_lossy(&output.stderr));
    assert!(table.contains("\nhedges "), "{table}");

    let report: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&json)?)?;
    assert_eq!(report["hedge"], true);
    let buttress = &report["clients"]["buttress"];
    let number = |path: &str| buttress.pointer(path).and_then(serde_json::Value::as_u64);
    let (calls, hedges) = (number("/calls"), number("/hedges"));
    let (calls, hedges) = (calls.ok_or("no calls")?, hedges.ok_or("no hedges")?);
    assert!(hedges > 0, "{buttress}");
    // They are among the attempts.
    let attempts = buttress["attempts_per_call"].as_f64().ok_or("no attempts")?;
    assert!((attempts * calls as f64).round() as u64 >= calls + hedges, "{buttress}");
    assert_eq!(number("/charges/duplicates"), Some(0), "both attempts carry the key");
    let parts = ["before", "during", "after"].map(|phase| {
        number(&format!("/latency_by_phase/{phase}/calls")).filter(|calls| *calls > 0)
    });
    assert_eq!(parts.into_iter().sum::<Option<u64>>(), Some(calls), "{buttress}");
    Ok(())
}

#[test]
fn refuses_what_it_does_not_understand() -> Result {
    let file = scenario(
        "wrong",
        "name = \"x\"\nseconds = 3\nrate = 100\ninstances = 3\n\n[[fault]]\nkind = \"slow\"\n",
    )?;
    let name = file.to_string_lossy();
    let cases: [(&[&str], &str); 6] = [
        (&["--scenario", &name], "wrong.toml, line 6: missing field `at`"),
        (&["--scenario", "/nowhere.toml"], "/nowhere.toml can't be read"),
        (&["--http", "3"], "possible values: 1, 2"),
        (&["--rate", "many"], "invalid value 'many' for '--rate <N>'"),
        (&["--client", "tower", "--hedge"], "only buttress hedges"),
        (&["--json", "/nowhere/x.json"], "/nowhere/x.json can't be written"),
    ];
    for (args, expected) in cases {
        let output = play(args)?;
        let said = String::from_utf8(output.stderr)?;
        assert!(said.contains(expected), "{args:?} said {said}");
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }
    Ok(())
}
