//! What is taken from a platform that others use too is given back, however a test ends.

use std::panic::{AssertUnwindSafe, resume_unwind};

use futures::FutureExt as _;

/// Does `what`, which takes something away or changes it, and then `give`, which puts it back: also
/// after a panic, which goes on when that is done.
pub async fn giving_back<T>(what: impl Future<Output = T>, give: impl Future<Output = ()>) -> T {
    let outcome = AssertUnwindSafe(what).catch_unwind().await;
    give.await;
    outcome.unwrap_or_else(|panic| resume_unwind(panic))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn what_was_taken_is_given_back_after_a_panic_which_goes_on() {
        let is_back = Cell::new(false);
        let panics = async { std::panic::resume_unwind(Box::new("a failed assertion")) };

        let test = giving_back::<()>(panics, async { is_back.set(true) });
        let outcome = AssertUnwindSafe(test).catch_unwind().await;

        assert!(outcome.is_err());
        assert!(is_back.get());
    }
}
