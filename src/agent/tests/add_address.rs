//! `add-address`, each time in a network namespace that is gone afterwards.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::process::Output;

use tokio::process::Command;

/// Runs a script in a new network, as a root that has only these capabilities of its own (see setpriv(1)).
/// `$AGENT` is the program. A user namespace allows it to everybody.
async fn in_new_network(capabilities: &str, script: &str) -> (Option<i32>, String) {
    let Output { status, stderr, .. } = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "setpriv"])
        .args(["--bounding-set", capabilities, "sh", "-c", script])
        .env("AGENT", env!("CARGO_BIN_EXE_hubstorage-agent"))
        .output()
        .await
        .unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

/// What the DaemonSet's init container has.
const NET_ADMIN: &str = "-all,+net_admin";

#[tokio::test]
async fn the_address_is_added_once_with_no_right_but_net_admin() {
    let script = "$AGENT add-address && $AGENT add-address";

    let (code, log) = in_new_network(NET_ADMIN, script).await;

    let lines: Vec<&str> = log.lines().collect();
    assert_eq!((code, lines.len()), (Some(0), 2), "{log}");
    assert!(lines[0].contains("address added") && lines[0].contains("169.254.170.23"));
    assert!(lines[1].contains("is there already") && lines[1].contains(r#""interface":"lo""#));
}

#[tokio::test]
async fn an_ipv6_address_is_added_too() {
    let script = "$AGENT add-address --address=fd00:ec2::23 && cat /proc/net/if_inet6 >&2";

    let (code, log) = in_new_network(NET_ADMIN, script).await;

    assert_eq!(code, Some(0), "{log}");
    // The prefix length is in hexadecimal.
    assert!(
        log.contains("fd000ec2000000000000000000000023 01 80"),
        "{log}"
    );
}

#[tokio::test]
async fn of_many_at_once_one_adds_it_and_all_succeed() {
    let script = "for i in 1 2 3 4 5 6 7 8; do $AGENT add-address & pids=\"$pids $!\"; done
        for pid in $pids; do wait $pid || exit; done";

    let (code, log) = in_new_network(NET_ADMIN, script).await;

    assert_eq!(code, Some(0), "{log}");
    assert_eq!(log.matches("address added").count(), 1, "{log}");
    assert_eq!(log.matches("is there already").count(), 7, "{log}");
}

#[tokio::test]
async fn without_the_right_the_error_names_it_and_where_to_give_it() {
    let (code, log) = in_new_network("-all", "$AGENT add-address").await;

    assert_eq!(code, Some(1));
    assert!(log.contains("needs CAP_NET_ADMIN"), "{log}");
    assert!(log.contains("securityContext.capabilities.add"), "{log}");
}

#[tokio::test]
async fn an_interface_that_the_node_does_not_have_is_named() {
    let (code, log) = in_new_network(NET_ADMIN, "$AGENT add-address --interface=dummy9").await;

    assert_eq!(code, Some(1));
    assert!(log.contains("no interface dummy9"), "{log}");
}
