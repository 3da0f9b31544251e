//! Pages of `docs/` in which a command puts what it measured.

use anyhow::{Context, Result};
use hubstorage_e2e::checkout::Checkout;

/// The part of a page that a command writes.
pub struct Part {
    /// The page, relative to the checkout.
    pub page: &'static str,
    /// The line before it.
    pub begin: &'static str,
    /// The line after it.
    pub end: &'static str,
}

impl Part {
    /// Puts `text` there, in place of the last one.
    ///
    /// # Errors
    /// If the page is not there, or lacks one of the lines.
    pub fn write(&self, checkout: &Checkout, text: &str) -> Result<()> {
        let Self { page, begin, end } = self;
        let path = checkout.path(page);
        let before = std::fs::read_to_string(&path).context(*page)?;
        let after = self
            .replaced(&before, text)
            .with_context(|| format!("{page} lacks the lines {begin} and {end}"))?;
        std::fs::write(&path, after).context(*page)
    }

    fn replaced(&self, page: &str, text: &str) -> Option<String> {
        let Self { begin, end, .. } = self;
        let (before, rest) = page.split_once(begin)?;
        let (_, after) = rest.split_once(end)?;
        Some(format!("{before}{begin}\n{text}{end}{after}"))
    }
}

/// The day, as `2026-01-31`.
pub fn today() -> String {
    let now = k8s_openapi::jiff::Timestamp::now().to_string();
    now.chars().take(10).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_replaces_the_last_one_and_nothing_else() {
        let part = Part {
            page: "docs/performance.md",
            begin: "<!-- begin -->",
            end: "<!-- end -->",
        };
        let page = "# Performance\n\n<!-- begin -->\nold\n<!-- end -->\n\nMore.\n";
        assert_eq!(
            part.replaced(page, "new\n").as_deref(),
            Some("# Performance\n\n<!-- begin -->\nnew\n<!-- end -->\n\nMore.\n")
        );
        assert_eq!(part.replaced("# Performance\n", "new\n"), None);
    }
}
