//! A server's certificate.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use url::{Host, Url};

use super::authority::Authority;
use super::x509::{CertificateError, Validity, new_key, not_signed, set_validity};

/// How long a leaf is valid; it is renewed when a third is left.
pub const LIFETIME: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The names that a server answers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names(BTreeSet<String>);

/// A URL in which nobody can be found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} names no host; it must be https://HOST:PORT")]
pub struct NoHost(Url);

impl Names {
    /// The hosts of these URLs, and `always`.
    ///
    /// # Errors
    /// [`NoHost`] for a URL without one.
    pub fn of<'u>(urls: impl IntoIterator<Item = &'u Url>, always: &str) -> Result<Self, NoHost> {
        let mut names = BTreeSet::from([always.to_owned()]);
        for url in urls {
            names.insert(match url.host().ok_or_else(|| NoHost(url.clone()))? {
                Host::Domain(name) => name.to_owned(),
                // Without the brackets that stand around a v6 address in a URL.
                Host::Ipv4(address) => address.to_string(),
                Host::Ipv6(address) => address.to_string(),
            });
        }
        Ok(Self(names))
    }

    fn alternatives(&self) -> Result<Vec<SanType>, CertificateError> {
        let alternative = |name: &String| match name.parse::<IpAddr>() {
            Ok(address) => Ok(SanType::IpAddress(address)),
            Err(_) => Ok(SanType::DnsName(
                name.as_str().try_into().map_err(not_signed)?,
            )),
        };
        self.0.iter().map(alternative).collect()
    }
}

/// A certificate that was signed, with its key, ready to be shown.
#[derive(Debug, Clone)]
pub struct Signed {
    /// What TLS shows.
    pub key: Arc<CertifiedKey>,
    /// When it is valid.
    pub validity: Validity,
}

/// Signs a certificate for a server of these names.
///
/// # Errors
/// If the authority's key does not sign, or a name is none.
pub fn sign(
    authority: &Authority,
    names: &Names,
    now: Timestamp,
) -> Result<Signed, CertificateError> {
    let authority = &authority.current;
    let mut validity = Validity::starting(now, LIFETIME);
    validity.until = validity.until.min(authority.validity.until);

    let mut params = CertificateParams::default();
    set_validity(&mut params, validity)?;
    params.subject_alt_names = names.alternatives()?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, "hubstorage serve");
    params.distinguished_name = name;

    let signing = KeyPair::from_pem(&authority.key).map_err(|_| CertificateError::NoKey)?;
    let issuer = Issuer::from_ca_cert_pem(&authority.certificate, signing).map_err(not_signed)?;
    let key = new_key()?;
    let certificate = params.signed_by(&key, &issuer).map_err(not_signed)?;

    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let signer = rustls::crypto::ring::sign::any_ecdsa_type(&private)
        .map_err(|error| CertificateError::NotSigned(error.to_string()))?;
    Ok(Signed {
        key: Arc::new(CertifiedKey::new(vec![certificate.der().clone()], signer)),
        validity,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificates::authority::Step;
    use rustls::RootCertStore;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use std::time::Duration;

    fn day(day: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + day * 86_400).unwrap()
    }

    fn names() -> Names {
        let urls = [
            "https://127.0.0.1:9443",
            "https://[fd00::1]:9443",
            "https://serve.example.org",
        ];
        let urls = urls.map(|url| url.parse().unwrap());
        Names::of(&urls, "hubstorage-serve.hubstorage-system.svc").unwrap()
    }

    /// Whether a client that trusts `bundle` takes the certificate for `name`.
    fn accepts(bundle: &str, leaf: &Signed, name: &str, now: Timestamp) -> bool {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
            roots.add(certificate.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .unwrap();
        let name = ServerName::try_from(name).unwrap();
        let time = UnixTime::since_unix_epoch(Duration::from_secs(now.as_second().unsigned_abs()));
        verifier
            .verify_server_cert(&leaf.key.cert[0], &[], &name, &[], time)
            .is_ok()
    }

    #[test]
    fn clients_accept_a_leaf_for_each_of_its_names_and_no_other() {
        let authority = Authority::after(None, Step::Create, day(0)).unwrap();
        let leaf = sign(&authority, &names(), day(1)).unwrap();
        let bundle = authority.bundle(day(1));
        for name in [
            "127.0.0.1",
            "fd00::1",
            "serve.example.org",
            "hubstorage-serve.hubstorage-system.svc",
        ] {
            assert!(accepts(&bundle, &leaf, name, day(1)), "{name}");
        }
        assert!(!accepts(&bundle, &leaf, "other.example.org", day(1)));
        assert!(!accepts(&bundle, &leaf, "127.0.0.1", day(9)));
    }

    #[test]
    fn at_every_moment_of_a_renewal_the_leaves_in_use_are_trusted() {
        let first = Authority::after(None, Step::Create, day(0)).unwrap();
        let staged = Authority::after(Some(first.clone()), Step::Stage, day(250)).unwrap();
        let promoted = Authority::after(Some(staged.clone()), Step::Promote, day(251)).unwrap();
        let by_first = sign(&staged, &names(), day(250)).unwrap();
        let by_next = sign(&promoted, &names(), day(251)).unwrap();
        // A client with the bundle from before the promotion meets a replica from after it, and
        // the other way around.
        assert!(accepts(
            &staged.bundle(day(250)),
            &by_next,
            "127.0.0.1",
            day(251)
        ));
        assert!(accepts(
            &promoted.bundle(day(251)),
            &by_first,
            "127.0.0.1",
            day(251)
        ));
        assert!(!accepts(
            &first.bundle(day(251)),
            &by_next,
            "127.0.0.1",
            day(251)
        ));
    }

    #[test]
    fn a_leaf_does_not_outlive_its_authority() {
        let authority = Authority::after(None, Step::Create, day(0)).unwrap();
        let leaf = sign(&authority, &names(), day(363)).unwrap();
        assert_eq!(leaf.validity.until, authority.current.validity.until);
    }

    #[test]
    fn a_url_without_a_host_is_refused() {
        let url: Url = "unix:/run/x".parse().unwrap();
        assert!(
            Names::of([&url], "a")
                .unwrap_err()
                .to_string()
                .contains("names no host")
        );
    }
}
