//! From a role as it is declared and found to what should be done. Pure.

use std::fmt;

use serde_json::Value;

use super::{DeclaredRole, FoundRole, RememberedRole};
use crate::api::{OWNER_TAG, Reason};
use crate::names::{ROLE_PATH, RoleName, is_arn_of_ours};
use crate::plan::{Cause, Deed, Owner, Refusal};
use crate::statements;

/// What is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RoleChange {
    /// The role is made, with trust policy, boundary and tag in one call.
    Create {
        /// Who may assume it.
        trusted: String,
    },
    /// The owner tag is put back.
    Tag,
    /// The trust policy is set.
    SetTrust {
        /// Who may assume it.
        trusted: String,
    },
    /// The inline policy is set.
    SetPolicy {
        /// The buckets that its sessions reach at most.
        buckets: Vec<String>,
    },
    /// The permissions boundary is set.
    SetBoundary {
        /// Its ARN.
        boundary: String,
    },
    /// The role goes.
    Delete,
}

/// One external call on a role, safe to repeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleAction {
    /// The role.
    pub role: RoleName,
    /// What is changed.
    pub change: RoleChange,
    /// Why.
    pub cause: Cause,
}

/// What to do about a hub's role.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RolePlan {
    /// What to do, in this order; nothing on a steady role.
    pub actions: Vec<RoleAction>,
    /// Why nothing may be done. Then `actions` is empty.
    pub refusal: Option<Refusal>,
}

/// What to do about a role that is to be there.
pub fn plan_role(
    declared: &DeclaredRole,
    found: Option<&FoundRole>,
    remembered: &RememberedRole,
) -> RolePlan {
    let cause = match remembered.digest == Some(declared.digest()) {
        true => Cause::Drift,
        false => Cause::Declared,
    };
    let mut changes = Vec::new();
    let set_policy = || RoleChange::SetPolicy {
        buckets: declared.ceiling.iter().map(ToString::to_string).collect(),
    };
    let trusted = declared.trusted.clone();
    match found {
        None => {
            changes.push(RoleChange::Create { trusted });
            changes.push(set_policy());
        }
        Some(found) => {
            if let Err(refusal) = stand(found, &declared.name, &declared.owner, remembered) {
                return RolePlan {
                    refusal: Some(refusal),
                    ..RolePlan::default()
                };
            }
            // What limits goes first: the managing identity may change nothing in a role without the
            // boundary, and a principal that IAM does not take is to stop nothing else.
            let boundary = declared.boundary.clone();
            if let Some(boundary) =
                boundary.filter(|declared| found.boundary.as_ref() != Some(declared))
            {
                changes.push(RoleChange::SetBoundary { boundary });
            }
            if !is(&found.policy, &declared.policy()) {
                changes.push(set_policy());
            }
            if !is(&found.trust, &declared.trust()) {
                changes.push(RoleChange::SetTrust { trusted });
            }
            if found.owner.is_none() {
                changes.push(RoleChange::Tag);
            }
        }
    }
    let action = |change| RoleAction {
        role: declared.name.clone(),
        change,
        cause,
    };
    RolePlan {
        actions: changes.into_iter().map(action).collect(),
        refusal: None,
    }
}

/// What to do about a role that is not to be there any more: one of somebody else is not ours to
/// delete, and nothing that anybody waits for.
pub fn plan_removal(
    name: &RoleName,
    owner: &Owner,
    found: Option<&FoundRole>,
    remembered: &RememberedRole,
) -> RolePlan {
    let is_ours = found.is_some_and(|found| stand(found, name, owner, remembered).is_ok());
    let delete = RoleAction {
        role: name.clone(),
        change: RoleChange::Delete,
        cause: Cause::Declared,
    };
    RolePlan {
        actions: is_ours.then_some(delete).into_iter().collect(),
        refusal: None,
    }
}

