//! The HubStorage agent: one small process per node between the AWS SDKs and the HubStorage broker.
//!
//! An SDK in a user pod asks `http://169.254.170.23:8180/v1/credentials`, with the content of the pod's
//! projected token file as `Authorization`. The agent checks that the request can only come from such an
//! SDK ([`request`]), and repeats it over TLS to the broker ([`broker`]), adding one fact that the broker
//! cannot see: the address of the connection's peer. The broker decides; its answer is passed on as it is.
//!
//! The agent has no identity of its own, and keeps nothing: no token and no credential is cached or
//! logged. It works without the broker at start, and recovers by itself.
//!
//! The SDK's side of the protocol:
//! <https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html>

mod add_address;
mod agent;
pub mod broker;
mod credentials;
mod flags;
mod limits;
mod listener;
mod metrics;
mod probe_socket;
mod probes;
mod readiness;
pub mod refusal;
pub mod request;
mod trust;

pub use add_address::{AddAddress, AddError, Added};
pub use agent::{Agent, BindError};
pub use broker::{BrokerUrl, BrokerUrlError};
pub use flags::Config;
pub use probe_socket::{Probe, ProbeError};
