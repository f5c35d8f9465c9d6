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
/// The shortest time between two flushes that do not hold acks back: the clock has no finer steps.
const FLUSH_INTERVAL_US_MIN: u64 = 50_000;

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
    weak_storage(settings)?;
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

/// Logs that acknowledge before they flush, or never flush.
fn weak_storage(settings: &TopicSettings) -> Result<(), MetadataError> {
    let memory = settings.storage == StorageMode::MEMORY;
    if !memory && settings.storage != StorageMode::FILE {
        return Err(MetadataError::invalid("storage is one of file, memory"));
    }
    if memory && settings.retention_bytes == 0 {
        return Err(MetadataError::invalid(
            "a topic with storage = \"memory\" needs retention_bytes: memory has an end",
        ));
    }
    let interval = settings.flush_interval_us;
    if interval != 0 && interval < FLUSH_INTERVAL_US_MIN {
        return Err(MetadataError::invalid(format!(
            "flush_interval_us is at least {FLUSH_INTERVAL_US_MIN}, or 0 for a flush before each \
             ack, not {interval}"
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
    fn weak_storage_is_bounded() {
        let memory = refusal(|settings| settings.storage = StorageMode::MEMORY);
        assert!(memory.contains("needs retention_bytes"), "{memory}");
        let interval = refusal(|settings| settings.flush_interval_us = 1_000);
        assert!(interval.contains("at least 50000"), "{interval}");
        let weak = TopicSettings {
            storage: StorageMode::MEMORY,
            retention_bytes: 1 << 20,
            flush_interval_us: 1_000_000,
            ..TopicSettings::default()
        };
        assert_eq!(settings(&weak, &LIMITS), Ok(()));
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
