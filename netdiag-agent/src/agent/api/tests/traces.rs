//! Traces on demand.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::net::UnixStream;

use super::super::{Command, Refusal};
use super::{Address, Fixture, HERE, ask, fixture, lines};
use crate::agent::traces::End;

#[tokio::test]
async fn a_trace_is_started_streamed_and_stopped() {
    let mut fixture = fixture();
    run_commands(&mut fixture);
    let path = fixture.socket().await;
    let connect = || async { UnixStream::connect(&path).await.unwrap() };
    let json = "Content-Type: application/json";
    let start = |body: &'static str| async move {
        ask(connect().await, "POST /v1/traces", &[HERE, json], body).await
    };
    for (body, wanted) in [
        ("{", "EOF"),
        (r#"{"netns":"web","colour":"red"}"#, "colour"),
        (r#"{"netns":"web","duration":"long"}"#, "long"),
        ("{}", "netns"),
    ] {
        let answer = start(body).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.body);
        assert!(answer.body.contains(wanted), "{body}: {}", answer.body);
    }
    let started = start(r#"{"netns":"web","to":"10.0.0.1:80","duration":"10s"}"#).await;
    assert_eq!(started.status, 201, "{}", started.body);
    assert!(
        started.head.contains("location: /v1/traces/1"),
        "{}",
        started.head
    );
    let trace = fixture.service.traces.get(1).unwrap();
    trace.say("{\"first\":1}".into());
    let address = Address::Unix(path.clone());
    let stream = tokio::spawn(async move { lines(&address, "/v1/traces/1").await });
    // Whether the reader is there already or not, it gets every line.
    tokio::task::yield_now().await;
    trace.say("{\"second\":2}".into());
    let list = ask(connect().await, "GET /v1/traces", &[HERE], "").await;
    let list: Value = serde_json::from_str(&list.body).unwrap();
    assert_eq!(
        (&list[0]["state"], &list[0]["verdicts"]),
        (&json!("running"), &json!(2))
    );
    let stopped = ask(connect().await, "DELETE /v1/traces/1", &[HERE], "").await;
    assert_eq!(stopped.status, 204);
    let said = stream.await.unwrap().unwrap();
    assert_eq!(said, ["{\"first\":1}", "{\"second\":2}"]);
    let missing = ask(connect().await, "GET /v1/traces/9", &[HERE], "").await;
    assert_eq!(missing.status, 404);
}

#[tokio::test]
async fn the_stream_of_a_trace_that_failed_breaks_off() {
    let fixture = fixture();
    let trace = fixture
        .service
        .traces
        .add(7, "web".to_owned(), String::new());
    trace.say("{}".into());
    trace.ended(End::Failed("its pod is gone".to_owned()));
    let address = Address::Unix(fixture.socket().await);
    lines(&address, "/v1/traces/7")
        .await
        .expect_err("it is not the whole");
}

/// Runs what is asked for as the supervisor does, without a kernel.
fn run_commands(fixture: &mut Fixture) {
    let mut commands = fixture.commands.take().unwrap();
    let traces = Arc::clone(&fixture.service.traces);
    tokio::spawn(async move {
        let mut next = 1;
        while let Some(command) = commands.recv().await {
            match command {
                Command::Start(ask, answer) if ask.netns.is_none() => {
                    let _ = answer.send(Err(Refusal::Bad("give one of netns".to_owned())));
                }
                Command::Start(..) if next > 2 => {}
                Command::Start(ask, answer) => {
                    traces.add(next, ask.netns.unwrap(), "2026".to_owned());
                    let _ = answer.send(Ok(next));
                    next += 1;
                }
                Command::Stop(id, answer) => {
                    traces.get(id).unwrap().ended(End::InOrder);
                    let _ = answer.send(true);
                }
            }
        }
    });
}
