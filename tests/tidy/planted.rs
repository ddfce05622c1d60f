//! The checker, checked: violations planted one by one, and code that is innocent.

use super::{
    check::{Rule, check},
    house::EXCEPTIONS,
};

/// `//~` marks the lines that break the rule.
#[track_caller]
fn finds(rule: Rule, path: &str, source: &str) {
    let marked: Vec<usize> = (1..)
        .zip(source.lines())
        .filter(|(_, text)| text.contains("//~"))
        .map(|(line, _)| line)
        .collect();
    assert!(!marked.is_empty(), "the case marks no line");
    let found = check(path, source);
    let lines: Vec<usize> = found.iter().map(|violation| violation.line).collect();
    assert_eq!(lines, marked, "{path}\n{source}\n{found:#?}");
    for violation in &found {
        assert_eq!(violation.rule, rule, "{violation}");
        let start = format!("{path}:{}: ", violation.line);
        assert!(violation.to_string().starts_with(&start), "{violation}");
    }
}

#[track_caller]
fn finds_nothing(path: &str, source: &str) {
    let found = check(path, source);
    assert!(found.is_empty(), "{path}\n{source}\n{found:#?}");
}

#[test]
fn an_arrow_to_another_room_however_it_is_written() {
    for source in [
        "use crate::balance::Balance; //~",
        "use crate::{balance::Balance, call::Words}; //~",
        "use crate::{\n    balance::Balance, //~\n    call::{Words, Call},\n};",
        "use crate::{call::Words, self as root}; fn f(_: root::balance::Balance) {} //~",
        "use crate::balance as b; //~",
        "use crate::balance::*; //~",
        "use crate as root;\nfn f() { root::balance::pick(); } //~",
        "use super::balance::Balance; //~",
        "use super::super::super::balance; //~",
        "use super::{retry::Budget, balance::{Balance, Pick}}; //~",
        "use self::super::balance; //~",
        "pub(crate) use crate::balance::Balance; //~",
        "pub use crate::balance; //~",
        "fn f() { crate::balance::pick(); } //~",
        "fn f() { let _ = crate::balance::Pick { index: 1 }; } //~",
        "fn f(_: &mut Vec<Option<crate::balance::Pick>>) {} //~",
        "struct S { pick: crate::balance::Pick } //~",
        "impl crate::balance::Pick for S {} //~",
        "fn f<T>() where T: crate::balance::Pick {} //~",
        "fn f() -> impl Fn(crate::balance::Pick) { |_| () } //~",
        "fn f(s: S) { match s { crate::balance::Pick::One => {} _ => {} } } //~",
        "fn f() { use crate::balance::pick; pick(); } //~",
        "type P = crate::balance::Pick; //~",
        "#[derive(crate::balance::Pick)] struct S; //~",
        "mod inner { mod deeper { use super::super::super::balance; } } //~",
        "mod inner { fn f() { crate::balance::pick() } } //~",
        "#[cfg(test)]\nmod tests {\n    use crate::balance::Balance; //~\n}",
        "#[cfg(feature = \"hyper\")]\nuse crate::transport::Connector; //~",
        "pin_project! { struct S { #[pin] pick: crate::balance::Pick } } //~",
        "fn f() { ready!(crate::balance::pick(cx)); } //~",
        "fn f() { assert_eq!(1, vec![crate::balance::pick()]); } //~",
        "macro_rules! m { () => { $crate::balance::pick() }; } //~",
        "macro_rules! m { () => { use crate::{call::Words, balance::Pick}; }; } //~",
    ] {
        finds(Rule::Arrows, "src/retry/mod.rs", &format!("//! A room.\n{source}"));
    }
    // A file below `mod.rs` is one module deeper.
    for source in [
        "use super::super::balance; //~",
        "use super::super as root;\nuse root::balance; //~",
        "mod inner { use super::super::super::{call, balance}; } //~",
    ] {
        finds(Rule::Arrows, "src/retry/state.rs", source);
    }
    finds_nothing("src/retry/state.rs", "use super::balance;");
}

#[test]
fn an_arrow_upwards() {
    finds(Rule::Arrows, "src/call/words.rs", "use crate::retry::Budget; //~");
    finds(Rule::Arrows, "src/algo/ewma.rs", "use crate::call::Words; //~");
    finds(Rule::Arrows, "src/time/sleep.rs", "use crate::algo::Ewma; //~");
    finds(Rule::Arrows, "src/event.rs", "use super::observe; //~");
    finds(Rule::Arrows, "src/breaker/mod.rs", "//! A room.\nuse crate::client::Client; //~");
}

