//! The examples of `docs/public-data.md`.

const PAGE: &str = include_str!("../../../../docs/public-data.md");

/// What stands before an example: its name.
const MARK: &str = "<!-- example: ";

/// Name and code of every example.
pub fn all() -> Vec<(&'static str, &'static str)> {
    let examples = PAGE.split(MARK).skip(1).map(|rest| {
        let (name, rest) = rest.split_once(" -->\n```python\n").unwrap();
        (name, rest.split_once("```").unwrap().0)
    });
    examples.collect()
}

/// The code of one.
pub fn named(name: &str) -> &'static str {
    let found = all().into_iter().find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("no example {name:?}")).1
}

#[test]
fn every_block_of_code_is_an_example_with_a_name() {
    assert_eq!(PAGE.matches("```python").count(), all().len());
}
