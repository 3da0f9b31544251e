//! `crds/` is what `hubstorage crds` prints.

use std::path::Path;

#[test]
fn the_definitions_that_are_checked_in_are_those_of_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crds/hubstorage.io.yaml");
    let printed = hubstorage::manifests::render_crds().unwrap();
    if std::env::var_os("HUBSTORAGE_BLESS").is_some_and(|value| value == "1") {
        std::fs::write(&path, &printed).unwrap();
    }
    let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        checked_in == printed,
        "crds/hubstorage.io.yaml is out of date; HUBSTORAGE_BLESS=1 writes it anew"
    );
}
