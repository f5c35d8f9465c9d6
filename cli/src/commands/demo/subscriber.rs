//! A subscriber that books every message it is given.

use std::collections::BTreeMap;

use quorate::Client;
use quorate::Start;
use quorate::Subscription;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::commands::demo::ledger::Ledger;
use crate::failure::Exit;
use crate::failure::Failure;

/// Records taken at once.
const BATCH_RECORDS_MAX: usize = 4096;

/// The books, by the first word of the messages.
pub(super) type Books = BTreeMap<String, Ledger>;

/// A running subscriber.
#[derive(Debug)]
pub(super) struct Subscriber {
    books: watch::Receiver<Books>,
    tasks: JoinSet<Result<(), Failure>>,
}

impl Subscriber {
    /// Subscribes from the beginning.
    pub(super) async fn start(client: &Client, topic: &str) -> Result<Self, Failure> {
        let subscription = client.subscribe(topic).from(Start::Earliest).await?;
        let (report, books) = watch::channel(Books::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(book(subscription, report));
        Ok(Self { books, tasks })
    }

    /// Waits until the books say enough; an error of the subscription ends that.
    pub(super) async fn until(
        &mut self,
        enough: impl FnMut(&Books) -> bool,
    ) -> Result<Books, Failure> {
        tokio::select! {
            books = self.books.wait_for(enough) => {
                books.map(|books| books.clone()).map_err(|_| Failure::silent(Exit::Failed))
            }
            Some(ended) = self.tasks.join_next() => {
                ended.unwrap_or(Ok(()))?;
                Err(Failure::silent(Exit::Failed))
            }
        }
    }

    /// The books as they are.
    pub(super) fn books(&self) -> Books {
        self.books.borrow().clone()
    }
}

async fn book(mut subscription: Subscription, report: watch::Sender<Books>) -> Result<(), Failure> {
    loop {
        let records = subscription.next_batch(BATCH_RECORDS_MAX).await?;
        if records.is_empty() {
            return Ok(());
        }
        report.send_modify(|books| {
            for record in &records {
                enter(books, record.value_bytes());
            }
        });
    }
}

/// A message that nobody sent has a book of its own, which nobody can balance.
fn enter(books: &mut Books, value: &[u8]) {
    let text = String::from_utf8_lossy(value);
    let (name, number) = text.split_once(' ').unwrap_or((&text, ""));
    let number = number.parse().unwrap_or(0);
    match books.get_mut(name) {
        Some(ledger) => ledger.see(number),
        None => books.entry(name.to_owned()).or_default().see(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_publisher_has_a_book() {
        let mut books = Books::new();
        for value in ["a 0", "b 0", "a 1", "b 0"] {
            enter(&mut books, value.as_bytes());
        }
        assert_eq!(books["a"].delivered(), 2);
        assert_eq!((books["b"].delivered(), books["b"].duplicates()), (1, 1));
    }
}
