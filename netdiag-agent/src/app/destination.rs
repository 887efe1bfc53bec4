//! From `--to` to the addresses and ports the kernel is told to look for.

use std::net::IpAddr;
use std::time::Duration;

use super::Error;
use crate::cli::{self, Destination, Host, Object, ObjectKind};
use crate::identity::kube::client::{self, Places};
use crate::identity::kube::lookup::{self, Port};
use crate::inventory::BlindSpot;

/// Nothing asked for means anything goes.
pub(super) type Target = (Option<IpAddr>, Option<u16>);

/// DNS, whoever answers.
const DNS: Target = (None, Some(53));

/// So long the node's resolver has.
const RESOLVED: Duration = Duration::from_secs(3);

/// What to look for, and why that is not just what was asked for.
pub(super) struct Targets {
    pub targets: Vec<Target>,
    pub blind: Option<BlindSpot>,
}

impl From<Vec<Target>> for Targets {
    fn from(targets: Vec<Target>) -> Self {
        Self {
            targets,
            blind: None,
        }
    }
}

pub(super) async fn targets(to: &Destination, options: &cli::Trace) -> Result<Targets, Error> {
    if let Host::Object(object) = &to.host {
        let found = in_cluster(object, to.port, options).await;
        return found
            .map(Targets::from)
            .map_err(|why| Error::Destination(format!("{to}: {why}")));
    }
    if let Host::Name(_) = &to.host {
        return Ok(by_name(to).await);
    }
    Ok(flows_to(&to.addresses()?, to.port).into())
}

/// The pod asks its own resolver, which may know the name otherwise than ours, or not at all.
async fn by_name(to: &Destination) -> Targets {
    let asked = to.clone();
    let resolver = tokio::task::spawn_blocking(move || asked.addresses());
    let why = match tokio::time::timeout(RESOLVED, resolver).await {
        Ok(Ok(Ok(addresses))) => {
            let mut targets = flows_to(&addresses, to.port);
            targets.push(DNS);
            return targets.into();
        }
        Ok(Ok(Err(error))) => error.to_string(),
        Ok(Err(_)) | Err(_) => format!("--to {to}: the node's resolver does not answer"),
    };
    let (targets, instead) = match to.port {
        Some(port) => (
            vec![(None, to.port), DNS],
            format!("flows to port {port} of any host, and DNS, are followed"),
        ),
        None => (Vec::new(), "flows to any host are followed".to_owned()),
    };
    Targets {
        targets,
        blind: Some(BlindSpot {
            what: "destination".to_owned(),
            why: format!("{why}: {instead}"),
        }),
    }
}

fn flows_to(addresses: &[IpAddr], port: Option<u16>) -> Vec<Target> {
    if addresses.is_empty() {
        return vec![(None, port)];
    }
    let target = |address: &IpAddr| (Some(*address), port);
    addresses.iter().map(target).collect()
}

async fn in_cluster(
    object: &Object,
    port: Option<u16>,
    options: &cli::Trace,
) -> Result<Vec<Target>, String> {
    let places = Places::of_process(options.kubeconfig.as_deref());
    let access = client::connect(&places)
        .await
        .map_err(|error| format!("{error}; give an address and a port"))?;
    let namespace = options.namespace.as_ref().unwrap_or(&access.namespace);
    let port = match (&object.port_name, port) {
        (Some(name), _) => Port::Named(name),
        (None, Some(number)) => Port::Number(number),
        (None, None) => Port::Any,
    };
    let found = match object.kind {
        ObjectKind::Service => {
            lookup::service(&access.client, &object.name, namespace, port).await?
        }
        ObjectKind::Pod => lookup::pod(&access.client, &object.name, namespace, port).await?,
    };
    let targets = found.into_iter();
    Ok(targets
        .map(|(address, port)| (Some(address), port))
        .collect())
}
