//! The guest's whole file system, as one uncompressed newc archive: init, tools with their libraries, modules.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::kernel::Image;
use super::modules;
use crate::sh;

/// Programs of this machine that the lab runs; busybox gives the rest.
const TOOLS: &[&str] = &[
    "ip",
    "tc",
    "bridge",
    "ss",
    "nft",
    "conntrack",
    "ping",
    "nc.openbsd",
    "socat",
    "dig",
    "tcpdump",
    "sysctl",
    "dash",
    "bpftool",
    "busybox",
    "xtables-nft-multi",
    "xtables-legacy-multi",
];

/// Both back ends are one program each that looks at the name it is called by.
const XTABLES: &[(&str, &str)] = &[
    ("xtables-nft-multi", "-nft"),
    ("xtables-legacy-multi", "-legacy"),
];

/// Data the tools look up by name.
const FILES: &[&str] = &[
    "/etc/protocols",
    "/etc/services",
    "/etc/iproute2",
    "/usr/share/iproute2",
    "/etc/nsswitch.conf",
    // Without any, no client of an API server is made, not even one that needs none.
    "/etc/ssl/certs/ca-certificates.crt",
];

/// On a merged-/usr system these are links.
const LINKS: &[(&str, &str)] = &[
    ("bin", "usr/bin"),
    ("sbin", "usr/sbin"),
    ("lib", "usr/lib"),
    ("lib64", "usr/lib64"),
];

const FOLDERS: &[&str] = &["dev", "proc", "sys", "run", "tmp", "root", "var", "etc"];

enum Entry {
    Folder,
    File { mode: u32, data: Vec<u8> },
    Link(String),
}

/// Paths, without a leading slash, in order: a folder comes before what is in it.
#[derive(Default)]
struct Tree {
    entries: BTreeMap<PathBuf, Entry>,
}

/// Writes the archive. `programs` go to usr/bin; `command` is what init runs.
pub fn write(file: &Path, image: &Image, programs: &[PathBuf], command: &str) -> Result<()> {
    let mut tree = Tree::default();
    for folder in FOLDERS {
        tree.folder(Path::new(folder));
    }
    for (link, to) in LINKS {
        tree.folder(Path::new(to));
        tree.link(Path::new(link), to);
    }
    tree.file(Path::new("netdiag-vm"), 0o644, command.as_bytes().to_vec());
    tree.file(
        Path::new("etc/passwd"),
        0o644,
        b"root:x:0:0:root:/root:/bin/sh\n".to_vec(),
    );
    tree.file(
        Path::new("etc/hosts"),
        0o644,
        b"127.0.0.1 localhost\n::1 localhost\n".to_vec(),
    );
    tree.modules(image)?;
    tree.tools()?;
    for program in programs {
        let name = program.file_name().expect("a program has a name");
        tree.program(
            &Path::new("usr/bin").join(name),
            program,
            stripped(program)?,
        )?;
    }
    let init = sh::target().join("debug/netdiag-init");
    tree.program(Path::new("init"), &init, stripped(&init)?)?;
    tree.save(file)
}

impl Tree {
    fn folder(&mut self, path: &Path) {
        for ancestor in path
            .ancestors()
            .filter(|ancestor| !ancestor.as_os_str().is_empty())
        {
            self.entries
                .entry(ancestor.to_owned())
                .or_insert(Entry::Folder);
        }
    }

    fn file(&mut self, path: &Path, mode: u32, data: Vec<u8>) {
        self.folder(path.parent().unwrap_or(Path::new("")));
        self.entries
            .insert(path.to_owned(), Entry::File { mode, data });
    }

    fn link(&mut self, path: &Path, to: &str) {
        self.entries
            .entry(path.to_owned())
            .or_insert_with(|| Entry::Link(to.to_owned()));
    }

    fn modules(&mut self, image: &Image) -> Result<()> {
        let mut order = String::new();
        for module in modules::closure(&image.modules)? {
            let path = format!("modules/{}.ko", module.name);
            order = order + "/" + &path + "\n";
            self.file(Path::new(&path), 0o644, module.data);
        }
        self.file(Path::new("modules/order"), 0o644, order.into_bytes());
        Ok(())
    }

    fn tools(&mut self) -> Result<()> {
        for tool in TOOLS {
            let host = sh::find(tool)
                .with_context(|| format!("no {tool} on this machine: cargo xtask setup"))?;
            let data = fs::read(&host).with_context(|| format!("read {}", host.display()))?;
            self.program(&Path::new("usr/sbin").join(tool), &host, data)?;
        }
        for (program, suffix) in XTABLES {
            for (family, action) in [
                ("iptables", ""),
                ("iptables", "-save"),
                ("iptables", "-restore"),
                ("ip6tables", ""),
                ("ip6tables", "-save"),
                ("ip6tables", "-restore"),
            ] {
                self.link(
                    &Path::new("usr/sbin").join(format!("{family}{suffix}{action}")),
                    program,
                );
                // The nft back end stands first in the table and takes the plain name, as on Debian.
                self.link(
                    &Path::new("usr/sbin").join(format!("{family}{action}")),
                    program,
                );
            }
        }
        self.link(Path::new("usr/bin/nc"), "../sbin/nc.openbsd");
        // busybox's own shell would run its applets before the programs in PATH.
        self.link(Path::new("usr/bin/sh"), "../sbin/dash");
        self.extensions()?;
        self.applets()?;
        for file in FILES {
            self.copy(Path::new(file))?;
        }
        Ok(())
    }

