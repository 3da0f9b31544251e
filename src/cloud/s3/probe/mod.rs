//! The negative probe over S3: a canary session is tried on another canary's keys.
//!
//! [`steps`] is the specification, call by call; [`wire`] signs and sends each call itself, since
//! no SDK sends `..` and `//` as they are; [`answer`] tells a refusal from everything else.

mod answer;
mod service_account;
mod steps;
mod wire;

use async_trait::async_trait;
use hubstorage_core::names::{BucketName, Prefix};

use self::answer::Reading;
use self::steps::{FOREIGN, OWN, OWN_WRITES, Step, Subjects};
use self::wire::Wire;
use super::S3Config;
use crate::{CloudError, Credential, IsolationProbe, ProbeVerdict};

/// The negative probe of S3 or a compatible.
#[derive(Debug)]
pub struct S3Probe {
    wire: Wire,
    is_aws: bool,
}

impl S3Probe {
    /// Prepares the probe; nothing is called yet. Of `config`, only the place of the store is
    /// used, never its keys: every call is made with the canary's session.
    ///
    /// # Errors
    /// [`CloudError::InvalidCaBundle`].
    pub fn new(config: &S3Config) -> Result<Self, CloudError> {
        Ok(Self {
            wire: Wire::new(config)?,
            is_aws: config.endpoint.is_none(),
        })
    }

    async fn run(&self, step: &Step, subjects: &Subjects<'_>) -> Result<Reading, String> {
        let request = (step.request)(subjects)?;
        let first = self
            .wire
            .send(&request, subjects.session, request.signed_path())
            .await?;
        // Servers differ in the form of an odd path over which they compute the signature: as
        // sent, or decoded. Whoever attacks would try both.
        let answer = match request.decoded_path() {
            Some(decoded) if first.code == "SignatureDoesNotMatch" => {
                let second = self.wire.send(&request, subjects.session, decoded).await?;
                if second.code == "SignatureDoesNotMatch" {
                    // The own calls proved the keys, so this path is one that nobody can sign.
                    return Ok(Reading::AsExpected);
                }
                second
            }
            _ => first,
        };
        tracing::debug!(call = step.name, answer = answer.told(), "probed");
        Ok(step.expect.read(&answer))
    }
}

#[async_trait]
impl IsolationProbe for S3Probe {
    async fn probe(
        &self,
        bucket: &BucketName,
        role: Option<&str>,
        session: &Credential,
        own: &Prefix,
        foreign: &Prefix,
        writes: bool,
    ) -> ProbeVerdict {
        let absent = format!("{:032x}", rand::random::<u128>());
        let subjects = Subjects {
            bucket,
            session,
            own,
            foreign,
            role: role.unwrap_or(super::sts::NO_ROLE),
            absent: &absent,
        };
        let unknown = |step: &Step, cause: String| ProbeVerdict::Unknown {
            call: step.name,
            cause,
        };

        for step in OWN.iter().chain(OWN_WRITES.iter().filter(|_| writes)) {
            match self.run(step, &subjects).await {
                Ok(Reading::AsExpected) => {}
                Ok(Reading::NotAsExpected(cause) | Reading::Unclear(cause)) | Err(cause) => {
                    return unknown(step, cause);
                }
            }
        }

        let mut calls = Vec::new();
        let mut unclear = None;
        for step in FOREIGN
            .iter()
            .filter(|step| !(step.only_compatibles && self.is_aws))
        {
            match self.run(step, &subjects).await {
                Ok(Reading::AsExpected) => {}
                Ok(Reading::NotAsExpected(cause)) => {
                    tracing::warn!(call = step.name, cause, %bucket, "a canary session reached beyond its prefix");
                    calls.push(step.name);
                }
                Ok(Reading::Unclear(cause)) | Err(cause) => {
                    unclear.get_or_insert_with(|| unknown(step, cause));
                }
            }
        }
        // One leak is certain, whatever else could not be told.
        match (calls.is_empty(), unclear) {
            (false, _) => ProbeVerdict::Leaks { calls },
            (true, Some(unknown)) => unknown,
            (true, None) => ProbeVerdict::Isolated,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory;

    #[test]
    fn memory_tries_the_same_calls_but_for_those_of_paths_and_of_minio() {
        let beyond_memory =
            |step: &&Step| !step.only_compatibles && !step.name.starts_with("get through");
        let names: Vec<_> = FOREIGN
            .iter()
            .filter(beyond_memory)
            .map(|step| step.name)
            .collect();
        assert_eq!(memory::probe_names(), names);
    }
}
