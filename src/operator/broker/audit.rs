//! Step 6: one line for each answer, by which an auditor finds out who got what, and when.
//!
//! The access key id links it to the store's own access log; it is no secret. Token, secret
//! key and session token are never given to a function of this module.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hubstorage_core::policies::Reach;

use super::authorise::Grantee;
use super::refusal::Refusal;
use super::token::PodIdentity;
use super::vend::Vended;

/// Lines about refused strangers in one [`WINDOW`]; others are only counted.
const LINES: u32 = 10;
const WINDOW: Duration = Duration::from_secs(1);

/// Writes the lines.
#[derive(Debug, Default)]
pub struct Audit {
    strangers: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    started: Option<Instant>,
    lines: u32,
    suppressed: u64,
}

impl Audit {
    /// A credential was given out.
    pub fn vended(&self, identity: &PodIdentity, grantee: &Grantee, vended: &Vended) {
        tracing::info!(
            user = grantee.user.as_str(),
            prefix = grantee.prefix.as_str(),
            reaches = told(&grantee.reaches),
            namespace = identity.namespace,
            hub = grantee.hub,
            pod = identity.name,
            pod_uid = identity.uid,
            policy = vended.fingerprint,
            access_key_id = vended.credential.access_key_id,
            expires = %vended.credential.expires,
            cached = vended.cached,
            "vended"
        );
    }

    /// None was given out. Refusals of whoever could not show who they are come at any rate that
    /// a stranger likes, and are logged at a rate that we like.
    pub fn refused(&self, identity: Option<&PodIdentity>, peer: Option<IpAddr>, refusal: &Refusal) {
        let suppressed = match refusal.is_unauthenticated() {
            false => 0,
            true => match self.may_log(Instant::now()) {
                Some(suppressed) => suppressed,
                None => return,
            },
        };
        tracing::info!(
            code = refusal.code(),
            namespace = identity.map(|identity| identity.namespace.as_str()),
            pod = identity.map(|identity| identity.name.as_str()),
            peer = peer.map(|peer| peer.to_string()),
            suppressed = Some(suppressed).filter(|lines| *lines > 0),
            reason = %refusal,
            "refused"
        );
    }

    /// How many lines were left out since the last one, or `None` if this one is to be left out.
    fn may_log(&self, now: Instant) -> Option<u64> {
        let mut window = self
            .strangers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if window
            .started
            .is_none_or(|started| now.duration_since(started) >= WINDOW)
        {
            window.started = Some(now);
            window.lines = 0;
        }
        if window.lines >= LINES {
            window.suppressed += 1;
            return None;
        }
        window.lines += 1;
        Some(std::mem::take(&mut window.suppressed))
    }
}

/// What is reached, each bucket with its part: as long as a session policy at most.
fn told(reaches: &[Reach]) -> String {
    let told: Vec<String> = reaches.iter().map(ToString::to_string).collect();
    told.join(", ")
}

#[cfg(test)]
mod tests {
    use hubstorage_core::names::{BucketName, Prefix, SharedPrefix};
    use hubstorage_core::policies::{Access, Place};

    use super::*;

    #[test]
    fn what_groups_share_is_told_as_well_as_what_is_the_users_own() {
        let bucket = BucketName::parse("earth-data").unwrap();
        let reach = |place, access| Reach {
            bucket: bucket.clone(),
            place,
            access,
        };
        let reaches = [
            reach(Place::Own(Prefix::escaped(b"bob")), Access::ReadWrite),
            reach(
                Place::Shared(SharedPrefix::parse("_groups/ocean").unwrap()),
                Access::ReadOnly,
            ),
            reach(Place::Whole, Access::ReadOnly),
        ];
        assert_eq!(
            told(&reaches),
            "earth-data/bob ReadWrite, earth-data/_groups/ocean ReadOnly, earth-data ReadOnly"
        );
    }

    #[test]
    fn a_flood_of_strangers_is_logged_at_a_bounded_rate_and_counted() {
        let audit = Audit::default();
        let start = Instant::now();
        let logged = (0..1000).filter(|_| audit.may_log(start).is_some()).count();
        assert_eq!(logged, 10);
        assert_eq!(audit.may_log(start + WINDOW), Some(990));
        assert_eq!(audit.may_log(start + WINDOW), Some(0));
    }
}
