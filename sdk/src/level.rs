//! Acknowledgement levels: what to wait for, and what a receipt promises.

use std::fmt;

use quorate_protocol::AckLevel as WireLevel;

/// What an acknowledgement waits for and promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum AckLevel {
    /// Sent, never resent: at most once.
    None,
    /// In the leader's log, not on its disk.
    Leader,
    /// In the memory of a majority; granted by topics that flush later, never asked for.
    QuorumMemory,
    /// On the disks of a majority.
    Quorum,
}

impl AckLevel {
    /// The levels that can be asked for.
    pub(crate) const ASKED: &[(&str, Self)] = &[
        ("quorum", Self::Quorum),
        ("leader", Self::Leader),
        ("none", Self::None),
    ];

    /// The level as text: `quorum`, `quorum-memory`, `leader`, `none`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Leader => "leader",
            Self::QuorumMemory => "quorum-memory",
            Self::Quorum => "quorum",
        }
    }

    pub(crate) fn asked_on_the_wire(self) -> WireLevel {
        match self {
            Self::None => WireLevel::NONE,
            Self::Leader => WireLevel::LEADER,
            Self::QuorumMemory | Self::Quorum => WireLevel::QUORUM,
        }
    }

    /// A level of a newer broker counts as the strongest one known below it.
    pub(crate) fn granted(level: WireLevel) -> Self {
        match level {
            WireLevel::NONE => Self::None,
            WireLevel::LEADER => Self::Leader,
            WireLevel::QUORUM_MEMORY => Self::QuorumMemory,
            _ => Self::Quorum,
        }
    }
}

impl fmt::Display for AckLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for AckLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ASKED.iter().find(|(word, _)| *word == text);
        found
            .map(|(_, level)| *level)
            .ok_or_else(|| format!("`{text}` is none of quorum|leader|none"))
    }
}
