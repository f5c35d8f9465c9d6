//! Reads a topic page by page: `cargo run --example read -- TOPIC`.
//!
//! Needs `QUORATE_CLIENT__SERVERS`, `QUORATE_CLIENT__CA_FILE`, `QUORATE_CLIENT__CERT_FILE` and
//! `QUORATE_CLIENT__KEY_FILE`.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use quorate::Client;

#[tokio::main(flavor = "current_thread")]
async fn main() -> quorate::Result<()> {
    let topic = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "numbers".to_owned());
    let client = Client::from_env().await?;
    let mut page = client.read(&topic).limit(100).await?;
    loop {
        for record in &page.records {
            println!("{}: {}", record.offset, record.text().unwrap_or("(binary)"));
        }
        let Some(next) = page.next else {
            return Ok(());
        };
        page = client.read(&topic).after(next).limit(100).await?;
    }
}