/// Whether a role is ours: it bears our tag, or is the very one that bore it and lost it.
fn stand(
    found: &FoundRole,
    name: &RoleName,
    owner: &Owner,
    remembered: &RememberedRole,
) -> Result<(), Refusal> {
    if !is_arn_of_ours(&found.arn) {
        return Err(Refusal {
            reason: Reason::RoleOwnedByOthers,
            message: format!(
                "role {name} exists as {}, outside the path {ROLE_PATH}; it is left as it is, and nothing is vended. \
                 Delete it",
                found.arn
            ),
        });
    }
    let whose = match &found.owner {
        Some(tag) if *tag == owner.to_string() => return Ok(()),
        None if remembered.id.as_ref() == Some(&found.id) => return Ok(()),
        Some(other) => format!("its tag {OWNER_TAG} names {other}"),
        None => format!("it bears no tag {OWNER_TAG}"),
    };
    Err(Refusal {
        reason: Reason::RoleOwnedByOthers,
        message: format!(
            "role {name} exists and {whose}; it is left as it is, and nothing is vended. Delete it, or, if it is yours to \
             give, set its tag {OWNER_TAG} to {owner}"
        ),
    })
}

fn is(found: &Value, declared: &str) -> bool {
    serde_json::from_str(declared).is_ok_and(|declared| statements::are_same(found, &declared))
}

impl Deed for RoleAction {
    fn verb(&self) -> &'static str {
        match self.change {
            RoleChange::Create { .. } => "CreateRole",
            RoleChange::Tag => "TagRole",
            RoleChange::SetTrust { .. } => "SetRoleTrustPolicy",
            RoleChange::SetPolicy { .. } => "SetRolePolicy",
            RoleChange::SetBoundary { .. } => "SetRolePermissionsBoundary",
            RoleChange::Delete => "DeleteRole",
        }
    }

    fn reason(&self) -> Reason {
        match (&self.change, self.cause) {
            (RoleChange::Delete, _) => Reason::RoleDeleted,
            (RoleChange::Tag, _) | (_, Cause::Drift) => Reason::DriftCorrected,
            (RoleChange::Create { .. }, _) => Reason::RoleCreated,
            _ => Reason::RoleConfigured,
        }
    }

    fn object(&self) -> (&'static str, &str) {
        ("Role", self.role.as_str())
    }
}

