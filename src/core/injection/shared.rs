//! Which shared folders a user is given, and where.

use super::Recognised;
use crate::api::{HubStorage, SharedFolder, Subject};
use crate::shared::{LONGEST_GROUPS, MountPath, SubPath};

/// A folder that pods of the hub can mount.
#[derive(Debug, Clone)]
pub(super) struct Mountable {
    folder: SharedFolder,
    /// Whether nobody can write to its volume.
    is_read_only: bool,
}

/// A mount that a user's container should have.
#[derive(Debug)]
pub(super) struct WantedMount<'h> {
    /// Of the volume, where the pod has none of the claim.
    pub(super) volume: String,
    /// The claim.
    pub(super) claim: &'h str,
    /// Whether nobody can write to the claim's volume, which then has to be asked for so.
    pub(super) is_volume_read_only: bool,
    pub(super) sub_path: Option<&'h SubPath>,
    pub(super) path: &'h MountPath,
    pub(super) read_only: bool,
}

impl Mountable {
    /// The folders of `hub` of which its status tells that pods can mount them.
    pub(super) fn of(hub: &HubStorage) -> Vec<Self> {
        let known = hub.status.as_ref().map_or(&[][..], |status| &status.shared);
        let folders = hub.spec.shared.iter();
        folders
            .filter_map(|folder| {
                let known = known.iter().find(|known| known.lets_mount(folder))?;
                Some(Self {
                    folder: folder.clone(),
                    is_read_only: known.read_only,
                })
            })
            .collect()
    }

    /// Where this user finds it.
    pub(super) fn mounts<'h>(
        &'h self,
        user: &Recognised<'_>,
    ) -> impl Iterator<Item = WantedMount<'h>> {
        let folder = &self.folder;
        // Of a pod that stands for a server nobody knows here whether that server's user is in the group.
        let stands_alone = user.source.depends_on().is_none();
        let is_in = |group: &str| stands_alone && user.groups.have(group);
        // What the admission policies would refuse costs a user their server: they take a name as it stands, and no list
        // that is too long, or has something around it.
        let written = user.groups_as_written.as_str();
        let is_read =
            written.len() <= LONGEST_GROUPS && written.starts_with('[') && written.ends_with(']');
        let is_written = |group: &str| is_read && written.contains(&format!("\"{group}\""));
        let writes = folder.is_writable_by(|group| is_in(group) && is_written(group));
        let reads = Subject::include(&folder.readers, is_in);
        let apart = folder.writers.as_ref();
        let apart = apart.and_then(|writers| writers.mount_path.as_ref());
        let mount = |path, read_only| WantedMount {
            volume: format!("hubstorage-shared-{}", folder.name),
            claim: &folder.claim_name,
            is_volume_read_only: self.is_read_only,
            sub_path: folder.sub_path.as_ref(),
            path,
            read_only,
        };
        let itself =
            (reads || writes).then(|| mount(&folder.mount_path, !writes || apart.is_some()));
        let to_write = apart.filter(|_| writes).map(|path| mount(path, false));
        itself.into_iter().chain(to_write)
    }
}
