//! The log of calls.

use std::fmt;

use hubstorage_core::names::BucketName;

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

/// The calls of [`crate::ObjectStore`] and [`crate::CredentialSource`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is the method of the same name")]
pub enum Operation {
    CheckAccess,
    BucketTags,
    LifecycleRules,
    Unclaimed,
    CreateBucket,
    SetBucketTags,
    SetLifecycleRules,
    Assume,
}

impl Operation {
    /// Whether it may change something in the store.
    pub fn is_write(self) -> bool {
        matches!(
            self,
            Self::CreateBucket | Self::SetBucketTags | Self::SetLifecycleRules
        )
    }

    /// The IAM action that it needs first.
    pub fn permission(self) -> &'static str {
        match self {
            Self::CheckAccess | Self::Unclaimed => "s3:ListAllMyBuckets",
            Self::BucketTags => "s3:GetBucketTagging",
            Self::LifecycleRules => "s3:GetLifecycleConfiguration",
            Self::CreateBucket => "s3:CreateBucket",
            Self::SetBucketTags => "s3:PutBucketTagging",
            Self::SetLifecycleRules => "s3:PutLifecycleConfiguration",
            Self::Assume => "sts:AssumeRole",
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.operation)?;
        self.bucket
            .iter()
            .try_for_each(|bucket| write!(f, " {bucket}"))
    }
}
