//! Names of Kubernetes objects and of sessions that are made from a username.

use super::{Prefix, Username, digest_base32};

/// The name of the HubUser object of `user` at the hub `hub`: readable, and 100 bits of a hash,
/// so that the names of two users never meet. A DNS label of at most 63 characters.
///
/// Not an authorization key: the object's spec holds the username itself.
pub fn hub_user_name(hub: &str, user: &Username) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let mut stem: String = user
        .as_str()
        .chars()
        .filter(|c| plain(*c))
        .take(40)
        .collect();
    if stem.is_empty() {
        stem.push('u');
    }
    let identity = [hub, user.as_str()].join("\0");
    format!("{stem}-{}", &digest_base32(identity.as_bytes(), 15)[..20])
}

/// The session name under which a user's credentials are issued, so that a store's own access
/// log names the user: 2 to 64 characters of `[\w+=,.@-]` (`roleSessionNameType`, STS).
///
/// A prefix fits as it is, but for those of one character. These get a `=`, which no prefix
/// holds, so that no two users have one name.
pub fn session_name(prefix: &Prefix) -> String {
    let mut name = prefix.as_str().to_owned();
    if name.len() < 2 {
        name.push('=');
    }
    name
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn object_names_are_dns_labels_and_differ_by_hub_and_user() {
        let name = |hub, user| hub_user_name(hub, &Username::parse(user).unwrap());
        let long = "x".repeat(255);
        for user in ["bob", "*", "Ünïcode", "user@example.org", &long] {
            let name = name("earth", user);
            assert!(name.len() <= 63);
            assert!(
                name.chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
            );
            assert!(name.starts_with(|c: char| c.is_ascii_alphanumeric()));
        }
        assert_ne!(name("earth", "bob"), name("mars", "bob"));
        assert_ne!(name("earth", "b.ob"), name("earth", "bob"));
    }

    #[test]
    fn a_session_name_is_the_prefix_and_never_shorter_than_two_characters() {
        assert_eq!(session_name(&Prefix::escaped(b"bob")), "bob");
        assert_eq!(session_name(&Prefix::escaped(b"b")), "b=");
    }

    #[test]
    fn no_two_users_have_one_session_name() {
        // Every username of one and two bytes, and with it every character that could pad one.
        let one = (0..=255u8).map(|a| vec![a]);
        let two = (0..=255u8).flat_map(|a| (0..=255u8).map(move |b| vec![a, b]));
        let usernames: Vec<Vec<u8>> = one.chain(two).collect();

        let names: BTreeSet<String> = usernames
            .iter()
            .map(|username| session_name(&Prefix::escaped(username)))
            .collect();

        assert_eq!(names.len(), usernames.len());
    }
}
