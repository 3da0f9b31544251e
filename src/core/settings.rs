//! Everything of a bucket that can be declared besides its lifecycle rules.

use std::collections::BTreeSet;
use std::fmt;

use crate::api::{
    Bucket, Capability, Encryption, EncryptionType, InsecureTransport, ObjectOwnership, Origin,
    PublicAccess, Versioning,
};
use crate::bucket_policy::Statement;
use crate::supports::Supports;

/// One setting of a bucket, as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Setting {
    /// The switch that overrides every public grant is on.
    PublicAccessBlock,
    /// Access control lists are without effect.
    BucketOwnerEnforced,
    /// Old versions are kept, or not.
    Versioning(Versioning),
    /// What is written is encrypted in this way.
    Encryption(Encryption),
    /// These are our statements in the bucket's policy, and no others of ours.
    Statements(BTreeSet<Statement>),
}

impl Setting {
    /// What a store needs to be able to do for it.
    pub fn needs(&self) -> Capability {
        match self {
            Self::PublicAccessBlock => Capability::PublicAccessBlock,
            Self::BucketOwnerEnforced => Capability::ObjectOwnership,
            Self::Versioning(_) => Capability::Versioning,
            Self::Encryption(_) => Capability::Encryption,
            Self::Statements(_) => Capability::BucketPolicy,
        }
    }

    /// What it takes to make it so, in one word.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::PublicAccessBlock => "BlockPublicAccess",
            Self::BucketOwnerEnforced => "SetObjectOwnership",
            Self::Versioning(_) => "SetVersioning",
            Self::Encryption(_) => "SetEncryption",
            Self::Statements(_) => "SetBucketPolicy",
        }
    }

    /// Whether there is anything to say of it: no statements of ours in the policy is no news.
    pub fn says_something(&self) -> bool {
        !matches!(self, Self::Statements(ours) if ours.is_empty())
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PublicAccessBlock => f.write_str("block public access"),
            Self::BucketOwnerEnforced => f.write_str("switch access control lists off"),
            Self::Versioning(Versioning::Enabled) => f.write_str("keep old versions"),
            Self::Versioning(Versioning::Suspended) => f.write_str("keep no new versions"),
            Self::Encryption(encryption) => match (encryption.type_, &encryption.kms_key_id) {
                (EncryptionType::KMS, Some(key)) => write!(f, "encrypt with KMS key {key}"),
                (EncryptionType::StoreManaged | EncryptionType::KMS, _) => {
                    f.write_str("encrypt with keys of the store")
                }
            },
            Self::Statements(statements) if statements.is_empty() => {
                f.write_str("take our statements out of the policy")
            }
            Self::Statements(statements) => {
                let words: Vec<String> = statements.iter().map(ToString::to_string).collect();
                f.write_str(&words.join(", "))
            }
        }
    }
}

/// A setting that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deviation {
    /// How it should be.
    pub setting: Setting,
    /// What was found instead, in words.
    pub found: String,
}

/// What a spec says about a bucket's settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeclaredSettings {
    /// `versioning`.
    pub versioning: Option<Versioning>,
    /// `encryption`.
    pub encryption: Option<Encryption>,
    /// `publicAccess`.
    pub public_access: Option<PublicAccess>,
    /// `insecureTransport`.
    pub insecure_transport: Option<InsecureTransport>,
    /// `objectOwnership`.
    pub object_ownership: Option<ObjectOwnership>,
    /// Whether the endpoint has https: without it, refusing requests without TLS would refuse all.
    pub has_tls: bool,
}

impl DeclaredSettings {
    /// What `bucket` says, at an endpoint with or without https.
    pub fn of(bucket: &Bucket, has_tls: bool) -> Self {
        Self {
            versioning: bucket.versioning,
            encryption: bucket.encryption.clone(),
            public_access: bucket.public_access,
            insecure_transport: bucket.insecure_transport,
            object_ownership: bucket.object_ownership,
            has_tls,
        }
    }
}

/// The settings that are kept, split by what the store can do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Settings to keep, in the order in which they are applied.
    pub apply: Vec<Setting>,
    /// Settings that the store cannot do; said in status, never left out silently.
    pub omitted: Vec<Setting>,
}

/// The settings that are kept for a bucket of this origin: what the spec names, and for one that
/// the operator created its defaults too. Of a bucket that others made, what the spec does not
/// name is theirs; of one that others keep, everything is.
pub fn wanted(declared: &DeclaredSettings, origin: Origin, supports: Supports) -> Wanted {
    if origin == Origin::AccessOnly {
        return Wanted::default();
    }
    let is_created = origin == Origin::Created;
    let is_blocked = declared
        .public_access
        .map_or(is_created, |access| access == PublicAccess::Blocked);
    let is_enforced = declared.object_ownership.map_or(is_created, |ownership| {
        ownership == ObjectOwnership::BucketOwnerEnforced
    });
    let needs_tls = declared
        .insecure_transport
        .map_or(is_created && declared.has_tls, |transport| {
            transport == InsecureTransport::Denied
        });

    // Where there is no switch, a statement keeps the public out as well.
    let has_switch = supports.has(Capability::PublicAccessBlock);
    let statements: BTreeSet<Statement> = [
        (is_blocked && !has_switch).then_some(Statement::DenyAnonymous),
        needs_tls.then_some(Statement::DenyInsecureTransport),
    ]
    .into_iter()
    .flatten()
    .collect();
    let settings = [
        (is_blocked && has_switch).then_some(Setting::PublicAccessBlock),
        is_enforced.then_some(Setting::BucketOwnerEnforced),
        declared.versioning.map(Setting::Versioning),
        declared.encryption.clone().map(Setting::Encryption),
        Some(Setting::Statements(statements)),
    ];
    let (apply, omitted): (Vec<Setting>, Vec<Setting>) = settings
        .into_iter()
        .flatten()
        .partition(|setting| supports.has(setting.needs()));
    Wanted {
        apply,
        omitted: omitted
            .into_iter()
            .filter(Setting::says_something)
            .collect(),
    }
}
