//! Data does not move with an endpoint, nor with keys: at another store or in another account,
//! buckets would be missing, be made anew, and look like a loss.

use hubstorage_core::api::StorageProvider;
use kube::ResourceExt as _;

use super::ConnectError;

/// Refuses a provider whose store, or whose keys' account where that is known, is another one than
/// its status says. The controller keeps both there while hubs have buckets with them, and
/// otherwise lets the next ones take their place.
///
/// # Errors
/// [`ConnectError::OtherStore`] and [`ConnectError::OtherAccount`].
pub fn refuse_moved(provider: &StorageProvider, account: Option<&str>) -> Result<(), ConnectError> {
    let (Some(s3), Some(status)) = (&provider.spec.s3, &provider.status) else {
        return Ok(());
    };
    let store = s3.store();
    if let Some(first) = status.store.as_ref().filter(|first| **first != store) {
        return Err(ConnectError::OtherStore {
            provider: provider.name_any(),
            first: first.clone(),
            now: store,
        });
    }
    match (&status.account, account) {
        (Some(first), Some(account)) if first != account => Err(ConnectError::OtherAccount {
            provider: provider.name_any(),
            store,
            first: first.clone(),
            now: account.to_owned(),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn refused(status: Value, account: Option<&str>) -> Option<String> {
        let provider: StorageProvider = serde_json::from_value(json!({
            "apiVersion": "hubstorage.io/v1alpha1", "kind": "StorageProvider",
            "metadata": {"name": "minio"},
            "spec": {
                "namespaces": {}, "bucketNames": ["*"],
                "s3": {
                    "region": "us-east-1", "endpoint": "https://second.example.org",
                    "credentials": {"type": "Ambient"},
                },
            },
            "status": status,
        }))
        .unwrap();
        let refused = refuse_moved(&provider, account).err()?;
        Some(refused.to_string())
    }

    #[test]
    fn what_was_first_seen_is_named_with_what_is_there_now_and_the_way_out() {
        let status = json!({"store": "https://first.example.org", "account": "abc"});
        let told = refused(status, Some("abc")).unwrap();
        for part in [
            "https://first.example.org",
            "https://second.example.org",
            "Change its spec.s3 back",
        ] {
            assert!(told.contains(part), "{told}");
        }
        let status = json!({"store": "https://second.example.org", "account": "abc"});
        let told = refused(status, Some("xyz")).unwrap();
        for part in [
            "account abc of https://second.example.org",
            "account xyz",
            "keys of the first account",
        ] {
            assert!(told.contains(part), "{told}");
        }
    }

    #[test]
    fn what_is_the_same_or_was_never_seen_is_not_refused() {
        let seen = json!({"store": "https://second.example.org", "account": "abc"});
        let without_account = json!({"store": "https://second.example.org"});
        for (status, account) in [
            (Value::Null, Some("abc")),
            (seen.clone(), Some("abc")),
            (seen, None),
            (without_account, Some("abc")),
        ] {
            assert_eq!(
                refused(status.clone(), account),
                None,
                "{status} {account:?}"
            );
        }
    }
}
