//! What the API server said, in its own words and in one line.

use std::fmt;
use std::time::Duration;

/// When to look again at an object that has changed since it was read. The watch brings the
/// newer one sooner than this; if it already has, this does.
pub const OUTDATED: Duration = Duration::from_secs(1);

/// A request to the API server that failed.
#[derive(Debug)]
pub struct ApiFailure(kube::Error);

impl ApiFailure {
    /// Whether the object has changed since it was read, or is gone. Every write of ours names
    /// the version that it was made from, so that nothing is written from an old view.
    pub fn is_outdated(&self) -> bool {
        matches!(&self.0, kube::Error::Api(status) if status.is_conflict() || status.is_not_found())
    }
}

impl From<kube::Error> for ApiFailure {
    fn from(error: kube::Error) -> Self {
        Self(error)
    }
}

impl fmt::Display for ApiFailure {
    /// kube shows the whole `Status`; its message is what a reader needs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            kube::Error::Api(status) => f.write_str(&status.message),
            other => other.fmt(f),
        }
    }
}

impl std::error::Error for ApiFailure {}
