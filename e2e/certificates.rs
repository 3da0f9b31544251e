//! The cluster's own certificate authority, and the certificates and keys signed by it.

use std::path::Path;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

use crate::files;

/// One certificate: file name, whom it names, and what it may be used for.
struct Leaf {
    file: &'static str,
    /// For Kubernetes, the user's name.
    common_name: &'static str,
    /// For Kubernetes, the user's group.
    organization: Option<&'static str>,
    /// Names and addresses of a server; none for a client.
    names: &'static [&'static str],
}

/// The first address of the service range is the API server as pods see it.
const API_SERVER_NAMES: &[&str] = &[
    "127.0.0.1",
    "10.245.0.1",
    "10.96.0.1",
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
];

/// The loopback address and that of the node (`Extent::host`).
const HERE: &[&str] = &["127.0.0.1", "10.245.0.1", "localhost"];

const LEAVES: &[Leaf] = &[
    Leaf {
        file: "etcd",
        common_name: "etcd",
        organization: None,
        names: HERE,
    },
    Leaf {
        file: "kube-apiserver",
        common_name: "kube-apiserver",
        organization: None,
        names: API_SERVER_NAMES,
    },
    Leaf {
        file: "kube-controller-manager",
        common_name: "system:kube-controller-manager",
        organization: None,
        names: HERE,
    },
    Leaf {
        file: "kube-scheduler",
        common_name: "system:kube-scheduler",
        organization: None,
        names: HERE,
    },
    Leaf {
        file: "node",
        common_name: "system:node:paper",
        organization: Some("system:nodes"),
        names: &[],
    },
    Leaf {
        file: "kubelet",
        common_name: "system:node:worker",
        organization: Some("system:nodes"),
        names: HERE,
    },
    Leaf {
        file: "kube-proxy",
        common_name: "system:kube-proxy",
        organization: Some("system:node-proxier"),
        names: &[],
    },
    Leaf {
        file: "coredns",
        common_name: "system:coredns",
        organization: Some("system:masters"),
        names: &[],
    },
    Leaf {
        file: "csi",
        common_name: "system:csi",
        organization: Some("system:masters"),
        names: &[],
    },
    Leaf {
        file: "admin",
        common_name: "admin",
        organization: Some("system:masters"),
        names: &[],
    },
];

/// Makes the CA, all certificates and the key that signs service account tokens, unless they are
/// there already.
pub fn ensure(folder: &Path) -> Result<()> {
    // Written last, so that a half-made set is made again.
    let complete = folder.join("complete");
    if complete.exists() {
        return Ok(());
    }
    files::make_private_folder(folder)?;
    let ca = authority().context("the cluster's certificate authority")?;
    files::write_private(&folder.join("ca.crt"), ca.pem())?;
    for leaf in LEAVES {
        let (certificate, key) =
            sign(leaf, &ca).with_context(|| format!("certificate {}", leaf.file))?;
        files::write_private(&folder.join(format!("{}.crt", leaf.file)), certificate)?;
        files::write_private(&folder.join(format!("{}.key", leaf.file)), key)?;
    }
    // ECDSA P-256: service account tokens are ES256 here.
    let service_accounts = KeyPair::generate()?;
    files::write_private(
        &folder.join("service-accounts.key"),
        service_accounts.serialize_pem(),
    )?;
    files::write_private(
        &folder.join("service-accounts.pub"),
        service_accounts.public_key_pem(),
    )?;
    files::write_private(&complete, "")
}

fn authority() -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, "hubstorage local platform");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

fn sign(leaf: &Leaf, ca: &CertifiedIssuer<'static, KeyPair>) -> Result<(String, String)> {
    let names: Vec<String> = leaf.names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names)?;
    params
        .distinguished_name
        .push(DnType::CommonName, leaf.common_name);
    if let Some(organization) = leaf.organization {
        params
            .distinguished_name
            .push(DnType::OrganizationName, organization);
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // Servers are clients too: etcd of itself, the API server of etcd, the others of the API server.
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    if !leaf.names.is_empty() {
        params
            .extended_key_usages
            .push(ExtendedKeyUsagePurpose::ServerAuth);
    }
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, ca)?;
    Ok((certificate.pem(), key.serialize_pem()))
}
