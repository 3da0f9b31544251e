//! The generated templates of `charts/hubstorage` are what `hubstorage manifests` prints.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hubstorage::manifests;

/// Set to 1, the templates are written anew instead of compared.
const BLESS: &str = "HUBSTORAGE_BLESS";

fn chart() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../charts/hubstorage")
}

#[test]
fn the_generated_templates_that_are_checked_in_are_those_of_the_code() {
    let folder = chart().join("templates/generated");
    let templates = manifests::chart_templates().unwrap();
    if std::env::var_os(BLESS).is_some_and(|value| value == "1") {
        if folder.exists() {
            std::fs::remove_dir_all(&folder).unwrap();
        }
        std::fs::create_dir_all(&folder).unwrap();
        for template in &templates {
            std::fs::write(folder.join(template.file), &template.text).unwrap();
        }
        return;
    }

    let expected: BTreeMap<String, String> = templates
        .into_iter()
        .map(|template| (template.file.to_owned(), template.text))
        .collect();
    let checked_in: BTreeMap<String, String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read_to_string(entry.path()).unwrap())
        })
        .collect();

    assert!(
        checked_in == expected,
        "charts/hubstorage/templates/generated is out of date; \
         regenerate it: {BLESS}=1 cargo test -p hubstorage --test chart"
    );
}

#[test]
fn the_chart_is_of_the_version_of_the_binaries() {
    let chart = std::fs::read_to_string(chart().join("Chart.yaml")).unwrap();
    let version = env!("CARGO_PKG_VERSION");

    assert!(
        chart.contains(&format!("\nversion: {version}\n")),
        "{chart}"
    );
    assert!(
        chart.contains(&format!("\nappVersion: \"{version}\"\n")),
        "{chart}"
    );
}
