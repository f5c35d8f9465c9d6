//! Publishes numbers and prints their offsets: `cargo run --example publish -- TOPIC COUNT`.
//!
//! Needs `QUORATE_CLIENT__SERVERS`, `QUORATE_CLIENT__CA_FILE`, `QUORATE_CLIENT__CERT_FILE` and
//! `QUORATE_CLIENT__KEY_FILE`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use quorate::Client;
use quorate::Message;

#[tokio::main(flavor = "current_thread")]
async fn main() -> quorate::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let topic = arguments.next().unwrap_or_else(|| "numbers".to_owned());
    let count: u32 = arguments
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or(10);

    let client = Client::from_env().await?;
    let producer = client.producer(&topic).await?;
    let mut deliveries = Vec::new();
    for n in 1..=count {
        // Waits only for room; the receipt comes later.
        deliveries.push(
            producer
                .send(Message::new(n.to_string()).key("numbers"))
                .await?,
        );
    }
    for delivery in deliveries {
        let receipt = delivery.await?;
        println!(
            "{}/{} {:?}",
            receipt.topic, receipt.partition, receipt.offset
        );
    }
    client.close(Duration::from_secs(5)).await?;
    Ok(())
}
