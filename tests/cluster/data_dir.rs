//! A data directory belongs to one running process of its own broker and cluster.

use quorate_tests::Refused;
use quorate_tests::TestCluster;

fn assert_refused(refused: &Refused, names: &[&str]) {
    let Refused { code, stderr } = refused;
    assert!(matches!(code, Some(1 | 2)), "{refused:?}");
    for name in names {
        assert!(stderr.contains(name), "no {name} in {stderr}");
    }
}

#[tokio::test]
async fn a_second_broker_on_one_data_directory_is_refused() {
    let broker = TestCluster::new().start().await;
    let data = broker.data_dir().display().to_string();
    let refused = broker.refuse_restart().await;
    assert_refused(&refused, &[&data, "lock"]);
    let again = broker.cluster().refuse(true).await;
    assert_refused(&again, &[&data, "lock"]);
    broker.client().await;
}

#[tokio::test]
async fn a_data_directory_of_another_broker_or_cluster_is_refused() {
    let mut broker = TestCluster::new().start().await;
    assert_eq!(broker.terminate().await, Some(0));
    let data = broker.data_dir().to_owned();
    let named = data.display().to_string();
    for init in [false, true] {
        let other = TestCluster::named("another").with_data(&data);
        let refused = other.refuse(init).await;
        assert_refused(&refused, &[&named, "promises", "another"]);
        let other = TestCluster::new().with_data(&data).with("node.id", "2");
        let refused = other.refuse(init).await;
        assert_refused(&refused, &[&named]);
    }
    broker.restart().await;
}

#[tokio::test]
async fn an_empty_data_directory_is_refused_without_init() {
    let cluster = TestCluster::new();
    let refused = cluster.refuse(false).await;
    let data = cluster.data_dir().display().to_string();
    assert_refused(&refused, &[&data, "--init"]);
    assert!(!cluster.data_dir().join("storage.json").exists());
    cluster.start().await;
}
