//! Certificates with their keys, as PEM.

use std::fmt;

use jiff::{SignedDuration, Timestamp};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use time::OffsetDateTime;
use x509_parser::pem::parse_x509_pem;

/// Why a certificate cannot be used, or none made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Not PEM, or no certificate in it.
    #[error("no certificate: {0}")]
    NoCertificate(String),
    /// Not PEM, or no key in it. The cause is not shown: it could quote the key.
    #[error("no private key in PKCS #8")]
    NoKey,
    /// The two do not belong together.
    #[error("the private key is not that of the certificate")]
    KeyOfAnother,
    /// It could not be made.
    #[error("a certificate could not be signed: {0}")]
    NotSigned(String),
}

/// When a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// The first moment.
    pub from: Timestamp,
    /// The last.
    pub until: Timestamp,
}

impl Validity {
    /// A certificate that is made now. It is valid a little earlier, for clocks that are behind.
    pub(super) fn starting(now: Timestamp, lifetime: SignedDuration) -> Self {
        let add = |duration| now.checked_add(duration).unwrap_or(now);
        Self {
            from: add(-CLOCK_SKEW),
            until: add(lifetime),
        }
    }

    /// When two thirds of it are over.
    pub fn renewal(&self) -> Timestamp {
        let third = self.until.duration_since(self.from) / 3;
        self.until.checked_sub(third).unwrap_or(self.until)
    }

    /// Whether it is over.
    pub fn is_over(&self, now: Timestamp) -> bool {
        now >= self.until
    }
}

/// How far clocks may differ.
pub(super) const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// A certificate and its private key, each as PEM. `Debug` does not show the key.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The private key.
    pub(super) key: String,
    /// When the certificate is valid.
    pub validity: Validity,
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair")
            .field("validity", &self.validity)
            .finish_non_exhaustive()
    }
}

impl Pair {
    /// Reads a pair that was stored.
    ///
    /// # Errors
    /// [`CertificateError`] says which of the two is of no use.
    pub fn parse(certificate: &str, key: &str) -> Result<Self, CertificateError> {
        let (validity, public_key) = read(certificate)?;
        let pair = KeyPair::from_pem(key).map_err(|_| CertificateError::NoKey)?;
        if rcgen::PublicKeyData::der_bytes(&pair) != public_key {
            return Err(CertificateError::KeyOfAnother);
        }
        Ok(Self {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
            validity,
        })
    }
}

/// When a certificate (PEM) is valid.
///
/// # Errors
/// If it is none.
pub fn validity(certificate: &str) -> Result<Validity, CertificateError> {
    read(certificate).map(|(validity, _)| validity)
}

fn read(certificate: &str) -> Result<(Validity, Vec<u8>), CertificateError> {
    let unreadable = |cause: String| CertificateError::NoCertificate(cause);
    let (_, pem) =
        parse_x509_pem(certificate.as_bytes()).map_err(|error| unreadable(error.to_string()))?;
    let x509 = pem
        .parse_x509()
        .map_err(|error| unreadable(error.to_string()))?;
    let moment = |time: x509_parser::time::ASN1Time| {
        Timestamp::from_second(time.timestamp()).map_err(|error| unreadable(error.to_string()))
    };
    let dates = x509.validity();
    let validity = Validity {
        from: moment(dates.not_before)?,
        until: moment(dates.not_after)?,
    };
    Ok((validity, x509.public_key().subject_public_key.data.to_vec()))
}

/// A new key: ECDSA on P-256, which every TLS implementation of the callers knows.
pub(super) fn new_key() -> Result<KeyPair, CertificateError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(not_signed)
}

pub(super) fn not_signed(error: rcgen::Error) -> CertificateError {
    CertificateError::NotSigned(error.to_string())
}

pub(super) fn set_validity(
    params: &mut CertificateParams,
    validity: Validity,
) -> Result<(), CertificateError> {
    let date = |moment: Timestamp| {
        OffsetDateTime::from_unix_timestamp(moment.as_second())
            .map_err(|error| CertificateError::NotSigned(error.to_string()))
    };
    params.not_before = date(validity.from)?;
    params.not_after = date(validity.until)?;
    Ok(())
}
