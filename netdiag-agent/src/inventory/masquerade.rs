//! ip-masq-agent's configuration: destinations that pods reach under their own address.

use std::net::IpAddr;

use super::Inventory;
use super::cluster::Network;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasqueradeConfig {
    /// Where it was read.
    pub file: String,
    pub exempt: Vec<Network>,
}

impl MasqueradeConfig {
    /// Packets to this address keep the pod's.
    pub fn exempts(&self, address: IpAddr) -> bool {
        self.exempt.iter().any(|network| network.contains(address))
    }
}

impl Inventory {
    /// The node's copy before the cluster's: the agent here reads that one. `None`: nothing is known of such an agent.
    pub fn masquerade_config(&self) -> Option<MasqueradeConfig> {
        let of_cluster = || {
            let exempt = self.cluster.non_masquerade()?.to_vec();
            Some(MasqueradeConfig {
                file: "the ConfigMap of ip-masq-agent".to_owned(),
                exempt,
            })
        };
        self.masquerade.clone().or_else(of_cluster)
    }
}
