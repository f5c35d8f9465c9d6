//! The story: traffic, `kill -9` of the leader, another one leads, the dead one comes back.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::process::Stdio;
use std::time::Duration;

use quorate::Client;
use quorate::PartitionDescription;
use tokio::process::Child;
use tokio::process::Command;
use tokio::sync::watch;

use crate::clock;
use crate::commands::demo::Arguments;
use crate::commands::demo::publisher;
use crate::commands::demo::publisher::Publisher;
use crate::commands::demo::publisher::Task;
use crate::commands::demo::subscriber::Books;
use crate::commands::demo::subscriber::Subscriber;
use crate::commands::demo::told::Balance;
use crate::commands::demo::told::Failover;
use crate::commands::demo::told::Outcome;
use crate::commands::demo::told::Teller;
use crate::commands::demo::told::millis;
use crate::failure::Exit;
use crate::failure::Failure;
use crate::local;
use crate::local::Broker;
use crate::local::Layout;
use crate::values;

const ORDERS: &str = "orders";
/// Where the processing step hands its results on.
const PROCESSED: &str = "processed";
/// Messages a second of the steady publisher.
const STEADY: &str = "10";
/// How long each part of the story may be watched.
const PAUSE: Duration = Duration::from_secs(3);
/// What a step may take before something is wrong.
const PATIENCE: Duration = Duration::from_secs(20);
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// The actors.
pub(super) struct Story<'a> {
    arguments: &'a Arguments,
    layout: &'a Layout,
    teller: &'a Teller<'a>,
    brokers: &'a mut Vec<Broker>,
}

/// What runs all the time.
struct Traffic {
    client: Client,
    publishers: Vec<Publisher>,
    subscriber: Subscriber,
    stop: watch::Sender<bool>,
    worker: Option<Child>,
}

impl<'a> Story<'a> {
    pub(super) const fn new(
        arguments: &'a Arguments,
        layout: &'a Layout,
        teller: &'a Teller<'a>,
        brokers: &'a mut Vec<Broker>,
    ) -> Self {
        Self {
            arguments,
            layout,
            teller,
            brokers,
        }
    }

    pub(super) async fn tell(&mut self) -> Result<Outcome, Failure> {
        local::start(self.brokers).await?;
        self.teller.step(
            "cluster",
            "three brokers, each a process with its own certificate; mutual TLS everywhere",
        )?;
        let client = self.layout.connect().await?;
        self.make_topics(&client).await?;
        let mut traffic = self.start_traffic(client).await?;
        tokio::time::sleep(PAUSE).await;
        let failover = self.fail_over(&mut traffic).await?;
        tokio::time::sleep(PAUSE / 3).await;
        let balances = self.settle(&mut traffic).await?;
        let resent = traffic.client.stats().batches_resent;
        Ok(Outcome::new(
            balances,
            failover,
            resent,
            self.teller.elapsed(),
        ))
    }

    async fn make_topics(&self, client: &Client) -> Result<(), Failure> {
        client.admin().create_topic(ORDERS).partitions(1).await?;
        if self.arguments.work.is_some() {
            client.admin().create_topic(PROCESSED).partitions(1).await?;
            led(client, PROCESSED, |_| true).await?;
        }
        let partition = led(client, ORDERS, |one| one.leader == one.preferred).await?;
        let (leader, term) = (leader(&partition), partition.term);
        let text = format!(
            "topic `{ORDERS}` has three replicas and is led by broker-{leader} in term {term}; an \
             ack means: fsynced on two of three"
        );
        self.teller.step("topic", &text)
    }

    async fn start_traffic(&self, client: Client) -> Result<Traffic, Failure> {
        let delivered = match self.arguments.work {
            Some(_) => PROCESSED,
            None => ORDERS,
        };
        let subscriber = Subscriber::start(&client, delivered).await?;
        let stop = watch::Sender::new(false);
        let mut publishers = Vec::new();
        for task in self.tasks() {
            publishers.push(Publisher::start(&client, ORDERS, task, stop.subscribe()).await?);
        }
        let worker = self.start_worker()?;
        let text = match (&worker, self.arguments.rate) {
            (Some(_), _) => {
                "one publisher at 10 messages/s, a processing step, one subscriber behind it"
            }
            (None, None) => {
                "one publisher at 10 messages/s, one as fast as it can, one subscriber to both"
            }
            (None, Some(_)) => {
                "one publisher at 10 messages/s, one at the given rate, one subscriber to both"
            }
        };
        self.teller.step("traffic", text)?;
        Ok(Traffic {
            client,
            publishers,
            subscriber,
            stop,
            worker,
        })
    }

