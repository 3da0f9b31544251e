//! A bucket's access control list, as grants to others.

use aws_sdk_s3::operation::get_bucket_acl::GetBucketAclOutput;
use aws_sdk_s3::types::Grantee;
use hubstorage_core::bucket_policy::{Grant, GrantedBy};

/// Everybody, without keys too (Amazon S3 User Guide, "Access control list (ACL) overview", as are the
/// other two).
const ALL_USERS: &str = "http://acs.amazonaws.com/groups/global/AllUsers";

/// Everybody who has keys of whatever account.
const AUTHENTICATED_USERS: &str = "http://acs.amazonaws.com/groups/global/AuthenticatedUsers";

/// Amazon's own service that writes server access logs: nobody who could be a user.
const LOG_DELIVERY: &str = "http://acs.amazonaws.com/groups/s3/LogDelivery";

/// What the list grants to others than the bucket's owner.
pub fn of_others(found: &GetBucketAclOutput) -> Vec<Grant> {
    let owner = found.owner().and_then(|owner| owner.id());
    let grants = found.grants().iter().filter_map(|grant| {
        let principal = match grant.grantee() {
            Some(grantee) => other(grantee, owner)?,
            None => "somebody without a name".to_owned(),
        };
        Some(Grant {
            by: GrantedBy::AccessList,
            principals: vec![principal],
            actions: grant.permission().iter().map(ToString::to_string).collect(),
        })
    });
    grants.collect()
}

/// Who it is, if not the owner.
fn other(grantee: &Grantee, owner: Option<&str>) -> Option<String> {
    match (grantee.uri(), grantee.id(), grantee.email_address()) {
        (Some(ALL_USERS), ..) => Some("*".to_owned()),
        (Some(AUTHENTICATED_USERS), ..) => Some("everybody with keys of any account".to_owned()),
        (Some(LOG_DELIVERY), ..) => None,
        (Some(group), ..) => Some(group.to_owned()),
        (None, Some(id), _) if Some(id) == owner => None,
        // MinIO has no lists, and answers with one grant of an owner without a name to such a user.
        (None, None | Some(""), None) => match owner {
            None | Some("") => None,
            Some(_) => Some("somebody without a name".to_owned()),
        },
        (None, _, Some(address)) => Some(address.to_owned()),
        (None, Some(id), None) => Some(id.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_s3::types::{Grant as S3Grant, Grantee, Owner, Permission, Type};

    use super::*;

    fn user() -> aws_sdk_s3::types::builders::GranteeBuilder {
        Grantee::builder().r#type(Type::CanonicalUser)
    }

    fn group(uri: &str) -> aws_sdk_s3::types::builders::GranteeBuilder {
        Grantee::builder().r#type(Type::Group).uri(uri)
    }

    fn told(owner: &str, grantee: aws_sdk_s3::types::builders::GranteeBuilder) -> Vec<String> {
        let grant = S3Grant::builder()
            .grantee(grantee.build().unwrap())
            .permission(Permission::Read);
        let found = GetBucketAclOutput::builder()
            .owner(Owner::builder().id(owner).build())
            .grants(grant.build())
            .build();
        of_others(&found).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_owner_and_those_who_are_nobodys_users_are_not_others() {
        for own in [user().id("owner"), group(LOG_DELIVERY)] {
            assert_eq!(told("owner", own), [""; 0]);
        }
        for nameless in [user(), user().id("")] {
            assert_eq!(told("", nameless), [""; 0], "as MinIO answers");
        }
    }

    #[test]
    fn others_are_named() {
        let others = [
            (group(ALL_USERS), "*"),
            (
                group(AUTHENTICATED_USERS),
                "everybody with keys of any account",
            ),
            (group("urn:ours"), "urn:ours"),
            (user().id("partner"), "partner"),
            (user(), "somebody without a name"),
            (
                user().email_address("partner@example.org"),
                "partner@example.org",
            ),
        ];
        for (grantee, who) in others {
            let words = format!("the access control list grants READ to {who}");
            assert_eq!(told("owner", grantee), [words]);
        }
    }
}
