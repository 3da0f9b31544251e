//! A component can be taken away and brought back, to see what the others do without it. In a
//! program of its own, as cargo runs test programs one after the other.

#![allow(clippy::unwrap_used, reason = "these are tests")]

use hubstorage_e2e::Platform;

#[tokio::test]
async fn a_stopped_component_comes_back_as_another_process() {
    let platform = Platform::load().unwrap();
    let before = platform.pid("serve-1").unwrap();

    platform.stop("serve-1").await.unwrap();
    let gone = platform.pid("serve-1").unwrap_err();
    platform
        .start(env!("CARGO_BIN_EXE_e2e"), "serve-1")
        .await
        .unwrap();

    assert_eq!(gone.to_string(), "serve-1 does not run");
    assert_ne!(platform.pid("serve-1").unwrap(), before);
}
