//! A C program publishes while the leader is killed, and accounts for every message.

use std::process::Command;
use std::process::Stdio;

use quorate_tests::Brokers;
use quorate_tests::ClusterPlan;
use quorate_tests::eventually;
use quorate_tests::within;

use crate::examples::example;
use crate::place;

const COUNT: u64 = 6_000;

/// A command with the options of an administrator in its environment.
fn command(program: &std::path::Path, brokers: &Brokers) -> Command {
    let mut command = Command::new(program);
    for (key, value) in brokers.options() {
        let variable = format!("QUORATE_{}", key.to_uppercase().replace('.', "__"));
        command.env(variable, value);
    }
    command.env("XDG_CONFIG_HOME", brokers.folder());
    command
}

#[test]
fn a_c_program_accounts_for_every_message_through_the_death_of_the_leader() {
    place::build("quorate-cli");
    let dir = place::scratch();
    let publish = example("publish.c", &dir);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut brokers = ClusterPlan::of(3).start().await;
        let client = brokers.client().await;
        within(
            client
                .admin()
                .create_topic("orders")
                .replicas(3)
                .into_future(),
        )
        .await
        .unwrap();
        brokers.in_sync(&client, "orders").await;
        let leader = brokers.leader(&client, "orders", 0).await;
        let mut command = command(&publish, &brokers);
        command.args(["orders", &COUNT.to_string(), "2000"]);
        let publishing = command.stdout(Stdio::piped()).spawn().unwrap();
        eventually("messages", async || {
            let described = within(client.admin().topic("orders")).await.ok()?;
            let committed = described.partitions.first()?.high_watermark.get();
            (committed > COUNT / 10).then_some(())
        })
        .await;
        brokers.kill(leader).await;
        let published = tokio::task::spawn_blocking(move || publishing.wait_with_output());
        let told = within(published).await.unwrap().unwrap();
        let told = String::from_utf8(told.stdout).unwrap();
        let expected = format!("count {COUNT} acked {COUNT} duplicates ");
        assert!(told.starts_with(&expected), "{told}");
        assert!(
            told.ends_with(" failed 0 unknown 0 wrong 0 abandoned 0\n"),
            "{told}"
        );

        let mut records = client.read("orders").limit(1000).stream();
        let mut numbers = Vec::new();
        while let Some(record) = within(records.next()).await {
            numbers.push(record.unwrap().text().unwrap().to_owned());
        }
        let all: Vec<_> = (0..COUNT).map(|number| number.to_string()).collect();
        assert!(numbers == all, "not each once, in order");
    });
}
