//! The certificate authority: what it consists of, and when which part of it is renewed.
//!
//! A renewal takes two steps, so that nobody is shown a certificate that they do not trust yet:
//! the next authority is first only trusted, and signs only after everybody had the time to read
//! the new bundle. The one before stays trusted for the leaves that it signed.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyUsagePurpose,
};

use super::x509::{CLOCK_SKEW, new_key, not_signed, set_validity, validity};
pub use super::x509::{CertificateError, Pair, Validity};

/// How long an authority is valid; it is renewed when a third is left.
pub const LIFETIME: SignedDuration = SignedDuration::from_hours(365 * 24);

/// How long the next authority is only trusted. The kubelet brings a changed ConfigMap to pods
/// within two minutes; the rest is for nodes that are away for a while.
const STAGING: SignedDuration = SignedDuration::from_hours(1);

/// An authority, and those that are trusted beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// Signs.
    pub current: Pair,
    /// Is trusted already, and will sign.
    pub next: Option<Pair>,
    /// Has signed what may still be in use: its certificate.
    pub previous: Option<String>,
}

/// What is to be done about an authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Keep,
    /// Make the first one, or one instead of another that is of no use.
    Create,
    /// Make the next one, to be trusted.
    Stage,
    /// Let the next one sign.
    Promote,
    /// Trust the previous one no more: it is over.
    Forget,
}

impl Authority {
    /// What is to be done; `None` is no authority, or one that cannot be read.
    pub fn step(found: Option<&Self>, now: Timestamp) -> Step {
        let Some(authority) = found else {
            return Step::Create;
        };
        let is_over = |pair: &Pair| pair.validity.is_over(now);
        match &authority.next {
            Some(next) if is_over(next) => return Step::Create,
            Some(next) if is_over(&authority.current) || is_staged(next, now) => {
                return Step::Promote;
            }
            None if is_over(&authority.current) => return Step::Create,
            None if now >= authority.current.validity.renewal() => return Step::Stage,
            Some(_) | None => {}
        }
        if authority.previous.is_some() && authority.trusted_previous(now).is_none() {
            return Step::Forget;
        }
        Step::Keep
    }

    /// The authority after `step`.
    ///
    /// # Errors
    /// If a new certificate cannot be made.
    pub fn after(
        found: Option<Self>,
        step: Step,
        now: Timestamp,
    ) -> Result<Self, CertificateError> {
        let create = || {
            Ok(Self {
                current: new_authority(now)?,
                next: None,
                previous: None,
            })
        };
        let Some(authority) = found else {
            return create();
        };
        Ok(match step {
            Step::Keep => authority,
            Step::Create => create()?,
            Step::Stage => Self {
                next: Some(new_authority(now)?),
                ..authority
            },
            Step::Promote => match authority.next {
                Some(next) => Self {
                    previous: Some(authority.current.certificate),
                    current: next,
                    next: None,
                },
                None => authority,
            },
            Step::Forget => Self {
                previous: None,
                ..authority
            },
        })
    }

    /// The certificates that clients trust, as PEM.
    pub fn bundle(&self, now: Timestamp) -> String {
        let next = self.next.as_ref().map(|next| next.certificate.as_str());
        let all = [
            Some(self.current.certificate.as_str()),
            next,
            self.trusted_previous(now),
        ];
        all.into_iter()
            .flatten()
            .map(|certificate| format!("{}\n", certificate.trim_end()))
            .collect()
    }

    fn trusted_previous(&self, now: Timestamp) -> Option<&str> {
        let valid =
            |certificate: &&str| validity(certificate).is_ok_and(|validity| !validity.is_over(now));
        self.previous.as_deref().filter(valid)
    }

    /// The data of its Secret.
    pub fn data(&self) -> BTreeMap<String, ByteString> {
        let mut data = BTreeMap::new();
        let mut put = |key: &str, pem: &str| {
            drop(data.insert(key.to_owned(), ByteString(pem.as_bytes().to_vec())))
        };
        put("ca.crt", &self.current.certificate);
        put("ca.key", &self.current.key);
        if let Some(next) = &self.next {
            put("next.crt", &next.certificate);
            put("next.key", &next.key);
        }
        if let Some(previous) = &self.previous {
            put("previous.crt", previous);
        }
        data
    }

    /// Reads the data of its Secret.
    ///
    /// # Errors
    /// [`CertificateError`] where `ca.crt` and `ca.key` are of no use. A `next` or `previous`
    /// that is of no use is left out.
    pub fn parse(data: &BTreeMap<String, ByteString>) -> Result<Self, CertificateError> {
        let text = |key: &str| {
            data.get(key)
                .and_then(|value| std::str::from_utf8(&value.0).ok())
        };
        let pair = |certificate, key| {
            Pair::parse(
                text(certificate).unwrap_or_default(),
                text(key).unwrap_or_default(),
            )
        };
        Ok(Self {
            current: pair("ca.crt", "ca.key")?,
            next: pair("next.crt", "next.key").ok(),
            previous: text("previous.crt")
                .filter(|certificate| validity(certificate).is_ok())
                .map(str::to_owned),
        })
    }
}

