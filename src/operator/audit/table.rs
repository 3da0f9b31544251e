//! The findings for people.

use super::findings::Finding;

const HEADER: [&str; 5] = ["NAMESPACE", "SUBJECT", "KNOWN AS", "BY", "MAY"];

/// What no list of roles can tell.
const BEYOND: &str = "\
Each of these could act as any user of the hubs of its namespace (* is every namespace). Rights that do not come
from RBAC are not in it: the group system:masters, other authorizers, and what a cloud allows on its nodes.
";

/// A table, and below it what it does not show.
pub fn table(findings: &[Finding], left_out: usize) -> String {
    let rows = findings.iter().map(|finding| {
        [
            finding.namespace.clone().unwrap_or_else(|| "*".to_owned()),
            finding.subject.clone(),
            finding.known_as.clone().unwrap_or_else(|| "-".to_owned()),
            finding.by.clone(),
            finding.may.join(", "),
        ]
    });
    let rows: Vec<[String; 5]> = std::iter::once(HEADER.map(str::to_owned))
        .chain(rows)
        .collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or_default()
    };
    let widths: [usize; 5] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths);
        let line: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        text.push_str(line.join("   ").trim_end());
        text.push('\n');
    }
    text.push('\n');
    text.push_str(BEYOND);
    if left_out > 0 {
        text.push_str(&format!(
            "{left_out} bindings of Kubernetes' own controllers are left out: --all shows them.\n"
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other_and_what_is_left_out_is_said() {
        let finding = |namespace: Option<&str>, subject: &str| Finding {
            namespace: namespace.map(str::to_owned),
            subject: subject.to_owned(),
            may: vec!["exec".to_owned(), "read secrets (a)".to_owned()],
            by: "RoleBinding x".to_owned(),
            known_as: None,
            is_of_kubernetes: false,
        };
        let text = table(
            &[
                finding(None, "User eve"),
                finding(Some("earth"), "Group öst"),
            ],
            3,
        );
        let lines: Vec<&str> = text.lines().collect();
        let expected = [
            "NAMESPACE   SUBJECT     KNOWN AS   BY              MAY",
            "*           User eve    -          RoleBinding x   exec, read secrets (a)",
            "earth       Group öst   -          RoleBinding x   exec, read secrets (a)",
        ];
        assert_eq!(lines[..3], expected);
        assert!(text.ends_with(
            "3 bindings of Kubernetes' own controllers are left out: --all shows them.\n"
        ));
        assert!(!table(&[], 0).contains("--all"));
    }
}
