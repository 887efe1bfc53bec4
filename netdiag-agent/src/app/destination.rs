//! From `--to` to the addresses and ports the kernel is told to look for.

use std::net::IpAddr;

use super::Error;
use crate::cli::{self, Destination, Host, Object, ObjectKind};
use crate::identity::kube::client::{self, Places};
use crate::identity::kube::lookup::{self, Port};

/// Nothing asked for means anything goes.
pub(super) type Target = (Option<IpAddr>, Option<u16>);

pub(super) async fn targets(to: &Destination, options: &cli::Trace) -> Result<Vec<Target>, Error> {
    if let Host::Object(object) = &to.host {
        let found = in_cluster(object, to.port, options).await;
        return found.map_err(|why| Error::Destination(format!("{to}: {why}")));
    }
    let addresses = to.addresses()?;
    if addresses.is_empty() {
        return Ok(vec![(None, to.port)]);
    }
    let target = |address: &IpAddr| (Some(*address), to.port);
    Ok(addresses.iter().map(target).collect())
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
