//! Names from the Kubernetes API: everything a verdict may want to call by name, kept up to date beside the trace.
//!
//! The reflectors run on a thread of their own, so that reading ten thousand pods never holds up the reading of
//! packets; a full channel makes them wait, not the trace.

use std::fmt::Debug;
use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Endpoints, Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot};

use super::client::{self, Access, ClientError, Places};
use super::masquerade;
use super::prune::{self, Read};
use super::reflect::{NotServed, Pace, Reflector};
use crate::inventory::cluster::{Change, Kind};

/// News that wait to be read.
const QUEUE: usize = 4096;

/// What to ask for, and of whom.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub places: Places,
    /// This machine's name in the cluster, where it is known; by default that of the machine.
    pub node: String,
    /// Nanoseconds to add to a kernel time to get nanoseconds since the Unix epoch.
    pub wall_offset: i64,
    pub pace: Pace,
}

impl Wanted {
    /// What this process has credentials for, on the machine it runs on.
    pub fn of_process(kubeconfig: Option<&Path>) -> Self {
        Self {
            places: Places::of_process(kubeconfig),
            node: node_name(),
            wall_offset: crate::identity::scene::wall_offset(),
            pace: Pace::default(),
        }
    }
}

/// This machine's name in the cluster: told by whoever deployed us, or the machine's own, as the kubelet spells it.
pub fn node_name() -> String {
    let told = std::env::var("NODE_NAME").ok();
    told.filter(|name| !name.is_empty())
        .unwrap_or_else(|| crate::identity::machine().0.to_lowercase())
}

/// A stream of news; dropping it ends the asking.
#[derive(Debug)]
pub struct Names {
    receiver: mpsc::Receiver<Change>,
    _stop: oneshot::Sender<()>,
}

impl Names {
    /// Starts asking; `None` where nothing says that there is a cluster.
    pub fn start(wanted: Wanted) -> Option<Self> {
        wanted.places.origin()?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        let (stop, stopped) = oneshot::channel();
        let work = move || ask(&wanted, sender, stopped);
        match std::thread::Builder::new()
            .name("names".to_owned())
            .spawn(work)
        {
            Ok(_) => Some(Self {
                receiver,
                _stop: stop,
            }),
            Err(error) => {
                tracing::warn!("start the thread that asks for names: {error}");
                None
            }
        }
    }

    /// Waits for news and takes what is there, `most` at a time; `false`: no more will come.
    pub async fn next(&mut self, into: &mut Vec<Change>, most: usize) -> bool {
        self.receiver.recv_many(into, most).await > 0
    }
}

impl Names {
    /// What is there now.
    pub fn waiting(&mut self) -> Vec<Change> {
        std::iter::from_fn(|| self.receiver.try_recv().ok()).collect()
    }
}

/// Which kinds have said what they know, or why they cannot.
#[derive(Debug, Default)]
pub struct Roll(Vec<Kind>);

impl Roll {
    pub fn take(&mut self, change: &Change) {
        if let Change::Synced(kind) | Change::Unseen(kind, _) = change
            && !self.0.contains(kind)
        {
            self.0.push(*kind);
        }
    }

    pub fn is_full(&self) -> bool {
        self.0.len() == Kind::NAMES.len()
    }
}

fn ask(wanted: &Wanted, sender: mpsc::Sender<Change>, stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return tracing::warn!("start the runtime that asks for names: {error}"),
    };
    runtime.block_on(async {
        tokio::select! {
            () = reflect(wanted, sender) => {}
            _ = stopped => {}
        }
    });
    // A name that is being resolved would hold up the end of the program.
    runtime.shutdown_background();
}

async fn reflect(wanted: &Wanted, sender: mpsc::Sender<Change>) {
    let access = match client::connect(&wanted.places).await {
        Ok(access) => access,
        Err(error) => return blind(&error, &sender).await,
    };
    let all = All {
        node: own_node(&access, &wanted.node).await,
        client: access.client,
        sender,
        pace: wanted.pace,
        wall_offset: wanted.wall_offset,
    };
    all.run().await;
}

