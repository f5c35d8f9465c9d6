//! What a new topic may ask for, by this build and this broker's limits.
//!
//! Runs before a command is proposed: a limit of one broker is no rule of the log.

use quorate_protocol::AckLevel;
use quorate_protocol::StorageMode;
use quorate_protocol::TopicName;
use quorate_protocol::TopicSettings;

use crate::metadata::checkpoint::PARTITIONS_MAX;
use crate::metadata::error::MetadataError;
use crate::metadata::state::REPLICAS_MAX;
use crate::partition::DEDUP_IDS_MAX;

/// What a broker allows.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Partitions of one topic.
    pub partitions_per_topic_max: u32,
    /// Partitions that one broker holds.
    pub partitions_max: u32,
    /// The largest record any topic may allow.
    pub record_bytes_max: u32,
    /// Partitions of a topic made because a client named it; 0 = never made so.
    pub auto_create_partitions: u32,
}

/// The shortest age at which a segment may be closed.
const SEGMENT_AGE_MS_MIN: u64 = 1_000;

pub(super) fn topic_name(name: &str) -> Result<TopicName, MetadataError> {
    TopicName::try_from(name)
        .map_err(|error| MetadataError::invalid(format!("topic name {name:?}: {error}")))
}

pub(super) fn counts(partitions: u32, replicas: u32, limits: &Limits) -> Result<(), MetadataError> {
    let most = limits.partitions_per_topic_max.min(PARTITIONS_MAX);
    if partitions == 0 || partitions > most {
        return Err(MetadataError::invalid(format!(
            "a topic has 1 to {most} partitions, not {partitions} \
             (limits.partitions_per_topic_max)"
        )));
    }
    if replicas > REPLICAS_MAX {
        return Err(MetadataError::invalid(format!(
            "a partition has at most {REPLICAS_MAX} replicas, not {replicas}"
        )));
    }
    Ok(())
}

pub(super) fn settings(settings: &TopicSettings, limits: &Limits) -> Result<(), MetadataError> {
    if settings.storage != StorageMode::FILE {
        return Err(MetadataError::invalid(
            "storage = \"memory\" is not available: this build stores to file with flush = \"batch\" only",
        ));
    }
    if settings.flush_interval_us != 0 {
        return Err(MetadataError::invalid(
            "flush = \"interval\" is not available: this build stores to file with flush = \"batch\" only",
        ));
    }
    if ![AckLevel::NONE, AckLevel::LEADER, AckLevel::QUORUM].contains(&settings.ack) {
        return Err(MetadataError::invalid("ack is one of quorum, leader, none"));
    }
    if settings.dedup_ids_max > DEDUP_IDS_MAX {
        return Err(MetadataError::invalid(format!(
            "dedup_ids_max is at most {DEDUP_IDS_MAX}, not {}",
            settings.dedup_ids_max
        )));
    }
    if settings.segment_age_ms < SEGMENT_AGE_MS_MIN {
        return Err(MetadataError::invalid(format!(
            "segment_age_ms is at least {SEGMENT_AGE_MS_MIN}, not {}",
            settings.segment_age_ms
        )));
    }
    let largest = limits.record_bytes_max;
    if settings.record_bytes_max == 0 || settings.record_bytes_max > largest {
        return Err(MetadataError::invalid(format!(
            "record_bytes_max is 1 to {largest}, not {} (limits.record_bytes_max)",
            settings.record_bytes_max
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        partitions_per_topic_max: 8,
        partitions_max: 100,
        record_bytes_max: 1 << 20,
        auto_create_partitions: 0,
    };

    fn refusal(edit: impl FnOnce(&mut TopicSettings)) -> String {
        let mut changed = TopicSettings::default();
        edit(&mut changed);
        settings(&changed, &LIMITS).unwrap_err().detail
    }

    #[test]
    fn default_settings_are_accepted() {
        assert_eq!(settings(&TopicSettings::default(), &LIMITS), Ok(()));
    }

    #[test]
    fn weak_storage_is_refused_with_what_there_is_instead() {
        let memory = refusal(|settings| settings.storage = StorageMode::MEMORY);
        let interval = refusal(|settings| settings.flush_interval_us = 1_000);
        for detail in [memory, interval] {
            assert!(
                detail.contains("file with flush = \"batch\" only"),
                "{detail}"
            );
        }
    }

    #[test]
    fn a_refused_limit_names_its_key() {
        assert!(
            refusal(|settings| settings.record_bytes_max = 2 << 20)
                .contains("limits.record_bytes_max")
        );
        let error = counts(9, 1, &LIMITS).unwrap_err();
        assert!(
            error.detail.contains("1 to 8 partitions, not 9"),
            "{}",
            error.detail
        );
        assert!(counts(0, 1, &LIMITS).is_err());
        assert!(counts(8, 17, &LIMITS).is_err());
        assert_eq!(counts(8, 16, &LIMITS), Ok(()));
    }

    #[test]
    fn reserved_and_odd_names_are_refused() {
        for name in ["", "__offsets", "a b", "ä", &"x".repeat(129)] {
            assert!(topic_name(name).is_err(), "{name}");
        }
        assert!(topic_name("orders.v2_test-1").is_ok());
    }
}
