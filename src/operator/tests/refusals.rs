//! `docs/refusals.md` has a row for each code of the broker, and no other.

use std::fs;
use std::path::Path;

use hubstorage::broker::refusal::Refusal;

#[test]
fn the_page_has_a_row_for_each_code() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/refusals.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, section) = page.split_once("\n## From the broker\n").unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `"));
    let mut told: Vec<&str> = rows.filter_map(|row| row.split('`').next()).collect();
    let mut codes: Vec<&str> = Refusal::codes().collect();
    told.sort_unstable();
    codes.sort_unstable();
    assert_eq!(told, codes);
}
