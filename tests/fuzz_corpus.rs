//! What the fuzzer was given to begin with, and what it found, on every run of the tests.
//!
//! The properties are those of the fuzz targets: there is one copy of them, in `fuzz/`.

#[path = "../fuzz/properties/mod.rs"]
mod properties;

use std::{
    fs,
    panic::catch_unwind,
    path::{Path, PathBuf},
};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

fn names(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a folder's entry").path()).collect();
    paths.sort();
    paths
}

#[test]
fn the_properties_hold_for_the_whole_corpus() {
    for &(target, holds) in properties::ALL {
        let files = names(&corpus().join(target));
        assert!(files.len() > 5, "{target} begins with {} files", files.len());
        for file in files {
            let bytes = fs::read(&file).expect("a file of the corpus");
            assert!(catch_unwind(|| holds(&bytes)).is_ok(), "see above: {}", file.display());
        }
    }
}

#[test]
#[cfg(all(feature = "consul", feature = "etcd", feature = "file", feature = "kubernetes"))]
fn every_corpus_has_a_target() {
    let folders = names(&corpus());
    let folders: Vec<_> = folders.iter().filter_map(|path| path.file_name()?.to_str()).collect();
    let targets: Vec<_> = properties::ALL.iter().map(|(name, _)| *name).collect();
    assert_eq!(folders, targets);
}
