//! The QUIC endpoint: mutual TLS, admission, framed streams. Knows no topics.
