//! The two doors of this machine: a loopback address and a socket.

use super::super::Listener;
use super::{HERE, ask, fixture, listen, to};

#[tokio::test]
async fn a_loopback_address_is_read_only_and_no_web_page_gets_through() {
    let fixture = fixture();
    let port = fixture.local().await;
    let start = ask(to(port).await, "POST /v1/traces", &[HERE], "{}").await;
    assert_eq!(start.status, 403, "{}", start.body);
    let stop = ask(to(port).await, "DELETE /v1/traces/1", &[HERE], "").await;
    assert_eq!(stop.status, 403);
    for headers in [
        &["Host: evil.example"][..],
        &["Host: evil.example:9470"],
        &["Host: 127.0.0.1.evil.example"],
        &[HERE, "Origin: http://evil.example"],
    ] {
        let answer = ask(to(port).await, "GET /v1/verdicts", headers, "").await;
        assert_eq!(answer.status, 403, "{headers:?}: {}", answer.body);
    }
    for host in [
        "localhost:9470",
        "LOCALHOST",
        "[::1]:9470",
        "127.0.0.1:9470",
    ] {
        let header = format!("Host: {host}");
        let answer = ask(to(port).await, "GET /v1/verdicts", &[&header], "").await;
        assert_eq!(answer.status, 200, "{host}: {}", answer.body);
    }
}

#[tokio::test]
async fn a_socket_is_for_its_owner_and_replaces_a_dead_one_only() {
    use std::os::unix::fs::PermissionsExt;
    let fixture = fixture();
    let path = fixture.socket().await;
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let error = Listener::open(&listen(Some(&path), None))
        .await
        .err()
        .unwrap();
    assert!(error.to_string().contains("another process"), "{error}");
    let dead = fixture.folder.path().join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    assert!(dead.exists());
    drop(Listener::open(&listen(Some(&dead), None)).await.unwrap());
    assert!(!dead.exists(), "the file goes with its listener");
    let file = fixture.folder.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert!(Listener::open(&listen(Some(&file), None)).await.is_err());
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
}
