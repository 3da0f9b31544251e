//! Whether nodes tell how full homes are, and since when they do not.

use std::collections::BTreeMap;

use strum::Display;

/// Rounds in a row in which at least half of the nodes tell nothing until that is told: one may be a network that has
/// just moved.
const ROUNDS: u8 = 3;

/// Why a node tells nothing. Words that stay the same as long as nothing changes: details are in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Display)]
pub enum Trouble {
    /// The API server did not list the nodes.
    #[strum(to_string = "the API server does not list the nodes")]
    NoNodes,
    /// The API server gave no token.
    #[strum(to_string = "the API server gives no token of service account hubstorage-usage")]
    NoToken,
    /// A certificate of somebody whom nobody trusts.
    #[strum(
        to_string = "their certificates are signed by an authority that the controller was not given"
    )]
    UnknownAuthority,
    /// A certificate that is out of date, of another name, or otherwise of no use.
    #[strum(
        to_string = "their certificates are out of date, of another name, or otherwise of no use"
    )]
    BadCertificate,
    /// 401.
    #[strum(
        to_string = "the kubelets take no tokens of service accounts (authentication.webhook.enabled of their configuration)"
    )]
    Unauthorized,
    /// 403.
    #[strum(
        to_string = "service account hubstorage-usage may not get nodes/stats, or the kubelets do not ask who may (authorization.mode of their configuration)"
    )]
    Forbidden,
    /// Another answer.
    #[strum(to_string = "the kubelets answer with an error")]
    Refused,
    /// No connection, or no answer in time.
    #[strum(to_string = "the kubelets are not reached")]
    Unreachable,
    /// An answer that is none, or too long.
    #[strum(to_string = "the kubelets' answers cannot be read")]
    Unreadable,
}

/// Whether nodes tell how full homes are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Nodes {
    /// This process has not asked, or not often enough.
    #[default]
    NotKnown,
    /// More than half do.
    Tell,
    /// They do not, for this reason, in words.
    AreSilent(String),
}

/// What was heard, round by round.
#[derive(Debug, Default)]
pub(super) struct Silence {
    nodes: Nodes,
    rounds: u8,
    told: usize,
    troubles: BTreeMap<String, Trouble>,
    /// The troubles of the round before.
    before: BTreeMap<String, Trouble>,
}

impl Silence {
    pub(super) fn nodes(&self) -> Nodes {
        self.nodes.clone()
    }

    pub(super) fn begin(&mut self) {
        self.told = 0;
        self.before = std::mem::take(&mut self.troubles);
    }

    pub(super) fn hear(&mut self, node: &str, trouble: Option<Trouble>) {
        let before = self.before.get(node);
        match trouble {
            None => {
                self.told += 1;
                if before.is_some() {
                    tracing::info!(node, "a node tells again how full homes are");
                }
            }
            Some(trouble) => {
                if before != Some(&trouble) {
                    tracing::warn!(node, %trouble, "a node does not tell how full homes are");
                }
                self.troubles.insert(node.to_owned(), trouble);
            }
        }
    }

    /// Whether something else is known than before the round.
    pub(super) fn end(&mut self) -> bool {
        let silent = self.troubles.len();
        let before = self.nodes.clone();
        if silent > 0 && silent >= self.told {
            self.rounds = self.rounds.saturating_add(1);
            if self.rounds >= ROUNDS {
                let who = match self.told {
                    0 => "no node tells",
                    _ => "half of the nodes or more do not tell",
                };
                // Of several the first of the list, so that it stays the same whoever fails.
                let why = self.troubles.values().min();
                let why = why.map(ToString::to_string).unwrap_or_default();
                self.nodes = Nodes::AreSilent(format!("{who} how full homes are: {why}"));
            }
        } else if self.told > 0 {
            self.rounds = 0;
            self.nodes = Nodes::Tell;
        }
        self.nodes != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(silence: &mut Silence, answers: &[Option<Trouble>]) -> Nodes {
        let before = silence.nodes();
        silence.begin();
        for (number, answer) in answers.iter().enumerate() {
            silence.hear(&format!("node-{number}"), *answer);
        }
        let is_other = silence.end();
        assert_eq!(is_other, silence.nodes() != before);
        silence.nodes()
    }

    fn silent(words: &str) -> Nodes {
        Nodes::AreSilent(words.to_owned())
    }

    #[test]
    fn that_nodes_are_silent_is_told_when_they_stay_so_and_taken_back_at_once() {
        let mut silence = Silence::default();
        let unreachable = [Some(Trouble::Unreachable)];
        assert_eq!(round(&mut silence, &[]), Nodes::NotKnown);
        for _ in 0..2 {
            assert_eq!(round(&mut silence, &unreachable), Nodes::NotKnown);
        }
        let words = "no node tells how full homes are: the kubelets are not reached";
        assert_eq!(round(&mut silence, &unreachable), silent(words));
        assert_eq!(round(&mut silence, &[]), silent(words), "nobody was asked");
        assert_eq!(round(&mut silence, &[None]), Nodes::Tell);
        for _ in 0..2 {
            assert_eq!(round(&mut silence, &unreachable), Nodes::Tell);
        }
    }

    #[test]
    fn where_one_node_tells_and_most_do_not_that_is_told_in_words_that_stay() {
        let mut silence = Silence::default();
        let (away, forbidden) = (Some(Trouble::Unreachable), Some(Trouble::Forbidden));
        for answers in [
            [away, None, forbidden],
            [forbidden, away, None],
            [None, forbidden, away],
        ] {
            round(&mut silence, &answers);
        }
        let Nodes::AreSilent(words) = silence.nodes() else {
            panic!("{:?}", silence.nodes());
        };
        assert!(words.starts_with("half of the nodes"), "{words}");
        assert!(words.contains("may not get nodes/stats"), "{words}");
        assert!(words.len() < 512, "as the schema bounds it");
        assert_eq!(round(&mut silence, &[None, None, away]), Nodes::Tell);
    }
}
