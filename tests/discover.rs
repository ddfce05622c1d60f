//! Where the endpoints are, through the public interface.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use buttress::{
    BoxError, Entropy,
    discover::{Change, EmptyAnswer, Ended, Resilient, ResilientConfig},
    endpoint::Endpoint,
    find,
};
use futures_util::{Stream, StreamExt, stream};
use tokio::time::{Instant, timeout};

fn endpoint(port: u16) -> Endpoint {
    Endpoint::from(std::net::SocketAddr::from(([127, 0, 0, 1], port)))
}

fn reset(ports: &[u16]) -> Change {
    Change::Reset(ports.iter().copied().map(endpoint).collect())
}

type Item = Result<Change, BoxError>;

/// Says its items, then ends or stays silent; panics when it is polled after its end, as an
/// `async` block would.
struct Script {
    items: std::vec::IntoIter<Item>,
    ends: bool,
    ended: bool,
}

impl Script {
    fn ending(items: Vec<Item>) -> Self {
        Self { items: items.into_iter(), ends: true, ended: false }
    }

    fn lasting(items: Vec<Item>) -> Self {
        Self { items: items.into_iter(), ends: false, ended: false }
    }
}

impl Stream for Script {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Item>> {
        assert!(!self.ended, "polled after its end");
        match self.items.next() {
            Some(item) => Poll::Ready(Some(item)),
            None if self.ends => {
                self.ended = true;
                Poll::Ready(None)
            }
            None => Poll::Pending,
        }
    }
}

/// Plays one script after the other and counts them.
fn scripts(scripts: Vec<Script>) -> (impl FnMut() -> Script + Unpin, Arc<AtomicUsize>) {
    let made = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&made);
    let mut scripts = scripts.into_iter();
    let make = move || {
        counter.fetch_add(1, Ordering::Relaxed);
        scripts.next().expect("it is made no more often than the test expects")
    };
    (make, made)
}

fn config() -> ResilientConfig {
    ResilientConfig::new().entropy(Entropy::seeded(7))
}

