//! Server-side apply, as far as the controller uses it: who owns which field, what is merged,
//! and what goes when its owner leaves it out.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// A field, from the root: names, and `[key=value,…]` for an item of a list that is a map.
pub type Path = Vec<String>;

/// A field manager, and the subresource through which it applies.
pub type Manager = (String, bool);

/// Which manager owns which fields.
pub type Owners = BTreeMap<Manager, BTreeSet<Path>>;

/// Fields that another manager owns and would lose.
#[derive(Debug)]
pub struct Conflict(pub Vec<String>);

/// Applies `document` to `live` in the name of `manager`.
pub fn apply(
    live: &mut Value,
    owners: &mut Owners,
    manager: Manager,
    document: &Value,
    force: bool,
) -> Result<(), Conflict> {
    let mut wanted = BTreeSet::new();
    fields(document, &mut Vec::new(), &mut wanted);
    let mut lost = Vec::new();
    for (other, owned) in owners.iter_mut().filter(|(other, _)| **other != manager) {
        let taken: Vec<Path> = owned
            .intersection(&wanted)
            .filter(|path| {
                let (is, should) = (at(live, path), at(document, path));
                should.is_some_and(is_leaf) && is != should
            })
            .cloned()
            .collect();
        for path in taken {
            lost.push(format!("{} of {}", path.join("."), other.0));
            if force {
                owned.remove(&path);
            }
        }
    }
    if !force && !lost.is_empty() {
        return Err(Conflict(lost));
    }
    let before = owners
        .insert(manager.clone(), wanted.clone())
        .unwrap_or_default();
    merge(live, document, "");
    for path in before.difference(&wanted) {
        let kept = owners.values().any(|owned| owned.contains(path));
        if !kept {
            remove(live, path);
        }
    }
    Ok(())
}

/// Notes that somebody changed `before` to `after` by hand: they own what they changed.
pub fn taken_by_hand(owners: &mut Owners, before: &Value, after: &Value) {
    let mut changed = BTreeSet::new();
    fields(after, &mut Vec::new(), &mut changed);
    changed.retain(|path| at(before, path) != at(after, path));
    let by_hand = owners
        .entry(("kubectl-edit".to_owned(), false))
        .or_default();
    by_hand.extend(changed);
}

/// The keys of the lists that are maps (`x-kubernetes-list-map-keys` of our kinds); all other
/// lists are one value.
fn keys_of(list: &str) -> Option<&'static [&'static str]> {
    match list {
        "conditions" => Some(&["type"]),
        // Of status; nothing applies those of the spec.
        "buckets" => Some(&["name", "bucketName"]),
        "capabilities" | "env" | "grants" | "sources" => Some(&["name"]),
        "ownerReferences" => Some(&["uid"]),
        _ => None,
    }
}

fn is_leaf(value: &Value) -> bool {
    !matches!(value, Value::Object(_) | Value::Array(_))
}

fn item<'k>(keys: impl IntoIterator<Item = &'k str>, item: &Value) -> String {
    let of = |key| format!("{key}={}", item[key].as_str().unwrap_or_default());
    let values: Vec<String> = keys.into_iter().map(of).collect();
    format!("[{}]", values.join(","))
}

/// Every field of `value`, those that hold others included.
fn fields(value: &Value, path: &mut Path, found: &mut BTreeSet<Path>) {
    if !path.is_empty() {
        found.insert(path.clone());
    }
    let keys = path.last().and_then(|list| keys_of(list));
    let children: Vec<(String, &Value)> = match (value, keys) {
        (Value::Object(map), _) => map
            .iter()
            .map(|(name, child)| (name.clone(), child))
            .collect(),
        (Value::Array(items), Some(keys)) => items
            .iter()
            .map(|child| (item(keys.iter().copied(), child), child))
            .collect(),
        _ => Vec::new(),
    };
    for (name, child) in children {
        path.push(name);
        fields(child, path, found);
        path.pop();
    }
}

fn at<'v>(value: &'v Value, path: &[String]) -> Option<&'v Value> {
    let Some((name, rest)) = path.split_first() else {
        return Some(value);
    };
    let child = match value {
        Value::Array(items) => items.iter().find(|child| is_item(name, child)),
        _ => value.get(name),
    };
    at(child?, rest)
}

