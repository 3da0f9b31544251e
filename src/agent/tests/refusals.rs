//! `docs/refusals.md` has a row for each code of the agent, and no other.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use hubstorage_agent::refusal::Refusal;

#[test]
fn the_page_has_a_row_for_each_code() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/refusals.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, section) = page.split_once("\n## From the agent\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let told: Vec<&str> = rows.filter_map(|row| row.split('`').next()).collect();
    assert_eq!(told, Refusal::CODES);
}
