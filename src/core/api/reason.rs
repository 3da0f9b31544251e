//! The one list of reasons: conditions, events, metric labels and `docs/troubleshooting.md`
//! all take them from here.

use strum::{Display, EnumIter, EnumString, IntoEnumIterator, IntoStaticStr};

/// Why something is as it is, for machines; CamelCase, stable API.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    IntoStaticStr,
    Display,
    EnumIter,
    EnumString,
)]
pub enum Reason {
    // All is well.
    /// Everything declared is true.
    Ready,
    /// Every part of it is as declared.
    Applied,
    /// Nothing of the kind is declared.
    NotDeclared,
    /// Applied but for what the store cannot do.
    PartlyApplied,
    // Under way.
    /// Changes are being made.
    Progressing,
    /// The HubStorage is being deleted, and its buckets with it.
    Deleting,
    /// Mode Observe: differences are told, not put right.
    Observing,
    /// Mode Paused: nobody looks.
    Paused,
    // About the spec and what it refers to.
    /// providerRef names no StorageProvider.
    ProviderNotFound,
    /// The StorageProvider has a problem of its own.
    ProviderNotReady,
    /// The StorageProvider points to another store, or its keys to another account, than those that
    /// the buckets are at.
    ProviderMoved,
    /// The provider is not for this namespace.
    NamespaceNotAllowed,
    /// The provider does not let hubs claim this bucket name.
    BucketNameNotAllowed,
    /// No store takes this bucket name.
    BucketNameInvalid,
    /// Another HubStorage was in the namespace first.
    SecondHubStorage,
    /// A HubUser is of no HubStorage.
    HubStorageNotFound,
    /// No prefix can be made of a username.
    UsernameUnsafe,
    /// The operator cannot do this yet.
    Unsupported,
    /// A field of the provider cannot be used.
    InvalidConfiguration,
    // About the store.
    /// A Secret with keys is missing or incomplete.
    CredentialsMissing,
    /// The store does not accept the keys.
    CredentialsRejected,
    /// The store does not answer.
    EndpointUnreachable,
    /// The identity lacks a permission.
    AccessDenied,
    /// The bucket belongs to somebody else.
    BucketOwnedByOthers,
    /// The bucket was there before, and is not to be taken over.
    BucketExists,
    /// A bucket that somebody else keeps is not there.
    BucketMissing,
    /// A bucket that is to be deleted holds something that stays.
    BucketNotEmpty,
    /// The store asks for fewer calls.
    Throttled,
    /// The store failed in another way.
    StoreFailed,
    /// A role of the hub's name is somebody else's.
    RoleOwnedByOthers,
    /// The hub's role can be assumed by somebody else.
    RoleTrustsOthers,
    // About isolation.
    /// Admission policies that make stamps trustworthy are missing or changed.
    GuardMissing,
    /// Nobody has tried yet whether the store holds users apart.
    ProbePending,
    /// It could not be tried.
    ProbeInconclusive,
    /// The store does not hold users apart.
    ProbeLeaks,
    /// The policy of a bucket, or its access control list, lets others in.
    OtherGrants,
    /// The provider vends nothing.
    VendingNotConfigured,
    /// Users' pods share an identity of the cloud, or its keys.
    CloudIdentityOnPods,
    /// Users' pods have the token of a service account that reaches others' data.
    ServiceAccountPrivileged,
    /// Users' pods reach what their node has of other pods.
    NodeReachable,
    /// Users' pods reach a metadata service that gives the node's credentials.
    MetadataServiceReachable,
    /// Users' pods run that nobody vouches for.
    PodsUnverified,
    /// Credentials are held apart; whether pods reach a metadata service is not known.
    MetadataServiceUntried,
    /// No way was found to what others have.
    Isolated,
    // About injection.
    /// The mutating webhook is not registered.
    WebhookMissing,
    /// The webhook is registered with a certificate authority that is not ours.
    CertificateAuthorityMismatch,
    /// No replica of `hubstorage serve` is ready.
    WebhookUnavailable,
    /// The agent does not run on every node that it is for.
    AgentsUnavailable,
    /// User pods were created without the webhook. Also the reason of the event on each.
    NotInjected,
    // About shared folders and homes.
    /// The admission policy that holds what is declared is missing or changed.
    PolicyMissing,
    // About shared folders.
    /// The claim of a shared folder is not there.
    ClaimMissing,
    /// The claim of a shared folder has no volume, or is being deleted.
    ClaimNotBound,
    /// Not all pods of a hub could mount the claim of a shared folder as declared.
    ClaimNotShareable,
    // About homes.
    /// A home is nearly full, and does not grow by itself.
    ClaimFull,
    /// At least half of the nodes do not tell how full homes are.
    UsageUnknown,
    /// A home is larger than it may be.
    ClaimTooLarge,
    /// A home is being made larger.
    ClaimGrowing,
    /// The StorageClass of a home lets it not grow.
    ClaimNotExpandable,
    /// A home could not be made larger.
    ClaimGrowthFailed,
    /// A user has two homes for one server.
    ClaimDuplicate,
    // Events.
    /// A bucket was created.
    BucketCreated,
    /// A bucket was marked as ours.
    BucketTagged,
    /// A bucket that was there before was taken over.
    BucketAdopted,
    /// A setting was made what it should be for the first time or after an edit of the spec.
    BucketConfigured,
    /// Lifecycle rules were written for the first time or after an edit of the spec.
    LifecycleRulesSet,
    /// The store was found changed, and was put back.
    DriftCorrected,
    /// A bucket was left in the store, at deletion or because the spec does not name it any more.
    BucketRetained,
    /// A bucket was deleted with its HubStorage.
    BucketDeleted,
    /// A role was created.
    RoleCreated,
    /// A role was made what it should be after an edit of the spec.
    RoleConfigured,
    /// A role was left behind.
    RoleRetained,
    /// A role was deleted.
    RoleDeleted,
}

