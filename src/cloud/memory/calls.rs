//! The log of calls.

use std::fmt;

use hubstorage_core::names::BucketName;

use crate::Operation;

/// One call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Who called.
    pub account: String,
    /// What was called.
    pub operation: Operation,
    /// On which bucket; `None` where the call is about none.
    pub bucket: Option<BucketName>,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.operation)?;
        self.bucket
            .iter()
            .try_for_each(|bucket| write!(f, " {bucket}"))
    }
}