fn is_item(name: &str, child: &Value) -> bool {
    let pairs = name.trim_matches(['[', ']']).split(',');
    let keys = pairs.map(|pair| pair.split_once('=').unwrap().0);
    item(keys, child) == name
}

fn merge(live: &mut Value, new: &Value, name: &str) {
    match (live, new, keys_of(name)) {
        (Value::Object(live), Value::Object(new), _) => {
            for (name, value) in new {
                merge(live.entry(name.clone()).or_insert(Value::Null), value, name);
            }
        }
        (Value::Array(live), Value::Array(new), Some(keys)) => {
            // In the order of the applied document, items of others behind: as
            // structured-merge-diff does, but for where exactly the others end up.
            let mut merged = Vec::new();
            for value in new {
                let is_it = |known: &Value| keys.iter().all(|key| known[key] == value[key]);
                let known = live.iter().position(is_it);
                let mut item = known.map_or(Value::Null, |known| live.remove(known));
                merge(&mut item, value, "");
                merged.push(item);
            }
            merged.append(live);
            *live = merged;
        }
        (live, new, _) => *live = new.clone(),
    }
}

/// Removes a field; a list whose last item goes, goes with it.
fn remove(value: &mut Value, path: &[String]) {
    let Some((name, rest)) = path.split_first() else {
        return;
    };
    match value {
        Value::Object(map) if rest.is_empty() => drop(map.remove(name)),
        Value::Object(map) => {
            if let Some(child) = map.get_mut(name) {
                remove(child, rest);
                if child.as_array().is_some_and(Vec::is_empty) {
                    map.remove(name);
                }
            }
        }
        Value::Array(items) if rest.is_empty() => items.retain(|child| !is_item(name, child)),
        Value::Array(items) => {
            if let Some(child) = items.iter_mut().find(|child| is_item(name, child)) {
                remove(child, rest);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn manager(name: &str) -> Manager {
        (name.to_owned(), true)
    }

    #[test]
    fn what_its_owner_leaves_out_goes_and_what_others_own_stays() {
        let (mut live, mut owners) = (json!({}), Owners::new());
        let first = json!({"users": 1, "buckets": [{"name": "a", "creation": {"nonce": "n"}}]});
        apply(&mut live, &mut owners, manager("ours"), &first, true).unwrap();
        apply(
            &mut live,
            &mut owners,
            manager("theirs"),
            &json!({"users": 1}),
            true,
        )
        .unwrap();
        let second = json!({"buckets": [{"name": "a"}]});
        apply(&mut live, &mut owners, manager("ours"), &second, true).unwrap();
        assert_eq!(live, json!({"users": 1, "buckets": [{"name": "a"}]}));
    }

    #[test]
    fn items_of_two_managers_live_in_one_list() {
        let (mut live, mut owners) = (json!({}), Owners::new());
        for name in ["a", "b"] {
            let document = json!({"conditions": [{"type": name, "status": "True"}]});
            apply(&mut live, &mut owners, manager(name), &document, true).unwrap();
        }
        apply(&mut live, &mut owners, manager("a"), &json!({}), true).unwrap();
        assert_eq!(
            live,
            json!({"conditions": [{"type": "b", "status": "True"}]})
        );
        apply(&mut live, &mut owners, manager("b"), &json!({}), true).unwrap();
        assert_eq!(live, json!({}));
    }

    #[test]
    fn without_force_another_managers_field_is_a_conflict() {
        let (mut live, mut owners) = (json!({}), Owners::new());
        apply(
            &mut live,
            &mut owners,
            manager("a"),
            &json!({"x": 1}),
            false,
        )
        .unwrap();
        apply(
            &mut live,
            &mut owners,
            manager("b"),
            &json!({"x": 1}),
            false,
        )
        .unwrap();
        apply(
            &mut live,
            &mut owners,
            manager("b"),
            &json!({"x": 2}),
            false,
        )
        .unwrap_err();
        assert_eq!(live, json!({"x": 1}));
    }
}
