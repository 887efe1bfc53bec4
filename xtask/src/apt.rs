//! apt with a private configuration, so that neither the machine's package lists nor its sources change and no root is
//! needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// What to take of the machine's own Debian archive.
#[derive(Clone, Copy)]
pub enum Archive<'a> {
    /// The packages of a suite.
    Packages(&'a str),
    /// The source packages of a suite.
    Sources(&'a str),
}

impl<'a> Archive<'a> {
    const fn suite(self) -> &'a str {
        match self {
            Self::Packages(suite) | Self::Sources(suite) => suite,
        }
    }

    /// The word apt has for it.
    const fn kind(self) -> &'static str {
        match self {
            Self::Packages(_) => "deb",
            Self::Sources(_) => "deb-src",
        }
    }
}

/// apt with its own sources, lists and cache.
pub struct Apt {
    folder: PathBuf,
}

impl Apt {
    pub fn new(folder: &Path, archive: Archive<'_>) -> Result<Self> {
        for part in ["etc", "lists/partial", "cache/archives/partial"] {
            let part = folder.join(part);
            fs::create_dir_all(&part).with_context(|| format!("create {}", part.display()))?;
        }
        for (name, text) in sources(archive)? {
            let file = folder.join("etc").join(name);
            fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
        }
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    pub fn command(&self, program: &str) -> Command {
        let folder = self.folder.display();
        let mut command = Command::new(program);
        command.env("LC_ALL", "C");
        for option in [
            "Dir::Etc::sourcelist=/dev/null".to_owned(),
            format!("Dir::Etc::sourceparts={folder}/etc"),
            format!("Dir::State::Lists={folder}/lists"),
            format!("Dir::Cache={folder}/cache"),
            // apt's own user could not read a cache below somebody's home.
            "APT::Sandbox::User=root".to_owned(),
            "Acquire::Languages=none".to_owned(),
        ] {
            command.arg("-o").arg(option);
        }
        command
    }
}

/// The suite this machine runs.
pub fn own_suite() -> Result<String> {
    let release = fs::read_to_string("/etc/os-release").context("read /etc/os-release")?;
    let own = release
        .lines()
        .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
        .context("no VERSION_CODENAME in /etc/os-release")?;
    Ok(own.trim_matches('"').to_owned())
}

/// The machine's own sources of the Debian archive, turned to another suite.
fn sources(archive: Archive<'_>) -> Result<Vec<(String, String)>> {
    let own = &own_suite()?;
    let parts = fs::read_dir("/etc/apt/sources.list.d")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let mut turned = Vec::new();
    for file in parts.chain([PathBuf::from("/etc/apt/sources.list")]) {
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("sources") => turned.extend(
                turn_deb822(&text, own, archive).map(|text| ("main.sources".to_owned(), text)),
            ),
            Some("list") => turned
                .extend(turn_list(&text, own, archive).map(|text| ("main.list".to_owned(), text))),
            _ => {}
        }
    }
    if turned.is_empty() {
        bail!("this machine's package sources have no Debian archive for {own}");
    }
    turned.truncate(1);
    Ok(turned)
}

/// The first enabled stanza for our own suite.
fn turn_deb822(text: &str, own: &str, archive: Archive<'_>) -> Option<String> {
    let field = |stanza: &str, name: &str| -> Option<String> {
        stanza.lines().find_map(|line| {
            line.strip_prefix(name)?
                .strip_prefix(':')
                .map(|value| value.trim().to_owned())
        })
    };
    let is_archive = |stanza: &&str| {
        let has = |name, word: &str| {
            field(stanza, name).is_some_and(|value| value.split_whitespace().any(|w| w == word))
        };
        has("Types", "deb") && has("Suites", own) && !has("Enabled", "no")
    };
    let stanza = text.split("\n\n").find(is_archive)?;
    let turned = stanza.lines().map(|line| match line.split_once(':') {
        Some(("Types", _)) => format!("Types: {}", archive.kind()),
        Some(("Suites", _)) => format!("Suites: {}", archive.suite()),
        Some(("Components", _)) => "Components: main".to_owned(),
        _ => line.to_owned(),
    });
    Some(turned.collect::<Vec<_>>().join("\n") + "\n")
}

/// `deb [options] URI suite components…`
fn turn_list(text: &str, own: &str, archive: Archive<'_>) -> Option<String> {
    text.lines().find_map(|line| {
        let (before, components) = line
            .trim()
            .strip_prefix("deb ")?
            .split_once(&format!(" {own} "))?;
        components
            .split_whitespace()
            .any(|word| word == "main")
            .then(|| format!("{} {before} {} main\n", archive.kind(), archive.suite()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_stanza_is_turned_and_the_others_are_left() {
        let text = "Types: deb\nURIs: proto:x-security\nSuites: bookworm-security\nComponents: main\n\n\
                    Types: deb deb-src\nURIs: proto:x\nSuites: bookworm bookworm-updates\nComponents: main contrib\nSigned-By: /k\n";
        let turned = turn_deb822(text, "bookworm", Archive::Packages("sid")).unwrap();
        assert_eq!(
            turned,
            "Types: deb\nURIs: proto:x\nSuites: sid\nComponents: main\nSigned-By: /k\n"
        );
        assert!(turn_deb822(text, "trixie", Archive::Packages("sid")).is_none());
    }

    #[test]
    fn one_line_sources_are_turned() {
        let text = "# c\ndeb proto:s bookworm-security main\ndeb [signed-by=/k] proto:x bookworm main contrib\n";
        assert_eq!(
            turn_list(text, "bookworm", Archive::Packages("bullseye")).unwrap(),
            "deb [signed-by=/k] proto:x bullseye main\n"
        );
    }

    #[test]
    fn source_packages_come_from_the_same_place() {
        let text = "Types: deb\nURIs: proto:x\nSuites: bookworm\nComponents: main\n";
        let turned = turn_deb822(text, "bookworm", Archive::Sources("bookworm")).unwrap();
        assert!(turned.starts_with("Types: deb-src\n"), "{turned}");
    }
}