impl Reason {
    /// What this reason means, in one sentence.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Ready => "Everything declared is true.",
            Self::Applied => "Every part is as declared.",
            Self::NotDeclared => "The spec declares nothing of the kind, so nothing is managed.",
            Self::PartlyApplied => {
                "Everything is applied but what this store cannot do; the message names it."
            }
            Self::Progressing => "Changes are being made.",
            Self::Deleting => "The HubStorage is being deleted, and its buckets with it.",
            Self::Observing => {
                "Mode Observe: the store differs from what is declared; status.plan says what mode Enforce would do."
            }
            Self::Paused => {
                "Mode Paused: nothing is compared with the store, nothing is put right, and a check that is asked for waits."
            }
            Self::ProviderNotFound => {
                "spec.providerRef names a StorageProvider that does not exist."
            }
            Self::ProviderNotReady => "The StorageProvider is not Ready, for a reason of its own.",
            Self::ProviderMoved => {
                "The StorageProvider points to another store, or its keys to another account, than the first one, where hubs have buckets; nothing is done at either."
            }
            Self::NamespaceNotAllowed => {
                "spec.namespaces of the StorageProvider does not select this namespace."
            }
            Self::BucketNameNotAllowed => {
                "spec.bucketNames of the StorageProvider does not allow this bucket name."
            }
            Self::BucketNameInvalid => {
                "The bucket name breaks a rule of the store; the message says which."
            }
            Self::SecondHubStorage => {
                "A namespace has one HubStorage, and another one was there first."
            }
            Self::HubStorageNotFound => {
                "spec.hubRef of a HubUser names another HubStorage than the one that counts in its namespace, one that does not exist or is a second one: the object has no effect."
            }
            Self::UsernameUnsafe => {
                "The HubStorage has prefixScheme Raw, and the username of a HubUser would not be safe as a prefix: the user gets nothing."
            }
            Self::Unsupported => "The operator does not support this yet.",
            Self::InvalidConfiguration => {
                "A field of the StorageProvider cannot be used; the message names it."
            }
            Self::CredentialsMissing => {
                "A Secret with keys of the StorageProvider is missing, or lacks a key: those that manage, or, in VendingReady, those that vend."
            }
            Self::CredentialsRejected => {
                "The store does not know the access key, or the secret key does not match it."
            }
            Self::EndpointUnreachable => "The store's endpoint does not answer.",
            Self::AccessDenied => {
                "The managing or vending identity lacks a permission; the message names it."
            }
            Self::BucketOwnedByOthers => {
                "A bucket of this name exists and bears no tag of this HubStorage."
            }
            Self::RoleOwnedByOthers => {
                "A role of the name that this HubStorage's role has is there, and bears no tag of this HubStorage."
            }
            Self::RoleTrustsOthers => {
                "The trust policy of the HubStorage's role was changed, and is not put back: somebody else may assume it, and reach all of the hub's data."
            }
            Self::BucketExists => {
                "An earlier HubStorage of the same name left this bucket, and adoption is Never."
            }
            Self::BucketMissing => {
                "A bucket with management AccessOnly is not there, and the operator creates none."
            }
            Self::BucketNotEmpty => {
                "The HubStorage is being deleted, and a bucket holds something: with deletionPolicy DeleteIfEmpty anything, with DeleteContents what the store does not let go."
            }
            Self::Throttled => {
                "The store asks for fewer calls. A HubStorage or StorageProvider that was Ready stays so meanwhile."
            }
            Self::StoreFailed => "The store failed in a way that may pass.",
            Self::GuardMissing => {
                "The admission policies that protect usernames and stamps are missing, changed or too new, so nothing is vended."
            }
            Self::ProbePending => {
                "Nobody has tried yet whether this store holds users apart; nothing is vended until then."
            }
            Self::ProbeInconclusive => {
                "The try whether this store holds users apart could not be carried out; nothing is vended. VendingReady says why."
            }
            Self::ProbeLeaks => {
                "A credential limited to one prefix reached another: this store does not hold users apart, so nothing is vended."
            }
            Self::OtherGrants => {
                "Others have granted something in the policy of a bucket or in its access control list, by which somebody may reach more than their own prefix; the message names it. Vending goes on."
            }
            Self::VendingNotConfigured => {
                "The StorageProvider has no spec.s3.vending, so users get no credentials."
            }
            Self::CloudIdentityOnPods => {
                "Users' pods share an identity of the cloud or keys of a store, by their service account, a token or a variable; the message names it. What that identity may do, every user may. Vending goes on."
            }
            Self::ServiceAccountPrivileged => {
                "Users' pods have a token of a service account that may do what leads to others' data; the message names account and rights. Vending goes on."
            }
            Self::NodeReachable => {
                "Users' pods reach files or processes of their node, and with them the tokens of other users' pods."
            }
            Self::MetadataServiceReachable => {
                "A user's pod reaches the cloud's metadata service, and gets credentials of its node there, which every user shares; the message says whose. Vending goes on."
            }
            Self::PodsUnverified => {
                "Users' pods run that were made without the webhook, or before the guard was in force. Nothing is vended to them; what else they have, and whose they are, nobody vouches for."
            }
            Self::MetadataServiceUntried => {
                "Vended credentials are held apart and the guard is in force; whether users' pods also get credentials from a cloud's metadata service is not known. The message says why."
            }
            Self::Isolated => {
                "The store holds users apart, the guard is in force, and no other way to what others have was found."
            }
            Self::WebhookMissing => {
                "The MutatingWebhookConfiguration is not there, so new pods are given nothing."
            }
            Self::CertificateAuthorityMismatch => {
                "The webhook is registered with another certificate authority, so the API server does not reach it."
            }
            Self::WebhookUnavailable => {
                "No replica of `hubstorage serve` is ready: new pods are given nothing and credentials are not renewed; servers start all the same."
            }
            Self::AgentsUnavailable => {
                "The agent does not run on every node that it is for: pods on the others get no credentials; servers start all the same."
            }
            Self::PolicyMissing => {
                "The admission policy that refuses what spec.home or spec.shared does not allow is missing, changed or too new: pods or claims that break the rule are let in."
            }
            Self::ClaimMissing => {
                "The claim of a shared folder is not in the namespace of the hub: pods start without that folder."
            }
            Self::ClaimNotBound => {
                "The claim of a shared folder has no volume, or is being deleted: pods that mount it would wait for it, so they start without that folder."
            }
            Self::ClaimNotShareable => {
                "The access modes of a shared folder's claim, or its volume mode, do not let every pod of the hub mount it as declared: pods start without that folder."
            }
            Self::ClaimFull => {
                "A home is at least 90 % full, and does not grow by itself: soon its user cannot save any more, and many servers do not start with a full home."
            }
            Self::UsageUnknown => {
                "At least half of the nodes do not tell how full homes are: none of theirs grows by itself, and nobody is told of them."
            }
            Self::ClaimTooLarge => {
                "A home is larger than spec.home.maxSize: it was made before, or while the webhook was away."
            }
            Self::ClaimGrowing => "Homes are being made as large as declared.",
            Self::ClaimNotExpandable => {
                "A home is smaller than declared, and its StorageClass does not let it grow."
            }
            Self::ClaimGrowthFailed => {
                "A home could not be made as large as declared; the message says why."
            }
            Self::ClaimDuplicate => {
                "A user has two homes for one server: KubeSpawner uses one of them, and what is in the other the user does not see."
            }
            Self::NotInjected => {
                "User pods were created while the webhook did not answer, or before it was there: they run without storage."
            }
            Self::BucketCreated => "A bucket was created.",
            Self::BucketTagged => "A bucket was marked with the owner tag.",
            Self::BucketAdopted => "A bucket that was there before was taken over.",
            Self::BucketConfigured => "A setting of a bucket was made what is declared.",
            Self::LifecycleRulesSet => "Lifecycle rules were written.",
            Self::DriftCorrected => {
                "The store was found changed by somebody else, and was put back."
            }
            Self::BucketRetained => {
                "A bucket and its data were left in the store: its HubStorage was deleted, or does not name it any more."
            }
            Self::BucketDeleted => "The HubStorage was deleted, and its bucket with it.",
            Self::RoleCreated => "The role was created that users' sessions are of.",
            Self::RoleConfigured => "The role was made what is declared.",
            Self::RoleRetained => {
                "The role of a HubStorage was left behind: nobody knows how to reach it, or the HubStorage only observes."
            }
            Self::RoleDeleted => {
                "The role was deleted: its HubStorage was, or the StorageProvider has roles made no more."
            }
        }
    }

    /// What a person can do about it; `None` where nothing needs to be done.
    pub fn remedy(self) -> Option<&'static str> {
        Some(match self {
            Self::Ready
            | Self::Isolated
            | Self::Applied
            | Self::NotDeclared
            | Self::Progressing
            | Self::Deleting
            | Self::BucketCreated
            | Self::BucketTagged
            | Self::BucketAdopted
            | Self::BucketConfigured
            | Self::BucketDeleted
            | Self::RoleCreated
            | Self::RoleConfigured
            | Self::RoleDeleted
            | Self::LifecycleRulesSet => return None,
            Self::PartlyApplied => {
                "Nothing, or use a setting of the store itself: MinIO purges unfinished uploads by `mc admin config set … api stale_uploads_expiry=24h`."
            }
            Self::Observing => "Read status.plan; if it is what you want, set mode to Enforce.",
            Self::Paused => "Set mode to Enforce or Observe.",
            Self::ProviderNotFound => {
                "Create the StorageProvider, or correct spec.providerRef.name; once there are buckets it cannot be changed: make a new HubStorage in another namespace then."
            }
            Self::ProviderNotReady => "`kubectl describe hsp NAME` and follow its own reason.",
            Self::ProviderMoved => {
                "Change the StorageProvider, or the keys in its Secret, back; the message names what was first seen. To move, make a new StorageProvider and a new HubStorage, and copy the data."
            }
            Self::NamespaceNotAllowed => {
                "Label the namespace, or widen spec.namespaces of the StorageProvider."
            }
            Self::BucketNameNotAllowed => {
                "Choose an allowed bucketName, or add a pattern to spec.bucketNames of the StorageProvider."
            }
            Self::BucketNameInvalid => "Choose another bucketName.",
            Self::SecondHubStorage => {
                "Delete one of the two; `kubectl get hs -n NAMESPACE` lists them."
            }
            Self::HubStorageNotFound => {
                "Delete the HubUser, and make one that names the HubStorage of the namespace: hubRef cannot be changed."
            }
            Self::UsernameUnsafe => {
                "Rename the user in JupyterHub, or use prefixScheme Escaped on a new hub."
            }
            Self::Unsupported => "Use another kind of provider, or remove the field.",
            Self::InvalidConfiguration => "Correct the field that the message names.",
            Self::CredentialsMissing => {
                "Create the Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: managing keys in hubstorage-system, vending keys in hubstorage-vending; it takes effect by itself."
            }
            Self::CredentialsRejected => {
                "Correct the keys in the Secret; the change takes effect by itself."
            }
            Self::EndpointUnreachable => {
                "Check spec.s3.endpoint, spec.s3.caBundle, name resolution and network policies."
            }
            Self::AccessDenied => "Add the permission to the identity's policy.",
            Self::BucketOwnedByOthers => {
                "Choose another bucketName. If the bucket is yours, tag it hubstorage.io/owner with the value that the message gives."
            }
            Self::RoleOwnedByOthers => {
                "Delete the role. If it is yours, tag it hubstorage.io/owner with the value that the message gives."
            }
            Self::RoleTrustsOthers => {
                "RoleReady says why it is not put back: a missing permission, or mode Observe."
            }
            Self::BucketExists => {
                "Set adoption to IfOwned to go on with the data that is there, or choose another bucketName."
            }
            Self::BucketMissing => {
                "Create the bucket, correct bucketName, or set management to Full."
            }
            Self::BucketNotEmpty => {
                "Empty the bucket, set deletionPolicy to Retain to keep it, or to DeleteContents to delete what the message names. Edits still count while the HubStorage is being deleted."
            }
            Self::Throttled => {
                "Nothing: it is tried again with growing pauses. Raise driftCheckInterval if it stays, or if hubstorage_controller_last_check_timestamp_seconds falls behind."
            }
            Self::StoreFailed => {
                "Nothing if it passes; it is tried again with growing pauses. Otherwise the message and the store's own log."
            }
            Self::GuardMissing => {
                // Server-side apply takes away nothing that it never applied: a condition that somebody
                // added to a policy would stay.
                concat!(
                    "Delete the policy or binding that the message names, where it exists; then ",
                    reinstall!(),
                    "; then restart the users' pods that were made before."
                )
            }
            Self::ProbePending => {
                "See that `hubstorage serve` runs, and that the vending credentials are there."
            }
            Self::ProbeInconclusive => {
                "See the message of VendingReady: most often the vending identity lacks a permission on the bucket, or its Secret in hubstorage-vending is missing or wrong."
            }
            Self::ProbeLeaks => {
                "Restrict the vending identity's own policy as docs/security.md shows, or use a store that enforces session policies."
            }
            Self::OtherGrants => {
                "When nobody needs them any more, take them out of the bucket's policy or access control list; docs/migrate.md shows how. The operator never does."
            }
            Self::VendingNotConfigured => "Add spec.s3.vending to the StorageProvider.",
            Self::CloudIdentityOnPods => {
                "Take it away: the annotation of the service account, the Pod Identity association, or the variable (in Zero to JupyterHub singleuser.serviceAccountName and singleuser.extraEnv). Then restart the servers. What users need of it, declare as grants of a bucket."
            }
            Self::ServiceAccountPrivileged => {
                "Take the rights from the account, or the token from the pods: automountServiceAccountToken: false, which is KubeSpawner's default. Then restart the servers."
            }
            Self::NodeReachable => {
                "Run users' code without privileged containers, hostPID, and host paths that lead to other pods; the message names which. What needs a node's rights goes into an init container, which ends before users' code runs."
            }
            Self::MetadataServiceReachable => {
                "Keep users' pods from 169.254.169.254 by a NetworkPolicy that your network plugin enforces (Zero to JupyterHub's does so by default), or on Amazon allow IMDSv2 only, with a hop limit of 1. Then ask for a check: docs/security.md has the command."
            }
            Self::PodsUnverified => "Stop these servers and start them again.",
            Self::MetadataServiceUntried => {
                "Follow the message. For a trial pod the controller needs a right in the hub's namespace, which docs/examples/metadata-trial.yaml gives."
            }
            Self::WebhookMissing => concat!(reinstall!(), "."),
            Self::CertificateAuthorityMismatch => {
                "See that `hubstorage controller` runs: it writes caBundle. If something else writes it too, stop that."
            }
            Self::WebhookUnavailable => {
                "`kubectl get pods -n hubstorage-system` shows why. Credentials come back by themselves; servers that were started meanwhile are named as NotInjected."
            }
            Self::AgentsUnavailable => {
                "`kubectl get pods -n hubstorage-agents -o wide` shows where and why. Credentials come by themselves when the agent is back; no server needs a restart."
            }
            Self::PolicyMissing => {
                "The message names the object and the field: delete it where it exists, and install again. What was let in meanwhile stays until somebody deletes it: servers that started have to be restarted."
            }
            Self::ClaimMissing => {
                "Make the claim in the namespace of the HubStorage, or name another one in spec.shared[].claimName. Servers that start from then on have the folder."
            }
            Self::ClaimNotBound => {
                "`kubectl describe pvc` says what the claim waits for: a volume, a provisioner, or a first pod that mounts it, which you may start and delete again. One that is being deleted goes when no pod has it any more. Servers that start from then on have the folder."
            }
            Self::ClaimNotShareable => {
                "Make a claim whose StorageClass gives volumes that many nodes mount (NFS, EFS, Filestore, CephFS), with access mode ReadWriteMany and volumeMode Filesystem, copy the folder, and name it in spec.shared[].claimName."
            }
            Self::ClaimFull => {
                "The message says why it stays as it is. Set spec.home.growth, raise spec.home.maxSize for everybody or in a HubUser for this user, or have the user tidy up; it is told until 87 % are used, or less."
            }
            Self::UsageUnknown => {
                "The message has the reason, the log of the controller each node. Where kubelets' certificates are of another authority than the cluster's, give the controller that authority (`controller.kubelet.certificateAuthority` of the chart), and where they sign their own, `controller.kubelet.insecureTLS: true`; docs/homes.md says what that risks. Network policies must let the controller reach port 10250 of every node."
            }
            Self::ClaimTooLarge => {
                "Volumes do not shrink. If the user is to have that much, say so: spec.home.maxSize of a HubUser, by which nothing grows. Otherwise move the data to a smaller claim."
            }
            Self::ClaimGrowing => {
                "Wait: drivers take seconds to minutes. Where the number does not fall, the driver has no resizer, or enforces no size, as many for NFS: take allowVolumeExpansion out of the StorageClass."
            }
            Self::ClaimNotExpandable => {
                "Set allowVolumeExpansion: true in the StorageClass, if its driver can do that; the claim grows within five minutes. Otherwise move the data to a claim of another class."
            }
            Self::ClaimGrowthFailed => {
                "See the message: a quota or a LimitRange of the namespace, another webhook, or the events of the claim (`kubectl describe pvc -n NAMESPACE NAME`), where the driver says what is wrong."
            }
            Self::ClaimDuplicate => {
                "`kubectl get pods -n NAMESPACE -o yaml` shows which one the user's server mounts. Make the volume of the other `persistentVolumeReclaimPolicy: Retain`, move what is missing, and then delete that claim. HubStorage deletes none. If both are meant to be, give them a server of their own each, or take the label from one."
            }
            Self::NotInjected => {
                "Stop these servers and start them again: what a pod lacks cannot be added later. If new ones are missed too, see that `hubstorage serve` runs, and that the API server reaches it: network policies, and its certificate."
            }
            Self::DriftCorrected => {
                "Find out who changed it: the operator will put it back every time."
            }
            Self::RoleRetained => "Delete the role; the event names it.",
            Self::BucketRetained => {
                "Delete the bucket in the store if its data is no longer needed, or name it in the spec again; the event names it."
            }
        })
    }
}

/// The body of `docs/troubleshooting.md`: one section for each reason.
pub fn troubleshooting() -> String {
    Reason::iter()
        .map(|reason| {
            let remedy = reason.remedy().map_or_else(
                || "Nothing needs to be done.".to_owned(),
                |r| format!("What to do: {r}"),
            );
            format!("### {reason}\n\n{}\n\n{remedy}\n\n", reason.meaning())
        })
        .collect()
}
