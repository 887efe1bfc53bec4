use super::*;

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_scope_is_both_directions_of_each_pair() {
    let scope = Scope {
        addresses: vec![address("10.0.0.1"), address("fd00::1")],
        targets: vec![(Some(address("192.0.2.1")), Some(80))],
        ..Scope::default()
    };
    let to = Ends {
        source: Some(address("10.0.0.1")),
        destination: Some(address("192.0.2.1")),
        source_port: None,
        destination_port: Some(80),
    };
    let back = Ends {
        source: Some(address("192.0.2.1")),
        source_port: Some(80),
        ..Ends::default()
    };
    assert_eq!(scope.packets(), [to, back]);
    assert_eq!(scope.connections(), [to]);
}

#[test]
fn what_comes_to_a_pod_may_come_from_anywhere() {
    let pod = address("10.0.0.1");
    let scope = Scope {
        addresses: vec![pod],
        targets: vec![(Some(pod), Some(80))],
        ..Scope::default()
    };
    assert!(scope.packets().iter().any(|ends| ends.source.is_none()));
}

#[test]
fn this_process_lives_and_one_that_began_at_another_time_does_not() {
    let this = Maker::this().unwrap();
    assert_eq!(Maker::read(&this.to_string()), Some(this));
    assert!(this.lives());
    let other = Maker {
        started: this.started + 1,
        ..this
    };
    assert!(!other.lives());
}
