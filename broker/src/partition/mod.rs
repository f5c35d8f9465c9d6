//! One partition's rules: validate, deduplicate, high watermark, reads, retention.
