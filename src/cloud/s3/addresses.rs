//! Which addresses a store can have.
//!
//! Link-local ones belong to the node: there, cloud providers hand out the credentials of the
//! machine. An endpoint may name one outright, or be a name that resolves to one, today or after
//! it was checked; so names are resolved here, at every connection.

use std::net::IpAddr;

use aws_smithy_runtime_api::client::dns::{DnsFuture, ResolveDns, ResolveDnsError};

/// Whether an address belongs to metadata and credential services, and so to no store.
pub fn is_link_local(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => {
            // Where Amazon has the same services over IPv6.
            let is_amazons = address.segments()[..2] == [0xfd00, 0xec2];
            address.is_unicast_link_local() || is_amazons
        }
    }
}

/// Resolves names as the system does, to addresses that a store can have.
#[derive(Debug, Clone)]
pub(super) struct Resolver;

impl ResolveDns for Resolver {
    fn resolve_dns<'a>(&'a self, name: &'a str) -> DnsFuture<'a> {
        DnsFuture::new(async move {
            let found = tokio::net::lookup_host((name, 0)).await;
            let found = found
                .map_err(|error| format!("the name {name} cannot be resolved: {error}"))
                .and_then(|found| usable(name, found.map(|address| address.ip())));
            found.map_err(ResolveDnsError::new)
        })
    }
}

/// The addresses of a name without those that no store has; one at least.
fn usable(name: &str, found: impl Iterator<Item = IpAddr>) -> Result<Vec<IpAddr>, String> {
    let (refused, usable): (Vec<_>, Vec<_>) = found.partition(|address| is_link_local(*address));
    match (usable.is_empty(), refused.first()) {
        (false, _) => Ok(usable),
        (true, None) => Err(format!("the name {name} has no address")),
        (true, Some(refused)) => Err(format!(
            "the name {name} resolves to {refused}, a link-local address; those belong to metadata services"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(addresses: &[&str]) -> Result<Vec<String>, String> {
        let found = addresses.iter().map(|address| address.parse().unwrap());
        let usable = usable("store.example.org", found)?;
        Ok(usable.iter().map(IpAddr::to_string).collect())
    }

    #[test]
    fn a_name_of_a_metadata_service_is_refused_in_every_family() {
        for address in [
            "169.254.169.254",
            "fe80::1",
            "fd00:ec2::254",
            "::ffff:169.254.169.254",
        ] {
            let error = resolved(&[address]).unwrap_err();
            assert!(error.contains("store.example.org"), "{error}");
            assert!(error.contains("link-local"), "{error}");
        }
    }

    #[test]
    fn a_name_that_also_has_a_link_local_address_is_reached_at_its_others() {
        assert_eq!(
            resolved(&["fe80::1", "10.0.0.1", "fd00::1"]),
            Ok(vec!["10.0.0.1".to_owned(), "fd00::1".to_owned()])
        );
    }

    #[tokio::test]
    async fn names_are_resolved_as_the_system_does() {
        let found = Resolver.resolve_dns("localhost").await.unwrap();
        assert!(found.iter().all(IpAddr::is_loopback), "{found:?}");
        assert!(!found.is_empty());
    }
}
