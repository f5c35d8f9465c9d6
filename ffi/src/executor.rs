//! The library's one thread per client, and how other threads wait for what it does.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::thread::ThreadId;

use parking_lot::Mutex;
use quorate::ErrorCode;
use tokio::runtime::Builder;
use tokio::runtime::EnterGuard;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::border::Wait;
use crate::failure::Failure;
use crate::fork;

/// The thread that serves a client's connections; it ends with this value.
#[derive(Debug)]
pub(crate) struct Executor {
    handle: Handle,
    stop: CancellationToken,
    thread: Mutex<Option<JoinHandle<()>>>,
    id: ThreadId,
}

impl Executor {
    pub(crate) fn start() -> Result<Arc<Self>, Failure> {
        fork::watch();
        let failed = |error: std::io::Error| {
            let text = format!("cannot start the library's thread: {error}");
            Failure::new(ErrorCode::INTERNAL, text)
        };
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(failed)?;
        let handle = runtime.handle().clone();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name("quorate".to_owned());
        let thread = thread.spawn(move || runtime.block_on(stopped.cancelled()));
        let thread = thread.map_err(failed)?;
        Ok(Arc::new(Self {
            handle,
            stop,
            id: thread.thread().id(),
            thread: Mutex::new(Some(thread)),
        }))
    }

    /// Whether this is the library's own thread, which must not wait for itself.
    pub(crate) fn is_here(&self) -> bool {
        std::thread::current().id() == self.id
    }

    /// Refuses a call that waits, inside a callback.
    pub(crate) fn refuse_here(&self) -> Result<(), Failure> {
        match self.is_here() {
            true => Err(Failure::would_block(
                "this call waits, which must not be done inside a callback",
            )),
            false => Ok(()),
        }
    }

    /// Lets this thread use the library's timers.
    pub(crate) fn enter(&self) -> EnterGuard<'_> {
        self.handle.enter()
    }

    /// Works in this thread, while the library's thread does what is awaited, until the work is
    /// done, `closed`, or the wait is over.
    pub(crate) fn wait<T, E: Into<Failure>>(
        &self,
        wait: Wait,
        closed: &CancellationToken,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Failure> {
        if wait != Wait::Try {
            self.refuse_here()?;
        }
        let limited = async {
            tokio::select! {
                biased;
                done = work => done.map_err(E::into),
                () = closed.cancelled() => Err(Failure::closed("handle")),
                failure = over(wait) => Err(failure),
            }
        };
        match self.is_here() {
            // Only what is ready at once is awaited here.
            true => ready(limited),
            false => self.handle.block_on(limited),
        }
    }
}

/// When waiting is over.
async fn over(wait: Wait) -> Failure {
    match wait {
        Wait::Try => Failure::would_block("it would have to wait"),
        Wait::For(limit) => {
            tokio::time::sleep(limit).await;
            let text = format!("nothing within {limit:?}");
            Failure::new(ErrorCode::WAIT_TIMEOUT, text)
        }
        Wait::Ever => std::future::pending().await,
    }
}

/// The result of work that is never pending.
fn ready<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(work).poll(&mut context) {
        std::task::Poll::Ready(done) => done,
        std::task::Poll::Pending => Err(Failure::would_block("it would have to wait")),
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.stop.cancel();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread.filter(|_| !self.is_here()) {
            // A panic of the thread was told where it happened; there is nothing left to end.
            let _ended = thread.join().is_ok();
        }
    }
}
