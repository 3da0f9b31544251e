//! What the prefix encoder promises, for any bytes.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::collections::HashSet;

use hubstorage_core::names::{Prefix, PrefixScheme, Username};
use proptest::prelude::*;

/// Undoes an escaped or ordinary prefix; `None` for a hashed one. Only the tests need it: it
/// proves that nothing was lost.
fn decode(prefix: &str) -> Option<Vec<u8>> {
    if prefix.starts_with("h--") {
        return None;
    }
    let Some(escaped) = prefix.strip_prefix("x--") else {
        return Some(prefix.as_bytes().to_vec());
    };
    let mut out = Vec::new();
    let mut rest = escaped.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first == b'_' {
            let hex = std::str::from_utf8(&tail[..2]).unwrap();
            out.push(u8::from_str_radix(hex, 16).unwrap());
            rest = &tail[2..];
        } else {
            out.push(*first);
            rest = tail;
        }
    }
    Some(out)
}

fn assert_safe(prefix: &str) {
    assert!(!prefix.is_empty() && prefix.len() <= 63, "{prefix:?}");
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._@-".contains(c);
    assert!(prefix.chars().all(allowed), "{prefix:?}");
    assert!(
        prefix.starts_with(|c: char| c.is_ascii_alphanumeric()),
        "{prefix:?}"
    );
    assert!(
        !prefix.contains("..") && !prefix.ends_with('.'),
        "{prefix:?}"
    );
}

/// Bytes in which the characters that matter are frequent.
fn names() -> impl Strategy<Value = Vec<u8>> {
    let nasty = proptest::sample::select(b"*?${}_-.@ /\\\"'%\n\0xhXH0aZ\xc3\xa9\xff".to_vec());
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 1..300),
        proptest::collection::vec(nasty, 1..70),
        "[a-z0-9._@-]{1,70}".prop_map(String::into_bytes),
        "(x--|h--)[a-z0-9_-]{0,40}".prop_map(String::into_bytes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    #[test]
    fn every_prefix_is_safe_wherever_it_is_pasted(name in names()) {
        assert_safe(Prefix::escaped(&name).as_str());
    }

    #[test]
    fn an_ordinary_or_escaped_prefix_reads_back_as_the_name(name in names()) {
        if let Some(decoded) = decode(Prefix::escaped(&name).as_str()) {
            prop_assert_eq!(decoded, name);
        }
    }

    #[test]
    fn two_names_never_share_a_prefix(one in names(), other in names()) {
        prop_assume!(one != other);
        prop_assert_ne!(Prefix::escaped(&one), Prefix::escaped(&other));
    }

    #[test]
    fn names_that_differ_in_one_byte_never_share_a_prefix(name in names(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut other = name.clone();
        let at = at.index(other.len());
        prop_assume!(other[at] != byte);
        other[at] = byte;
        prop_assert_ne!(Prefix::escaped(&name), Prefix::escaped(&other));
    }

    #[test]
    fn the_prefix_of_a_prefix_stays_apart_from_it_unless_the_name_is_ordinary(name in names()) {
        // A user who calls himself what another's name encodes to must land elsewhere.
        let prefix = Prefix::escaped(&name);
        if prefix.as_str().as_bytes() != name.as_slice() {
            prop_assert_ne!(Prefix::escaped(prefix.as_str().as_bytes()), prefix);
        }
    }

    #[test]
    fn ordinary_names_are_their_own_prefix(name in "[a-z0-9][a-z0-9_@-]{0,61}[a-z0-9]") {
        prop_assume!(!name.starts_with("x--") && !name.starts_with("h--"));
        let prefix = Prefix::escaped(name.as_bytes());
        prop_assert_eq!(prefix.as_str(), name.as_str());
    }

    #[test]
    fn a_raw_prefix_is_the_name_itself_or_refused(name in prop_oneof!["\\PC{1,40}", "[ -~]{1,4}", "[A-Za-z0-9._@-]{1,70}"]) {
        let user = Username::parse(&name).unwrap();
        if let Ok(prefix) = Prefix::of(&user, PrefixScheme::Raw) {
            prop_assert_eq!(prefix.as_str(), name.as_str());
            let active = ['*', '?', '$', '{', '}', '/', ' ', '"', '\'', '%', '\\'];
            prop_assert!(!name.contains(active), "{}", name);
            prop_assert!(!name.contains("..") && !name.starts_with('_'), "{}", name);
            prop_assert!(name.len() <= 63, "{}", name);
        }
    }
}

#[test]
fn every_string_of_up_to_three_interesting_bytes_has_a_prefix_of_its_own() {
    let alphabet: &[u8] = b"ab0._-@*/xhXA 25f\xc3\xa9";
    let mut names: Vec<Vec<u8>> = vec![vec![]];
    let mut all = Vec::new();
    for _ in 0..3 {
        names = names
            .iter()
            .flat_map(|name| alphabet.iter().map(|b| [name.as_slice(), &[*b]].concat()))
            .collect();
        all.extend(names.clone());
    }
    let prefixes: HashSet<Prefix> = all.iter().map(|name| Prefix::escaped(name)).collect();
    assert_eq!(prefixes.len(), all.len());
}

#[test]
fn the_hubs_own_prefixes_are_out_of_every_users_reach() {
    let reserved = Prefix::reserved("canary-a");
    for name in [reserved.as_str(), "_hubstorage", "_groups"] {
        let user = Username::parse(name).unwrap();
        assert_ne!(Prefix::of(&user, PrefixScheme::Escaped).unwrap(), reserved);
        assert!(Prefix::of(&user, PrefixScheme::Raw).is_err());
    }
}

#[test]
fn the_table_is_frozen() {
    // A line that fails here is data that a user can no longer find. Never change one; add.
    for line in include_str!("prefix_vectors.tsv")
        .lines()
        .filter(|line| !line.starts_with('#'))
    {
        let (name, expected) = line.split_once('\t').unwrap();
        let name: String = serde_json::from_str(name).unwrap();
        assert_eq!(
            Prefix::escaped(name.as_bytes()).as_str(),
            expected,
            "{name:?}"
        );
    }
}

#[test]
fn an_empty_or_endless_username_is_refused() {
    assert!(Username::parse("").is_err());
    assert!(Username::parse(&"x".repeat(256)).is_err());
    assert!(Username::parse(&"ä".repeat(255)).is_ok());
}