    fn tasks(&self) -> Vec<Task> {
        let steady = Task {
            name: "steady",
            rate: STEADY.parse().ok(),
            count: None,
        };
        let fast = Task {
            name: "fast",
            rate: self.arguments.rate,
            count: self.arguments.messages,
        };
        match self.arguments.work {
            Some(_) => vec![steady],
            None => vec![steady, fast],
        }
    }

    /// The processing step is a process of its own, so that it can be killed like a broker.
    fn start_worker(&self) -> Result<Option<Child>, Failure> {
        let Some(busy) = &self.arguments.work else {
            return Ok(None);
        };
        let failed = |error| Failure::system("cannot start the processing step", &error);
        let log = self.layout.root().join("step.log");
        let log = File::options().create(true).append(true).open(log);
        let admin = self.layout.admin();
        let mut line: Vec<OsString> = vec!["--servers".into(), self.layout.servers().into()];
        for (flag, file) in [
            ("--ca", "ca.pem"),
            ("--cert", "cert.pem"),
            ("--key", "key.pem"),
        ] {
            line.extend([flag.into(), admin.join(file).into()]);
        }
        let (low, high) = (values::setting(*busy.start()), values::setting(*busy.end()));
        line.extend(["demo-step", ORDERS, PROCESSED, "--busy"].map(OsString::from));
        line.push(format!("{low}..{high}").into());
        line.extend(["--parent".into(), std::process::id().to_string().into()]);
        let child = Command::new(env::current_exe().map_err(failed)?)
            .args(line)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.map_err(failed)?)
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        child.map(Some).map_err(failed)
    }

    async fn fail_over(&mut self, traffic: &mut Traffic) -> Result<Failover, Failure> {
        let before = led(&traffic.client, ORDERS, |_| true).await?;
        let victim = leader(&before);
        let killed = self.kill(victim, traffic).await?;
        let gap = traffic.gap(before.term.get(), killed).await?;
        let after = led(&traffic.client, ORDERS, |one| leader(one) != victim).await?;
        let (new_leader, term) = (leader(&after), after.term);
        let gap_ms = millis(gap);
        self.teller.step(
            "failover",
            &format!(
                "broker-{new_leader} leads in term {term}: acks again {gap_ms} ms after the kill"
            ),
        )?;
        traffic.worker = self.start_worker()?;
        tokio::time::sleep(PAUSE).await;
        let began = clock::now();
        self.broker(victim)?.start().await?;
        let text = format!("broker-{victim} is started again");
        self.teller.step("restart", &text)?;
        let whole = |one: &PartitionDescription| {
            one.in_sync.len() == one.replicas.len() && one.replicas.len() == 3
        };
        led(&traffic.client, ORDERS, whole).await?;
        let rejoin_ms = millis(clock::since(began));
        let text = format!("broker-{victim} is in sync again, {rejoin_ms} ms after its start");
        self.teller.step("rejoin", &text)?;
        let back = led(&traffic.client, ORDERS, |one| leader(one) == victim).await?;
        let return_ms = millis(clock::since(began));
        let text = format!("broker-{victim} leads again, in term {}", back.term);
        self.teller.step("return", &text)?;
        Ok(Failover {
            killed: victim,
            new_leader,
            gap_ms,
            rejoin_ms,
            return_ms,
        })
    }

    /// Kills a broker, and the processing step in the middle of its work.
    async fn kill(&mut self, victim: u16, traffic: &mut Traffic) -> Result<clock::Moment, Failure> {
        let acked = traffic.acked();
        let broker = self.broker(victim)?;
        let pid = broker.pid().unwrap_or_default();
        if let Some(worker) = &mut traffic.worker {
            // A message that was just acknowledged is being worked on.
            if let Some(publisher) = traffic.publishers.first() {
                publisher.next_ack().await;
            }
            let failed = |error| Failure::system("cannot kill the processing step", &error);
            worker.start_kill().map_err(failed)?;
        }
        let killed = clock::now();
        broker.kill().await?;
        let and_step = match traffic.worker {
            Some(_) => ", and the processing step in the middle of its work",
            None => "",
        };
        let text = format!(
            "kill -9 of broker-{victim} (process {pid}), the leader{and_step}; {acked} messages \
             are acknowledged"
        );
        self.teller.step("kill", &text)?;
        Ok(killed)
    }

    fn broker(&mut self, id: u16) -> Result<&mut Broker, Failure> {
        let mut brokers = self.brokers.iter_mut();
        let found = brokers.find(|broker| broker.id() == id);
        found.ok_or_else(|| Failure::silent(Exit::Failed))
    }

    /// Ends the traffic, waits for what is on its way, and draws up the balance.
    async fn settle(&self, traffic: &mut Traffic) -> Result<Vec<Balance>, Failure> {
        traffic.stop.send_replace(true);
        for publisher in &mut traffic.publishers {
            publisher.finish().await?;
        }
        self.teller
            .step("end", "no more is published; what is on its way arrives")?;
        let acked = traffic.acks();
        let all = |books: &Books| {
            acked.iter().all(|(name, acked)| {
                let delivered = books.get(*name).map_or(0, |ledger| ledger.delivered());
                delivered >= *acked
            })
        };
        let waiting = tokio::time::timeout(PATIENCE, traffic.subscriber.until(all)).await;
        let books = match waiting {
            Ok(books) => books?,
            // The balance says what did not come.
            Err(_) => traffic.subscriber.books(),
        };
        Ok(traffic.balances(&books))
    }
}

