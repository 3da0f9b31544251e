//! [`IsolationProbe`] in memory: each call of the probe as the permissions that it takes.

use async_trait::async_trait;
use hubstorage_core::names::{BucketName, Prefix};

use super::MemoryCloud;
use super::policy::Request;
use super::session::Refusal;
use crate::{Credential, IsolationProbe, ProbeVerdict};

/// The negative probe of a cloud in memory.
#[derive(Debug, Clone)]
pub struct MemoryProbe {
    pub(super) cloud: MemoryCloud,
}

/// What a foreign call aims at.
enum Target {
    Object,
    Listing(&'static str),
    Bucket,
}

/// The calls of the probe over S3, by the one permission that a foreign call must not have.
/// Memory has no paths to normalise and no service accounts.
const FOREIGN: &[(&str, &str, Target)] = &[
    ("get", "s3:GetObject", Target::Object),
    ("head", "s3:GetObject", Target::Object),
    ("put", "s3:PutObject", Target::Object),
    ("copy from the other prefix", "s3:GetObject", Target::Object),
    ("copy to the other prefix", "s3:PutObject", Target::Object),
    ("start an upload", "s3:PutObject", Target::Object),
    ("delete", "s3:DeleteObject", Target::Object),
    ("bulk delete", "s3:DeleteObject", Target::Object),
    (
        "list the other prefix",
        "s3:ListBucket",
        Target::Listing("{foreign}/"),
    ),
    (
        "list the other prefix by the older call",
        "s3:ListBucket",
        Target::Listing("{foreign}/"),
    ),
    ("list without prefix", "s3:ListBucket", Target::Listing("")),
    (
        "list the own prefix without slash",
        "s3:ListBucket",
        Target::Listing("{own}"),
    ),
    (
        "list versions",
        "s3:ListBucketVersions",
        Target::Listing("{foreign}/"),
    ),
    (
        "list uploads",
        "s3:ListBucketMultipartUploads",
        Target::Listing("{foreign}/"),
    ),
    ("put a bucket policy", "s3:PutBucketPolicy", Target::Bucket),
    ("assume a role again", "sts:AssumeRole", Target::Bucket),
];

/// The names of the foreign calls.
#[cfg(test)]
pub(crate) fn names() -> Vec<&'static str> {
    FOREIGN.iter().map(|(name, _, _)| *name).collect()
}

#[async_trait]
impl IsolationProbe for MemoryProbe {
    async fn probe(
        &self,
        bucket: &BucketName,
        _: Option<&str>,
        session: &Credential,
        own: &Prefix,
        foreign: &Prefix,
        writes: bool,
    ) -> ProbeVerdict {
        let state = self.cloud.state();
        let token = session.session_token.expose();
        let own_key = format!("{bucket}/{own}/probe");
        let own_listing = format!("{own}/");
        let controls = [
            (
                "get an own key that is not there",
                "s3:GetObject",
                own_key.as_str(),
                None,
            ),
            (
                "list the own prefix",
                "s3:ListBucket",
                bucket.as_str(),
                Some(own_listing.as_str()),
            ),
            ("put an own object", "s3:PutObject", own_key.as_str(), None),
        ];
        for (call, action, resource, prefix) in &controls[..if writes { 3 } else { 2 }] {
            if let Err(refusal) = state.permits(
                token,
                Request {
                    action,
                    resource,
                    prefix: *prefix,
                },
            ) {
                return ProbeVerdict::Unknown {
                    call,
                    cause: format!("{refusal:?}"),
                };
            }
        }
        let foreign_key = format!("{bucket}/{foreign}/probe");
        let mut calls = Vec::new();
        for (name, action, target) in FOREIGN {
            let prefix = match target {
                Target::Listing(form) => Some(
                    form.replace("{foreign}", foreign.as_str())
                        .replace("{own}", own.as_str()),
                ),
                Target::Object | Target::Bucket => None,
            };
            let resource = if matches!(target, Target::Object) {
                foreign_key.as_str()
            } else {
                bucket.as_str()
            };
            let request = Request {
                action,
                resource,
                prefix: prefix.as_deref(),
            };
            if state.permits(token, request) != Err(Refusal::AccessDenied) {
                calls.push(*name);
            }
        }
        if calls.is_empty() {
            ProbeVerdict::Isolated
        } else {
            ProbeVerdict::Leaks { calls }
        }
    }
}
