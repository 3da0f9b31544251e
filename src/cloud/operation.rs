//! The calls of a store, by name.

use strum::Display;

/// The calls of [`crate::ObjectStore`], [`crate::RoleStore`] and [`crate::CredentialSource`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Display)]
#[strum(serialize_all = "snake_case")]
#[expect(missing_docs, reason = "each is the method of the same name")]
pub enum Operation {
    CheckAccess,
    BucketTags,
    LifecycleRules,
    BucketPolicy,
    AccessList,
    Deviation,
    Created,
    Unclaimed,
    CreateBucket,
    SetBucketTags,
    SetLifecycleRules,
    ApplySetting,
    Contents,
    EmptySome,
    DeleteBucket,
    Role,
    CreateRole,
    ChangeRole,
    DeleteRole,
    Assume,
}

impl Operation {
    /// Whether it may change something in the store.
    pub fn is_write(self) -> bool {
        matches!(
            self,
            Self::CreateBucket
                | Self::SetBucketTags
                | Self::SetLifecycleRules
                | Self::ApplySetting
                | Self::EmptySome
                | Self::DeleteBucket
                | Self::CreateRole
                | Self::ChangeRole
                | Self::DeleteRole
        )
    }

    /// The IAM action that it needs first.
    pub fn permission(self) -> &'static str {
        match self {
            Self::CheckAccess | Self::Unclaimed | Self::Created => "s3:ListAllMyBuckets",
            Self::BucketPolicy => "s3:GetBucketPolicy",
            Self::AccessList => "s3:GetBucketAcl",
            // One permission for each setting; this one stands for all of them here.
            Self::Deviation => "s3:GetBucketVersioning",
            Self::ApplySetting => "s3:PutBucketVersioning",
            Self::BucketTags => "s3:GetBucketTagging",
            Self::LifecycleRules => "s3:GetLifecycleConfiguration",
            Self::CreateBucket => "s3:CreateBucket",
            Self::SetBucketTags => "s3:PutBucketTagging",
            Self::SetLifecycleRules => "s3:PutLifecycleConfiguration",
            Self::Contents => "s3:ListBucketVersions",
            Self::EmptySome => "s3:DeleteObjectVersion",
            Self::DeleteBucket => "s3:DeleteBucket",
            Self::Role => "iam:GetRole",
            Self::CreateRole => "iam:CreateRole",
            // One permission for each part; this one stands for all of them here.
            Self::ChangeRole => "iam:PutRolePolicy",
            Self::DeleteRole => "iam:DeleteRole",
            Self::Assume => "sts:AssumeRole",
        }
    }
}
