//! Metadata commands in any order: replicas agree, and numbers are never given out twice.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use proptest::prelude::*;
use quorate_protocol::BrokerId;
use quorate_protocol::ByteSize;
use quorate_protocol::GroupId;
use quorate_protocol::ProducerEpoch;
use quorate_protocol::ProducerId;
use quorate_protocol::ReplicaId;
use quorate_protocol::StorageId;
use quorate_protocol::TopicId;
use quorate_protocol::TopicName;
use quorate_protocol::TopicSettings;

use crate::auth::PrincipalKey;
use crate::config::PeerSeed;
use crate::metadata::Registration;
use crate::metadata::checkpoint;
use crate::metadata::command::Command;
use crate::metadata::command::Origin;
use crate::metadata::command::Stamped;
use crate::metadata::state::Effect;
use crate::metadata::state::State;
use crate::metadata::state::founder;

fn command() -> impl Strategy<Value = Command> {
    let name = (0u8..4).prop_map(|name| TopicName::try_from(format!("topic-{name}")).unwrap());
    let broker = (1u16..4).prop_map(BrokerId::new);
    let replica = (65_536u64..65_600).prop_map(ReplicaId::new);
    let held = ((1u32..30).prop_map(GroupId::new), replica);
    let held = proptest::collection::vec(held, 0..6);
    let principal = (1u64..4).prop_map(PrincipalKey::new);
    prop_oneof![
        2 => broker.clone().prop_map(|id| Command::Found {
            voters: vec![founder(id)],
            seeds: (1..4).map(seed).collect(),
        }),
        2 => (broker.clone(), 0u8..3, 0u128..2).prop_map(|(id, address, storage)| {
            let registration = Registration {
                name: format!("broker-{id}"),
                client_address: format!("10.0.0.{address}:4747"),
                peer_address: String::new(),
                storage: StorageId::new(storage),
            };
            Command::Register { id, registration }
        }),
        4 => (any::<u128>(), name.clone(), 1u32..6, 0u32..4).prop_map(
            |(id, name, partitions, replicas)| Command::Create {
                id: TopicId::new(id),
                name,
                partitions,
                replicas,
                settings: TopicSettings::default(),
                segment_bytes: ByteSize::new(1 << 20),
            }
        ),
        2 => name.prop_map(|name| Command::Delete { name }),
        2 => (broker.clone(), held.clone())
            .prop_map(|(broker, replicas)| Command::Made { broker, replicas }),
        2 => (broker, held).prop_map(|(broker, replicas)| Command::Removed { broker, replicas }),
        2 => principal.clone().prop_map(|principal| Command::Mint { principal }),
        2 => (principal.clone(), 0u8..4, any::<u64>()).prop_map(|(principal, name, candidate)| {
            let candidate = ProducerId::new(candidate);
            Command::Claim { principal, name: format!("till-{name}"), candidate }
        }),
        1 => (principal, 1024u64..4096, 0u32..2).prop_map(|(principal, producer, epoch)| {
            let (producer, epoch) = (ProducerId::new(producer), ProducerEpoch::new(epoch));
            Command::Resume { principal, name: None, producer, epoch }
        }),
    ]
}

fn seed(id: u16) -> PeerSeed {
    PeerSeed {
        id: BrokerId::new(id),
        name: format!("broker-{id}"),
        address: String::new(),
    }
}

/// Commands of a few brokers, some of them sent again or late.
fn sent() -> impl Strategy<Value = Stamped> {
    (1u16..4, 1u64..3, 0u64..20, command()).prop_map(|(broker, incarnation, sequence, command)| {
        let origin = Origin {
            broker: BrokerId::new(broker),
            incarnation,
            sequence,
        };
        Stamped { origin, command }
    })
}

proptest! {
    #[test]
    fn replicas_that_apply_the_same_commands_are_equal_also_through_a_checkpoint(
        commands in proptest::collection::vec(sent(), 0..80),
        cut in 0usize..80,
    ) {
        let mut first = State::default();
        let mut second = State::default();
        for (position, command) in commands.iter().enumerate() {
            if position == cut {
                let bytes = checkpoint::encode(&second);
                second = checkpoint::decode(&bytes).unwrap();
                prop_assert_eq!(&checkpoint::encode(&second), &bytes);
            }
            let sent = Stamped::decode(&Stamped::encode(command.origin, &command.command)).unwrap();
            prop_assert_eq!(first.apply_once(command.clone()), second.apply_once(sent));
            prop_assert_eq!(&first, &second);
        }
    }

    #[test]
    fn a_command_sent_again_has_the_effect_of_the_first_time_and_no_other(
        commands in proptest::collection::vec(sent(), 1..80),
    ) {
        let mut state = State::default();
        for command in commands {
            let outcome = state.apply_once(command.clone());
            let after = state.clone();
            prop_assert_eq!(state.apply_once(command), outcome);
            prop_assert_eq!(&state, &after);
        }
    }

    #[test]
    fn a_data_folder_is_recorded_once(commands in proptest::collection::vec(command(), 0..80)) {
        let mut state = State::default();
        let mut recorded = BTreeMap::new();
        for command in commands {
            drop(state.apply(command));
            for (id, broker) in state.topology.brokers() {
                if let Some(storage) = broker.storage {
                    prop_assert_eq!(*recorded.entry(*id).or_insert(storage), storage);
                }
            }
        }
    }

    #[test]
    fn groups_replicas_and_producer_ids_are_given_out_once(
        commands in proptest::collection::vec(command(), 0..80),
    ) {
        let mut state = State::default();
        let (mut groups, mut replicas, mut blocks) =
            (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut epoch = 0;
        for command in commands {
            let before = state.clone();
            match state.apply(command) {
                Ok(Effect::Created { id, .. }) => {
                    for partition in &state.topology.topic(id).unwrap().partitions {
                        prop_assert!(groups.insert(partition.group));
                        for replica in &partition.replicas {
                            prop_assert!(replicas.insert(replica.replica));
                        }
                    }
                }
                Ok(Effect::Minted(mut block)) => {
                    prop_assert!(blocks.insert(block.take().unwrap()));
                }
                Ok(_) => {}
                Err(_) => prop_assert_eq!(&state, &before, "a refused command changes nothing"),
            }
            prop_assert!(state.topology.epoch() >= epoch);
            epoch = state.topology.epoch();
            let live = state.topology.topics().flat_map(|topic| topic.partitions.iter());
            for assignment in live {
                prop_assert!(!state.deleted.contains_key(&assignment.group));
            }
        }
    }

    #[test]
    fn every_cut_state_is_refused(commands in proptest::collection::vec(command(), 1..20)) {
        let mut state = State::default();
        for command in commands {
            drop(state.apply(command));
        }
        let bytes = checkpoint::encode(&state);
        for length in 1..bytes.len() {
            prop_assert!(checkpoint::decode(&bytes[..length]).is_err());
        }
    }
}