fn is_staged(next: &Pair, now: Timestamp) -> bool {
    now.duration_since(next.validity.from) >= CLOCK_SKEW + STAGING
}

fn new_authority(now: Timestamp) -> Result<Pair, CertificateError> {
    let validity = Validity::starting(now, LIFETIME);
    let mut params = CertificateParams::default();
    set_validity(&mut params, validity)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    // A name of its own for each, or a client would have to try several with one name.
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, format!("HubStorage {now:.0}"));
    params.distinguished_name = name;
    let key = new_key()?;
    let certificate = params.self_signed(&key).map_err(not_signed)?;
    Pair::parse(&certificate.pem(), &key.serialize_pem())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(day: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + day * 86_400).unwrap()
    }

    fn created(now: Timestamp) -> Authority {
        Authority::after(None, Step::Create, now).unwrap()
    }

    /// Does what is to be done.
    fn tend(authority: Authority, now: Timestamp) -> (Step, Authority) {
        let step = Authority::step(Some(&authority), now);
        (step, Authority::after(Some(authority), step, now).unwrap())
    }

    #[test]
    fn an_authority_is_the_same_after_it_was_stored() {
        let (_, staged) = tend(created(day(0)), day(300));
        let (_, promoted) = tend(staged.clone(), day(301));
        for authority in [created(day(0)), staged, promoted] {
            assert_eq!(Authority::parse(&authority.data()), Ok(authority));
        }
    }

    #[test]
    fn a_young_authority_is_kept() {
        assert_eq!(
            Authority::step(Some(&created(day(0))), day(200)),
            Step::Keep
        );
    }

    #[test]
    fn the_next_authority_is_trusted_before_it_signs_and_the_last_one_after() {
        let first = created(day(0));

        let (step, staged) = tend(first.clone(), day(250));
        assert_eq!(step, Step::Stage);
        assert_eq!(staged.current, first.current);
        let next = staged.next.clone().unwrap();
        assert!(staged.bundle(day(250)).contains(&next.certificate));

        let half_an_hour = SignedDuration::from_mins(30);
        assert_eq!(
            Authority::step(Some(&staged), day(250) + half_an_hour),
            Step::Keep
        );

        let (step, promoted) = tend(staged, day(250) + 2 * half_an_hour);
        assert_eq!(step, Step::Promote);
        assert_eq!(promoted.current, next);
        assert!(
            promoted
                .bundle(day(251))
                .contains(&first.current.certificate)
        );
    }

    #[test]
    fn an_authority_that_is_over_is_trusted_no_more() {
        let (_, staged) = tend(created(day(0)), day(250));
        let (_, promoted) = tend(staged, day(251));
        let first = promoted.previous.clone().unwrap();
        assert!(promoted.bundle(day(300)).contains(&first));
        assert!(!promoted.bundle(day(366)).contains(&first));
        let (step, after) = tend(promoted, day(366));
        assert_eq!((step, after.previous), (Step::Forget, None));
    }

    #[test]
    fn after_a_long_sleep_there_is_an_authority_again() {
        let (_, staged) = tend(created(day(0)), day(250));
        assert_eq!(Authority::step(Some(&staged), day(366)), Step::Promote);
        assert_eq!(Authority::step(Some(&staged), day(700)), Step::Create);
        assert_eq!(
            Authority::step(Some(&created(day(0))), day(366)),
            Step::Create
        );
    }

    #[test]
    fn a_bundle_has_the_same_bytes_every_time() {
        let (_, staged) = tend(created(day(0)), day(250));
        let (_, promoted) = tend(staged, day(251));
        let read = Authority::parse(&promoted.data()).unwrap();
        assert_eq!(read.bundle(day(260)), promoted.bundle(day(252)));
    }

    #[test]
    fn a_key_of_another_certificate_is_noticed() {
        let mut data = created(day(0)).data();
        data.insert(
            "ca.key".to_owned(),
            created(day(0)).data()["ca.key"].clone(),
        );
        assert_eq!(Authority::parse(&data), Err(CertificateError::KeyOfAnother));
    }

    #[test]
    fn a_secret_without_an_authority_says_so_without_its_content() {
        let garbage = BTreeMap::from([("ca.crt".to_owned(), ByteString(b"s3cr3t".to_vec()))]);
        let error = Authority::parse(&garbage).unwrap_err().to_string();
        assert!(
            error.starts_with("no certificate") && !error.contains("s3cr3t"),
            "{error}"
        );
    }

    #[test]
    fn a_bad_next_authority_does_not_hide_the_current_one() {
        let mut data = created(day(0)).data();
        data.insert("next.crt".to_owned(), ByteString(b"x".to_vec()));
        assert_eq!(Authority::parse(&data).unwrap().next, None);
    }

    #[test]
    fn debug_output_does_not_show_a_key() {
        assert!(!format!("{:?}", created(day(0))).contains("PRIVATE"));
    }
}
