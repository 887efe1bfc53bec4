//! The pods that live on this node, as the node itself knows them: by its runtime, or else by their processes and by
//! what the network plugins wrote down.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::cgroup::Uid;
use super::cni::{self, Attachment};
use super::cri::{self, Runtime, RuntimeError, Sandbox};
use super::procs::{self, Processes};
use crate::identity::NetnsHandle;
use crate::inventory::BlindSpot;

pub type Labels = BTreeMap<String, String>;

/// Where the node's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    pub root: PathBuf,
    pub proc: PathBuf,
}

impl Default for Roots {
    fn default() -> Self {
        Self {
            root: "/".into(),
            proc: "/proc".into(),
        }
    }
}

/// A pod that lives here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Local {
    pub uid: Option<Uid>,
    /// Namespace and name.
    pub name: Option<(String, String)>,
    /// `None`: nobody here knows. Else those it was started with.
    pub labels: Option<Labels>,
    /// Id of the sandbox, which is how a runtime tells one life of a pod from the next.
    pub sandbox: Option<String>,
    /// Ids of containers; known only without a runtime, which is asked when they matter.
    pub containers: BTreeSet<String>,
    pid: Option<u32>,
    netns: Option<PathBuf>,
}

/// What a look around found.
pub struct Listing {
    pub pods: Vec<Local>,
    /// What could not be asked.
    pub blind: Vec<BlindSpot>,
    pub runtime: Option<Runtime>,
}

/// Looks around. Fails only where the endpoint that was given cannot be used.
pub async fn list(endpoint: Option<&str>, roots: &Roots) -> Result<Listing, RuntimeError> {
    let why = match by_runtime(endpoint, roots).await {
        Ok(listing) => return Ok(listing),
        Err(error) if endpoint.is_some() => return Err(error),
        Err(error) => error,
    };
    let pods = by_files(roots);
    let named = pods.iter().filter(|pod| pod.name.is_some()).count();
    let how = if named > 0 {
        "pods are found by their processes and named by the network plugins' files"
    } else {
        "pods are found by their processes' cgroups alone, which know no names"
    };
    let blind = vec![BlindSpot {
        what: "container runtime".to_owned(),
        why: format!("{why}: {how}"),
    }];
    Ok(Listing {
        pods,
        blind,
        runtime: None,
    })
}

async fn by_runtime(endpoint: Option<&str>, roots: &Roots) -> Result<Listing, RuntimeError> {
    let mut runtime = cri::connect(endpoint, &roots.root).await?;
    let pods = runtime.sandboxes().await?.into_iter().map(Local::from);
    Ok(Listing {
        pods: pods.collect(),
        blind: Vec::new(),
        runtime: Some(runtime),
    })
}

impl From<Sandbox> for Local {
    fn from(sandbox: Sandbox) -> Self {
        Self {
            uid: Some(sandbox.uid),
            name: Some((sandbox.namespace, sandbox.name)),
            labels: Some(sandbox.labels),
            sandbox: Some(sandbox.id),
            ..Self::default()
        }
    }
}

/// Without a runtime.
fn by_files(roots: &Roots) -> Vec<Local> {
    let mut attachments = cni::attachments(&roots.root);
    let mut pods: Vec<Local> = Vec::new();
    for (uid, processes) in procs::of_pods(&roots.proc) {
        let own = |one: &Attachment| {
            one.uid.as_ref() == Some(&uid) || processes.containers.contains(&one.sandbox)
        };
        let found: Vec<Attachment> = attachments.extract_if(.., |one| own(one)).collect();
        pods.push(joined(uid, processes, found.first()));
    }
    // Files may outlive their pod; a namespace that can be opened has not been torn down.
    let alive = attachments.into_iter().filter(|one| {
        let path = one.netns.as_ref().map(|path| below(&roots.root, path));
        path.is_some_and(|path| NetnsHandle::called_at(&path, String::new()).is_ok())
    });
    for one in alive {
        let known = |pod: &Local| pod.sandbox.as_ref() == Some(&one.sandbox);
        if !pods.iter().any(known) {
            pods.push(Local {
                uid: one.uid,
                name: Some((one.namespace, one.name)),
                sandbox: Some(one.sandbox),
                netns: one.netns,
                ..Local::default()
            });
        }
    }
    pods
}

fn joined(uid: Uid, processes: Processes, attachment: Option<&Attachment>) -> Local {
    Local {
        uid: Some(uid),
        name: attachment.map(|one| (one.namespace.clone(), one.name.clone())),
        labels: None,
        sandbox: attachment.map(|one| one.sandbox.clone()),
        containers: processes.containers,
        pid: Some(processes.eldest),
        netns: attachment.and_then(|one| one.netns.clone()),
    }
}

impl Local {
    pub fn is(&self, namespace: &str, name: &str) -> bool {
        self.name
            .as_ref()
            .is_some_and(|own| own.0 == namespace && own.1 == name)
    }

    pub fn has_uid(&self, uid: &str) -> bool {
        self.uid.as_ref().is_some_and(|own| own.as_str() == uid)
    }

    /// For messages.
    pub fn label(&self) -> String {
        match (&self.name, &self.uid, &self.sandbox) {
            (Some((namespace, name)), ..) => format!("{namespace}/{name}"),
            (None, Some(uid), _) => uid.to_string(),
            (None, None, sandbox) => sandbox.clone().unwrap_or_default(),
        }
    }

    /// What tells one life of a pod from the next.
    pub fn life(&self) -> String {
        let uid = self.uid.as_ref().map_or("", Uid::as_str);
        format!("{uid}/{}", self.sandbox.as_deref().unwrap_or(""))
    }

    /// Its network namespace, under the pod's name. `None`: it has ended.
    pub async fn netns(
        &self,
        runtime: Option<&mut Runtime>,
        roots: &Roots,
    ) -> Result<Option<NetnsHandle>, RuntimeError> {
        let (mut pid, mut path) = (self.pid, self.netns.clone());
        if let (Some(runtime), Some(sandbox)) = (runtime, &self.sandbox) {
            let Some(place) = runtime.place(sandbox).await? else {
                return Ok(None);
            };
            (pid, path) = (place.pid, place.netns);
            if place.host_network && pid.is_none() {
                // The node is where we are, in all but nested set-ups.
                return Ok(NetnsHandle::own().ok().map(|own| own.called(self.label())));
            }
        }
        if pid.is_none() && path.is_none() {
            pid = self.pid_by_cgroup(roots);
        }
        // The path is a mount in the node's view of its files, which may not be ours; a process is seen by everybody.
        let by_pid = pid.map(|pid| procs::netns_of(&roots.proc, pid));
        let by_path = path.map(|path| below(&roots.root, &path));
        let handle = by_pid
            .into_iter()
            .chain(by_path)
            .find_map(|path| NetnsHandle::called_at(&path, self.label()).ok());
        Ok(handle)
    }

    /// Of a runtime that does not tell: by the pod's processes.
    fn pid_by_cgroup(&self, roots: &Roots) -> Option<u32> {
        let mut pods = procs::of_pods(&roots.proc);
        pods.remove(self.uid.as_ref()?).map(|found| found.eldest)
    }
}

fn below(root: &Path, path: &Path) -> PathBuf {
    path.strip_prefix("/")
        .map_or_else(|_| path.to_owned(), |inside| root.join(inside))
}
