//! Checks of the way to each server: datagrams arrive, the handshake works, we are let in.

use std::collections::BTreeMap;

use quorate::BrokerId;
use quorate::Cluster;
use quorate::ClusterHealth;
use quorate_certs::Identity;

use crate::commands::doctor::Check;
use crate::failure::Failure;
use crate::settings::Settings;

/// How long one server is tried.
const TRIED_FOR: &str = "3s";

/// Connects to each server by itself, then to each broker that these tell of.
pub(super) async fn examine(
    settings: &Settings,
    identity: Option<&Identity>,
    usable: bool,
) -> Vec<Check> {
    let servers = settings.get("client.servers").unwrap_or_default();
    let mut checks = Vec::new();
    let mut reached = BTreeMap::new();
    for server in addresses(servers) {
        let name = format!("server {server}");
        if !usable {
            checks.push(Check::skip(name, "repair the checks above first"));
            continue;
        }
        match ask(settings, server).await {
            Ok(cluster) => {
                checks.push(Check::ok(name, accepted(&cluster)));
                reached.insert(cluster.broker, cluster);
            }
            Err(failure) => checks.push(Check::of_failure(name, &failure)),
        }
    }
    checks.extend(others(settings, servers, &reached).await);
    let (_, any) = reached.first_key_value().unzip();
    checks.push(same_cluster(any, identity));
    if any.is_some() {
        checks.push(health(settings).await);
    }
    checks
}

/// Brokers of the cluster that are not named in the settings: clients go there too.
async fn others(
    settings: &Settings,
    servers: &str,
    reached: &BTreeMap<BrokerId, Cluster>,
) -> Vec<Check> {
    let named: Vec<_> = addresses(servers).collect();
    let Some((_, cluster)) = reached.first_key_value() else {
        return Vec::new();
    };
    let mut checks = Vec::new();
    for broker in &cluster.brokers {
        let address = broker.client_address.as_str();
        if reached.contains_key(&broker.id) || named.contains(&address) {
            continue;
        }
        let name = format!("{} {address}", broker.name);
        checks.push(match ask(settings, address).await {
            Ok(cluster) => Check::ok(name, accepted(&cluster)),
            Err(failure) => Check::of_failure(name, &failure),
        });
    }
    checks
}

/// What the cluster says of itself.
async fn health(settings: &Settings) -> Check {
    let name = "health";
    let status = settings
        .with_client(async |client| Ok(client.admin().cluster_status().await?))
        .await;
    let status = match status {
        Ok(status) => status,
        Err(failure) => return Check::of_failure(name, &failure),
    };
    let quorate::PartitionCounts {
        total,
        leaderless,
        under_replicated,
        ..
    } = status.partitions;
    let detail = format!(
        "{} brokers, {total} partitions, {leaderless} without a leader, {under_replicated} with \
         too few complete copies",
        status.brokers.len()
    );
    let check = match status.health {
        ClusterHealth::Ok => return Check::ok(name, detail),
        ClusterHealth::Down => Check::fail(name, detail),
        _ => Check::warn(name, detail),
    };
    check.with_help("quorate cluster status")
}

/// The addresses in `client.servers`.
pub(super) fn addresses(servers: &str) -> impl Iterator<Item = &str> {
    servers
        .trim_start_matches("quorate://")
        .split(',')
        .map(str::trim)
        .filter(|server| !server.is_empty())
}

async fn ask(settings: &Settings, server: &str) -> Result<Cluster, Failure> {
    let mut settings = settings.clone();
    settings.flag("client.servers", server);
    settings.flag("client.connect_timeout_ms", TRIED_FOR);
    settings
        .with_client(async |client| Ok(client.admin().cluster().await?))
        .await
}

fn accepted(cluster: &Cluster) -> String {
    format!(
        "broker {} of cluster `{}` knows us as {}",
        cluster.broker, cluster.name, cluster.principal
    )
}

fn same_cluster(cluster: Option<&Cluster>, identity: Option<&Identity>) -> Check {
    let (Some(cluster), Some(identity)) = (cluster, identity) else {
        return Check::skip("cluster", "no server was reached");
    };
    let (theirs, ours) = (&cluster.name, identity.cluster());
    if theirs == ours {
        return Check::ok("cluster", format!("`{ours}`, as in the certificate"));
    }
    Check::fail(
        "cluster",
        format!("the brokers are of `{theirs}`, the certificate is of `{ours}`"),
    )
    .with_help("use the certificate of that cluster")
}
