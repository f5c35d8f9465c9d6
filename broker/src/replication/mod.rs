//! Raft groups: the shard loop, the log store, elections. Knows no topics.
