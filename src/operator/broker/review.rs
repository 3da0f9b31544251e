//! Step 2: what the API server says of the token now.
//!
//! A signature proves that a token was issued, not that its pod is still there. A positive
//! answer is kept for at most 10 s, so that a deleted pod's token is worth nothing soon after; a
//! negative one for 1 s, against a client that asks in a loop.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use hubstorage_core::api::AUDIENCE;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use moka::Expiry;
use moka::future::Cache;
use sha2::{Digest, Sha256};

use super::token::PodIdentity;

/// The longest; see [`Spread`].
const KEEP_POSITIVE: Duration = Duration::from_secs(10);
const KEEP_NEGATIVE: Duration = Duration::from_secs(1);

/// Two tokens of each of 5,000 pods.
const POSITIVES: u64 = 10_000;
const NEGATIVES: u64 = 1_000;

const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// Why the API server does not vouch for a token.
#[derive(
    Debug, Clone, PartialEq, Eq, thiserror::Error, strum::IntoStaticStr, strum::VariantNames,
)]
pub enum ReviewError {
    /// It does not.
    #[error(
        "the cluster no longer accepts this token: its pod {namespace}/{pod} or service account was deleted or replaced; restart the server"
    )]
    TokenRevoked {
        /// Namespace of the pod in the token.
        namespace: String,
        /// Name of the pod in the token.
        pod: String,
    },
    /// It does, but for somebody else.
    #[error(
        "the cluster accepts this token, but its {what} is another one than the token says; restart the server, and \
         if it goes on, tell the administrators of the hub that the API server does not check audiences or pods"
    )]
    TokenMismatch {
        /// What differs.
        what: &'static str,
    },
    /// Nobody could be asked.
    #[error("the API server could not be asked about the token ({cause}); retry in a few seconds")]
    ReviewUnavailable {
        /// What went wrong.
        cause: String,
    },
}

impl ReviewError {
    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::TokenRevoked { .. } | Self::TokenMismatch { .. } => StatusCode::UNAUTHORIZED,
            Self::ReviewUnavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// Asks the API server, and remembers for a moment. Tokens are remembered by their hash only.
pub struct Reviews {
    client: Client,
    positive: Cache<[u8; 32], PodIdentity>,
    negative: Cache<[u8; 32], ReviewError>,
}

impl Reviews {
    /// Nothing asked yet.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            positive: Cache::builder()
                .max_capacity(POSITIVES)
                .expire_after(Spread)
                .build(),
            negative: Cache::builder()
                .max_capacity(NEGATIVES)
                .time_to_live(KEEP_NEGATIVE)
                .build(),
        }
    }

    /// Whose token this is, if that was proven and confirmed a moment ago: the same bytes need no
    /// second look at their signature, which costs more than everything else in memory.
    pub async fn remembered(&self, token: &str) -> Option<PodIdentity> {
        self.positive.get(&hash(token)).await
    }

    /// Whether the API server vouches for `token` as that of `identity`; the latter must have
    /// been proven by the signature of the same token.
    ///
    /// # Errors
    /// [`ReviewError`] if it does not.
    pub async fn confirm(&self, token: &str, identity: &PodIdentity) -> Result<(), ReviewError> {
        let hash = hash(token);
        if let Some(refused) = self.negative.get(&hash).await {
            return Err(refused);
        }
        let asking = async { self.ask(token, identity).await.map(|()| identity.clone()) };
        let confirmed = self.positive.try_get_with(hash, asking).await;
        match confirmed.map_err(|error| (*error).clone()) {
            Err(unavailable @ ReviewError::ReviewUnavailable { .. }) => Err(unavailable),
            Err(refused) => {
                self.negative.insert(hash, refused.clone()).await;
                Err(refused)
            }
            Ok(_) => Ok(()),
        }
    }

    async fn ask(&self, token: &str, identity: &PodIdentity) -> Result<(), ReviewError> {
        let review = TokenReview {
            metadata: ObjectMeta::default(),
            spec: TokenReviewSpec {
                audiences: Some(vec![AUDIENCE.to_owned()]),
                token: token.to_owned(),
            },
            status: None,
        };
        let answer = Api::<TokenReview>::all(self.client.clone())
            .create(&PostParams::default(), &review)
            .await
            .map_err(|error| ReviewError::ReviewUnavailable {
                cause: error.to_string(),
            })?;
        judge(&answer.status.unwrap_or_default(), identity)
    }
}

/// Keeps some tokens up to a quarter shorter than others. Where many are first asked about at once (after
/// a restart, all of them are), the API server would else be asked about all of them at once again and
/// again, and every vend behind that would wait.
struct Spread;

impl<V> Expiry<[u8; 32], V> for Spread {
    fn expire_after_create(&self, hash: &[u8; 32], _: &V, _: Instant) -> Option<Duration> {
        let part = u32::from(hash[0]);
        Some(KEEP_POSITIVE - KEEP_POSITIVE / 4 * part / 255)
    }

