//! The admission policies that look for user pods that could write to a shared folder without being a writer's.
//!
//! Their parameter is the HubStorage of the pod's namespace, so that they hold without the webhook. Two of them, since
//! what becomes of a refused pod stands in a binding and not in a parameter: one refuses, the other one tells.

use hubstorage_core::api::{
    Enforcement, GROUPS_ANNOTATION, STAMP_ANNOTATION, USERNAME_ANNOTATION, USERNAME_LABEL,
};
use hubstorage_core::injection::DASK_KUBERNETES_LABEL;
use hubstorage_core::shared::LONGEST_GROUPS;
use serde_json::{Value, json};

use super::Limit;
use crate::guard::Document;

/// The purpose of each policy and each binding.
const REFUSES: &str = "Refuses user pods that could write to a shared folder of their HubStorage without being a writer's, where it says enforcement: Deny.";
const TELLS: &str =
    "Tells of the same pods, where it says enforcement: Audit, or is in mode Observe.";
const IN_FORCE: &str =
    "Puts the policy above in force: by the HubStorages of the pod's own namespace.";

/// The longest sub-path that is read, in characters: as long as Linux takes one. A longer one could be any.
const LONGEST_PATH: usize = 4096;

/// The policy that does this, and its binding.
pub fn documents(enforcement: Enforcement) -> Vec<Document> {
    let (name, purpose, actions) = match enforcement {
        Enforcement::Deny => ("hubstorage-shared", REFUSES, json!(["Deny"])),
        Enforcement::Audit => ("hubstorage-shared-audit", TELLS, json!(["Warn", "Audit"])),
    };
    let limit = Limit {
        name,
        purpose,
        in_force: IN_FORCE,
        actions,
        selector: json!({}),
        at: &[("CREATE", "pods"), ("UPDATE", "pods/ephemeralcontainers")],
        rules: rules(enforcement),
    };
    limit.documents()
}

fn rules(enforcement: Enforcement) -> Value {
    // As it stands in the spec.
    let enforcement = json!(enforcement);
    let annotation = |key: &str| format!("object.metadata.?annotations[?'{key}'].orValue('')");
    json!({
        "matchConditions": [{
            "name": "is-of-a-user",
            "expression": format!(
                "'{USERNAME_LABEL}' in object.metadata.?labels.orValue({{}}) || \
                 '{USERNAME_ANNOTATION}' in object.metadata.?annotations.orValue({{}})"
            ),
        }],
        "variables": variables(&annotation(STAMP_ANNOTATION), &annotation(GROUPS_ANNOTATION)),
        "validations": [{
            "expression": format!(
                "variables.enforcement != '{}' || variables.open.size() == 0",
                enforcement.as_str().unwrap_or_default()
            ),
            "messageExpression": format!(
                "'this pod could write to shared folder ' + variables.open.map(f, f.name).join(', ') + ' of HubStorage ' + \
                 params.metadata.name + ', and its user is not among the writers (by annotation {GROUPS_ANNOTATION}): tell \
                 the administrators of the hub. In ' + variables.writing.map(c, 'container ' + c.name).join(', ') + ' they set \
                 readOnly: true on the mount of claim ' + variables.open.map(f, f.claimName)[0] + ', or mount another subPath \
                 of it' + (variables.open.exists(f, !has(f.subPath)) ? ', after the folder was given one (spec.shared[].subPath)' : '') + \
                 '; or they let the user write (spec.shared[].writers), or an init container (spec.policy.exemptInitContainers)'"
            ),
            "message": "the pod could write to a shared folder of the HubStorage, and its user is not among the writers",
            "reason": "Forbidden",
        }],
    })
}

