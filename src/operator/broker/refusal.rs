//! How a request that gets no credential is answered.
//!
//! Each step has its own error; its variant's name is the `code` of the answer and its text the
//! `message`, which the SDK shows to a scientist in a traceback and an engineer reads in the
//! log. No message holds a token or a key.

use std::net::IpAddr;

use axum::http::StatusCode;
use strum::VariantNames as _;

use super::authorise::Denied;
use super::pods::PodError;
use super::review::ReviewError;
use super::token::TokenError;
use super::vend::VendError;

/// Why a request gets no credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Before any step.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The token itself.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// What the API server says of it.
    #[error(transparent)]
    Review(#[from] ReviewError),
    /// The pod that it was issued for.
    #[error(transparent)]
    Pod(#[from] PodError),
    /// What this pod may have.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The store that issues the credential.
    #[error(transparent)]
    Vend(#[from] VendError),
}

/// What is wrong with a request as such, or with the moment.
#[derive(
    Debug, Clone, PartialEq, Eq, thiserror::Error, strum::IntoStaticStr, strum::VariantNames,
)]
pub enum RequestError {
    /// The watches have not seen everything yet, or see nothing any more.
    #[error("the HubStorage broker does not know who may have what: {why}; retry in a minute")]
    NotReady {
        /// What is awaited, or fails.
        why: String,
    },
    /// Only [`super::server::ANSWER_WITHIN`] is left of the SDK's patience.
    #[error("the HubStorage broker could not finish in time; retry: what took long is remembered")]
    TooSlow,
    /// A pod that keeps sending bad tokens.
    #[error(
        "this pod has sent too many tokens that are not valid; wait a few seconds, and restart the server if it goes on"
    )]
    TooManyFailures,
    /// Somebody who sends bad tokens in the name of one pod after the other.
    #[error(
        "too many tokens that are not valid came from {agent}; retry in a few seconds, and if it goes on, tell the \
         administrators of the hub: only agents should reach the broker, and one of the pods of that agent, or \
         whatever else is at that address, floods it"
    )]
    TooManyStrangers {
        /// The other end of the connection: an agent's node, as a rule.
        agent: IpAddr,
    },
    /// A pod that asks in a loop.
    #[error(
        "this pod asks for credentials more often than its processes can need them; wait a few seconds, keep the \
         credentials that you have (SDKs do so by themselves), and do not make a new session for each request"
    )]
    TooManyRequests,
    /// Not sent by the agent.
    #[error(
        "the request has no valid header Hubstorage-Peer: ask the agent on the pod's node \
         (AWS_CONTAINER_CREDENTIALS_FULL_URI), not the broker"
    )]
    PeerMissing,
    /// Another path.
    #[error("there is nothing at this path: credentials are at GET /v1/credentials")]
    NotFound,
    /// Another method.
    #[error("credentials are fetched with GET; no other method is known here")]
    MethodNotAllowed,
}

impl RequestError {
    fn status(&self) -> StatusCode {
        match self {
            Self::NotReady { .. } | Self::TooSlow => StatusCode::SERVICE_UNAVAILABLE,
            Self::TooManyFailures | Self::TooManyStrangers { .. } | Self::TooManyRequests => {
                StatusCode::TOO_MANY_REQUESTS
            }
            Self::PeerMissing => StatusCode::BAD_REQUEST,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        }
    }
}

impl Refusal {
    /// Every code that an answer may have; `docs/refusals.md` has a row for each.
    pub fn codes() -> impl Iterator<Item = &'static str> {
        let each = [
            RequestError::VARIANTS,
            TokenError::VARIANTS,
            ReviewError::VARIANTS,
            PodError::VARIANTS,
            Denied::VARIANTS,
            VendError::VARIANTS,
        ];
        each.into_iter().flatten().copied()
    }

    /// The `code` of the answer, and the outcome in metrics and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Request(error) => error.into(),
            Self::Token(error) => error.into(),
            Self::Review(error) => error.into(),
            Self::Pod(error) => error.into(),
            Self::Denied(error) => error.into(),
            Self::Vend(error) => error.into(),
        }
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Request(error) => error.status(),
            Self::Token(error) => error.status(),
            Self::Review(error) => error.status(),
            Self::Pod(error) => error.status(),
            Self::Denied(error) => error.status(),
            // Trying again gives the same policy.
            Self::Vend(VendError::PolicyImpossible(_) | VendError::PolicyRefused(_)) => {
                StatusCode::FORBIDDEN
            }
            Self::Vend(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Whether the sender could not show who they are, or is not to be listened to just now; such
    /// refusals are logged only now and then.
    pub fn is_unauthenticated(&self) -> bool {
        self.status() == StatusCode::UNAUTHORIZED || matches!(self, Self::Request(_))
    }
}