    /// An answer in place of one whose time has just run out: kept as a first one.
    fn expire_after_update(
        &self,
        hash: &[u8; 32],
        value: &V,
        at: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        self.expire_after_create(hash, value, at)
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

fn judge(status: &TokenReviewStatus, identity: &PodIdentity) -> Result<(), ReviewError> {
    if status.authenticated != Some(true) {
        let PodIdentity {
            namespace, name, ..
        } = identity.clone();
        return Err(ReviewError::TokenRevoked {
            namespace,
            pod: name,
        });
    }
    // An API server that knows nothing of audiences answers without them, and then has not
    // checked ours (TokenReviewStatus.audiences in the API reference).
    if !status
        .audiences
        .iter()
        .flatten()
        .any(|audience| audience == AUDIENCE)
    {
        return Err(ReviewError::TokenMismatch { what: "audience" });
    }
    let user = status.user.clone().unwrap_or_default();
    let account = format!(
        "system:serviceaccount:{}:{}",
        identity.namespace, identity.service_account
    );
    if user.username.as_deref() != Some(&account) {
        return Err(ReviewError::TokenMismatch {
            what: "service account",
        });
    }
    let is_exactly = |key: &str, value: &str| {
        let values = user.extra.as_ref().and_then(|extra| extra.get(key));
        values.is_some_and(|values| values.len() == 1 && values[0] == value)
    };
    if !is_exactly(POD_NAME, &identity.name) || !is_exactly(POD_UID, &identity.uid) {
        return Err(ReviewError::TokenMismatch { what: "pod" });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn identity() -> PodIdentity {
        PodIdentity {
            namespace: "earth".into(),
            name: "jupyter-bob".into(),
            uid: "uid-1".into(),
            service_account: "default".into(),
        }
    }

    fn judged(edit: impl FnOnce(&mut Value)) -> Result<(), ReviewError> {
        let mut status = json!({
            "authenticated": true,
            "audiences": ["hubstorage.io"],
            "user": {
                "username": "system:serviceaccount:earth:default",
                "extra": {POD_NAME: ["jupyter-bob"], POD_UID: ["uid-1"]},
            },
        });
        edit(&mut status);
        judge(&serde_json::from_value(status).unwrap(), &identity())
    }

    #[test]
    fn tokens_are_kept_for_ten_seconds_at_most_and_not_all_for_the_same_time() {
        let kept: Vec<Duration> = (0..1000)
            .map(|number| hash(&format!("token {number}")))
            .map(|hash| Spread.expire_after_create(&hash, &(), Instant::now()))
            .map(|kept| kept.unwrap())
            .collect();
        let (shortest, longest) = (Duration::from_millis(7500), Duration::from_secs(10));
        assert!(kept.iter().all(|kept| (shortest..=longest).contains(kept)));
        // A tenth of that time holds about a tenth of them.
        let tenth = (longest - shortest) / 10;
        for part in 0..10 {
            let from = shortest + tenth * part;
            let within = kept
                .iter()
                .filter(|kept| (from..=from + tenth).contains(*kept));
            assert!(within.count() < 200);
        }
    }

    #[test]
    fn a_review_that_agrees_with_the_token_in_everything_is_taken() {
        assert_eq!(judged(|_| {}), Ok(()));
    }

    #[test]
    fn a_review_that_did_not_check_our_audience_is_not_taken() {
        let mismatch = Err(ReviewError::TokenMismatch { what: "audience" });
        assert_eq!(judged(|status| status["audiences"] = json!([])), mismatch);
        assert_eq!(
            judged(|status| status["audiences"] = json!(["https://kubernetes.default"])),
            mismatch
        );
    }

    #[test]
    fn a_review_of_another_pod_or_account_is_not_taken() {
        let pod = Err(ReviewError::TokenMismatch { what: "pod" });
        assert_eq!(
            judged(|status| status["user"]["extra"][POD_UID] = json!(["uid-2"])),
            pod
        );
        assert_eq!(
            judged(|status| status["user"]["extra"][POD_NAME] = json!(["jupyter-eve"])),
            pod
        );
        assert_eq!(judged(|status| status["user"]["extra"] = json!({})), pod);
        let account = Err(ReviewError::TokenMismatch {
            what: "service account",
        });
        assert_eq!(
            judged(
                |status| status["user"]["username"] = json!("system:serviceaccount:mars:default")
            ),
            account
        );
    }

    #[test]
    fn a_token_that_is_not_authenticated_is_revoked() {
        assert!(matches!(
            judged(|status| status["authenticated"] = json!(false)),
            Err(ReviewError::TokenRevoked { .. })
        ));
        assert!(matches!(
            judged(|status| *status = json!({})),
            Err(ReviewError::TokenRevoked { .. })
        ));
    }
}