async fn blind(error: &ClientError, sender: &mpsc::Sender<Change>) {
    for (kind, _) in Kind::NAMES {
        let why = error.to_string().into();
        if sender.send(Change::Unseen(*kind, why)).await.is_err() {
            return;
        }
    }
}

/// The name, if the cluster knows this machine by it. A server that does not answer is asked for its pods all the same.
async fn own_node(access: &Access, name: &str) -> Option<String> {
    let nodes: Api<Node> = Api::all(access.client.clone());
    let found = client::within(Duration::from_secs(1), || nodes.get_metadata_opt(name)).await;
    found.ok()?.map(|_| name.to_owned())
}

/// What all reflectors share.
struct All {
    client: Client,
    /// `None`: not told apart from the others.
    node: Option<String>,
    sender: mpsc::Sender<Change>,
    pace: Pace,
    wall_offset: i64,
}

impl All {
    async fn run(&self) {
        let every = tokio::join!(
            self.own_pods(),
            self.pods(),
            self.kind::<Service>(Kind::Services, prune::service),
            self.slices(),
            self.kind::<NetworkPolicy>(Kind::Policies, prune::policy),
            self.kind::<Namespace>(Kind::Namespaces, prune::namespace),
            self.kind::<Node>(Kind::Machines, prune::machine),
            masquerade::poll(&self.client, &self.sender, self.pace.longest_pause),
        );
        let ((), (), (), (), (), (), (), ()) = every;
    }

    fn reflector(&self, kind: Kind) -> Reflector {
        Reflector::new(kind, self.sender.clone(), self.pace, self.wall_offset)
    }

    async fn kind<K>(&self, kind: Kind, read: Read<K>)
    where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let api: Api<K> = Api::all(self.client.clone());
        let served = self.reflector(kind).run(api, "", read).await;
        self.unless_served(kind, served).await;
    }

    /// They are few, and the first to be known.
    async fn own_pods(&self) {
        let Some(node) = &self.node else {
            // All pods come in one list then.
            return;
        };
        self.pods_where(Kind::OwnPods, &format!("spec.nodeName={node}"))
            .await;
    }

    async fn pods(&self) {
        match &self.node {
            Some(node) => {
                self.pods_where(Kind::Pods, &format!("spec.nodeName!={node}"))
                    .await;
            }
            None => {
                let _ = self.sender.send(Change::Synced(Kind::OwnPods)).await;
                self.pods_where(Kind::Pods, "").await;
            }
        }
    }

    async fn pods_where(&self, kind: Kind, fields: &str) {
        let api: Api<Pod> = Api::all(self.client.clone());
        let served = self.reflector(kind).run(api, fields, prune::pod).await;
        self.unless_served(kind, served).await;
    }

    /// The newest form of endpoints this server has: slices, slices in beta, or Endpoints.
    async fn slices(&self) {
        let kind = Kind::Slices;
        let api: Api<EndpointSlice> = Api::all(self.client.clone());
        if self
            .reflector(kind)
            .run(api, "", prune::slice)
            .await
            .is_ok()
        {
            return;
        }
        let gvk = GroupVersionKind::gvk("discovery.k8s.io", "v1beta1", "EndpointSlice");
        let beta = ApiResource::from_gvk(&gvk);
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &beta);
        let mut reflector = self.reflector(kind);
        if reflector.run(api, "", prune::beta_slice).await.is_ok() {
            return;
        }
        self.kind::<Endpoints>(kind, prune::endpoints).await;
    }

    async fn unless_served(&self, kind: Kind, served: Result<(), NotServed>) {
        if served.is_err() {
            let why = "the API server does not serve them (404)".into();
            let _ = self.sender.send(Change::Unseen(kind, why)).await;
        }
    }
}

#[cfg(test)]
#[path = "names_tests.rs"]
mod tests;
