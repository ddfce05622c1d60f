//! The rules of the house that the compiler can't check: arrows between rooms only go down,
//! there is one door to the clock, one to chance and one to what threads share, what they share
//! without a lock has a model, and nothing is unsafe, unfinished or too long.
//!
//! Every file is parsed, so that grouped, renamed and relative imports are seen for what they
//! are, and so are paths that stand in the middle of the code. Macros' bodies are read token by
//! token. Comments and documentation may name whatever they like.
//!
//! What the checker can't see: names that another file exports again from outside of the crate
//! (but `Instant::now` is known by its last two names wherever it comes from), and methods
//! called on values whose type it does not know (but `.elapsed()` is known by its name, in files
//! that define no function of that name).

#[path = "tidy/check.rs"]
mod check;
#[path = "tidy/house.rs"]
mod house;
#[path = "tidy/planted.rs"]
mod planted;
#[path = "tidy/read.rs"]
mod read;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use check::{check, check_strictly, rooms_on_two_floors};
use house::EXCEPTIONS;

#[test]
fn the_house_is_tidy() {
    let files = sources().expect("src/ can be read");
    assert!(files.len() > 20, "only {} files were found in src/", files.len());
    let found: Vec<String> = files
        .iter()
        .flat_map(|(path, source)| check(path, source))
        .map(|violation| violation.to_string())
        .collect();
    assert!(found.is_empty(), "{} violations:\n{}", found.len(), found.join("\n"));
}

#[test]
fn every_exception_is_still_needed() {
    let files = sources().expect("src/ can be read");
    let strict: Vec<_> =
        files.iter().flat_map(|(path, source)| check_strictly(path, source)).collect();
    for exception in EXCEPTIONS {
        assert!(
            strict.iter().any(|violation| exception.covers(violation)),
            "{} breaks no rule about {} any more: remove its exception",
            exception.path,
            exception.about
        );
    }
}

#[test]
fn every_room_stands_on_one_floor() {
    assert!(rooms_on_two_floors().is_empty());
}

/// All of src/, by path as the rules have it, with slashes.
fn sources() -> io::Result<Vec<(String, String)>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    let mut folders = vec![root.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push((relative(root, &path), fs::read_to_string(&path)?));
            }
        }
    }
    files.sort();
    Ok(files)
}

fn relative(root: &Path, path: &Path) -> String {
    let path: PathBuf = path.strip_prefix(root).unwrap_or(path).into();
    path.iter().map(|name| name.to_string_lossy()).collect::<Vec<_>>().join("/")
}
