//! Statements of IAM's policy language, compared by what they mean: stores answer with lists where
//! single strings were written, and with `{"AWS": ["*"]}` where `"*"` was.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// The statements of a document: a list, or a single one.
pub(crate) fn listed(statements: &Value) -> Vec<&Value> {
    match statements {
        Value::Array(statements) => statements.iter().collect(),
        single => vec![single],
    }
}

/// Whether two documents have the same statements, in whatever order and spelling.
pub(crate) fn are_same(one: &Value, other: &Value) -> bool {
    let meanings = |document: &Value| -> BTreeSet<Meaning> {
        let statements = document.get("Statement").map_or_else(Vec::new, listed);
        statements.into_iter().map(meaning).collect()
    };
    meanings(one) == meanings(other)
}

/// One string, or a list of them.
pub(crate) fn strings(value: &Value) -> BTreeSet<String> {
    match value {
        Value::Array(list) => list.iter().flat_map(strings).collect(),
        Value::String(text) => BTreeSet::from([text.clone()]),
        Value::Bool(is) => BTreeSet::from([is.to_string()]),
        Value::Number(number) => BTreeSet::from([number.to_string()]),
        Value::Null | Value::Object(_) => BTreeSet::new(),
    }
}

/// `"*"`, or lists by kind of principal, of which `{"AWS": "*"}` means the same.
pub(crate) fn principals(value: &Value) -> BTreeSet<String> {
    match value {
        Value::Object(kinds) => kinds.values().flat_map(strings).collect(),
        other => strings(other),
    }
}

/// The same with the kind of each: `"*"` is `{"AWS": "*"}`.
fn principals_by_kind(value: &Value) -> BTreeSet<(String, String)> {
    let of_kind = |kind: &str, value: &Value| {
        let names = strings(value).into_iter();
        names
            .map(|name| (kind.to_owned(), name))
            .collect::<Vec<_>>()
    };
    match value {
        Value::Object(kinds) => kinds
            .iter()
            .flat_map(|(kind, v)| of_kind(kind, v))
            .collect(),
        other => of_kind("AWS", other).into_iter().collect(),
    }
}

/// What a statement means, however it is spelled; what is not compared here stays in `rest`.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Meaning {
    principals: BTreeSet<(String, String)>,
    lists: BTreeMap<String, BTreeSet<String>>,
    conditions: BTreeMap<(String, String), BTreeSet<String>>,
}

pub(crate) fn meaning(statement: &Value) -> Meaning {
    let fields = statement.as_object().into_iter().flatten();
    let lists = fields
        .filter(|(name, _)| !["Principal", "Condition"].contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), strings(value)))
        .collect();
    let operators = statement["Condition"].as_object().into_iter().flatten();
    let conditions = operators
        .flat_map(|(operator, keys)| {
            let keys = keys.as_object().into_iter().flatten();
            keys.map(move |(key, value)| {
                // Condition keys are not case-sensitive (IAM User Guide, "Condition").
                let name = (operator.clone(), key.to_lowercase());
                (name, strings(value))
            })
        })
        .collect();
    Meaning {
        principals: principals_by_kind(&statement["Principal"]),
        lists,
        conditions,
    }
}