async fn next<S: Stream<Item = Item> + Unpin>(stream: &mut S) -> Item {
    let within = timeout(Duration::from_secs(3_600), stream.next()).await;
    within.expect("something is said within the hour").expect("it never ends")
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_is_made_anew_after_a_wait_and_not_polled_again() {
    let (make, made) = scripts(vec![
        Script::ending(vec![Ok(reset(&[1]))]),
        Script::lasting(vec![Ok(reset(&[1, 2]))]),
    ]);
    let mut registry = Resilient::new(make, config());
    assert_eq!(made.load(Ordering::Relaxed), 0, "nothing happens before it is polled");
    assert_eq!(next(&mut registry).await.expect("a set"), reset(&[1]));

    let error = next(&mut registry).await.expect_err("its end");
    let ended = find::<Ended>(&*error).expect("the end has a name");
    assert!((Duration::from_millis(250)..=Duration::from_millis(500)).contains(&ended.retry_in));

    let before = Instant::now();
    assert_eq!(next(&mut registry).await.expect("a set"), reset(&[1, 2]));
    let waited = before.elapsed();
    assert!(waited >= ended.retry_in, "{waited:?} is too soon");
    assert!(waited <= ended.retry_in + Duration::from_millis(2), "{waited:?} is too late");
    assert_eq!(made.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_fails_is_made_anew_and_its_error_goes_through() {
    let (make, _) = scripts(vec![
        // What it would say after its error is not asked for.
        Script::lasting(vec![Ok(reset(&[1])), Err("connection reset".into()), Ok(reset(&[9]))]),
        Script::lasting(vec![Ok(reset(&[2]))]),
    ]);
    let mut registry = Resilient::new(make, config());
    next(&mut registry).await.expect("a set");
    let error = next(&mut registry).await.expect_err("it failed");
    assert_eq!(error.to_string(), "connection reset");
    assert_eq!(next(&mut registry).await.expect("a set"), reset(&[2]));
}

#[tokio::test(start_paused = true)]
async fn the_wait_grows_while_nothing_helps_and_differs_between_clients() {
    async fn waits(seed: u64) -> Vec<u128> {
        let (make, _) = scripts((0..10).map(|_| Script::ending(Vec::new())).collect());
        let mut registry = Resilient::new(make, config().entropy(Entropy::seeded(seed)));
        let mut waits = Vec::new();
        for _ in 0..10 {
            let error = next(&mut registry).await.expect_err("its end");
            waits.push(find::<Ended>(&*error).expect("its end").retry_in.as_millis());
        }
        waits
    }
    let (ours, theirs) = (waits(1).await, waits(2).await);
    for (n, wait) in ours.iter().enumerate() {
        let limit = (500 << n).min(30_000);
        assert!((limit / 2..=limit).contains(wait), "wait {n} of {ours:?}");
    }
    assert!(ours.iter().zip(&theirs).all(|(a, b)| a != b), "{ours:?} {theirs:?}");
}

#[tokio::test(start_paused = true)]
async fn an_empty_answer_is_said_once_and_takes_nothing_away() {
    let answers = vec![Ok(reset(&[1])), Ok(reset(&[])), Ok(reset(&[])), Ok(reset(&[2]))];
    let (make, _) = scripts(vec![Script::lasting(answers)]);
    let mut registry = Resilient::new(make, config());
    assert_eq!(next(&mut registry).await.expect("a set"), reset(&[1]));
    let error = next(&mut registry).await.expect_err("an empty answer");
    assert!(find::<EmptyAnswer>(&*error).is_some(), "{error}");
    assert_eq!(next(&mut registry).await.expect("a set"), reset(&[2]), "said once");
}

#[tokio::test(start_paused = true)]
async fn an_empty_answer_is_believed_where_that_is_asked_for_and_a_removal_always() {
    let (make, _) = scripts(vec![Script::lasting(vec![Ok(reset(&[]))])]);
    let mut registry = Resilient::new(make, config().keep_when_empty(false));
    assert_eq!(next(&mut registry).await.expect("a set"), reset(&[]));

    let last = Change::Remove(endpoint(1));
    let (make, _) = scripts(vec![Script::lasting(vec![Ok(reset(&[1])), Ok(last.clone())])]);
    let mut registry = Resilient::new(make, config());
    next(&mut registry).await.expect("a set");
    assert_eq!(next(&mut registry).await.expect("a removal"), last);
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_repeats_an_empty_answer_without_a_pause_blocks_nobody() {
    let make = || stream::repeat_with(|| Ok::<_, BoxError>(reset(&[])));
    let mut registry = Resilient::new(make, config());
    assert!(next(&mut registry).await.is_err());
    // A poll ends, though the stream is always ready: else this test would hang here.
    let polled = futures_util::poll!(registry.next());
    assert!(polled.is_pending());
}

#[test]
fn waits_that_cannot_be_meant_are_refused() {
    let day = Duration::from_secs(24 * 60 * 60);
    for (first, longest, says) in [
        (Duration::ZERO, day, "longer than zero"),
        (Duration::from_secs(2), Duration::from_secs(1), "not exceed"),
        (Duration::from_secs(2), Duration::MAX, "at most a day"),
    ] {
        let refusal = ResilientConfig::new().backoff(first, longest).expect_err(says);
        assert!(refusal.to_string().contains(says), "{refusal}");
    }
}

/// Real files and real time, with a short interval.
#[cfg(feature = "file")]
mod file {
    use std::{fs, path::PathBuf};

    use buttress::discover::{File, FileError, FileErrorKind};

    use super::*;

    /// A directory that goes with the test.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("buttress-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).expect("a directory for the test");
            Self(path)
        }

        fn path(&self) -> PathBuf {
            self.0.join("payments.toml")
        }

        fn write(&self, text: &str) {
            fs::write(self.path(), text).expect("the file is ours");
        }

        /// As deployments do it: written beside, and put in its place by a rename.
        fn replace(&self, text: &str) {
            let beside = self.0.join("payments.toml.new");
            fs::write(&beside, text).expect("the file is ours");
            fs::rename(&beside, self.path()).expect("the directory is ours");
        }

        fn watch(&self) -> File {
            File::new(self.path()).interval(Duration::from_millis(10)).expect("long enough")
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn listing(ports: &[u16]) -> String {
        ports.iter().map(|port| format!("[[endpoint]]\naddress = \"127.0.0.1:{port}\"\n")).collect()
    }

    async fn next(file: &mut File) -> Result<Change, FileError> {
        let within = timeout(Duration::from_secs(10), file.next()).await;
        within.expect("something is said soon").expect("it never ends")
    }

    /// Nothing is said while the file is read a few times.
    async fn silent(file: &mut File) {
        let said = timeout(Duration::from_millis(150), file.next()).await;
        assert!(said.is_err(), "{said:?}");
    }

    #[tokio::test]
    async fn is_read_at_once_and_followed_when_it_is_written_or_replaced() {
        let place = Place::new("followed");
        place.write(&listing(&[1]));
        let mut file = place.watch().interval(Duration::from_secs(3_600)).expect("within a day");
        assert_eq!(next(&mut file).await, Ok(reset(&[1])), "the first reading waits for nothing");

        let mut file = place.watch();
        assert_eq!(next(&mut file).await, Ok(reset(&[1])));
        silent(&mut file).await;
        place.write(&listing(&[1, 2]));
        assert_eq!(next(&mut file).await, Ok(reset(&[1, 2])));
        place.replace(&listing(&[2, 3]));
        assert_eq!(next(&mut file).await, Ok(reset(&[2, 3])));
        silent(&mut file).await;
    }

    #[tokio::test]
    async fn a_replacement_of_the_same_size_and_age_is_seen() {
        let place = Place::new("same-age");
        place.write(&listing(&[1]));
        let age = fs::metadata(place.path()).and_then(|meta| meta.modified()).expect("its age");
        let mut file = place.watch();
        assert_eq!(next(&mut file).await, Ok(reset(&[1])));

        let beside = place.0.join("other");
        fs::write(&beside, listing(&[2])).expect("the file is ours");
        let other = fs::File::options().write(true).open(&beside).expect("the file is ours");
        other.set_modified(age).expect("the file is ours");
        fs::rename(&beside, place.path()).expect("the directory is ours");
        assert_eq!(next(&mut file).await, Ok(reset(&[2])));
    }

    #[tokio::test]
    async fn another_order_and_another_comment_make_no_change() {
        let place = Place::new("order");
        place.write(&listing(&[1, 2]));
        let mut file = place.watch();
        assert_eq!(next(&mut file).await, Ok(reset(&[1, 2])));
        place.replace(&format!("# turned round\n{}", listing(&[2, 1])));
        silent(&mut file).await;
    }

    #[tokio::test]
    async fn a_bad_file_is_reported_once_and_the_last_good_set_stays() {
        let place = Place::new("bad");
        place.write(&listing(&[1]));
        let mut file = place.watch();
        assert_eq!(next(&mut file).await, Ok(reset(&[1])));

        let bad = |kind, line, text: &str| (kind, line, text.to_owned());
        for (kind, line, text) in [
            bad(FileErrorKind::Malformed, Some(2), "[[endpoint]]\nadress = \"127.0.0.1:1\"\n"),
            bad(FileErrorKind::Empty, None, ""),
            bad(FileErrorKind::Duplicate, Some(4), &listing(&[7, 7])),
            bad(FileErrorKind::Malformed, Some(1), "[[endpoint"),
        ] {
            place.replace(&text);
            let error = next(&mut file).await.expect_err("it is bad");
            assert_eq!((error.kind(), error.line()), (kind, line), "{error}");
            let at = line.map_or_else(String::new, |line| format!("{line}:"));
            let opening = format!("{}:{at} ", place.path().display());
            assert!(error.to_string().starts_with(&opening), "{error}");
            silent(&mut file).await;
        }

        fs::remove_file(place.path()).expect("the file is ours");
        let error = next(&mut file).await.expect_err("it is gone");
        assert_eq!(error.kind(), FileErrorKind::Missing);
        silent(&mut file).await;

        // Back as it was: the set in use is still that one, which is said once.
        place.replace(&listing(&[1]));
        assert_eq!(next(&mut file).await, Ok(reset(&[1])));
        silent(&mut file).await;
        place.replace(&listing(&[1, 2]));
        assert_eq!(next(&mut file).await, Ok(reset(&[1, 2])));
    }

    #[tokio::test]
    async fn a_file_that_comes_later_is_taken_up() {
        let place = Place::new("later");
        let mut file = place.watch();
        let error = next(&mut file).await.expect_err("there is none");
        assert_eq!(error.kind(), FileErrorKind::Missing);
        assert!(error.to_string().contains("create it"), "{error}");
        place.replace(&listing(&[1]));
        assert_eq!(next(&mut file).await, Ok(reset(&[1])));
    }

    #[tokio::test]
    async fn what_is_no_file_or_far_too_big_is_refused() {
        let place = Place::new("no-file");
        fs::create_dir(place.path()).expect("the directory is ours");
        let mut file = place.watch();
        let error = next(&mut file).await.expect_err("it is a directory");
        assert_eq!(error.kind(), FileErrorKind::Unreadable);
        assert!(error.to_string().contains("not a regular file"), "{error}");

        fs::remove_dir(place.path()).expect("the directory is ours");
        place.write(&"#".repeat(4 * 1024 * 1024 + 1));
        let error = next(&mut file).await.expect_err("it is too big");
        assert!(error.to_string().contains("more than 4194304 bytes"), "{error}");
    }

    #[test]
    fn needs_no_runtime_to_be_made_and_refuses_intervals_that_cannot_be_meant() {
        let file = || File::new("payments.toml");
        assert!(file().interval(Duration::ZERO).is_err());
        assert!(file().interval(Duration::MAX).is_err());
        assert!(file().interval(Duration::from_secs(1)).is_ok());
    }
}
