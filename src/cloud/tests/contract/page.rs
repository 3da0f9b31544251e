//! The table in `docs/stores.md`: what the suite observed, between two markers.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::observed::ROWS;
use crate::stores;

/// Set to 1, what is observed is written instead of compared.
pub const BLESS: &str = "HUBSTORAGE_BLESS";

const BEGIN: &str =
    "<!-- Observed by src/cloud/tests/contract; HUBSTORAGE_BLESS=1 writes it anew. -->\n";
const END: &str = "<!-- End of what was observed. -->\n";

/// What is known of each store, by the titles of row and column.
type Cells = BTreeMap<(String, String), String>;

/// What was observed in this run.
static OBSERVED: Mutex<Cells> = Mutex::new(Cells::new());

pub fn is_blessed() -> bool {
    std::env::var_os(BLESS).is_some_and(|value| value == "1")
}

/// Holds what was observed to what the page says.
///
/// # Errors
/// What differs, and the way out.
pub fn compare(title: &str, store: &str, found: &str) -> Result<(), String> {
    let place = (title.to_owned(), store.to_owned());
    let said = read().remove(&place).unwrap_or_default();
    OBSERVED
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(place, found.to_owned());
    if said == found || is_blessed() {
        return Ok(());
    }
    Err(format!(
        "docs/stores.md says {said:?}, {store} did {found:?}; \
         if that is meant to be so, {BLESS}=1 with this test writes it"
    ))
}

/// Writes what was observed; cells of stores that did not take part stay.
pub fn bless() {
    let mut cells = read();
    let observed = OBSERVED.lock().unwrap_or_else(PoisonError::into_inner);
    cells.extend(observed.clone());
    let page = std::fs::read_to_string(path()).unwrap();
    let (before, _, after) = parts(&page);
    std::fs::write(path(), format!("{before}{}{after}", render(&cells))).unwrap();
}

/// Whether the page has the suite's rows and columns, in order.
pub fn is_in_shape() -> bool {
    let page = std::fs::read_to_string(path()).unwrap();
    parts(&page).1 == render(&read())
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/stores.md")
}

/// The page up to the table, the table, and the rest.
fn parts(page: &str) -> (&str, &str, &str) {
    let begin = page.find(BEGIN).expect("the marker before the table") + BEGIN.len();
    let end = page.find(END).expect("the marker after the table");
    (&page[..begin], &page[begin..end], &page[end..])
}

fn read() -> Cells {
    let page = std::fs::read_to_string(path()).unwrap();
    let mut cells = Cells::new();
    for line in parts(&page).1.lines() {
        let mut fields = line.trim_matches('|').split('|').map(str::trim);
        let Some(title) = fields.next() else { continue };
        for (store, cell) in stores::ALL.iter().zip(fields) {
            cells.insert((title.to_owned(), store.name.to_owned()), cell.to_owned());
        }
    }
    cells
}

fn render(cells: &Cells) -> String {
    let mut table = String::from("| |");
    for store in stores::ALL {
        write!(table, " {} |", store.name).unwrap();
    }
    writeln!(table, "\n|---|{}", "---|".repeat(stores::ALL.len())).unwrap();
    for row in ROWS {
        write!(table, "| {} |", row.title).unwrap();
        for store in stores::ALL {
            let place = (row.title.to_owned(), store.name.to_owned());
            let cell = cells.get(&place).map_or("not observed", String::as_str);
            write!(table, " {cell} |").unwrap();
        }
        writeln!(table).unwrap();
    }
    table
}
