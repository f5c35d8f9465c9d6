//! Giving away what is led here, in waves, before this broker stops or because it is told to.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use quorate_protocol::GroupId;
use quorate_protocol::ReplicaId;

use crate::metadata::plan::outlook::able;
use crate::metadata::plan::outlook::successor;
use crate::metadata::plan::steward::Office;
use crate::partition::Partition;
use crate::replication::Role;

/// Groups handed over at the same time.
const WAVE: usize = 64;
/// After this time without a new leader somebody else is asked: the engine has given up by then.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// Time between two looks at whether group 0 has another leader.
const INTERVAL: Duration = Duration::from_millis(5);

/// Who was asked already, per group.
type Tried = BTreeMap<GroupId, BTreeSet<ReplicaId>>;

impl Office {
    /// Gives away every leadership that somebody else can take. False: some are left, and nobody
    /// can take them now. Cancel safe.
    pub(in crate::metadata) async fn hand_over(&self) -> bool {
        let mut tried = Tried::new();
        let metadata = self.hand_over_metadata();
        let partitions = async { while self.wave(&mut tried).await {} };
        tokio::join!(metadata, partitions);
        self.registry.led().is_empty()
    }

    /// False: there is nothing left that could be given away.
    async fn wave(&self, tried: &mut Tried) -> bool {
        let able = able(&self.topology(), self.outlook.as_ref());
        let mut leaderships = self.registry.leaderships();
        let mut asked: Vec<Partition> = Vec::new();
        for (group, now) in self.registry.inspect_led().await {
            if asked.len() >= WAVE {
                break;
            }
            let Some(partition) = self.registry.by_group(group) else {
                continue;
            };
            let (own, members) = (partition.spec().replica, partition.members());
            let refused = tried.entry(group).or_default();
            if let Some(next) = successor(&now, own, &members, &able, refused) {
                refused.insert(next);
                partition.transfer(next);
                asked.push(partition);
            }
        }
        if asked.is_empty() {
            return false;
        }
        let handed_over = async {
            while asked.iter().any(Partition::is_led) {
                if leaderships.changed().await.is_err() {
                    return;
                }
            }
        };
        // Whoever did not take over in time is not asked again.
        drop(tokio::time::timeout(PATIENCE, handed_over).await);
        true
    }

    async fn hand_over_metadata(&self) {
        let group = self.proposer.group();
        let mut tried = BTreeSet::new();
        while group.status().role == Role::Leader {
            let able = able(&self.topology(), self.outlook.as_ref());
            let members = self.metadata_members();
            let now = group.inspect().await;
            let next = now.and_then(|now| {
                let own = group.status().leader?;
                successor(&now, own, &members, &able, &tried)
            });
            let Some(next) = next else {
                return;
            };
            tried.insert(next);
            group.transfer(next);
            let handed_over = async {
                while group.status().role == Role::Leader {
                    tokio::time::sleep(INTERVAL).await;
                }
            };
            drop(tokio::time::timeout(PATIENCE, handed_over).await);
        }
    }
}
