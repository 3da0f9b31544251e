//! What users care about in a store, asked of each: the rows of the table in `docs/stores.md`.
//!
//! Where HubStorage has a call for it, that call is made; where it has none yet, the SDK's.

mod buckets;
mod iam;
mod lifecycle;
mod sessions;

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use crate::s3::S3World;
use crate::sdk;

/// One question to every store.
pub struct Row {
    /// What is asked, as it stands at the head of the row.
    pub title: &'static str,
    pub observe: Observation,
}

pub type Observation = for<'a> fn(&'a S3World) -> Pin<Box<dyn Future<Output = Finding> + 'a>>;

/// What a store does about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    Yes,
    /// It does, and more is to be said.
    YesAnd(String),
    /// It does not: why.
    No(String),
    /// Something else than yes or no.
    Other(String),
}

impl Finding {
    /// No, for the store's own reason.
    fn refused<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Self {
        if sdk::is_answered(error) {
            return Self::no("the SDK cannot read its answer");
        }
        Self::No(format!("`{}`", code(error)))
    }

    fn no(why: &str) -> Self {
        Self::No(why.into())
    }

    /// Yes, unless what was taken is not what is there.
    fn kept(is_kept: bool) -> Self {
        if is_kept {
            Self::Yes
        } else {
            Self::no("taken and dropped")
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Yes => f.write_str("yes"),
            Self::YesAnd(what) => write!(f, "yes, {what}"),
            Self::No(why) => write!(f, "no: {why}"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

/// The error's code, or the HTTP status of an answer without one.
fn code<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> String {
    let status = || {
        let status = error.raw_response().map(|answer| answer.status().as_u16());
        format!("HTTP {}", status.unwrap_or_default())
    };
    error.code().map_or_else(status, str::to_owned)
}

macro_rules! rows {
    ($($title:literal: $module:ident::$observe:ident,)*) => {
        &[$(Row { title: $title, observe: |world| Box::pin($module::$observe(world)) }),*]
    };
}

pub const ROWS: &[Row] = rows![
    "tags a bucket in the call that creates it": buckets::tags_at_creation,
    "bucket tags": buckets::tags,
    "says whose a taken bucket name is": buckets::owners,
    "checks the expected owner of a bucket": buckets::expected_owner,
    "location of a new bucket; one asked for elsewhere": buckets::location,
    "versioning": buckets::versioning,
    "lists versions and unfinished uploads": buckets::listings,
    "public access block": buckets::public_access_block,
    "bucket policy": buckets::policy,
    "our statement against requests without credentials": buckets::deny_anonymous,
    "access control lists": buckets::access_lists,
    "object ownership `BucketOwnerEnforced`": buckets::ownership,
    "default encryption with AES256": buckets::encryption,
    "lifecycle: expires objects": lifecycle::objects,
    "lifecycle: aborts unfinished uploads": lifecycle::uploads,
    "lifecycle: expires noncurrent versions": lifecycle::noncurrent,
    "lifecycle: removes expired delete markers": lifecycle::markers,
    "lifecycle: rules of others survive": lifecycle::rules_of_others,
    "tells wrong keys from missing rights": sessions::wrong_keys,
    "roles through the IAM API": sessions::roles,
    "refuses a session what others have": sessions::keys_of_others,
    "hides from a session which keys others have": sessions::absent_keys,
    "bulk delete under a session's own prefix": sessions::bulk_delete,
    "what the negative probe says": sessions::probe,
];