    /// The matches and targets of iptables are libraries opened at run time.
    fn extensions(&mut self) -> Result<()> {
        let folder = format!("/usr/lib/{}-linux-gnu/xtables", std::env::consts::ARCH);
        self.copy(Path::new(&folder))
    }

    /// Everything else a shell line may call, unless the real program is there.
    fn applets(&mut self) -> Result<()> {
        for applet in sh::output(Command::new("busybox").arg("--list"))?.lines() {
            if !self
                .entries
                .contains_key(&Path::new("usr/sbin").join(applet))
            {
                self.link(&Path::new("usr/bin").join(applet), "../sbin/busybox");
            }
        }
        Ok(())
    }

    /// A program and the libraries that `ldd` names for it.
    fn program(&mut self, path: &Path, host: &Path, data: Vec<u8>) -> Result<()> {
        self.file(path, 0o755, data);
        for library in sh::libraries(host) {
            let name = inside(&library)?;
            if !self.entries.contains_key(&name) {
                let data =
                    fs::read(&library).with_context(|| format!("read {}", library.display()))?;
                self.file(&name, 0o755, data);
            }
        }
        Ok(())
    }

    /// A file, or a folder with all its files; what this machine does not have is left out.
    fn copy(&mut self, host: &Path) -> Result<()> {
        if host.is_dir() {
            for entry in fs::read_dir(host)
                .with_context(|| format!("list {}", host.display()))?
                .flatten()
            {
                self.copy(&entry.path())?;
            }
        } else if host.is_file() {
            let data = fs::read(host).with_context(|| format!("read {}", host.display()))?;
            self.file(&inside(host)?, 0o644, data);
        }
        Ok(())
    }

    fn save(&self, file: &Path) -> Result<()> {
        let act = || format!("write {}", file.display());
        let mut out = BufWriter::new(fs::File::create(file).with_context(act)?);
        for (number, (path, entry)) in self.entries.iter().enumerate() {
            let (mode, data) = match entry {
                Entry::Folder => (0o040_755, &[][..]),
                Entry::File { mode, data } => (0o100_000 | mode, &data[..]),
                Entry::Link(to) => (0o120_777, to.as_bytes()),
            };
            record(&mut out, number + 1, mode, &path.to_string_lossy(), data).with_context(act)?;
        }
        record(&mut out, 0, 0, "TRAILER!!!", &[]).with_context(act)?;
        out.flush().with_context(act)
    }
}

/// Six letters of magic and thirteen numbers of eight digits.
const HEADER: usize = 110;

/// One newc record: thirteen hexadecimal numbers, the name, the content, each part padded to four bytes.
fn record(
    out: &mut impl Write,
    number: usize,
    mode: u32,
    name: &str,
    data: &[u8],
) -> std::io::Result<()> {
    let (size, name_size) = (data.len(), name.len() + 1);
    let links = 1;
    write!(
        out,
        "070701{number:08x}{mode:08x}{:08x}{:08x}{links:08x}{:08x}{size:08x}",
        0, 0, 0
    )?;
    write!(
        out,
        "{:08x}{:08x}{:08x}{:08x}{name_size:08x}{:08x}{name}\0",
        0, 0, 0, 0, 0
    )?;
    pad(out, HEADER + name_size)?;
    out.write_all(data)?;
    pad(out, size)
}

fn pad(out: &mut impl Write, written: usize) -> std::io::Result<()> {
    out.write_all(&[0; 3][..written.wrapping_neg() % 4])
}

/// Debug information makes our binaries ten times as large as the guest needs.
fn stripped(program: &Path) -> Result<Vec<u8>> {
    let copy = sh::target().join("vm/stripped");
    sh::output(Command::new("strip").arg("-o").arg(&copy).arg(program))?;
    fs::read(&copy).with_context(|| format!("read {}", copy.display()))
}

/// Where a file of this machine goes in the archive: its folder's real name, since /lib may be a link.
fn inside(host: &Path) -> Result<PathBuf> {
    let (folder, name) = (
        host.parent().unwrap_or(Path::new("/")),
        host.file_name().unwrap_or_default(),
    );
    let folder = folder
        .canonicalize()
        .with_context(|| format!("resolve {}", folder.display()))?;
    Ok(folder.strip_prefix("/").unwrap_or(&folder).join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_padded_to_four_bytes() {
        for (name, data) in [("a", &b"12345"[..]), ("abc", b""), ("abcd", b"1234")] {
            let mut out = Vec::new();
            record(&mut out, 7, 0o100_644, name, data).unwrap();
            assert_eq!(out.len() % 4, 0);
            assert_eq!(&out[..14], b"07070100000007");
            assert_eq!(
                &out[94..102],
                format!("{:08x}", name.len() + 1).as_bytes(),
                "size of the name"
            );
            assert_eq!(
                &out[54..62],
                format!("{:08x}", data.len()).as_bytes(),
                "size of the content"
            );
        }
    }

    #[test]
    fn folders_come_before_their_files_and_the_nft_back_end_has_the_plain_name() {
        let mut tree = Tree::default();
        tree.file(Path::new("a/b/c"), 0o644, Vec::new());
        let paths: Vec<_> = tree
            .entries
            .keys()
            .map(|path| path.to_str().unwrap())
            .collect();
        assert_eq!(paths, ["a", "a/b", "a/b/c"]);
        tree.link(Path::new("iptables"), "xtables-nft-multi");
        tree.link(Path::new("iptables"), "xtables-legacy-multi");
        assert!(
            matches!(&tree.entries[Path::new("iptables")], Entry::Link(to) if to == "xtables-nft-multi")
        );
    }
}
