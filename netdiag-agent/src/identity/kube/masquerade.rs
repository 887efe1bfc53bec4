//! The masquerade agent's configuration: which networks pods are to reach with their own addresses.
//!
//! It changes once in months, so it is asked for now and then and not watched.

use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::client::{self, AskError};
use crate::inventory::cluster::{Change, Kind, Network};

const NAMESPACE: &str = "kube-system";

/// Of the upstream agent, of TKE's, and of Azure's, which reads all it finds.
const NAMES: [&str; 4] = [
    "ip-masq-agent",
    "ip-masq-agent-config",
    "azure-ip-masq-agent-config",
    "azure-ip-masq-agent-config-reconciled",
];

const AGAIN: Duration = Duration::from_mins(5);

/// What the agent leaves alone where its configuration names nothing.
const DEFAULT: [&str; 3] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"];

pub async fn poll(client: &Client, sender: &mpsc::Sender<Change>, after_failure: Duration) {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let mut told = None;
    let mut unseen = false;
    loop {
        let (news, pause) = match read(&maps).await {
            Ok(networks) => {
                let new = told.as_ref() != Some(&networks);
                told = Some(networks.clone());
                let synced = Change::Synced(Kind::MasqueradeConfig);
                let tell_synced = std::mem::take(&mut unseen) || new;
                let mut news = Vec::new();
                news.extend(new.then_some(Change::NonMasquerade(networks)));
                news.extend(tell_synced.then_some(synced));
                (news, AGAIN)
            }
            Err(error) => {
                let first = !std::mem::replace(&mut unseen, true);
                let unseen = Change::Unseen(Kind::MasqueradeConfig, why(&error).into());
                (first.then_some(unseen).into_iter().collect(), after_failure)
            }
        };
        for change in news {
            if sender.send(change).await.is_err() {
                return;
            }
        }
        sleep(pause).await;
    }
}

fn why(error: &AskError) -> String {
    match error.status() {
        Some(401) => "the API server does not accept our credentials (401)".to_owned(),
        Some(403) => "our credentials may not read it (403)".to_owned(),
        _ => error.to_string(),
    }
}

/// `None`: there is no such configuration.
async fn read(maps: &Api<ConfigMap>) -> Result<Option<Vec<Network>>, AskError> {
    let mut networks = None;
    for name in NAMES {
        let map = client::brief(|| maps.get_opt(name)).await?;
        let texts = map.into_iter().filter_map(|map| map.data);
        for text in texts.flat_map(std::collections::BTreeMap::into_values) {
            let found: &mut Vec<Network> = networks.get_or_insert_default();
            for network in exempt(&text) {
                if !found.contains(&network) {
                    found.push(network);
                }
            }
        }
    }
    Ok(networks)
}

/// The networks of one configuration, which is YAML or JSON.
pub fn exempt(text: &str) -> Vec<Network> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Config {
        #[serde(rename = "nonMasqueradeCIDRs", default)]
        non_masquerade: Option<Vec<String>>,
        /// Link-local destinations are masqueraded as well.
        #[serde(default)]
        masq_link_local: bool,
    }
    let Ok(config) = serde_norway::from_str::<Config>(text) else {
        return Vec::new();
    };
    let named = config.non_masquerade.unwrap_or_default();
    let mut networks: Vec<Network> = named.iter().filter_map(|cidr| cidr.parse().ok()).collect();
    if named.is_empty() {
        networks.extend(
            DEFAULT
                .iter()
                .filter_map(|cidr| cidr.parse::<Network>().ok()),
        );
    }
    if !config.masq_link_local {
        networks.extend("169.254.0.0/16".parse::<Network>());
    }
    networks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(config: &str) -> Vec<String> {
        exempt(config).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn yaml_and_json_are_read() {
        let yaml = "nonMasqueradeCIDRs:\n  - 10.0.0.0/16\n  - fd00::/8\nresyncInterval: 60s\n";
        assert_eq!(texts(yaml), ["10.0.0.0/16", "fd00::/8", "169.254.0.0/16"]);
        let json = r#"{"nonMasqueradeCIDRs":["10.1.0.0/16"],"masqLinkLocal":true}"#;
        assert_eq!(texts(json), ["10.1.0.0/16"]);
    }

    #[test]
    fn a_configuration_without_networks_means_the_private_ones() {
        let networks = texts("masqLinkLocal: true\n");
        assert_eq!(networks, ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"]);
        assert!(exempt("{{{").is_empty());
    }
}
