//! Metadata commands in any order: replicas agree, and numbers are never given out twice.

use std::collections::BTreeSet;

use proptest::prelude::*;
use quorate_protocol::BrokerId;
use quorate_protocol::ByteSize;
use quorate_protocol::GroupId;
use quorate_protocol::ProducerId;
use quorate_protocol::TopicId;
use quorate_protocol::TopicName;
use quorate_protocol::TopicSettings;

use crate::auth::PrincipalKey;
use crate::metadata::Broker;
use crate::metadata::checkpoint;
use crate::metadata::command::Command;
use crate::metadata::state::Effect;
use crate::metadata::state::State;

fn command() -> impl Strategy<Value = Command> {
    let name = (0u8..4).prop_map(|name| TopicName::try_from(format!("topic-{name}")).unwrap());
    let broker = (1u16..4).prop_map(BrokerId::new);
    let groups = proptest::collection::vec((1u32..30).prop_map(GroupId::new), 0..6);
    let principal = (1u64..4).prop_map(PrincipalKey::new);
    prop_oneof![
        2 => (broker.clone(), 0u8..3).prop_map(|(id, address)| Command::Register {
            id,
            broker: Broker {
                name: format!("broker-{id}"),
                client_address: format!("10.0.0.{address}:4747"),
                peer_address: String::new(),
            },
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
        2 => (broker.clone(), groups.clone())
            .prop_map(|(broker, groups)| Command::Made { broker, groups }),
        2 => (broker, groups).prop_map(|(broker, groups)| Command::Removed { broker, groups }),
        2 => principal.clone().prop_map(|principal| Command::Mint { principal }),
        2 => (principal, 0u8..4, any::<u64>()).prop_map(|(principal, name, candidate)| {
            let candidate = ProducerId::new(candidate);
            Command::Claim { principal, name: format!("till-{name}"), candidate }
        }),
    ]
}

proptest! {
    #[test]
    fn replicas_that_apply_the_same_commands_are_equal_also_through_a_checkpoint(
        commands in proptest::collection::vec(command(), 0..80),
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
            let sent = Command::decode(&command.encode()).unwrap();
            prop_assert_eq!(first.apply(command.clone()), second.apply(sent));
            prop_assert_eq!(&first, &second);
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
