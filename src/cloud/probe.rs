//! The negative probe: does the store enforce the session policies that it accepts?

use std::fmt;

use async_trait::async_trait;
use hubstorage_core::names::{BucketName, Prefix};

use crate::Credential;

/// What a canary session could do beyond its own prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeVerdict {
    /// Every foreign call was refused, every own call went through.
    Isolated,
    /// These foreign calls were not refused: nothing may be vended from this store.
    Leaks {
        /// The names of the calls, in the order of the probe.
        calls: Vec<&'static str>,
    },
    /// The probe could not be carried out, so that nothing is known.
    Unknown {
        /// The call that gave no answer of use.
        call: &'static str,
        /// What it gave.
        cause: String,
    },
}

impl fmt::Display for ProbeVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Isolated => f.write_str("sessions are held to their own prefix"),
            Self::Leaks { calls } => write!(
                f,
                "a session reached beyond its prefix: {}",
                calls.join(", ")
            ),
            Self::Unknown { call, cause } => write!(f, "the probe could not {call}: {cause}"),
        }
    }
}

/// Tries a session of one canary on the keys of another.
#[async_trait]
pub trait IsolationProbe: Send + Sync + fmt::Debug {
    /// Tries `session`, which was issued for `own` in `bucket`, on `foreign`, under which there is
    /// no object; also whether it may assume `role` again, the one that it is of.
    ///
    /// With `writes` a tiny object is put, read and deleted under `own`; without, the own calls
    /// only read. Foreign calls that are rightly refused leave nothing behind; one that is not
    /// may leave an empty object or an upload under `foreign` or `own`.
    async fn probe(
        &self,
        bucket: &BucketName,
        role: Option<&str>,
        session: &Credential,
        own: &Prefix,
        foreign: &Prefix,
        writes: bool,
    ) -> ProbeVerdict;
}
