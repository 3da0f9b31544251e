//! A file that a person reads into their shell, to type what the demo types.

use anyhow::Result;

use crate::checkout::Checkout;
use crate::components::minio;
use crate::files;
use crate::ports::Ports;
use crate::running::MinioUser;

/// Its path in the checkout.
pub const FILE: &str = ".run/shell.sh";

/// Writes the file: kubectl, helm and mc in the PATH, the cluster as KUBECONFIG, and the store as
/// `local`, by the key of its owner.
pub fn write(checkout: &Checkout, ports: &Ports) -> Result<()> {
    let path = |name: &str| checkout.run(name).display().to_string();
    let key = minio::Keys::load(checkout)?.of(MinioUser::Root);
    let store = minio::host_variable(ports.address("minio")?, &key, None);
    let lines = [
        format!("export PATH='{}':\"$PATH\"", path("bin")),
        format!("export KUBECONFIG='{}'", path("kubeconfig")),
        format!("export MC_CONFIG_DIR='{}'", path("minio/mc")),
        format!("export MC_HOST_local='{store}'"),
    ];
    files::write_private(&checkout.path(FILE), lines.join("\n") + "\n")
}