impl fmt::Display for RoleAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { role, change, .. } = self;
        match change {
            RoleChange::Create { trusted } => {
                write!(f, "create role {role}, which {trusted} may assume")?
            }
            RoleChange::Tag => {
                return write!(f, "mark role {role} with the owner tag; found it without");
            }
            RoleChange::SetTrust { trusted } => {
                write!(f, "let {trusted} and nobody else assume role {role}")?;
            }
            RoleChange::SetPolicy { buckets } => {
                write!(
                    f,
                    "limit role {role} to users' access in {}",
                    buckets.join(", ")
                )?;
            }
            RoleChange::SetBoundary { boundary } => {
                write!(
                    f,
                    "set the permissions boundary of role {role} to {boundary}"
                )?;
            }
            RoleChange::Delete => return write!(f, "delete role {role}"),
        }
        match (self.cause, change) {
            (Cause::Declared, _) => Ok(()),
            (Cause::Drift, RoleChange::Create { .. }) => f.write_str("; found it gone"),
            (Cause::Drift, _) => f.write_str("; found it changed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    use crate::names::{BucketName, SharedPrefix};
    use crate::policies::{Access, Place, Reach};
    use crate::roles::RoleHome;
    use serde_json::json;

    const VENDING: &str = "arn:aws:iam::123456789012:role/hubstorage-serve";
    const BOUNDARY: &str = "arn:aws:iam::123456789012:policy/hubstorage-users";

    fn declared() -> DeclaredRole {
        let bucket = BucketName::parse("earth-scratch").unwrap();
        DeclaredRole {
            name: RoleName::derive("installation", "earth", "earth"),
            owner: Owner {
                installation: "installation".into(),
                namespace: "earth".into(),
                name: "earth".into(),
            },
            trusted: VENDING.into(),
            boundary: Some(BOUNDARY.into()),
            ceiling: [bucket].into(),
            shared: BTreeSet::new(),
            home: RoleHome::Amazon,
        }
    }

    fn found() -> FoundRole {
        let declared = declared();
        FoundRole {
            arn: format!(
                "arn:aws:iam::123456789012:role/hubstorage/{}",
                declared.name
            ),
            id: "AROA1".into(),
            owner: Some(declared.owner.to_string()),
            trust: serde_json::from_str(&declared.trust()).unwrap(),
            policy: serde_json::from_str(&declared.policy()).unwrap(),
            boundary: Some(BOUNDARY.into()),
        }
    }

    fn settled() -> RememberedRole {
        RememberedRole {
            id: Some("AROA1".into()),
            digest: Some(declared().digest()),
        }
    }

    fn verbs(plan: &RolePlan) -> Vec<(&'static str, Reason)> {
        let told = |action: &RoleAction| (action.verb(), action.reason());
        plan.actions.iter().map(told).collect()
    }

    #[test]
    fn a_role_that_is_not_there_is_made_and_limited() {
        let plan = plan_role(&declared(), None, &RememberedRole::default());
        let made = [
            ("CreateRole", Reason::RoleCreated),
            ("SetRolePolicy", Reason::RoleConfigured),
        ];
        assert_eq!(verbs(&plan), made);
    }

    #[test]
    fn a_role_as_declared_is_left_alone_however_its_documents_are_spelled() {
        let mut found = found();
        assert_eq!(
            plan_role(&declared(), Some(&found), &settled()),
            RolePlan::default()
        );
        let statement = &mut found.trust["Statement"][0];
        statement["Principal"] = json!({"AWS": VENDING});
        statement["Action"] = json!(["sts:TagSession", "sts:AssumeRole"]);
        statement["Condition"]["Null"] = json!({"aws:requesttag/hubstorage-prefix": false});
        assert_eq!(
            plan_role(&declared(), Some(&found), &settled()),
            RolePlan::default()
        );
    }

    #[test]
    fn whatever_was_changed_is_drift_and_put_back() {
        let trusted_by_others = |found: &mut FoundRole| {
            found.trust["Statement"][0]["Principal"] = json!({"AWS": ["*"]});
        };
        let widened = |found: &mut FoundRole| {
            found.policy["Statement"][0]["Resource"] = "arn:aws:s3:::*".into();
        };
        type Change = fn(&mut FoundRole);
        let changes: [(Change, &str); 5] = [
            (trusted_by_others, "SetRoleTrustPolicy"),
            (widened, "SetRolePolicy"),
            (|found| found.policy = Value::Null, "SetRolePolicy"),
            (|found| found.boundary = None, "SetRolePermissionsBoundary"),
            (|found| found.owner = None, "TagRole"),
        ];
        for (change, verb) in changes {
            let mut found = found();
            change(&mut found);
            let plan = plan_role(&declared(), Some(&found), &settled());
            assert_eq!(verbs(&plan), [(verb, Reason::DriftCorrected)]);
        }
    }

    #[test]
    fn at_a_compatible_no_session_may_assume_the_role_again() {
        let trust = |home| DeclaredRole { home, ..declared() }.trust();
        let condition = r#""Condition":{"Null":{"aws:userid":["true"]}}"#;
        assert!(trust(RoleHome::Compatible).contains(condition));
        assert!(!trust(RoleHome::Amazon).contains("aws:userid"));
    }

    #[test]
    fn on_amazon_a_session_needs_the_tag_of_its_users_prefix() {
        let trust: Value = serde_json::from_str(&declared().trust()).unwrap();
        let statement = &trust["Statement"][0];
        let actions = json!(["sts:AssumeRole", "sts:TagSession"]);
        assert_eq!(statement["Action"], actions);
        let conditions = json!({"Null": {"aws:RequestTag/hubstorage-prefix": ["false"]}});
        assert_eq!(statement["Condition"], conditions);
    }

    #[test]
    fn on_amazon_the_role_itself_holds_a_session_to_its_tags_prefix_and_to_what_is_shared() {
        let bucket = BucketName::parse("earth-scratch").unwrap();
        let reach = |place, access| Reach {
            bucket: bucket.clone(),
            place,
            access,
        };
        let shared = SharedPrefix::parse("_groups/ocean").unwrap();
        let role = DeclaredRole {
            shared: [
                reach(Place::Shared(shared), Access::ReadWrite),
                reach(Place::Whole, Access::ReadOnly),
            ]
            .into(),
            ..declared()
        };
        let of = |role: &DeclaredRole| serde_json::from_str::<Value>(&role.policy()).unwrap();
        let own = json!("arn:aws:s3:::earth-scratch/${aws:PrincipalTag/hubstorage-prefix}/*");

        let alone = of(&declared());
        assert_eq!(alone["Statement"][0]["Resource"], json!([own]));
        let listed =
            json!({"StringLike": {"s3:prefix": ["${aws:PrincipalTag/hubstorage-prefix}/*"]}});
        assert_eq!(alone["Statement"][1]["Condition"], listed);
        assert_eq!(alone["Statement"].as_array().unwrap().len(), 3);

        let with = of(&role);
        let written = json!(["arn:aws:s3:::earth-scratch/_groups/ocean/*"]);
        assert_eq!(with["Statement"][1]["Resource"], written);
        let read = (
            json!(["s3:GetObject"]),
            json!(["arn:aws:s3:::earth-scratch/*"]),
        );
        let statement = &with["Statement"][2];
        assert_eq!(
            (statement["Action"].clone(), statement["Resource"].clone()),
            read
        );
        let listings: Vec<&Value> = with["Statement"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|statement| statement["Action"] == json!(["s3:ListBucket"]))
            .map(|statement| &statement["Condition"]["StringLike"]["s3:prefix"])
            .collect();
        let ocean = json!(["_groups/ocean/*"]);
        assert_eq!(listings[1..], [&ocean, &Value::Null]);
    }

    #[test]
    fn what_the_spec_changed_is_no_drift() {
        let mut wanted = declared();
        wanted.trusted = "arn:aws:iam::123456789012:role/other".into();
        let plan = plan_role(&wanted, Some(&found()), &settled());
        assert_eq!(
            verbs(&plan),
            [("SetRoleTrustPolicy", Reason::RoleConfigured)]
        );
    }

    #[test]
    fn a_boundary_that_nobody_declared_is_left_alone() {
        let mut wanted = declared();
        wanted.boundary = None;
        assert_eq!(plan_role(&wanted, Some(&found()), &settled()).actions, []);
    }

    #[test]
    fn a_role_of_others_is_neither_changed_nor_deleted() {
        for owner in [Some("installation/earth/other".to_owned()), None] {
            let found = FoundRole {
                owner,
                id: "AROA2".into(),
                ..found()
            };
            let plan = plan_role(&declared(), Some(&found), &settled());
            let refusal = plan.refusal.unwrap();
            assert_eq!(refusal.reason, Reason::RoleOwnedByOthers);
            assert!(refusal.message.contains("installation/earth/earth"));
            let DeclaredRole { name, owner, .. } = declared();
            let removal = plan_removal(&name, &owner, Some(&found), &settled());
            assert_eq!(removal, RolePlan::default());
        }
    }

    #[test]
    fn a_role_at_another_path_is_never_ours() {
        let found = FoundRole {
            arn: format!("arn:aws:iam::123456789012:role/{}", declared().name),
            ..found()
        };
        let refusal = plan_role(&declared(), Some(&found), &settled()).refusal;
        assert_eq!(refusal.unwrap().reason, Reason::RoleOwnedByOthers);
    }

    #[test]
    fn what_limits_the_role_is_set_first() {
        let mut found = found();
        found.trust = Value::Null;
        found.policy = Value::Null;
        found.boundary = None;
        found.owner = None;
        let plan = plan_role(&declared(), Some(&found), &settled());
        let order: Vec<&str> = plan.actions.iter().map(Deed::verb).collect();
        let wanted = [
            "SetRolePermissionsBoundary",
            "SetRolePolicy",
            "SetRoleTrustPolicy",
            "TagRole",
        ];
        assert_eq!(order, wanted);
    }

    #[test]
    fn ours_is_deleted_also_where_its_tag_was_taken_away() {
        let DeclaredRole { name, owner, .. } = declared();
        for tag in [Some(owner.to_string()), None] {
            let found = FoundRole {
                owner: tag,
                ..found()
            };
            let removal = plan_removal(&name, &owner, Some(&found), &settled());
            assert_eq!(verbs(&removal), [("DeleteRole", Reason::RoleDeleted)]);
        }
        assert_eq!(plan_removal(&name, &owner, None, &settled()).actions, []);
    }
}