#[test]
fn a_room_that_nobody_knows_and_a_detour_over_the_root() {
    finds(Rule::Arrows, "src/retry/state.rs", "use crate::cellar::Wine; //~");
    finds(Rule::Arrows, "src/cellar.rs", "use crate::error::BoxError; //~");
    finds(Rule::Arrows, "src/retry/state.rs", "use crate::BoxError; //~");
    finds(Rule::Arrows, "src/retry/state.rs", "use crate::*; //~");
    finds(Rule::Arrows, "src/event.rs", "use super::*; //~");
    finds(Rule::Arrows, "src/retry/state.rs", "include!(\"../balance/state.rs\"); //~");
    finds(Rule::Arrows, "src/retry/state.rs", "#[path = \"../balance/state.rs\"] mod b; //~");
}

#[test]
fn arrows_that_go_down_or_stay_within_the_room() {
    for source in [
        "use crate::{algo::Backoff, call::{Call, Words}, classify::Verdict, error::BoxError};",
        "use super::{config::RetryConfig, state::Budget}; use self::inner::X; mod inner {}",
        "use crate::retry::RetryConfig; fn f() { crate::time::now(); super::state::go(); }",
        "//! Beside [`balance`](crate::balance).\n/// As [`Breaker`](crate::breaker::Breaker).\nfn f() {}",
        "// use crate::balance::Balance;\nconst S: &str = \"crate::balance::Balance\";",
        "use tower::balance::p2c::Balance; use balance::Pick; fn f() { balance::pick() }",
        "#[cfg(test)] mod tests { use super::*; use crate::retry::state::Budget; }",
        "pub(in crate::retry) fn f() {} pub(super) fn g() {} pub(crate) fn h() {}",
    ] {
        finds_nothing("src/retry/service.rs", source);
    }
    finds_nothing(
        "src/client/mod.rs",
        "//! The roof.\nuse crate::{balance::Balance, retry::Retry};",
    );
    finds_nothing("src/lib.rs", "pub mod cellar; pub use self::{entropy::Entropy, retry::Retry};");
    // One vocabulary, and one ground.
    finds_nothing("src/call/words.rs", "use crate::{classify::Verdict, endpoint::EndpointKey};");
    finds_nothing("src/entropy.rs", "use crate::sync::Mutex;");
}

#[test]
fn a_second_door_to_the_clock() {
    for source in [
        "fn f() { std::time::Instant::now(); } //~",
        "use std::time::Instant;\nfn f() { let _ = Instant::now(); } //~",
        "use std::time::{Duration, Instant as Clock};\nfn f() { Clock::now(); } //~",
        "use std::time;\nfn f() { time::Instant::now(); } //~",
        "use std::time as t;\nfn f() { t::SystemTime::now(); } //~",
        "use std::time::*;\nfn f() { Instant::now(); } //~",
        "type Clock = std::time::Instant;\nfn f() { Clock::now(); } //~",
        "fn f() { <std::time::Instant>::now(); } //~",
        "fn f(at: Option<Instant>) { at.unwrap_or_else(Instant::now); } //~",
        "fn f() { elsewhere::Instant::now(); } //~",
        "use std::time::SystemTime;\nfn f() { SystemTime::now(); } //~",
        "use std::time::Instant as Clock;\n#[cfg(test)]\nmod tests {\n    use super::*;\n    fn f() { Clock::now(); } //~\n}",
        "use std::time::Instant as Clock;\nmod inner {\n    use super::Clock as C;\n    fn f() { C::now(); } //~\n}",
        "use std::time::Instant as Clock;\nfn f() { self::Clock::now(); } //~",
        "use tokio::time::sleep; //~",
        "use tokio::{sync::Notify, time::{self, Duration}};\nfn f() { time::sleep_until(at); } //~",
        "fn f() { tokio::time::interval(period); } //~",
        "async fn f() { tokio::time::timeout(limit, other).await; } //~",
        "struct S { sleep: tokio::time::Sleep } //~",
        "fn f(_: tokio::time::Instant) {} //~",
        "fn f() { std::thread::sleep(limit); } //~",
        "use std::thread;\nfn f() { thread::sleep(limit); } //~",
        "use std::thread::sleep; //~",
        "fn f(then: Instant) { then.elapsed(); } //~",
        "fn f(then: Instant) { assert!(then.elapsed() < limit); } //~",
        "fn f(then: Option<Instant>) { then.map(std::time::Instant::elapsed); } //~",
        "fn f() { ready!(g(Instant::now(), cx)); } //~",
        "pin_project! { impl S { fn f() { std::time::Instant :: now(); } } } //~",
        "macro_rules! m { ($e:expr) => { $e(::std::time::Instant::now()) }; } //~",
        "fn f() { tokio::select! { _ = tokio::time::sleep(d) => {} } } //~",
    ] {
        finds(Rule::Clock, "src/retry/service.rs", source);
    }
    for source in [
        "use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH}; fn f(_: Instant) {}",
        "use crate::time::{Sleep, now}; fn f() { now(); Sleep::until(at); }",
        "use crate::time; fn f() { time::now(); time::Sleep::until(at); }",
        "/// Never [`Instant::now`](std::time::Instant::now).\nfn f() {} // Instant::now()",
        "const S: &str = \"Instant::now()\"; fn f(e: Elapsed) { e.elapsed; elapsed(); e.elapsed(now); }",
        "impl Limit { fn elapsed(&self) -> Elapsed {} } fn f(l: Limit) { l.elapsed(); }",
        "#[cfg(test)] mod tests { #[tokio::test(start_paused = true)]\n\
         async fn f() { tokio::time::sleep(d).await; tokio::time::advance(d).await; } }",
    ] {
        finds_nothing("src/retry/service.rs", source);
    }
    let door = "fn now() { tokio::time::Instant::now(); SystemTime::now(); }";
    finds_nothing("src/time/sleep.rs", door);
    finds(Rule::Clock, "src/timeout/time.rs", &format!("{door} //~"));
    // Even a test asks at the door, so that a paused clock is the only one.
    let test = "#[cfg(test)]\nmod tests {\n    fn f() { std::time::Instant::now(); } //~\n}";
    finds(Rule::Clock, "src/retry/service.rs", test);
}

