//! The file of endpoints. All bytes are the file's.

use std::{collections::HashSet, fmt::Write, fs, path::PathBuf};

use buttress::{
    discover::{Change, File, FileError, FileErrorKind},
    endpoint::Endpoint,
};
use futures_util::StreamExt;
use tokio::runtime::{Builder, Runtime};

pub(crate) fn holds(bytes: &[u8]) {
    FOLDER.with(|folder| match folder.read(bytes) {
        Ok(endpoints) => {
            are_sound(&endpoints);
            let again = folder.read(written(&endpoints).as_bytes()).expect("it was just written");
            assert_eq!(again, endpoints);
        }
        Err(error) => helps(bytes, &error),
    });
}

fn are_sound(endpoints: &[Endpoint]) {
    assert!(!endpoints.is_empty());
    let ids: HashSet<_> = endpoints.iter().map(Endpoint::id).collect();
    let addresses: HashSet<_> = endpoints.iter().map(Endpoint::address).collect();
    assert_eq!((ids.len(), addresses.len()), (endpoints.len(), endpoints.len()));
    for endpoint in endpoints {
        assert!(!endpoint.id().trim().is_empty() && endpoint.address().port() != 0);
    }
}

/// An error is one line that says where and what.
fn helps(bytes: &[u8], error: &FileError) {
    use FileErrorKind::{Duplicate, Empty, Malformed};
    assert!(matches!(error.kind(), Malformed | Duplicate | Empty), "{error}");
    let lines = 1 + bytes.iter().filter(|&&byte| byte == b'\n').count();
    assert!(error.line().is_none_or(|line| (1..=lines).contains(&line)), "{error}");
    assert!(error.kind() == Empty || error.line().is_some(), "{error}");
    assert!(!error.to_string().contains('\n'), "{error:?}");
}

/// The file that lists these. Every character of an id is escaped: none is then special.
fn written(endpoints: &[Endpoint]) -> String {
    let mut text = String::new();
    for endpoint in endpoints {
        let id = endpoint.id().chars().fold(String::new(), |mut id, it| {
            let _ = write!(id, "\\U{:08X}", u32::from(it));
            id
        });
        let address = endpoint.address();
        let _ = write!(text, "[[endpoint]]\nid = \"{id}\"\naddress = \"{address}\"\n");
    }
    text
}

thread_local! {
    static FOLDER: Folder = Folder::new();
}

/// Where the files are written, and who reads them.
struct Folder {
    path: PathBuf,
    runtime: Runtime,
}

impl Folder {
    fn new() -> Self {
        let thread = format!("{:?}", std::thread::current().id());
        let thread: String = thread.chars().filter(char::is_ascii_digit).collect();
        let name = format!("buttress-fuzz-{}-{thread}.toml", std::process::id());
        let path = std::env::temp_dir().join(name);
        let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
        Self { path, runtime }
    }

    fn read(&self, bytes: &[u8]) -> Result<Vec<Endpoint>, FileError> {
        fs::write(&self.path, bytes).expect("the temporary folder can be written to");
        // It says something the first time it is read.
        let first = self.runtime.block_on(File::new(&self.path).next());
        match first.expect("it never ends")? {
            Change::Reset(endpoints) => Ok(endpoints),
            other => panic!("not a whole set: {other:?}"),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
