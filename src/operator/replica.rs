//! What a replica calls itself.

/// A name that no other replica has: in Leases, and in logs. The host's name says where to
/// look; the random part tells two processes of one host apart.
pub fn name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}-{:08x}", host.trim(), rand::random::<u32>())
}
