//! Waiting for events and conditions, never for time to pass.

use std::future::IntoFuture;
use std::time::Duration;

/// What a test waits for at most; nothing in a passing test takes that long.
const PATIENCE: Duration = Duration::from_secs(40);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// Fails instead of hanging.
pub async fn within<F: IntoFuture>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future.into_future())
        .await
        .expect("it happens in time")
}

/// Looks again and again until there is an answer.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let mut looks = tokio::time::interval(LOOK);
    let looking = async {
        loop {
            looks.tick().await;
            if let Some(answer) = look().await {
                return answer;
            }
        }
    };
    match tokio::time::timeout(PATIENCE, looking).await {
        Ok(answer) => answer,
        Err(_) => panic!("not within {PATIENCE:?}: {what}"),
    }
}
