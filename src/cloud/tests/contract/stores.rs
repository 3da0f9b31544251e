//! The stores that are reached over S3, each with where it differs from others.

use hubstorage_core::api::Capability;
use hubstorage_core::names::BucketName;
use hubstorage_core::supports::Supports;

use crate::world::{Others, Sessions, Traits, WrongKeys};

/// A store that is reached over S3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Store {
    /// What it is called, also at the head of its column in `docs/stores.md`.
    pub name: &'static str,
    /// What its environment variables are called: `HUBSTORAGE_<variable>_ENDPOINT`.
    pub variable: &'static str,
    /// The region that is signed, and that a bucket's location is to be.
    pub region: &'static str,
    /// Who makes the buckets of others.
    pub stranger: Stranger,
    /// How long a day of a lifecycle rule lasts here.
    pub day: Day,
    /// Whose sessions a role is for that the suite makes, as a principal.
    pub vending_principal: &'static str,
    /// Somebody else.
    pub other_principal: &'static str,
}

/// Who makes the buckets of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stranger {
    /// The managing user itself: its name on a bucket tells nothing.
    SameUser,
    /// A user with keys of its own.
    OtherUser,
    /// A session of this role of another account.
    OtherAccount(&'static str),
}

/// How long a day of a lifecycle rule lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Day {
    /// Seconds: what expires is seen to.
    Short,
    /// A day, so that rules are read back and not waited for.
    Whole,
}

pub const MINIO: Store = Store {
    name: "MinIO",
    variable: "MINIO",
    region: "us-east-1",
    stranger: Stranger::SameUser,
    day: Day::Whole,
    vending_principal: "arn:aws:iam:::user/hubstorage-vend",
    other_principal: "arn:aws:iam:::user/hubstorage-manage",
};

pub const RGW: Store = Store {
    name: "Ceph RGW",
    variable: "RGW",
    // Its location constraints are names of zone groups, and this region stands for none.
    region: "us-east-1",
    stranger: Stranger::OtherUser,
    day: Day::Short,
    vending_principal: "arn:aws:iam:::user/hubstorage-vend",
    other_principal: "arn:aws:iam:::user/hubstorage-manage",
};

pub const MOTO: Store = Store {
    name: "moto",
    variable: "MOTO",
    // As everywhere on AWS but in us-east-1, a bucket has to name it.
    region: "us-west-2",
    stranger: Stranger::OtherAccount("arn:aws:iam::111111111111:role/stranger"),
    day: Day::Whole,
    vending_principal: "arn:aws:iam::123456789012:user/hubstorage-vend",
    other_principal: "arn:aws:iam::123456789012:user/hubstorage-manage",
};

pub const ALL: [&Store; 3] = [&MINIO, &RGW, &MOTO];

impl Store {
    /// Where it differs from others.
    pub fn traits(&self) -> Traits {
        let as_on_aws = Traits {
            supports: Supports::ALL,
            creates_again: false,
            others: Others::Refused,
            wrong_keys: WrongKeys::Rejected,
            sessions: Sessions::AS_ON_AWS,
            access_lists: true,
            line_breaks_in_keys: true,
            refused_name: None,
        };
        match *self {
            MINIO => Traits {
                supports: Supports::ALL
                    .without(Capability::AbortIncompleteUploads)
                    .without(Capability::Transitions)
                    .without(Capability::PublicAccessBlock)
                    .without(Capability::ObjectOwnership)
                    // The platform's has no key management service.
                    .without(Capability::Encryption)
                    .without(Capability::Roles),
                others: Others::Shared,
                access_lists: false,
                refused_name: Some(BucketName::parse("minio").unwrap()),
                ..as_on_aws
            },
            RGW => Traits {
                supports: Supports::ALL
                    // It is there, but its state cannot be read back.
                    .without(Capability::PublicAccessBlock)
                    .without(Capability::ObjectOwnership)
                    .without(Capability::Encryption),
                creates_again: true,
                // So it is while `rgw s3 auth use sts` is on and sessions are tried first, which
                // is the default order.
                wrong_keys: WrongKeys::Denied,
                sessions: Sessions::Held {
                    bulk_delete: false,
                    tells_absent_keys: true,
                },
                ..as_on_aws
            },
            _ => Traits {
                // Its state cannot be read while nobody has ever set it.
                supports: Supports::ALL.without(Capability::Versioning),
                others: Others::Unlisted,
                line_breaks_in_keys: false,
                wrong_keys: WrongKeys::Taken,
                sessions: Sessions::NotHeld,
                ..as_on_aws
            },
        }
    }
}
