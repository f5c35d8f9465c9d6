//! From a data folder to a member whose metadata can be read: join, open group 0, register.
//!
//! Waits for the others as long as it takes, and says for whom.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use quorate_protocol::Body;
use quorate_protocol::BrokerId;
use quorate_protocol::ByteSize;
use quorate_protocol::ErrorCode;
use quorate_protocol::GroupId;
use quorate_protocol::Op;
use quorate_protocol::PeerJoined;
use quorate_storage::LogConfig;
use quorate_storage::Storage;
use quorate_storage::log_exists;
use tokio::time::timeout;

use crate::config::PeerSeed;
use crate::metadata::command::Command;
use crate::metadata::error::MetadataError;
use crate::metadata::founding::Founding;
use crate::metadata::propose::Proposer;
use crate::metadata::start::Config;
use crate::metadata::start::StartError;
use crate::metadata::state::not_member;
use crate::partition::group_dir;
use crate::peers::PeerError;
use crate::peers::Peers;
use crate::replication::Durability;
use crate::replication::GroupSpec;

/// The group of the metadata.
pub(super) const GROUP: GroupId = GroupId::new(0);
/// Segments of group 0 are small: each is a checkpoint to start from.
const SEGMENT_BYTES: ByteSize = ByteSize::new(4 << 20);
const SEGMENT_AGE: Duration = Duration::from_secs(7 * 24 * 3_600);
/// How long one broker may take to tell this one its place.
const JOIN_TIME_MAX: Duration = Duration::from_secs(5);
/// Time between two attempts to come in.
const PAUSE: Duration = Duration::from_millis(200);
/// When it is said for the first time who is waited for.
const FIRST_REMARK: Duration = Duration::from_secs(1);
/// Time between two such remarks.
const REMARK_INTERVAL: Duration = Duration::from_secs(5);

/// Asks the brokers that may know the cluster for this broker's place in it. Cancel safe.
pub(super) async fn join(config: &Config, peers: &Peers) -> Result<Founding, StartError> {
    let nobody = "no broker to ask: list those of the cluster as [[peers]]";
    let why = Mutex::new(nobody.to_owned());
    let asking = async {
        loop {
            for seed in config.seeds.iter().filter(|seed| seed.id != config.id) {
                match ask(peers, seed.id).await {
                    Ok(joined) => return place_of(config.id, &joined),
                    Err(error) => {
                        let refused = refused_by(peers, seed.id).unwrap_or(error.detail);
                        *why.lock() = format!("broker {} ({}): {refused}", seed.id, seed.address);
                    }
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    let what = "to be told this broker's place in the cluster";
    remarking(what, || why.lock().clone(), asking).await
}

fn refused_by(peers: &Peers, broker: BrokerId) -> Option<String> {
    let states = peers.states();
    states.borrow().get(&broker)?.refused.clone()
}

async fn ask(peers: &Peers, to: BrokerId) -> Result<PeerJoined, PeerError> {
    let answer = peers.request(to, Op::PEER_JOIN, Bytes::new(), JOIN_TIME_MAX);
    PeerJoined::from_bytes(&answer.await?).map_err(|error| PeerError {
        code: ErrorCode::MALFORMED,
        detail: error.to_string(),
        sent: true,
    })
}

fn place_of(me: BrokerId, joined: &PeerJoined) -> Result<Founding, StartError> {
    let own = joined.members.iter().find(|member| member.id == me);
    let replica = own.map(|member| member.replica);
    let seeds = joined.members.iter().map(|member| PeerSeed {
        id: member.id,
        name: member.name.as_str().to_owned(),
        address: member.peer_address.as_str().to_owned(),
    });
    Ok(Founding {
        founder: false,
        voters: joined.birth.iter().copied().collect(),
        replica: replica.ok_or_else(|| StartError::Register(not_member(me)))?,
        seeds: seeds.collect(),
        seats: joined.members.iter().map(|member| member.replica).collect(),
    })
}

/// Group 0 as this broker holds it. It is made anew only in a folder that never held a group.
pub(super) fn group_spec(
    config: &Config,
    founding: &Founding,
    storage: &Arc<dyn Storage>,
) -> Result<GroupSpec, StartError> {
    let dir = group_dir(&config.data_dir, GROUP, founding.tag());
    let exists = log_exists(storage, &dir).map_err(|source| StartError::Io {
        path: dir.clone(),
        source,
    })?;
    if !exists && !config.fresh {
        return Err(StartError::Lost(dir));
    }
    Ok(GroupSpec {
        group: GROUP,
        tag: founding.tag(),
        replica: founding.replica,
        voters: founding.voters.clone(),
        holders: founding.holders(),
        dir,
        log: LogConfig {
            segment_bytes: SEGMENT_BYTES,
            segment_age: SEGMENT_AGE,
        },
        durability: Durability::Flush,
        release: false,
    })
}

/// Has this broker's registration written and applied here: from then on its metadata is that of
/// the cluster. Cancel safe.
pub(super) async fn enter(config: &Config, proposer: &Proposer) -> Result<(), MetadataError> {
    let colleagues = proposer.colleagues();
    let why = Mutex::new(String::new());
    let registering = async {
        while let Err(error) = register(config, proposer).await {
            if !is_worth_another_try(error.code) {
                return Err(error);
            }
            *why.lock() = error.detail;
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    };
    let reasons = || {
        let reasons = [colleagues.absent(), why.lock().clone()];
        let told = reasons.into_iter().filter(|reason| !reason.is_empty());
        told.collect::<Vec<_>>().join("; ")
    };
    remarking("for the metadata group", reasons, registering).await?;
    let mut topology = colleagues.view.topology.subscribe();
    let applied = topology.wait_for(|topology| {
        let me = topology.brokers().get(&config.id);
        me.is_some_and(|me| config.registration.is_of(me))
    });
    // The view outlives this call.
    let arrived = remarking(
        "for the metadata to arrive",
        || colleagues.absent(),
        applied,
    );
    drop(arrived.await);
    Ok(())
}

async fn register(config: &Config, proposer: &Proposer) -> Result<(), MetadataError> {
    let colleagues = proposer.colleagues();
    let begun = !colleagues.view.topology.borrow().brokers().is_empty();
    if colleagues.founding.founder && !begun {
        let found = Command::Found {
            voters: colleagues.founding.voters.clone(),
            seeds: colleagues.founding.seeds.clone(),
        };
        proposer.propose(&found).await?;
    }
    let register = Command::Register {
        id: config.id,
        registration: config.registration.clone(),
    };
    proposer.propose(&register).await.map(drop)
}

/// Whether waiting may help.
fn is_worth_another_try(code: ErrorCode) -> bool {
    code.is_retryable() || code == ErrorCode::AMBIGUOUS_COMMIT
}

/// Waits for something, and says now and then for what.
async fn remarking<T>(what: &str, why: impl Fn() -> String, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    let mut patience = FIRST_REMARK;
    loop {
        if let Ok(output) = timeout(patience, &mut work).await {
            return output;
        }
        tracing::info!("waiting {what}: {}", why());
        patience = REMARK_INTERVAL;
    }
}
