//! ip-masq-agent's configuration: destinations that pods reach under their own address.

use std::net::IpAddr;

/// As the node's copy of the agent's ConfigMap has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasqueradeConfig {
    /// Where it was read.
    pub file: String,
    /// Networks: address and prefix length.
    pub exempt: Vec<(IpAddr, u8)>,
    /// Link-local destinations are translated as well.
    pub link_local: bool,
}

impl MasqueradeConfig {
    /// Packets to this address keep the pod's.
    pub fn exempts(&self, address: IpAddr) -> bool {
        let link_local = match address {
            IpAddr::V4(v4) => v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        (link_local && !self.link_local)
            || self
                .exempt
                .iter()
                .any(|(network, length)| holds(*network, *length, address))
    }
}

fn holds(network: IpAddr, length: u8, address: IpAddr) -> bool {
    let differ = match (network, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        _ => return false,
    };
    differ >= u32::from(length)
}

#[cfg(test)]
mod tests {
    use super::MasqueradeConfig;

    #[test]
    fn networks_are_exempt_and_nothing_else_is() {
        let config = MasqueradeConfig {
            file: String::new(),
            exempt: vec![
                ("10.0.0.0".parse().unwrap(), 8),
                ("fd00::".parse().unwrap(), 8),
            ],
            link_local: false,
        };
        for (address, exempt) in [
            ("10.255.0.1", true),
            ("11.0.0.1", false),
            ("169.254.169.254", true),
            ("fd12::1", true),
            ("2001:db8::1", false),
        ] {
            assert_eq!(
                config.exempts(address.parse().unwrap()),
                exempt,
                "{address}"
            );
        }
    }
}