impl Traffic {
    fn acks(&self) -> Vec<(&'static str, u64)> {
        let acked = |publisher: &Publisher| (publisher.name, publisher.progress.borrow().acked);
        self.publishers.iter().map(acked).collect()
    }

    fn acked(&self) -> u64 {
        self.acks().iter().map(|(_, acked)| acked).sum()
    }

    /// The time until any publisher has a receipt from a later term.
    async fn gap(&mut self, term: u64, killed: clock::Moment) -> Result<Duration, Failure> {
        let mut shortest: Option<Duration> = None;
        for publisher in &mut self.publishers {
            let gap = publisher::gap(&mut publisher.progress, term, killed);
            match tokio::time::timeout(PATIENCE, gap).await {
                Ok(Some(gap)) => shortest = Some(shortest.map_or(gap, |other| other.min(gap))),
                // It has failed, and says why.
                Ok(None) => publisher.finish().await?,
                Err(_) => {}
            }
        }
        shortest.ok_or_else(|| too_late("nobody acknowledged messages after the kill"))
    }

    fn balances(&self, books: &Books) -> Vec<Balance> {
        let balance = |publisher: &Publisher| {
            let progress = *publisher.progress.borrow();
            let ledger = books.get(publisher.name).cloned().unwrap_or_default();
            Balance {
                name: publisher.name,
                sent: progress.sent,
                acked: progress.acked,
                delivered: ledger.delivered(),
                lost: ledger.lost(progress.acked),
                duplicates: ledger.duplicates(),
                reordered: ledger.reordered(),
            }
        };
        self.publishers.iter().map(balance).collect()
    }
}

/// The leader of a partition that is led.
fn leader(partition: &PartitionDescription) -> u16 {
    partition.leader.map_or(0, |leader| leader.get())
}

/// The one partition of a topic, as soon as it is led and as wanted.
async fn led(
    client: &Client,
    topic: &str,
    wanted: impl Fn(&PartitionDescription) -> bool,
) -> Result<PartitionDescription, Failure> {
    let looking = async {
        let mut looks = tokio::time::interval(LOOK);
        loop {
            looks.tick().await;
            // While brokers come and go a look may fail; the next one may not.
            let Ok(described) = client.admin().topic(topic).await else {
                continue;
            };
            let one = described.partitions.into_iter().next();
            if let Some(one) = one.filter(|one| one.leader.is_some() && wanted(one)) {
                return one;
            }
        }
    };
    let found = tokio::time::timeout(PATIENCE, looking).await;
    found.map_err(|_| too_late(format!("topic `{topic}` did not become as it should be")))
}

fn too_late(message: impl Into<String>) -> Failure {
    let code = quorate::ErrorCode::INTERNAL;
    Failure::new(code, Exit::Failed, message).with_cause("waited for 20 s")
}
