//! Which kernel modules the lab needs, in the order in which they can be loaded.
//!
//! The guest has no modprobe: the order comes from the `depends=` string in each module, and compressed modules
//! are decompressed here. A module that is not there is built into this kernel or does not exist for it yet.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// What the lab's topology, its faults and its tools make the kernel do.
const WANTED: &[&str] = &[
    // Links.
    "veth",
    "bridge",
    "br_netfilter",
    "dummy",
    "8021q",
    "vxlan",
    "ifb",
    "macvlan",
    // Traffic control.
    "sch_ingress",
    "sch_netem",
    "sch_tbf",
    "sch_prio",
    "sch_htb",
    "cls_bpf",
    "cls_u32",
    "cls_matchall",
    "cls_flower",
    "act_gact",
    "act_bpf",
    "act_mirred",
    // Connection tracking, and reading it over netlink.
    "crc32c_generic",
    "nf_conntrack",
    "nf_conntrack_netlink",
    "nf_nat",
    "nf_reject_ipv4",
    "nf_reject_ipv6",
    "nf_log_syslog",
    "nf_log_ipv4",
    // nftables. Up to 5.12 counters are a module of their own, without which iptables-nft cannot add a rule.
    "nf_tables",
    "nft_counter",
    "nft_ct",
    "nft_compat",
    "nft_chain_nat",
    "nft_nat",
    "nft_masq",
    "nft_redir",
    "nft_reject",
    "nft_reject_inet",
    "nft_reject_ipv4",
    "nft_reject_ipv6",
    "nft_limit",
    "nft_log",
    "nft_numgen",
    "nft_hash",
    "nft_objref",
    "nft_quota",
    "nft_fib",
    "nft_fib_inet",
    "nft_fib_ipv4",
    "nft_fib_ipv6",
    "nft_set_pipapo",
    "nft_meta_bridge",
    "nft_reject_bridge",
    "nf_conntrack_bridge",
    "nft_connlimit",
    // iptables, both back ends.
    "ip_tables",
    "iptable_filter",
    "iptable_nat",
    "iptable_mangle",
    "iptable_raw",
    "ip6_tables",
    "ip6table_filter",
    "ip6table_nat",
    "ip6table_mangle",
    "ip6table_raw",
    "ipt_REJECT",
    "ip6t_REJECT",
    "xt_MASQUERADE",
    "xt_nat",
    "xt_REDIRECT",
    "xt_conntrack",
    "xt_tcpudp",
    "xt_multiport",
    "xt_comment",
    "xt_addrtype",
    "xt_mark",
    "xt_limit",
    "xt_statistic",
    "xt_state",
    "xt_LOG",
    "xt_CT",
    "xt_set",
    "xt_physdev",
    "xt_NFLOG",
    "xt_TCPMSS",
    "xt_bpf",
    "nfnetlink_queue",
    "xt_NFQUEUE",
    "xt_length",
    "nft_queue",
    "xt_u32",
    "ip_set",
    "ip_set_hash_ip",
    "ip_set_hash_net",
    // Sockets that tell of themselves.
    "inet_diag",
    "tcp_diag",
    "udp_diag",
    "af_packet",
    "nfnetlink_log",
];

/// A module as the kernel takes it.
pub struct Module {
    pub name: String,
    pub data: Vec<u8>,
}

/// The wanted modules with all they depend on, each after its dependencies.
pub fn closure(folder: &Path) -> Result<Vec<Module>> {
    let mut search = Search {
        files: HashMap::new(),
        seen: HashSet::new(),
        order: Vec::new(),
    };
    index(&folder.join("kernel"), &mut search.files)?;
    for name in WANTED {
        search.add(name)?;
    }
    Ok(search.order)
}

struct Search {
    files: HashMap<String, PathBuf>,
    seen: HashSet<String>,
    order: Vec<Module>,
}

impl Search {
    fn add(&mut self, name: &str) -> Result<()> {
        let name = name.replace('-', "_");
        let Some(file) = self.files.get(&name).cloned() else {
            return Ok(());
        };
        if !self.seen.insert(name.clone()) {
            return Ok(());
        }
        let data = decompressed(&file)?;
        for dependency in depends(&data) {
            self.add(&dependency)?;
        }
        self.order.push(Module { name, data });
        Ok(())
    }
}

fn index(folder: &Path, files: &mut HashMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)
        .with_context(|| format!("list {}", folder.display()))?
        .flatten()
    {
        let path = entry.path();
        if path.is_dir() {
            index(&path, files)?;
        } else if let Some((name, "" | ".xz" | ".zst")) =
            entry.file_name().to_string_lossy().split_once(".ko")
        {
            files.insert(name.replace('-', "_"), path);
        }
    }
    Ok(())
}

fn decompressed(file: &Path) -> Result<Vec<u8>> {
    let program = match file.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        _ => return fs::read(file).with_context(|| format!("read {}", file.display())),
    };
    let output = Command::new(program)
        .arg("-dc")
        .arg(file)
        .output()
        .with_context(|| format!("start {program}"))?;
    if !output.status.success() {
        bail!("{program} cannot decompress {}", file.display());
    }
    Ok(output.stdout)
}

/// The names in the `depends=` entry of `.modinfo`, a run of NUL-ended strings.
fn depends(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let value = module[at + KEY.len()..]
        .split(|&byte| byte == 0)
        .next()
        .unwrap_or_default();
    String::from_utf8_lossy(value)
        .split(',')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read_from_the_module() {
        assert_eq!(
            depends(b"..license=GPL\0depends=nf_nat,nf_conntrack\0name=x\0"),
            ["nf_nat", "nf_conntrack"]
        );
        assert!(depends(b"..license=GPL\0depends=\0name=x\0").is_empty());
        assert!(depends(b"no such entry").is_empty());
    }

    #[test]
    fn a_module_comes_after_what_it_needs_and_only_once() {
        let folder = std::env::temp_dir().join(format!("netdiag-modules-{}", std::process::id()));
        let net = folder.join("kernel/net");
        fs::create_dir_all(&net).unwrap();
        for (name, needs) in [
            ("nf_nat", "nf_conntrack"),
            ("nf_conntrack", "nf-defrag"),
            ("nf-defrag", ""),
            ("br_netfilter", "bridge"),
            ("bridge", ""),
        ] {
            fs::write(
                net.join(format!("{name}.ko")),
                format!("\0license=GPL\0depends={needs}\0"),
            )
            .unwrap();
        }
        let order: Vec<String> = closure(&folder)
            .unwrap()
            .into_iter()
            .map(|module| module.name)
            .collect();
        fs::remove_dir_all(&folder).unwrap();
        let at = |name: &str| order.iter().position(|other| other == name).unwrap();
        assert!(at("nf_defrag") < at("nf_conntrack") && at("nf_conntrack") < at("nf_nat"));
        assert!(at("bridge") < at("br_netfilter"));
        assert_eq!(order.len(), 5);
    }
}
