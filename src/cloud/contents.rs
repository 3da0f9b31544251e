//! What a bucket holds, and what became of it.

use std::fmt;

/// A key is shown up to here, in characters: it stands in conditions and events.
const LONGEST_KEY: usize = 100;

/// What a bucket holds, as far as the first page of each listing shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// Objects as everybody sees them.
    pub objects: usize,
    /// Versions that were replaced or deleted.
    pub noncurrent_versions: usize,
    /// Marks that a key was deleted.
    pub delete_markers: usize,
    /// Multipart uploads that nobody has finished.
    pub unfinished_uploads: usize,
    /// Whether there is more than was counted.
    pub has_more: bool,
    /// One key of all these.
    pub example: Option<String>,
}

impl Contents {
    /// Whether there is nothing at all.
    pub fn is_empty(&self) -> bool {
        self.counts().iter().all(|(count, _)| *count == 0) && !self.has_more
    }

    fn counts(&self) -> [(usize, &'static str); 4] {
        [
            (self.objects, "object"),
            (self.noncurrent_versions, "noncurrent version"),
            (self.delete_markers, "delete marker"),
            (self.unfinished_uploads, "unfinished upload"),
        ]
    }
}

impl fmt::Display for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("nothing");
        }
        let told: Vec<String> = self
            .counts()
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}{}", if count == 1 { "" } else { "s" }))
            .collect();
        let more = if self.has_more { "more than " } else { "" };
        write!(f, "{more}{}", told.join(", "))?;
        match &self.example {
            Some(key) => write!(f, ", for example {}", Shown(key)),
            None => Ok(()),
        }
    }
}

/// What one batch of deletions did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Objects, noncurrent versions and delete markers that were deleted.
    pub deleted_versions: usize,
    /// Unfinished uploads that were removed.
    pub aborted_uploads: usize,
    /// Whether anything may be left.
    pub is_left: bool,
    /// The first of the versions that the store did not let go.
    pub refused: Option<RefusedDeletion>,
}

impl Batch {
    /// Whether it deleted anything.
    pub fn has_moved(&self) -> bool {
        self.deleted_versions + self.aborted_uploads > 0
    }
}

/// A version that the store did not let go: object lock, retention, a missing permission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedDeletion {
    /// Its key.
    pub key: String,
    /// The store's error code.
    pub code: String,
    /// The store's own words, in one line.
    pub message: String,
}

impl fmt::Display for RefusedDeletion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}", Shown(&self.key), self.code)?;
        match self.message.as_str() {
            "" => f.write_str(")"),
            message => write!(f, ": {message})"),
        }
    }
}

/// What became of a bucket that was to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// It is deleted.
    Deleted,
    /// It holds something, and is as it was.
    NotEmpty,
    /// There was none of this name.
    AlreadyGone,
}

/// A key in quotes, with what cannot be printed escaped, and no longer than people read.
struct Shown<'a>(&'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(LONGEST_KEY) {
            Some((end, _)) => write!(f, "{:?}…", &self.0[..end]),
            None => write!(f, "{:?}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_counted_in_words_and_a_key_stands_in_one_line() {
        let contents = Contents {
            objects: 2,
            delete_markers: 1,
            example: Some("bob/a\nb".into()),
            ..Contents::default()
        };
        assert_eq!(
            contents.to_string(),
            r#"2 objects, 1 delete marker, for example "bob/a\nb""#
        );
    }

    #[test]
    fn a_page_that_is_not_the_last_says_that_there_is_more() {
        let contents = Contents {
            objects: 1000,
            has_more: true,
            ..Contents::default()
        };
        assert_eq!(contents.to_string(), "more than 1000 objects");
    }

    #[test]
    fn a_long_key_is_cut_between_characters() {
        let shown = Shown(&"é".repeat(1000)).to_string();
        assert_eq!(shown.chars().count(), LONGEST_KEY + 3);
    }
}