#[test]
fn a_second_door_to_chance() {
    for source in [
        "use rand::Rng; //~",
        "use rand; //~",
        "extern crate fastrand; //~",
        "fn f() { getrandom::fill(&mut bytes); } //~",
        "fn f() { fastrand::u64(..); } //~",
        "use std::hash::RandomState; //~",
        "use std::collections::{HashMap, hash_map::DefaultHasher}; //~",
        "fn f() { std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 1); } //~",
        "fn f() { assert!(rand::random()); } //~",
    ] {
        finds(Rule::Chance, "src/retry/state.rs", source);
        finds_nothing("src/entropy.rs", &source.replace("//~", ""));
    }
    let innocent = "use crate::entropy::Entropy; fn f(rand: &Entropy) { let _ = rand; }";
    finds_nothing("src/retry/state.rs", innocent);
}

#[test]
fn a_second_door_to_what_threads_share() {
    for source in [
        "use std::sync::Mutex; //~",
        "use std::sync::{Arc, RwLock}; //~",
        "use std::{\n    sync::{\n        Arc,\n        atomic::{AtomicU64, Ordering}, //~\n    },\n};",
        "use std::sync;\nfn f() { sync::Mutex::new(1); } //~",
        "use core::sync::atomic; //~",
        "fn f(_: &std::sync::atomic::AtomicBool) {} //~",
        "pin_project! { struct S { state: Arc<std::sync::Mutex<u8>> } } //~",
        "use loom::sync::Arc; //~",
        "use parking_lot::Mutex; //~",
    ] {
        finds(Rule::Shared, "src/breaker/state.rs", source);
        finds_nothing("src/sync.rs", &source.replace("//~", ""));
    }
    for source in [
        "use std::sync::{Arc, LazyLock, OnceLock, Weak}; use crate::sync::{Mutex, lock};",
        "use crate::sync; fn f() { sync::Mutex::new(1); }",
        "use tokio::sync::{Notify, watch};",
        "#[cfg(test)] mod tests { use std::sync::{Mutex, atomic::AtomicUsize}; }",
        "#[cfg(all(test, buttress_loom))] mod tests { use loom::model; }",
    ] {
        finds_nothing("src/breaker/state.rs", source);
    }
    let not_only_in_tests = "#[cfg(not(test))] mod m { use std::sync::Mutex; } //~";
    finds(Rule::Shared, "src/breaker/state.rs", not_only_in_tests);
    let not_only_in_tests = "#[cfg(any(test, unix))] mod m { use std::sync::Mutex; } //~";
    finds(Rule::Shared, "src/breaker/state.rs", not_only_in_tests);
}

