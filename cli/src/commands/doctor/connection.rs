//! Checks of the way to each server: datagrams arrive, the handshake works, we are let in.

use quorate::Cluster;
use quorate_certs::Identity;

use crate::commands::doctor::Check;
use crate::failure::Failure;
use crate::settings::Settings;

/// How long one server is tried.
const TRIED_FOR: &str = "3s";

/// Connects to each server by itself.
pub(super) async fn examine(
    settings: &Settings,
    identity: Option<&Identity>,
    usable: bool,
) -> Vec<Check> {
    let servers = settings.get("client.servers").unwrap_or_default();
    let mut checks = Vec::new();
    let mut reached = None;
    for server in addresses(servers) {
        let name = format!("server {server}");
        if !usable {
            checks.push(Check::skip(name, "repair the checks above first"));
            continue;
        }
        match ask(settings, server).await {
            Ok(cluster) => {
                checks.push(Check::ok(name, accepted(&cluster)));
                reached = Some(cluster);
            }
            Err(failure) => checks.push(Check::of_failure(name, &failure)),
        }
    }
    checks.push(same_cluster(reached.as_ref(), identity));
    checks
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
