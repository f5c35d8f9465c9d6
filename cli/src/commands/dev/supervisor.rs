//! Keeps brokers running: one that dies is started again after a while.

use std::process::ExitStatus;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::failure::Failure;
use crate::local::Broker;

/// Reports that wait to be told.
const REPORTS_MAX: usize = 64;

/// What became of a broker.
#[derive(Debug)]
pub(super) enum Report {
    /// It ended by itself.
    Exit(u16, ExitStatus),
    /// It serves again, in this process.
    Start(u16, u32),
    /// It could not be started and is tried again.
    StillDown(Failure),
}

/// Brokers, each in the care of a task of its own.
#[derive(Debug)]
pub(super) struct Supervisor {
    stop: watch::Sender<bool>,
    tasks: JoinSet<Result<(), Failure>>,
    reports: mpsc::Receiver<Report>,
}

impl Supervisor {
    /// Takes care of running brokers. Without `respawn` a broker that dies stays dead.
    pub(super) fn start(brokers: Vec<Broker>, respawn: Duration) -> Self {
        let stop = watch::Sender::new(false);
        let (tell, reports) = mpsc::channel(REPORTS_MAX);
        let mut tasks = JoinSet::new();
        for broker in brokers {
            let care = Care {
                broker,
                respawn,
                tell: tell.clone(),
            };
            tasks.spawn(care.run(stop.subscribe()));
        }
        Self {
            stop,
            tasks,
            reports,
        }
    }

    /// The next thing that happens; `None` when no broker is left. Cancel-safe.
    pub(super) async fn report(&mut self) -> Option<Report> {
        self.reports.recv().await
    }

    /// Lets all of them finish what they promised, together.
    pub(super) async fn stop(&mut self) -> Result<(), Failure> {
        self.stop.send_replace(true);
        let mut result = Ok(());
        while let Some(ended) = self.tasks.join_next().await {
            // A task that panicked has dropped its broker, which killed it.
            let ended = ended.unwrap_or(Ok(()));
            result = result.and(ended);
        }
        result
    }
}

struct Care {
    broker: Broker,
    respawn: Duration,
    tell: mpsc::Sender<Report>,
}

impl Care {
    async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), Failure> {
        let asked = tokio::select! {
            result = self.keep_running() => return result,
            asked = stop.wait_for(|stop| *stop) => asked.is_ok(),
        };
        match asked {
            true => self.broker.stop().await,
            // Whoever could ask is gone; dropping the broker kills it.
            false => Ok(()),
        }
    }

    async fn keep_running(&mut self) -> Result<(), Failure> {
        loop {
            let status = self.broker.ended().await?;
            self.tell(Report::Exit(self.broker.id(), status)).await;
            if self.respawn.is_zero() {
                return Ok(());
            }
            let pid = self.restart().await;
            self.tell(Report::Start(self.broker.id(), pid)).await;
        }
    }

    /// Starts the broker again, as often as it takes.
    async fn restart(&mut self) -> u32 {
        loop {
            tokio::time::sleep(self.respawn).await;
            match self.broker.start().await {
                Ok(()) => return self.broker.pid().unwrap_or_default(),
                Err(failure) => self.tell(Report::StillDown(failure)).await,
            }
        }
    }

    async fn tell(&self, report: Report) {
        // Nobody listens any more once the cluster stops.
        let _gone = self.tell.send(report).await;
    }
}