#[test]
fn what_is_shared_without_a_lock_and_without_a_model() {
    for source in [
        "use crate::sync::AtomicU64; //~",
        "use crate::{\n    entropy::Entropy,\n    sync::{AtomicBool, Mutex, lock}, //~\n};",
        "use crate::sync;\nuse sync::AtomicU32; //~",
    ] {
        finds(Rule::Model, "src/breaker/state.rs", source);
        let modelled = format!("{source}\n#[cfg(all(test, buttress_loom))] mod loom_tests {{}}");
        finds_nothing("src/breaker/state.rs", &modelled.replace("//~", ""));
    }
    finds_nothing("src/breaker/state.rs", "use crate::sync::{Mutex, Padded, lock};");
    finds_nothing("src/breaker/mirror.rs", "use crate::sync::{AtomicU64, Ordering};");
    finds_nothing("src/breaker/state.rs", "#[cfg(test)] mod t { use crate::sync::AtomicU64; }");
}

#[test]
fn an_exception_excuses_what_it_names_and_nothing_else() {
    let path = "src/endpoint/identity.rs";
    assert!(EXCEPTIONS.iter().any(|exception| exception.path == path));
    finds_nothing(path, "use std::sync::atomic::AtomicU64;");
    finds(Rule::Shared, path, "use std::sync::Mutex; //~");
    finds(Rule::Clock, path, "fn f() { std::time::Instant::now(); } //~");
    finds(Rule::Shared, "src/endpoint/gate.rs", "use std::sync::atomic::AtomicU64; //~");
}

#[test]
fn what_is_forbidden_everywhere() {
    for source in [
        "fn f() { unsafe { g() } } //~",
        "unsafe impl Send for S {} //~",
        "unsafe fn f() {} //~",
        "macro_rules! m { () => { unsafe { g() } }; } //~",
        "fn f() { todo!() } //~",
        "fn f() { unimplemented!(\"later\") } //~",
        "#[cfg(test)]\nmod tests {\n    #[test]\n    #[ignore] //~\n    fn f() {}\n}",
        "#[ignore = \"slow\"] //~\nfn f() {}",
        "#[cfg_attr(miri, ignore)] //~\nfn f() {}",
        "#![allow(dead_code)] //~\nfn f() {}",
        "#[allow(dead_code)] //~\nfn f() {}",
        "fn f() { #[expect(clippy::unwrap_used)] g().unwrap(); } //~",
        "#[cfg_attr(test, allow(dead_code))] //~\nfn f() {}",
        "pin_project! { #[allow(dead_code)] struct S {} } //~",
        "/// ```ignore //~\n/// f();\n/// ```\nfn f() {}",
        "//! ```rust,ignore //~\n//! f();\n//! ```\nfn f() {}",
    ] {
        finds(Rule::Forbidden, "src/retry/state.rs", source);
    }
    for source in [
        "#[allow(dead_code, reason = \"for who reads it\")] fn f() { g().expect(\"it is there\"); }",
        "/// Not `unsafe`, not todo!(). What is ignored is ignored.\nfn ignore(todo: u8) { ignore(todo) }",
        "/// ```text\n/// ignore\n/// ```\nfn f() {} // unsafe",
        "#[doc(hidden)] #[must_use = \"don't ignore\"] fn f() {} #[derive(Debug)] struct S;",
    ] {
        finds_nothing("src/retry/state.rs", source);
    }
}

#[test]
fn a_file_too_long_and_a_room_without_a_word() {
    let code = |lines| "fn f() {}\n".repeat(lines);
    let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", code(300));
    finds_nothing("src/retry/state.rs", &format!("{}{tests}", code(400)));
    let long = check("src/retry/state.rs", &format!("{}{tests}", code(401)));
    assert_eq!(long.iter().map(|found| found.rule).collect::<Vec<_>>(), [Rule::Length]);
    assert!(long[0].sentence.starts_with("401 lines without tests"), "{}", long[0]);
    finds_nothing("src/retry/tests.rs", &code(500));

    finds(Rule::Docs, "src/retry/mod.rs", "mod state; //~");
    finds(Rule::Docs, "src/retry/mod.rs", "// Retries. //~\nmod state;");
    finds_nothing("src/retry/mod.rs", "//! Retries.\nmod state;");
    finds_nothing("src/retry/state.rs", "struct Budget;");
}

#[test]
fn what_is_not_rust_is_said_so() {
    let found = check("src/retry/state.rs", "fn f() {\n    let = ;\n}");
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].rule, found[0].line), (Rule::Parse, 2));
}
