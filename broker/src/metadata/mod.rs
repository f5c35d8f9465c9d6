//! Group 0: brokers, topics, assignments, producer ids.
