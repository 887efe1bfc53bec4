//! A fake node: its own namespace, two pods, an uplink to an external host, masquerade and two Services.

use std::any::Any;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;

use crate::cleanup::PREFIX;
use crate::netns::Netns;
use crate::plan::{Addresses, Family, Plan, Topology};
use crate::server::Server;
use crate::topology;

/// Gone, with all it consists of, when dropped.
#[derive(Debug)]
pub struct Node {
    pub plan: Plan,
    pub netns: Netns,
    /// The traced pod, then the local server.
    pub pods: [Netns; 2],
    pub router: Option<Netns>,
    pub external: Netns,
    servers: Vec<Server>,
    kept: Mutex<Kept>,
}

/// What faults need alive as long as the node: sockets, attached programs.
#[derive(Default)]
struct Kept(Vec<Box<dyn Any + Send>>);

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} things", self.0.len())
    }
}

static COUNTER: AtomicU32 = AtomicU32::new(0);

impl Node {
    /// A healthy node.
    pub fn build(plan: Plan) -> Result<Self> {
        let stem = format!(
            "{PREFIX}{}-{}",
            std::process::id(),
            COUNTER.fetch_add(1, Ordering::Relaxed)
        );
        let create = |role: &str| Netns::create(&format!("{stem}-{role}"));
        let mut node = Self {
            netns: create("node")?,
            pods: [create("pod-a")?, create("pod-b")?],
            router: plan.router.then(|| create("router")).transpose()?,
            external: create("ext")?,
            plan,
            servers: Vec::new(),
            kept: Mutex::default(),
        };
        topology::lay(&node)?;
        node.serve()?;
        Ok(node)
    }

    /// One with the names and addresses that go with the topology.
    pub fn with(topology: Topology) -> Result<Self> {
        Self::build(Plan::of(topology))
    }

    fn serve(&mut self) -> Result<()> {
        let (v4, v6) = (&self.plan.v4, &self.plan.v6);
        let mut own = vec![v4.node, v6.node];
        if self.plan.topology == Topology::Bridge {
            own.extend([v4.gateway, v6.gateway]);
        }
        let outside = [v4.external, v6.external].concat();
        self.servers = vec![
            Server::start(&self.netns, &own)?,
            Server::start(&self.pods[1], &[v4.pod[1], v6.pod[1]])?,
            Server::start(&self.external, &outside)?,
        ];
        Ok(())
    }

    pub const fn addresses(&self, family: Family) -> &Addresses {
        self.plan.addresses(family)
    }

    /// What `trace --netns` wants: the pod whose packets are followed.
    pub fn pod(&self) -> &Netns {
        &self.pods[0]
    }

    /// What `trace --uplink` wants.
    pub fn uplink(&self) -> &str {
        &self.plan.names.uplink
    }

    /// The node's interface packets of the first pod enter by.
    pub fn veth(&self) -> &str {
        &self.plan.names.veths[0]
    }

    /// The node's interface that holds the pods' traffic at layer 3.
    pub fn pod_side(&self) -> &str {
        match self.plan.topology {
            Topology::Bridge => &self.plan.names.bridge,
            Topology::PointToPoint => self.veth(),
        }
    }

    /// Runs a command line in the node's namespace.
    pub fn run(&self, line: &str) -> Result<String> {
        self.netns.sh(line)
    }

    /// Keeps something alive until the node goes.
    pub fn keep(&self, thing: impl Any + Send) {
        self.kept
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .0
            .push(Box::new(thing));
    }

    /// The namespace that owns an address of the plan, for sockets that must be there.
    pub fn owner(&self, address: IpAddr) -> &Netns {
        let second = |family| self.addresses(family).pod[1];
        let outside = |family| self.addresses(family).external.contains(&address);
        if Family::ALL
            .into_iter()
            .any(|family| second(family) == address)
        {
            &self.pods[1]
        } else if Family::ALL.into_iter().any(outside) {
            &self.external
        } else {
            &self.netns
        }
    }
}
