//! Which HubStorage of a namespace counts.

use std::borrow::Borrow;

use kube::ResourceExt as _;

use crate::api::HubStorage;

/// The one HubStorage of a namespace that counts: the oldest, by name among those of one age.
///
/// `hubs` are those of one namespace. Everybody who has to choose (controller, webhook, broker)
/// chooses by this rule, so that they agree without talking.
pub fn hub_of_namespace<H: Borrow<HubStorage>>(hubs: &[H]) -> Option<&H> {
    hubs.iter().min_by_key(|hub| {
        let hub: &HubStorage = (*hub).borrow();
        let created = hub.metadata.creation_timestamp.as_ref().map(|time| time.0);
        // An object without a time has not been to the API server: it is the youngest.
        (created.is_none(), created, hub.name_any())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;

    fn hub(name: &str, created: Option<i64>) -> HubStorage {
        let spec = serde_json::from_value(serde_json::json!({
            "providerRef": {"name": "minio"}, "buckets": [{"name": "scratch"}],
        }));
        let mut hub = HubStorage::new(name, spec.unwrap());
        hub.metadata.creation_timestamp =
            created.map(|at| Time(Timestamp::from_second(at).unwrap()));
        hub
    }

    fn first(hubs: &[HubStorage]) -> Option<String> {
        hub_of_namespace(hubs).map(|hub| hub.name_any())
    }

    #[test]
    fn the_oldest_counts_whatever_the_order() {
        let (old, young) = (hub("z", Some(1)), hub("a", Some(2)));
        assert_eq!(first(&[young.clone(), old.clone()]).as_deref(), Some("z"));
        assert_eq!(first(&[old, young]).as_deref(), Some("z"));
    }

    #[test]
    fn of_one_age_the_first_by_name_counts() {
        assert_eq!(
            first(&[hub("b", Some(1)), hub("a", Some(1))]).as_deref(),
            Some("a")
        );
    }

    #[test]
    fn one_without_an_age_is_the_youngest() {
        assert_eq!(
            first(&[hub("a", None), hub("b", Some(5))]).as_deref(),
            Some("b")
        );
        assert_eq!(first(&[]), None);
    }
}
