//! What is read: health, metrics, stored verdicts.

use serde_json::{Value, json};

use super::super::Readiness;
use super::{Address, HERE, HOUR_AGO, JUST_NOW, ask, fixture, lines, to};

#[tokio::test]
async fn health_readiness_and_metrics() {
    let fixture = fixture();
    let port = fixture.local().await;
    let healthy = ask(to(port).await, "GET /healthz", &[HERE], "").await;
    assert_eq!((healthy.status, healthy.body.as_str()), (200, "ok\n"));
    let ready = ask(to(port).await, "GET /readyz", &[HERE], "").await;
    assert_eq!(ready.status, 200);
    assert_eq!(
        serde_json::from_str::<Value>(&ready.body).unwrap(),
        json!({"ready": true, "level": "full"})
    );
    fixture.readiness.send_replace(Readiness {
        ready: false,
        level: "paused",
        reason: Some("9.00 processors used, 0.3 allowed".to_owned()),
    });
    let paused = ask(to(port).await, "GET /readyz", &[HERE], "").await;
    assert_eq!(paused.status, 503);
    assert!(paused.body.contains("9.00 processors"), "{}", paused.body);
    let plain = ask(to(port).await, "GET /metrics", &[HERE], "").await;
    assert!(
        plain.head.contains("text/plain; version=0.0.4"),
        "{}",
        plain.head
    );
    assert!(plain.body.contains("netdiag_build_info{"), "{}", plain.body);
    let accept = "Accept: application/openmetrics-text; version=1.0.0";
    let open = ask(to(port).await, "GET /metrics", &[HERE, accept], "").await;
    assert!(
        open.head.contains("application/openmetrics-text"),
        "{}",
        open.head
    );
    let other = ask(to(port).await, "GET /", &[HERE], "").await;
    assert_eq!(other.status, 404);
}

#[tokio::test]
async fn verdicts_are_chosen_by_time_and_outcome() {
    let fixture = fixture();
    let address = Address::Unix(fixture.socket().await);
    let all = lines(&address, "/v1/verdicts").await.unwrap();
    assert_eq!(all, [HOUR_AGO, JUST_NOW]);
    let late = lines(&address, "/v1/verdicts?since=10m").await.unwrap();
    assert_eq!(late, [JUST_NOW]);
    let since = "/v1/verdicts?since=2026-11-21T11:00:00Z&outcome=dropped_here,REFUSED";
    assert_eq!(lines(&address, since).await.unwrap(), [HOUR_AGO, JUST_NOW]);
    let dropped = "/v1/verdicts?outcome=DROPPED_HERE";
    assert_eq!(lines(&address, dropped).await.unwrap(), [HOUR_AGO]);
    for (path, wanted) in [
        ("/v1/verdicts?since=yesterday", "yesterday"),
        ("/v1/verdicts?outcome=LOST", "LOST"),
        ("/v1/verdicts?sinec=10m", "sinec"),
    ] {
        let error = lines(&address, path).await.unwrap_err().to_string();
        assert!(
            error.contains("400") && error.contains(wanted),
            "{path}: {error}"
        );
    }
}
