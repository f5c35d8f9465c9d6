//! Follows a topic from its first record: `cargo run --example subscribe -- TOPIC`.
//!
//! Needs `QUORATE_CLIENT__SERVERS`, `QUORATE_CLIENT__CA_FILE`, `QUORATE_CLIENT__CERT_FILE` and
//! `QUORATE_CLIENT__KEY_FILE`.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "an example shows what it does"
)]

use quorate::Client;
use quorate::ErrorKind;
use quorate::Start;

#[tokio::main(flavor = "current_thread")]
async fn main() -> quorate::Result<()> {
    let topic = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "numbers".to_owned());
    let client = Client::from_env().await?;
    let mut subscription = client.subscribe(&topic).from(Start::Earliest).await?;
    while let Some(record) = subscription.next().await {
        match record {
            Ok(record) => println!("{}: {}", record.offset, record.text().unwrap_or("(binary)")),
            // Missing records are told in their place; the stream goes on.
            Err(error) if error.kind() == ErrorKind::Gap => eprintln!("{error}"),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
