//! The table of threats in `docs/security.md` names tests that are there.

use std::fs;
use std::path::Path;

/// The tests that a row names, as `path::name`.
fn named(row: &str) -> Vec<(&str, &str)> {
    row.split('`')
        .filter_map(|word| word.split_once(".rs::").map(|(_, name)| (word, name)))
        .map(|(word, name)| (&word[..word.len() - name.len() - 2], name))
        .collect()
}

/// Whether a file has a function of this name, and it is marked as a test.
fn has_test(file: &str, name: &str) -> bool {
    let lines: Vec<&str> = file.lines().collect();
    let begins = format!("fn {name}(");
    let is_it = |line: &&str| line.contains(&begins);
    let at = lines.iter().position(is_it);
    at.is_some_and(|at| {
        lines[at.saturating_sub(3)..at].iter().any(|line| {
            let line = line.trim_start();
            line.starts_with("#[test") || line.starts_with("#[tokio::test")
        })
    })
}

#[test]
fn every_threat_names_a_test_and_every_test_that_is_named_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = fs::read_to_string(root.join("docs/security.md")).unwrap();
    let (_, section) = page.split_once("\n## Threats\n").unwrap();
    let rows: Vec<&str> = section
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| threat"))
        .collect();
    assert!(!rows.is_empty());
    for row in rows {
        let tests = named(row);
        assert!(!tests.is_empty(), "no test: {row}");
        for (file, name) in tests {
            let text = fs::read_to_string(root.join(file));
            let text = text.unwrap_or_else(|error| format!("{error}"));
            assert!(has_test(&text, name), "{file} has no test {name}");
        }
    }
}
