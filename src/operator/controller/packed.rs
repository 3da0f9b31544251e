//! Objects in memory of which only a part is kept: there are thousands of them.

use std::borrow::Cow;
use std::marker::PhantomData;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::reflector::Lookup;
use kube::runtime::watcher::Event;

/// What is kept of an object of kind `K`: its name, and `P`.
#[derive(Debug, Clone)]
pub struct Packed<K, P> {
    namespace: Box<str>,
    name: Box<str>,
    pub(super) kept: P,
    of: PhantomData<fn() -> K>,
}

impl<K, P> Packed<K, P> {
    /// Of the object with this metadata.
    pub(super) fn of(metadata: &ObjectMeta, kept: P) -> Self {
        Self {
            namespace: metadata.namespace.as_deref().unwrap_or_default().into(),
            name: metadata.name.as_deref().unwrap_or_default().into(),
            kept,
            of: PhantomData,
        }
    }

    /// The namespace that it is in.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }
}

/// The same event, of what is kept of the object.
pub fn packed<O, P: From<O>>(event: Event<O>) -> Event<P> {
    match event {
        Event::Apply(object) => Event::Apply(object.into()),
        Event::Delete(object) => Event::Delete(object.into()),
        Event::Init => Event::Init,
        Event::InitApply(object) => Event::InitApply(object.into()),
        Event::InitDone => Event::InitDone,
    }
}

impl<K: Lookup<DynamicType = ()>, P> Lookup for Packed<K, P> {
    type DynamicType = ();

    fn kind((): &()) -> Cow<'_, str> {
        K::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        K::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        K::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::plural(&())
    }

    fn name(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(&self.name))
    }

    fn namespace(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(&self.namespace))
    }

    // Of no use in the key of a memory, where both would stand a second time.
    fn resource_version(&self) -> Option<Cow<'_, str>> {
        None
    }

    fn uid(&self) -> Option<Cow<'_, str>> {
        None
    }
}
