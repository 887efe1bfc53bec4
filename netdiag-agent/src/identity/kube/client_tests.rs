use std::fs;

use super::*;

const CONFIG: &str = "\
apiVersion: v1
kind: Config
current-context: lab
clusters: [{name: lab, cluster: {server: 'https://192.0.2.1:6443', insecure-skip-tls-verify: true}}]
contexts: [{name: lab, context: {cluster: lab, user: me, namespace: shop}}]
users: [{name: me, user: {token: secret}}]
";

fn at(root: &Path, path: &str, text: &str) -> PathBuf {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn the_most_deliberate_credentials_win() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let mut places = Places {
        root: root.to_owned(),
        home: Some(root.join("home")),
        ..Places::default()
    };
    assert_eq!(places.origin(), None);
    let kubelet = at(root, "var/lib/kubelet/kubeconfig", CONFIG);
    assert_eq!(places.origin(), Some(Origin::Kubelet(kubelet)));
    let home = at(root, "home/.kube/config", CONFIG);
    assert_eq!(places.origin(), Some(Origin::Home(home)));
    places.in_cluster = true;
    assert!(matches!(places.origin(), Some(Origin::Home(_))));
    at(root, ACCOUNT, "token");
    assert_eq!(places.origin(), Some(Origin::InCluster));
    places.environment = Some("".into());
    assert_eq!(places.origin(), Some(Origin::InCluster));
    places.environment = Some("/a::/b".into());
    let both = vec![PathBuf::from("/a"), PathBuf::from("/b")];
    assert_eq!(places.origin(), Some(Origin::Environment(both)));
    places.given = Some("/c".into());
    assert_eq!(places.origin(), Some(Origin::Given("/c".into())));
}

#[tokio::test]
async fn a_context_brings_its_namespace() {
    let folder = tempfile::tempdir().unwrap();
    let places = Places {
        given: Some(at(folder.path(), "config", CONFIG)),
        ..Places::default()
    };
    assert_eq!(connect(&places).await.ok().unwrap().namespace, "shop");
}

#[tokio::test]
async fn a_file_that_a_kubeconfig_names_in_vain_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let text = CONFIG.replace(
        "insecure-skip-tls-verify: true",
        "certificate-authority: /no/such/ca.crt",
    );
    let places = Places {
        given: Some(at(folder.path(), "config", &text)),
        ..Places::default()
    };
    let line = connect(&places).await.err().unwrap().to_string();
    assert!(line.contains("read /no/such/ca.crt: "), "{line}");
}

#[tokio::test]
async fn unusable_credentials_are_named_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for (text, why) in [
        ("{", "parse"),
        ("", ""),
        (
            "apiVersion: v1\nkind: Config\ncurrent-context: lab\n",
            "lab",
        ),
    ] {
        let path = at(root, "config", text);
        let places = Places {
            given: Some(path.clone()),
            ..Places::default()
        };
        let error = connect(&places).await.err().expect(text);
        assert!(error.is_input());
        let line = error.to_string();
        assert!(!line.contains('\n'), "{line}");
        assert!(
            line.contains(path.to_str().unwrap()) && line.contains(why),
            "{line}"
        );
    }
    let absent = Places {
        environment: Some("/nowhere/config".into()),
        ..Places::default()
    };
    let error = connect(&absent).await.err().unwrap();
    assert!(
        !error.is_input() && error.to_string().contains("/nowhere/config"),
        "{error}"
    );
    assert!(matches!(
        connect(&Places::default()).await.err(),
        Some(ClientError::None)
    ));
}

/// A server that takes connections and says nothing.
#[tokio::test]
async fn nobody_waits_long_for_an_answer() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", silent.local_addr().unwrap());
    let client = Client::try_from(Config::new(server.parse().unwrap())).unwrap();
    let limit = Duration::from_millis(20);
    let tries = std::cell::Cell::new(0);
    let error = within(limit, || {
        tries.set(tries.get() + 1);
        client.apiserver_version()
    })
    .await
    .unwrap_err();
    assert!(matches!(error, AskError::Silent(_)), "{error}");
    assert_eq!(tries.get(), 2);
}

#[tokio::test]
async fn a_dead_server_is_named() {
    let config = Config::new("http://127.0.0.1:1".parse().unwrap());
    let client = Client::try_from(config).unwrap();
    let error = brief(|| client.apiserver_version()).await.unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
    assert_eq!(error.status(), None);
}
