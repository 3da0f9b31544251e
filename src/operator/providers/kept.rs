//! Connections that are kept, until what they were made from changes.

use std::time::Duration;

use hubstorage_core::api::StorageProvider;
use kube::ResourceExt as _;
use moka::future::Cache;
use moka::ops::compute::Op;

use super::ConnectError;

/// Connections that nobody asked for in this time are dropped: their provider is gone, or they
/// are made again.
pub(super) const IDLE: Duration = Duration::from_secs(60 * 60);

/// What is known of an identity's keys without reading them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Current {
    /// There is nothing to read.
    Ambient,
    /// The Secret is in this version.
    Version(String),
    /// No Secret was seen: reading it will tell.
    Unknown,
}

/// What a connection was made from; another value means another connection.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Basis {
    provider_generation: i64,
    secret_version: Option<String>,
}

impl Basis {
    fn is(&self, generation: i64, current: &Current) -> bool {
        let same_keys = match current {
            Current::Ambient => self.secret_version.is_none(),
            Current::Version(version) => self.secret_version.as_ref() == Some(version),
            Current::Unknown => false,
        };
        same_keys && self.provider_generation == generation
    }
}

/// One connection for each provider, until what it was made from changes. While one provider's is
/// made, only those who want that one wait.
pub(super) struct Kept<T> {
    by_provider: Cache<String, (Basis, T)>,
}

impl<T: Clone + Send + Sync + 'static> Default for Kept<T> {
    fn default() -> Self {
        Self {
            by_provider: Cache::builder().time_to_idle(IDLE).build(),
        }
    }
}

impl<T: Clone + Send + Sync + 'static> Kept<T> {
    /// The connection that is kept, or a new one: `make` reads the keys, and tells the version of
    /// the Secret that it read.
    pub async fn get_or_make(
        &self,
        provider: &StorageProvider,
        current: Current,
        make: impl AsyncFnOnce() -> Result<(Option<String>, T), ConnectError>,
    ) -> Result<T, ConnectError> {
        let provider_generation = provider.metadata.generation.unwrap_or_default();
        let is_current = |basis: &Basis| basis.is(provider_generation, &current);
        let uid = provider.uid().unwrap_or_default();
        if let Some((made_from, connection)) = self.by_provider.get(&uid).await
            && is_current(&made_from)
        {
            return Ok(connection);
        }
        let mut made = None;
        // It asks again: somebody else may have made it meanwhile.
        let outcome = self
            .by_provider
            .entry(uid)
            .and_try_compute_with::<_, _, ConnectError>(async |kept| {
                let kept = kept.map(|entry| entry.into_value());
                if let Some((made_from, connection)) = kept
                    && is_current(&made_from)
                {
                    made = Some(connection);
                    return Ok(Op::Nop);
                }
                let (secret_version, connection) = make().await?;
                made = Some(connection.clone());
                let basis = Basis {
                    provider_generation,
                    secret_version,
                };
                Ok(Op::Put((basis, connection)))
            });
        outcome.await?;
        // Both ways through set it.
        made.ok_or_else(|| ConnectError::Invalid {
            provider: provider.name_any(),
            problem: "no connection was made".into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::sync::Barrier;

    use super::*;

    fn provider(uid: &str, generation: i64) -> StorageProvider {
        let secret = json!({"type": "Secret", "secretRef": {"name": "minio"}});
        serde_json::from_value(json!({
            "apiVersion": "hubstorage.io/v1alpha1", "kind": "StorageProvider",
            "metadata": {"name": uid, "uid": uid, "generation": generation},
            "spec": {
                "namespaces": {}, "bucketNames": ["*"],
                "s3": {"region": "us-east-1", "credentials": secret},
            },
        }))
        .unwrap()
    }

    /// What is given out while the watch sees this version, and a new connection would read
    /// that one.
    async fn ask(
        kept: &Kept<&'static str>,
        provider: &StorageProvider,
        seen: Option<&str>,
        read: (&str, &'static str),
    ) -> &'static str {
        let current = seen.map_or(Current::Unknown, |seen| Current::Version(seen.to_owned()));
        let (version, made) = read;
        let make = async || Ok((Some(version.to_owned()), made));
        kept.get_or_make(provider, current, make).await.unwrap()
    }

    #[tokio::test]
    async fn a_connection_is_kept_until_the_spec_or_the_secret_changes() {
        let kept = Kept::default();
        let (old, new) = (provider("a", 1), provider("a", 2));
        let at = |version, made| (version, made);
        assert_eq!(ask(&kept, &old, Some("7"), at("7", "first")).await, "first");
        assert_eq!(
            ask(&kept, &old, Some("7"), at("7", "not needed")).await,
            "first"
        );
        assert_eq!(
            ask(&kept, &old, Some("8"), at("8", "other keys")).await,
            "other keys"
        );
        assert_eq!(
            ask(&kept, &new, Some("8"), at("8", "other spec")).await,
            "other spec"
        );
        kept.by_provider.run_pending_tasks().await;
        assert_eq!(kept.by_provider.entry_count(), 1, "one for each provider");
    }

    #[tokio::test]
    async fn keys_that_the_watch_has_not_seen_are_read_until_it_has() {
        let kept = Kept::default();
        let provider = provider("a", 1);
        assert_eq!(ask(&kept, &provider, None, ("8", "first")).await, "first");
        assert_eq!(
            ask(&kept, &provider, Some("7"), ("8", "again")).await,
            "again"
        );
        assert_eq!(
            ask(&kept, &provider, Some("8"), ("8", "not needed")).await,
            "again"
        );
        assert_eq!(
            ask(&kept, &provider, None, ("9", "seen no more")).await,
            "seen no more"
        );
    }

    #[tokio::test]
    async fn what_could_not_be_made_is_tried_again() {
        let kept = Kept::default();
        let provider = provider("a", 1);
        let failing = async || {
            Err(ConnectError::NoVending {
                provider: "a".into(),
            })
        };
        let current = || Current::Ambient;
        assert!(
            kept.get_or_make(&provider, current(), failing)
                .await
                .is_err()
        );
        let make = async || Ok((None, "made"));
        assert_eq!(
            kept.get_or_make(&provider, current(), make).await,
            Ok("made")
        );
    }

    #[tokio::test]
    async fn two_providers_connect_at_the_same_time() {
        let kept = Kept::default();
        let (a, b) = (provider("a", 1), provider("b", 1));
        // Neither gets past it before the other is there.
        let both = Barrier::new(2);
        let make = async || {
            both.wait().await;
            Ok((None, "made"))
        };
        let made = tokio::join!(
            kept.get_or_make(&a, Current::Ambient, make),
            kept.get_or_make(&b, Current::Ambient, make),
        );
        assert_eq!(made, (Ok("made"), Ok("made")));
    }
}
