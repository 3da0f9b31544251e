//! The reasons, and the page that tells what to do about each.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]

use std::collections::HashSet;
use std::path::Path;

use hubstorage_core::api::{Reason, troubleshooting};
use strum::IntoEnumIterator;

/// Set to 1, it makes [`the_page_says_what_the_code_says`] write the page instead.
const BLESS: &str = "HUBSTORAGE_BLESS";

#[test]
fn every_reason_is_in_camel_case_as_conditions_demand() {
    for name in Reason::iter().map(|reason| reason.to_string()) {
        assert!(name.starts_with(|c: char| c.is_ascii_uppercase()), "{name}");
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric()), "{name}");
    }
}

#[test]
fn every_reason_has_a_meaning_of_its_own_in_one_sentence() {
    let meanings: Vec<_> = Reason::iter().map(Reason::meaning).collect();
    for meaning in &meanings {
        assert!(meaning.ends_with('.') && meaning.len() > 20, "{meaning}");
    }
    assert_eq!(
        meanings.iter().collect::<HashSet<_>>().len(),
        meanings.len()
    );
}

#[test]
fn every_remedy_is_a_sentence() {
    for remedy in Reason::iter().filter_map(Reason::remedy) {
        assert!(remedy.ends_with('.'), "{remedy}");
    }
}

#[test]
fn the_page_says_what_the_code_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/troubleshooting.md");
    let page = std::fs::read_to_string(&path).unwrap();
    // The introduction is written by hand; everything from the first reason on is generated.
    let (introduction, _) = page.split_once("### ").expect("a first reason");
    let expected = format!("{introduction}{}\n", troubleshooting().trim_end());

    if std::env::var_os(BLESS).is_some_and(|value| value == "1") {
        std::fs::write(&path, expected).unwrap();
        return;
    }
    let first = expected
        .lines()
        .zip(page.lines())
        .find(|(should, is)| should != is);
    assert!(
        page == expected,
        "docs/troubleshooting.md differs from Reason, first at {first:?}; \
         regenerate it: {BLESS}=1 cargo test -p hubstorage-core --test reasons"
    );
}
