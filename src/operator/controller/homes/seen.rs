//! Users' claims in memory.

use std::borrow::Cow;

use hubstorage_core::homes::HomeClaim;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt as _;
use kube::runtime::reflector::Lookup;
use kube::runtime::watcher::Event;

/// A claim as the watch has seen it.
#[derive(Debug, Clone)]
pub struct SeenClaim {
    namespace: Box<str>,
    name: Box<str>,
    /// None, where it is nobody's home.
    home: Option<HomeClaim>,
}

impl SeenClaim {
    /// The namespace that it is in.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The home that it is, if it is one.
    pub fn home(&self) -> Option<&HomeClaim> {
        self.home.as_ref()
    }
}

impl From<PersistentVolumeClaim> for SeenClaim {
    fn from(claim: PersistentVolumeClaim) -> Self {
        Self {
            namespace: claim
                .metadata
                .namespace
                .as_deref()
                .unwrap_or_default()
                .into(),
            name: claim.name_any().into(),
            home: HomeClaim::of(&claim),
        }
    }
}

/// The same event, of what is kept of the claim.
pub fn seen(event: Event<PersistentVolumeClaim>) -> Event<SeenClaim> {
    match event {
        Event::Apply(claim) => Event::Apply(claim.into()),
        Event::Delete(claim) => Event::Delete(claim.into()),
        Event::Init => Event::Init,
        Event::InitApply(claim) => Event::InitApply(claim.into()),
        Event::InitDone => Event::InitDone,
    }
}

impl Lookup for SeenClaim {
    type DynamicType = ();

    fn kind((): &()) -> Cow<'_, str> {
        <PersistentVolumeClaim as Lookup>::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        <PersistentVolumeClaim as Lookup>::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        <PersistentVolumeClaim as Lookup>::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        <PersistentVolumeClaim as Lookup>::plural(&())
    }

    fn name(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(&self.name))
    }

    fn namespace(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(&self.namespace))
    }

    // Of no use in the key of a memory.
    fn resource_version(&self) -> Option<Cow<'_, str>> {
        None
    }

    fn uid(&self) -> Option<Cow<'_, str>> {
        None
    }
}