/// What a policy goes by, in the order in which one needs the other. `stamp` and `groups` are the pod's.
fn variables(stamp: &str, groups: &str) -> Value {
    // Whether mount `m` of the pod may write to folder `f`. Each part of a path has a slash behind it, so that one path
    // begins another only where it is around it, or is it; the kernel passes over parts that are empty or a dot, and the
    // schema lets none of these into the folder's. An expression that costs too much would let the pod in.
    let mounted = "m.subPath.split('/').filter(p, p != '' && p != '.').map(p, p + '/').join('')";
    let folder = "(f.subPath + '/')";
    let writes = format!(
        "!m.?readOnly.orValue(false) && variables.writable.exists(v, v.name == m.name && \
         v.persistentVolumeClaim.claimName == f.claimName) && (m.?subPathExpr.orValue('') != '' || \
         !has(m.subPath) || !has(f.subPath) || m.subPath.size() > {LONGEST_PATH} || \
         {mounted}.startsWith({folder}) || {folder}.startsWith({mounted}))"
    );
    json!([
        // Only the HubStorage that counts in its namespace has such a status; one that is being deleted counts still.
        {"name": "folders", "expression":
            "params.?status.shared.orValue([]).size() == 0 ? [] : params.spec.?shared.orValue([])"},
        {"name": "enforcement", "expression":
            "params.spec.?mode.orValue('Enforce') == 'Observe' ? 'Audit' : \
             params.spec.?policy.?enforcement.orValue('Deny')"},
        // The guard keeps the stamp of a pod that is there. A new one may have none, where the webhook is away.
        {"name": "creator", "expression": format!(
            "request.operation == 'CREATE' ? request.userInfo.username : {stamp}"
        )},
        // A pod that stands for a server is in no group: nobody knows here whether that server's user is. Nor is one
        // whose annotations a user wrote.
        {"name": "groups", "expression": format!(
            "!('{DASK_KUBERNETES_LABEL}' in object.metadata.?labels.orValue({{}})) && \
             params.spec.?users.?sources.orValue([]).exists(s, !has(s.dependsOn) && s.creators.exists(c, \
             'system:serviceaccount:' + params.metadata.namespace + ':' + c.serviceAccount.name == variables.creator)) ? \
             {groups} : ''"
        )},
        // The annotation is a JSON list. Without what is escaped, a quotation mark begins or ends a name, and a name that
        // held something escaped has a character that no writer's has.
        {"name": "names", "expression": format!(
            r#"variables.groups.size() > {LONGEST_GROUPS} || !variables.groups.startsWith('[') || !variables.groups.endsWith(']') ? [] : variables.groups.replace('\\\\', '*').replace('\\"', '*').split('"')"#
        )},
        {"name": "closed", "expression":
            "variables.folders.filter(f, !f.?writers.?subjects.orValue([]).exists(s, s.kind == 'Everyone' || \
             s.name in variables.names))"},
        // Of the pod's volumes, those of claims with such folders that can be written: usually one.
        {"name": "writable", "expression":
            "object.spec.?volumes.orValue([]).filter(v, has(v.persistentVolumeClaim) && \
             !v.persistentVolumeClaim.?readOnly.orValue(false) && \
             variables.closed.exists(f, f.claimName == v.persistentVolumeClaim.claimName))"},
        // What was added to a running pod before stays there in any case.
        {"name": "containers", "expression":
            "request.operation == 'UPDATE' ? object.spec.?ephemeralContainers.orValue([]).filter(c, \
             !oldObject.spec.?ephemeralContainers.orValue([]).exists(old, old.name == c.name)) : \
             object.spec.containers + object.spec.?initContainers.orValue([]).filter(c, \
             c.?restartPolicy.orValue('') == 'Always' || !(c.name in params.spec.?policy.?exemptInitContainers.orValue([])))"},
        {"name": "open", "expression": format!(
            "variables.closed.filter(f, variables.containers.exists(c, c.?volumeMounts.orValue([]).exists(m, {writes})))"
        )},
        // Only for the message.
        {"name": "writing", "expression": format!(
            "variables.containers.filter(c, c.?volumeMounts.orValue([]).exists(m, variables.open.exists(f, {writes})))"
        )},
    ])
}
