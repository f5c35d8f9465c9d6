//! Whether this process is a forked child, in which the library's threads and locks are unusable.

use std::sync::Once;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

static IS_CHILD: AtomicBool = AtomicBool::new(false);

/// From now on a fork is noticed. Called before the first thread is started.
pub(crate) fn watch() {
    static WATCHING: Once = Once::new();
    WATCHING.call_once(|| {
        // SAFETY: the handler only stores to an atomic, and the library is never unloaded.
        let failed = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        if failed != 0 {
            tracing::warn!("forks will not be noticed");
        }
    });
}

/// Whether this process was forked from one with a client.
#[inline]
pub(crate) fn is_child() -> bool {
    IS_CHILD.load(Ordering::Relaxed)
}

extern "C" fn in_child() {
    IS_CHILD.store(true, Ordering::Relaxed);
}
