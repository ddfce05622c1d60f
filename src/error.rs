//! What errors are between layers: boxed, concrete inside, found by walking the sources.

use std::error::Error as StdError;

/// The error of every service here: the layers' own small errors and whatever came from below.
pub type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// Finds the first error of type `E` in `error` and the sources beneath it.
///
/// ```
/// use buttress::{BoxError, find};
///
/// let error: BoxError = std::io::Error::from(std::io::ErrorKind::ConnectionRefused).into();
/// let io = find::<std::io::Error>(&*error).expect("it is one");
/// assert_eq!(io.kind(), std::io::ErrorKind::ConnectionRefused);
/// ```
#[must_use]
pub fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    sources(error).find_map(|error| error.downcast_ref())
}

/// `error` and the sources beneath it, outermost first.
pub(crate) fn sources<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error: &&'a (dyn StdError + 'static)| error.source())
}
