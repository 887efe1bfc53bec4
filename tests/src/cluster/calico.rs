//! The rules Calico's agent would have written for the policy of `locked.yaml`: its chains, its sets, its marks.

use std::net::IpAddr;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// The pods the policy admits, by address.
const AUDITORS: &str = "cali40s:kX3bZyvP1fKqTn0aWdLmEe";
/// The policy's own chain.
const POLICY: &str = "cali-pi-_sFCwr8yUmKz5dVQ0bYe";
const BRIDGE: &str = "cni0";

/// Lets tcp to `port` of the vault through from the auditor only.
pub fn protect(vault: IpAddr, port: u16, auditor: IpAddr) -> Result<()> {
    let (vault, auditor_interface) = (interface(vault)?, interface(auditor)?);
    let name = AUDITORS;
    // A node that was kept up from an earlier run has it all already.
    run("ipset", &["create", "-exist", name, "hash:net"], "")?;
    run("ipset", &["flush", name], "")?;
    run("ipset", &["add", name, &auditor.to_string()], "")?;
    let rules = rules(&vault, &auditor_interface, port);
    run("iptables-restore", &["-w", "--noflush"], &rules)?;
    let hook = "FORWARD -m comment --comment cali:wUHhoiAYhphO9Mso -j cali-FORWARD";
    let words = |act: &str| -> Vec<String> {
        let line = format!("-w {act} {hook}");
        line.split(' ').map(str::to_owned).collect()
    };
    let there = Command::new("iptables")
        .args(words("-C"))
        .stderr(Stdio::null())
        .status();
    if !there.context("run iptables")?.success() {
        let added = Command::new("iptables").args(words("-I")).status();
        let added = added.context("run iptables")?;
        ensure!(added.success(), "iptables -I {hook}: {added}");
    }
    Ok(())
}

/// The node's side of the pod's interface. Behind a bridge the rules could not tell pods apart by it.
fn interface(pod: IpAddr) -> Result<String> {
    let said = run("ip", &["-o", "route", "get", &pod.to_string()], "")?;
    let mut words = said.split_whitespace().skip_while(|word| *word != "dev");
    let device = words
        .nth(1)
        .with_context(|| format!("no device in {said}"))?;
    ensure!(
        device != BRIDGE,
        "pod {pod} is attached to the bridge, not point to point: the runtime had not yet read its configuration"
    );
    Ok(device.to_owned())
}

/// Declaring a chain empties it, so that this may be fed again.
fn rules(vault: &str, auditor: &str, port: u16) -> String {
    let established = "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT";
    format!(
        r#"*filter
:cali-FORWARD - [0:0]
:cali-to-wl-dispatch - [0:0]
:cali-tw-{vault} - [0:0]
:cali-tw-{auditor} - [0:0]
:{POLICY} - [0:0]
:cali-pri-kns.locked - [0:0]
-A cali-FORWARD -m comment --comment cali:vjrMJCRpqwy5oRoX -j MARK --set-xmark 0x0/0xe0000
-A cali-FORWARD -o veth+ -m comment --comment cali:jxvuJjmmRV135nVu -j cali-to-wl-dispatch
-A cali-FORWARD -m comment --comment cali:0-8Zp3xRjZrQ7LkZ -m comment --comment "Policy explicitly accepted packet." -m mark --mark 0x10000/0x10000 -j ACCEPT
-A cali-to-wl-dispatch -o {vault} -m comment --comment cali:RAM0zYSVDq4P7HZr -g cali-tw-{vault}
-A cali-to-wl-dispatch -o {auditor} -m comment --comment cali:PcO1cTnUhWm8FNPy -g cali-tw-{auditor}
-A cali-to-wl-dispatch -m comment --comment cali:MyY4YG0eCpcBrlTo -m comment --comment "Unknown interface" -j DROP
-A cali-tw-{auditor} -m comment --comment cali:6cVxS7yBmtNzKiGQ {established}
-A cali-tw-{auditor} -m comment --comment cali:gLh3Y5o2xbWm1Jzt -j cali-pri-kns.locked
-A cali-pri-kns.locked -m comment --comment cali:WqgznqAQ-uYV0oBx -j MARK --set-xmark 0x10000/0x10000
-A cali-tw-{vault} -m comment --comment cali:bpPUaRg6WuxM1tPW {established}
-A cali-tw-{vault} -m comment --comment cali:NM2TMyLVzEwBrYi- -m conntrack --ctstate INVALID -j DROP
-A cali-tw-{vault} -m comment --comment cali:AxOLZvVeYkIyNRLn -j MARK --set-xmark 0x0/0x10000
-A cali-tw-{vault} -m comment --comment cali:PwqeVmpV3ZnUfXSf -j MARK --set-xmark 0x0/0x20000
-A cali-tw-{vault} -m comment --comment cali:0Hv0FXPYTkvKXqDb -m mark --mark 0x0/0x20000 -j {POLICY}
-A cali-tw-{vault} -m comment --comment cali:0UmvRRDmQLtCuXLe -m comment --comment "Return if policy accepted" -m mark --mark 0x10000/0x10000 -j RETURN
-A cali-tw-{vault} -m comment --comment cali:1bJNQ1JnlpZzVW2O -m comment --comment "Drop if no policies passed packet" -m mark --mark 0x0/0x20000 -j DROP
-A {POLICY} -p tcp -m comment --comment cali:dXbyTVJTpcKXkBmZ -m set --match-set {AUDITORS} src -m multiport --dports {port} -j MARK --set-xmark 0x10000/0x10000
COMMIT
"#
    )
}

fn run(program: &str, arguments: &[&str], input: &str) -> Result<String> {
    use std::io::Write;
    let said = || format!("{program} {}", arguments.join(" "));
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(said)?;
    let mut stdin = child.stdin.take().context("standard input is piped")?;
    // A program that reads nothing may be gone by now.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().with_context(said)?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!("{}: {}: {}", said(), output.status, complaint.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
