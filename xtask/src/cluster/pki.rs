//! Keys and certificates: one authority, one server, one client, one pair that signs the tokens of service accounts.

use std::fs;
use std::io::Read;
use std::process::Command;

use anyhow::{Context, Result};

use super::network::{API_SERVICE, NODE};
use super::place::Place;
use crate::sh;

const DAYS: &str = "30";

pub fn make(place: &Place) -> Result<()> {
    let folder = place.file("pki");
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let authority =
        "basicConstraints = critical,CA:TRUE\nkeyUsage = critical,keyCertSign,cRLSign\n";
    certificate(place, "ca", "CN = netdiag", authority, None)?;
    let server = format!(
        "basicConstraints = CA:FALSE\nextendedKeyUsage = serverAuth\n\
         subjectAltName = IP:{NODE},IP:127.0.0.1,IP:{API_SERVICE},DNS:localhost,DNS:kubernetes,\
         DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local\n"
    );
    certificate(
        place,
        "apiserver",
        "CN = kube-apiserver",
        &server,
        Some("ca"),
    )?;
    // As whom the API server speaks to the kubelet, for logs and exec.
    let client = "basicConstraints = CA:FALSE\nextendedKeyUsage = clientAuth\n";
    let subject = "O = system:masters\nCN = kube-apiserver";
    certificate(place, "kubelet-client", subject, client, Some("ca"))?;
    let (private, public) = (place.text("pki/sa.key"), place.text("pki/sa.pub"));
    openssl(&["genpkey", "-quiet", "-algorithm", "RSA", "-out", &private])
        .or_else(|_| openssl(&["genpkey", "-algorithm", "RSA", "-out", &private]))?;
    openssl(&["pkey", "-in", &private, "-pubout", "-out", &public])
}

/// A key and its certificate, signed by the authority named or by itself.
fn certificate(
    place: &Place,
    name: &str,
    subject: &str,
    extensions: &str,
    signed_by: Option<&str>,
) -> Result<()> {
    let text = format!(
        "[req]\nprompt = no\ndistinguished_name = subject\nx509_extensions = extensions\n\
         [subject]\n{subject}\n[extensions]\n{extensions}"
    );
    let request = place.text(&format!("pki/{name}.cnf"));
    fs::write(&request, text).with_context(|| format!("write {request}"))?;
    let (key, certificate) = (
        place.text(&format!("pki/{name}.key")),
        place.text(&format!("pki/{name}.crt")),
    );
    let mut words = vec!["req", "-x509", "-config", &request, "-days", DAYS, "-nodes"];
    words.extend(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    words.extend(["-keyout", &key, "-out", &certificate]);
    let authority =
        signed_by.map(|name| ["crt", "key"].map(|kind| place.text(&format!("pki/{name}.{kind}"))));
    if let Some([certificate, key]) = &authority {
        words.extend(["-CA", certificate, "-CAkey", key]);
    }
    openssl(&words)
}

fn openssl(words: &[&str]) -> Result<()> {
    sh::output(Command::new("openssl").args(words)).map(drop)
}

/// A bearer token nobody can guess.
pub fn token() -> Result<String> {
    let mut bytes = [0; 16];
    fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .context("read /dev/urandom")?;
    Ok(bytes
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}")))
}
