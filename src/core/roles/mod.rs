//! The role of a hub: what the sessions of its users are sessions of, where the provider says that the
//! operator makes it.
//!
//! Its trust policy lets one principal assume it, the vending identity; its inline policy is the ceiling
//! of every session: the hub's buckets, and what users may do there at all. A session policy narrows that
//! to one user's prefix ([`crate::policies`]), so that two hubs of one provider are held apart twice. On
//! Amazon two users are, too: sessions are tagged with their user's prefix, and the role's own policy lets
//! them reach no other ([`PREFIX_TAG`]). A permissions boundary, where there is one, holds even against
//! whoever may edit the role.

mod plan;

use std::collections::BTreeSet;

use serde_json::{Value, json};

pub use plan::{RoleAction, RoleChange, RolePlan, plan_removal, plan_role};

use crate::api::{HubStorage, OWNER_TAG, RoleManagement, StorageProvider};
use crate::names::{RoleName, fingerprint, is_arn_of_ours};
use crate::plan::Owner;
use crate::policies::{Ceiling, Reach, ceiling, ceiling_by_tag};

/// The name of our inline policy; policies of other names are somebody else's.
pub const ROLE_POLICY: &str = "hubstorage";

/// The session tag with the prefix of the user whose session it is, on Amazon.
pub const PREFIX_TAG: &str = "hubstorage-prefix";

/// A role as the provider and the hub want it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredRole {
    /// Its name.
    pub name: RoleName,
    /// Whose it is: the value of its owner tag.
    pub owner: Owner,
    /// ARN of who may assume it.
    pub trusted: String,
    /// ARN of its permissions boundary; none where the spec leaves it alone.
    pub boundary: Option<String>,
    /// What its sessions reach at most; never empty.
    pub ceiling: Ceiling,
    /// What of it is somebody's beside prefixes of users' own.
    pub shared: BTreeSet<Reach>,
    /// Where it is.
    pub home: RoleHome,
}

/// Whose IAM keeps a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleHome {
    /// Amazon's.
    Amazon,
    /// That of a compatible.
    Compatible,
}

impl DeclaredRole {
    /// The tag that makes it ours.
    pub fn tag(&self) -> (&'static str, String) {
        (OWNER_TAG, self.owner.to_string())
    }

    /// The trust policy, as compact JSON.
    pub fn trust(&self) -> String {
        let mut statement = json!({
            "Effect": "Allow",
            "Principal": {"AWS": [self.trusted]},
            "Action": ["sts:AssumeRole"],
        });
        match self.home {
            // To Ceph RGW a session is also the user who asked for it, so that it could assume the role
            // once more, without its policy. Only sessions have such an id there (measured with 16.2.15;
            // on Amazon everybody has one).
            RoleHome::Compatible => {
                statement["Condition"] = json!({"Null": {"aws:userid": ["true"]}});
            }
            // A session without the tag is none of ours. Other tags may come along: those of EKS Pod Identity
            // are passed on to every role that is assumed with its sessions.
            RoleHome::Amazon => {
                statement["Action"] = json!(["sts:AssumeRole", "sts:TagSession"]);
                let is_missing = format!("aws:RequestTag/{PREFIX_TAG}");
                statement["Condition"] = json!({"Null": {is_missing: ["false"]}});
            }
        }
        json!({"Version": "2012-10-17", "Statement": [statement]}).to_string()
    }

    /// The inline policy, as compact JSON: Ceph RGW rejects a policy that contains spaces.
    pub fn policy(&self) -> String {
        match self.home {
            RoleHome::Compatible => ceiling(&self.ceiling),
            RoleHome::Amazon => ceiling_by_tag(&self.ceiling, PREFIX_TAG, &self.shared),
        }
    }

    /// What is to be kept, in brief: another digest wherever anything else is declared.
    pub fn digest(&self) -> String {
        let declared = json!([
            self.name.as_str(),
            self.trust(),
            self.policy(),
            self.boundary
        ]);
        fingerprint(declared.to_string().as_bytes())
    }
}

/// A role as the store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundRole {
    /// Its ARN.
    pub arn: String,
    /// What tells it from every other role that has had or will have its name.
    pub id: String,
    /// The value of its owner tag.
    pub owner: Option<String>,
    /// Its trust policy; null where it cannot be read.
    pub trust: Value,
    /// Our inline policy; null where it is not there or cannot be read.
    pub policy: Value,
    /// ARN of its permissions boundary.
    pub boundary: Option<String>,
}

/// The role that the sessions of a hub's users are of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionRole {
    /// Its ARN.
    pub arn: String,
    /// The store's own id of it, where the operator makes it.
    pub id: Option<String>,
    /// Whether it wants sessions to be tagged with the prefix of their user.
    pub is_tagged: bool,
}

/// The role of a hub is not there yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoleMissing;

/// The role that the sessions of a hub's users are of; none where its provider has none.
///
/// # Errors
/// [`RoleMissing`] where the operator makes it, and status does not tell of one at the store that the
/// provider points to now.
pub fn session_role(
    hub: &HubStorage,
    provider: &StorageProvider,
) -> Result<Option<SessionRole>, RoleMissing> {
    let Some(role) = provider.vending_role() else {
        return Ok(None);
    };
    match role.management {
        RoleManagement::None => Ok(None),
        RoleManagement::Given => {
            let given = role.arn.clone();
            // Whether its trust policy allows tags is not known.
            Ok(given.map(|arn| SessionRole {
                arn,
                id: None,
                is_tagged: false,
            }))
        }
        RoleManagement::Managed => {
            let made = hub.status.as_ref().and_then(|status| status.role.as_ref());
            let store = provider.spec.s3.as_ref().map(|s3| s3.store());
            let made = made.filter(|made| Some(&made.store) == store.as_ref());
            let made = made.and_then(|made| Some((made.arn.clone()?, made.id.clone()?)));
            // Whoever may write status is not to have any other role assumed.
            let (arn, id) = made
                .filter(|(arn, _)| is_arn_of_ours(arn))
                .ok_or(RoleMissing)?;
            let s3 = provider.spec.s3.as_ref();
            Ok(Some(SessionRole {
                arn,
                id: Some(id),
                is_tagged: s3.is_some_and(|s3| s3.endpoint.is_none()),
            }))
        }
    }
}

/// What is remembered of a role from the last reconcile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RememberedRole {
    /// The id that it had; none while it was not seen.
    pub id: Option<String>,
    /// Digest of what was declared when it was last fully applied.
    pub digest: Option<String>,
}
