//! What each code means and what to do about it, as `quorate explain` prints it.

use crate::error_code::ErrorCode;

/// Everything a person may want to know about a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ErrorInfo {
    /// The code.
    pub code: ErrorCode,
    /// Its stable name.
    pub name: &'static str,
    /// What happened, in one line.
    pub title: &'static str,
    /// Why it happens.
    pub cause: &'static str,
    /// What to do.
    pub fix: &'static str,
}

impl ErrorCode {
    /// All assigned codes in ascending order.
    pub const ALL: &'static [ErrorInfo] = TABLE;

    /// What is known about this code.
    pub fn info(self) -> Option<&'static ErrorInfo> {
        let at = TABLE.binary_search_by_key(&self, |info| info.code).ok()?;
        TABLE.get(at)
    }
}

macro_rules! table {
    ($($code:ident: $title:literal, cause $cause:literal, fix $fix:literal;)+) => {
        &[$(ErrorInfo {
            code: ErrorCode::$code,
            name: ErrorCode::$code.name(),
            title: $title,
            cause: $cause,
            fix: $fix,
        },)+]
    };
}

const TABLE: &[ErrorInfo] = table! {
    TIMEOUT: "the deadline passed before the broker began the work",
        cause "The broker was busy or could not admit the request within its deadline. Nothing was written.",
        fix "Try again. If it happens often, lower the load or allow more time (`client.request_timeout_ms`, `producer.delivery_timeout_ms`).";
    NOT_ENOUGH_REPLICAS: "too few replicas are reachable to write",
        cause "The partition's leader cannot reach a majority of its replicas, so nothing can be committed. Nothing was written.",
        fix "Bring the missing brokers back; `quorate topic describe TOPIC` names the replicas that are in sync. Clients retry by themselves.";
    AMBIGUOUS_COMMIT: "the batch was proposed, but its fate is not known",
        cause "Leadership changed or the deadline passed after the leader had put the batch in its log. It may or may not be committed.",
        fix "Send it again with the same sequence or the same message id: the answer tells whether the first copy survived, and it is never stored twice. The SDK does this within the delivery timeout.";
    LEADER_NOT_READY: "the new leader is still catching up with its own log",
        cause "A leader accepts work only after it has applied everything that earlier leaders committed, which takes a moment after an election or a start.",
        fix "Try again shortly on the same broker. Clients do this by themselves.";
    NOT_LEADER: "another broker leads this partition",
        cause "The partition's leadership moved since the client last looked.",
        fix "Use the broker the answer names, or ask any broker for the current leader. Clients do this by themselves.";
    LEADER_UNKNOWN: "the partition has no known leader at the moment",
        cause "An election is under way, or a majority of the partition's replicas is down.",
        fix "Try again shortly. If it lasts, check with `quorate topic describe TOPIC` that a majority of the replicas runs.";
    SESSION_EXPIRED: "the connection reached its greatest age",
        cause "Connections are replaced regularly so that certificates and permissions are checked again (`limits.session_age_h_max`).",
        fix "Connect again. Clients do this by themselves and resend what was in flight.";
    DRAINING: "the broker is shutting down",
        cause "The broker was asked to stop and hands its work over to others.",
        fix "Use another broker. Clients do this by themselves.";
    STALE_TOPOLOGY: "the client's picture of the cluster is too old",
        cause "Topics or replicas changed since the client fetched its metadata.",
        fix "Fetch the metadata again and retry. Clients do this by themselves.";
    QUOTA_EXCEEDED: "a quota of this principal is used up",
        cause "The principal sent or asked for more than its quota allows.",
        fix "Wait for the time the answer names, lower the rate, or have the quota raised.";
    TOO_MANY_CONNECTIONS: "no further connection is allowed",
        cause "The broker or this principal has as many connections as `limits.connections_max` or `limits.connections_per_principal_max` permits.",
        fix "Share one client per process, close unused clients, or raise the limit on the broker.";
    DISK_FULL: "the broker's disk is nearly full",
        cause "Free space fell below `storage.disk_stop_percent`, so the broker accepts no more records. Reading still works. Nothing was written.",
        fix "Free space on the volume, lower the retention of large topics, or add disk. Writing resumes by itself.";
    OVERLOADED: "the broker has no room for more work",
        cause "A queue or memory budget of the broker is full. Nothing was written.",
        fix "Wait for the time the answer names and retry; clients do this by themselves. If it lasts, lower the rate or spread partitions over more brokers.";
    STREAM_RATE: "streams are opened too fast",
        cause "The client opens streams, or whole connections, at a rate that would disturb other clients.",
        fix "Keep producers and subscriptions open instead of opening one per message.";
    SLOW_CONSUMER: "the receiver did not keep up",
        cause "The subscriber left data unread for too long and asked to be disconnected in that case, or its connection stalled.",
        fix "Resume from the last processed offset. Process faster, use more partitions, or choose `when_slow = \"pause\"`, which waits without loss.";
    PROTOCOL_VIOLATION: "the peer broke a rule of the protocol",
        cause "A frame came at a place where it is not allowed. This is a defect in one of the two programs.",
        fix "Update client and broker to current versions; if it remains, report it with the message's text.";
    UNSUPPORTED_VERSION: "client and broker have no protocol version in common",
        cause "One of the two is too old for the other.",
        fix "Update the older one; the message names the versions that the broker speaks.";
    UNKNOWN_FRAME: "a frame of an unknown kind must not be skipped",
        cause "The sender used a feature that the receiver does not know and marked it as essential.",
        fix "Update the receiver to the sender's version.";
    FRAME_TOO_LARGE: "a frame exceeds the limit of its kind",
        cause "The sender ignored the negotiated limits, or the bytes are not the expected protocol at all.",
        fix "Check that the address belongs to a broker's client port, and that `batch_bytes_max` of the client is not above the broker's limit.";
    MALFORMED: "a frame does not decode",
        cause "Its bytes are not what its kind and version require. This is a defect in one of the two programs.",
        fix "Update client and broker to current versions; if it remains, report it with the message's text.";
    FRAME_TIMEOUT: "a frame was begun but not completed in time",
        cause "The connection is too slow or broken, or the sender stopped in the middle of a frame.",
        fix "Check the network between client and broker; clients connect again by themselves.";
    CREDIT_EXCEEDED: "more was sent than the receiver had granted",
        cause "The sender ignored flow control. This is a defect in the sending program.",
        fix "Update the client; if it remains, report it.";
    INVALID_ARGUMENT: "an argument has a value that is not allowed",
        cause "A name, number, option or combination is outside its range, or a key is unknown.",
        fix "The message names the argument and the allowed range; correct it and try again.";
    BATCH_TOO_LARGE: "a record or batch exceeds its limit",
        cause "The record is larger than the topic's `record_bytes_max`, or the batch larger than the broker's `limits.batch_bytes_max`. Nothing was written.",
        fix "Send smaller records, store large content elsewhere and send a reference, or raise the limit (at most 8 MiB).";
    UNKNOWN_TOPIC: "the topic does not exist",
        cause "The name is misspelt, the topic was deleted, or it was never created and the broker does not create topics on first use.",
        fix "`quorate topic list` shows the topics; `quorate topic create NAME` creates one.";
    UNKNOWN_PARTITION: "the topic has no such partition",
        cause "The partition's number is not below the topic's partition count, or this broker holds no copy of it.",
        fix "`quorate topic describe TOPIC` shows the partitions; they count from 0.";
    ALREADY_EXISTS: "the name is taken",
        cause "A topic of this name exists, perhaps with other settings.",
        fix "Choose another name, or use `--if-not-exists` to accept the existing topic as it is.";
    FEATURE_NOT_FINALIZED: "the cluster has not switched the feature on yet",
        cause "Some brokers still ran an older version when the feature level was last raised.",
        fix "Update all brokers, then finalize the new feature level.";
    PRECONDITION_FAILED: "a stated expectation does not hold",
        cause "The request named an offset or state that it expects, and the actual one differs. Nothing was written.",
        fix "Read the current state, which the message names, decide again, and retry with the new expectation.";
    WRONG_CLUSTER: "the broker belongs to another cluster",
        cause "The client or data directory names a cluster that is not the one it reached.",
        fix "Check the addresses and the cluster name in the configuration.";
    AUTHORIZATION_FAILED: "this principal may not do that",
        cause "No rule permits the operation to the identity in the certificate. A topic that does not exist is answered the same way if its existence may not be known.",
        fix "Use another identity, or have an administrator grant the permission.";
    CERTIFICATE_EXPIRED: "the certificate is outside its validity",
        cause "The certificate's time has passed or has not begun, or a clock is wrong.",
        fix "Issue a new one with `quorate cert issue ROLE NAME --ca DIR`, or correct the clock. Running clients pick up replaced files.";
    IDENTITY_REJECTED: "the certificate names no acceptable identity",
        cause "It lacks exactly one `spiffe://CLUSTER/ROLE/NAME` name, names another cluster, has a role that is not allowed here, or is signed by an unknown CA.",
        fix "Issue a certificate for this cluster and role with `quorate cert issue ROLE NAME --ca DIR`.";
    REVOKED: "the certificate was revoked",
        cause "An administrator withdrew this certificate or identity.",
        fix "Ask the administrator; a new certificate is needed, if access is still wanted.";
    AUTH_TIMEOUT: "the identity was not proved in time",
        cause "The connection was opened, but greeting or certificate did not arrive within a few seconds.",
        fix "Check the network, and that nothing but a client connects to the broker's port.";
    NOT_MEMBER: "the broker is no member of this cluster",
        cause "Its id was never added to the cluster or has been removed from it.",
        fix "Add the broker to the cluster, or stop it.";
    CORRUPT_BATCH: "a batch's checksum or structure is wrong",
        cause "Bytes changed between producer and broker, or the producer built the batch wrongly. It was not written.",
        fix "The SDK sends the batch once more. If it fails again, check the producer's memory and network hardware.";
    OFFSET_OUT_OF_RANGE: "the offset is not in the log",
        cause "Retention has removed the record, or the offset was never written.",
        fix "Choose an offset in the range the message names, or start from `earliest` or `latest`. `subscribe.on_truncated` sets what a subscription does; it is never reset silently.";
    UNSUPPORTED_CODEC: "the batch is compressed in an unknown way",
        cause "The producer uses a compression that this program does not know.",
        fix "Update the reader, or set `producer.compression` to a codec that all readers know.";
    TOPIC_MISMATCH: "the batch was made for another topic",
        cause "The topic was deleted and created again while the batch was under way, or a producer mixed up its streams. It was not written.",
        fix "Fetch the metadata again and send the messages anew.";
    DATA_UNAVAILABLE: "the records exist but cannot be read right now",
        cause "The copy on this broker is damaged and under repair, or its storage does not answer.",
        fix "Try again shortly; another replica may serve the read. If it lasts, look at the broker's log and disk.";
    PRODUCER_FENCED: "a newer owner of this producer exists",
        cause "Another process opened a producer of the same name, which ends the older one.",
        fix "Make sure that only one process uses a producer name; open the producer again if this one should win.";
    OUT_OF_ORDER_SEQUENCE: "sequences are missing before this batch",
        cause "An earlier batch of this producer was lost or sent out of order, so this one is refused to keep the order.",
        fix "Open the producer again. With the SDK this indicates a defect; report it.";
    UNKNOWN_PRODUCER: "the partition remembers nothing of this producer",
        cause "The producer was idle for so long that its state was removed, or its records were all removed by retention.",
        fix "Open the producer again; it gets a new identity. Use message ids if a resent message must be recognised after that.";
    SEQUENCE_REUSED: "a sequence came again with other content",
        cause "A producer numbered two different batches alike, as after restoring old state.",
        fix "Open the producer again and never restore a producer from a backup.";
    PARTIAL_DUPLICATE: "some messages of the batch were published before",
        cause "The topic remembers the message ids of some records in the batch. Nothing of the batch was written.",
        fix "Send the others without them; the answer lists the known ones with their offsets. The SDK does this by itself.";
    STALE_GENERATION: "the consumer group has moved on",
        cause "Partitions were assigned anew and this member no longer owns the one it acknowledged.",
        fix "Continue with the new assignment; the records are delivered again to their new owner.";
    INCARNATION_FENCED: "a newer incarnation of this broker exists",
        cause "Another process runs with the same broker id.",
        fix "Stop one of the two, and give each broker its own id and data directory.";
    CONNECT: "no broker could be reached",
        cause "None of the addresses answered: wrong host or port, broker not running, or UDP blocked by a firewall.",
        fix "Check the addresses, that the broker runs, and that UDP reaches its client port. Clients keep trying.";
    TLS: "the broker's certificate was not accepted",
        cause "It is not signed by the configured CA, has expired, or does not name the host that was dialled.",
        fix "Set `client.ca_file` to the CA that signed the broker's certificate, and issue broker certificates with all their host names.";
    IDENTITY_FILES: "the client's certificate or key cannot be used",
        cause "A file is missing, unreadable, not PEM, or readable by others, or key and certificate do not belong together.",
        fix "Check `client.cert_file` and `client.key_file`; the key must be readable by its owner only (mode 0600).";
    WOULD_BLOCK: "the call would have to wait",
        cause "The producer's buffers are full, or nothing has arrived yet.",
        fix "Try again later, or use the call that waits.";
    CLOSED: "the client, producer or subscription was closed",
        cause "The handle was used after it had been closed or had ended with an error.",
        fix "Open a new one.";
    CANCELLED: "the call was cancelled",
        cause "The application or a shutdown stopped the operation before it was complete.",
        fix "Repeat it if it is still wanted.";
    FORKED: "the process was forked after the client was opened",
        cause "Threads and connections do not survive a fork, so the child must not use the parent's client.",
        fix "Open the client in the child process, after the fork.";
    ABI_MISMATCH: "header and library do not match",
        cause "The program was compiled against a header that the loaded library does not support.",
        fix "Compile again with the header of the installed library.";
    WAIT_TIMEOUT: "the time limit of the call passed",
        cause "The caller's own limit ended the wait. A publish that had been sent may still be committed.",
        fix "Allow more time. A publish is safe to repeat with the same message id within the topic's dedup window.";
    GAP: "records are missing from the subscription",
        cause "Retention removed them before they were read, the subscription skipped ahead because it was slow, or the cluster lost them.",
        fix "The error names the missing range and the reason; the subscription continues behind it. Raise the retention or process faster.";
    INTERNAL: "the broker has a defect",
        cause "Something happened that the program holds to be impossible. The work may or may not have been done.",
        fix "Retry a publish only with its original sequence or message id. Report the broker's log.";
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_explained_once() {
        assert!(TABLE.is_sorted_by(|a, b| a.code < b.code));
        for info in TABLE {
            assert_eq!(info.code.info(), Some(info));
            assert_ne!(info.name, "Unassigned", "{}", info.code);
        }
        assert_eq!(ErrorCode::OK.info(), None);
        assert_eq!(ErrorCode::new(0x01ff).info(), None);
    }

    #[test]
    fn titles_are_short_and_texts_are_sentences() {
        for info in TABLE {
            assert!(info.title.len() <= 70, "{}", info.code);
            assert!(!info.title.ends_with('.'), "{}", info.code);
            assert!(
                info.cause.ends_with('.') && info.fix.ends_with('.'),
                "{}",
                info.code
            );
        }
    }
}
