/*
 * quorate.h: the C interface of the Quorate message broker.
 *
 * Generated from ffi/src; do not edit. Link with -lquorate (pkg-config: quorate).
 *
 * - A negative status is an error; quorate_last_error() has its text, for each thread its own.
 * - Inputs are borrowed for the call and copied. Each output has one function that frees it.
 * - timeout_ms: 0 tries, -1 waits for ever, else milliseconds. Nothing there at once is
 *   QUORATE_E_WOULD_BLOCK, nothing within the time is QUORATE_E_WAIT_TIMEOUT.
 * - Handles are no pointers to follow. A wrong kind, NULL, or one that was closed or freed is an
 *   error, never undefined behaviour. Frees and closes accept NULL.
 * - Zero is the default of each field but struct_size.
 * - Each client has one thread of the library. In a forked child every call that would use it
 *   returns QUORATE_E_FORKED at once; connect in the child instead.
 */


#ifndef QUORATE_H
#define QUORATE_H

#include <stddef.h>
#include <stdint.h>

/** A message without anything: `quorate_message_t m = QUORATE_MESSAGE_INIT;` */
#define QUORATE_MESSAGE_INIT \
  { sizeof(quorate_message_t), NULL, 0, NULL, 0, NULL, NULL, 0, 0, 0, 0, 0 }


/** The work did not happen and will not. */
#define QUORATE_OUTCOME_NOT_APPLIED 0

/** It happened. */
#define QUORATE_OUTCOME_APPLIED 1

/** It may have happened. Sending again with the same message id is safe. */
#define QUORATE_OUTCOME_UNKNOWN 2

/** Sent; nothing is promised. */
#define QUORATE_LEVEL_NONE 0

/** In the leader's log. */
#define QUORATE_LEVEL_LEADER 1

/** In the memory of a majority of the replicas. */
#define QUORATE_LEVEL_QUORUM_MEMORY 2

/** On the disks of a majority of the replicas. */
#define QUORATE_LEVEL_QUORUM 3

/** `quorate_delivery_t.flags`: the message was there already; this is the first copy's place. */
#define QUORATE_DUPLICATE 1

/** `quorate_delivery_t.flags`: `offset`, `term` and `timestamp_us` are not known. */
#define QUORATE_NO_OFFSET 2

/** `quorate_message_t.flags`: send to `partition`, whatever the key is. */
#define QUORATE_MSG_HAS_PARTITION 1

/** Most important log lines. */
#define QUORATE_LOG_ERROR 1

/** Something needs attention. */
#define QUORATE_LOG_WARN 2

/** What a person may want to know. */
#define QUORATE_LOG_INFO 3

/** What a developer may want to know. */
#define QUORATE_LOG_DEBUG 4

/** Everything. */
#define QUORATE_LOG_TRACE 5

/** The version of this header. */
#define QUORATE_VERSION_MAJOR 0

/** See `QUORATE_VERSION_MAJOR`. */
#define QUORATE_VERSION_MINOR 1

/** See `QUORATE_VERSION_MAJOR`. */
#define QUORATE_VERSION_PATCH 0

/** `major * 10000 + minor * 100 + patch`. */
#define QUORATE_VERSION_NUMBER 100

/** What a program was compiled for; compare it with `quorate_abi_version()`. */
#define QUORATE_ABI_VERSION 0

/** Some records, read-only until `quorate_batch_free`. */
typedef struct quorate_batch_t quorate_batch_t;

/** A connection with a cluster, and the thread that serves it. Thread-safe. */
typedef struct quorate_client_t quorate_client_t;

/** A set of options: `section.key` and text. */
typedef struct quorate_config_t quorate_config_t;

/** Follows one topic. Thread-safe; each record goes to one caller. */
typedef struct quorate_consumer_t quorate_consumer_t;

/** Publishes to one topic, in order. Thread-safe. */
typedef struct quorate_producer_t quorate_producer_t;

/**
 * `QUORATE_OK`, `QUORATE_END`, or a negative `QUORATE_E_...`: minus the code that the protocol
 * and `quorate explain` use.
 */
typedef int32_t quorate_status_t;

/** What closing did. */
typedef struct quorate_close_report_t {
  /** Messages that got their receipt while closing. */
  uint64_t flushed;
  /** Messages that were given up without one. */
  uint64_t abandoned;
} quorate_close_report_t;

/** A name and a value that travel with a message. */
typedef struct quorate_header_t {
  /** UTF-8; a name that a Rust program published with a NUL in it ends there. */
  const char *name;
  /** May be NULL if `value_len` is 0. */
  const void *value;
  /** Bytes of `value`. */
  size_t value_len;
} quorate_header_t;

/**
 * A message to be published; begin with `QUORATE_MESSAGE_INIT`. Everything is copied during the
 * call.
 */
typedef struct quorate_message_t {
  /** `sizeof(quorate_message_t)`. */
  size_t struct_size;
  /** The value. NULL: no value, which together with a key says that the key is gone. */
  const void *payload;
  /** Bytes of `payload`. */
  size_t payload_len;
  /** Messages of the same key go to the same partition, in order. NULL: no key. */
  const void *key;
  /** Bytes of `key`. */
  size_t key_len;
  /**
   * 16 bytes that identify the message (a UUID in the order of its text): a second one with the
   * same id within the topic's window is not stored. NULL: none.
   */
  const uint8_t *id;
  /** `headers_len` headers, or NULL. */
  const struct quorate_header_t *headers;
  /** The application's time in microseconds since 1970; 0: now. */
  int64_t timestamp_us;
  /** How many headers there are. */
  uint32_t headers_len;
  /** Used with `QUORATE_MSG_HAS_PARTITION`. */
  uint32_t partition;
  /** `QUORATE_MSG_...` */
  uint32_t flags;
  /** 0. */
  uint32_t reserved;
} quorate_message_t;

/** How a message ended. */
typedef struct quorate_delivery_t {
  /** What `quorate_producer_send` was given. */
  void *user_data;
  /** The position in the partition; see `QUORATE_NO_OFFSET`. */
  uint64_t offset;
  /** When the leader appended it, in microseconds since 1970. */
  int64_t timestamp_us;
  /** The leader's term. */
  uint64_t term;
  /** `QUORATE_OK` or why it failed. */
  quorate_status_t status;
  /** The partition. */
  uint32_t partition;
  /** `QUORATE_LEVEL_...`: what is promised. */
  uint8_t level;
  /** `QUORATE_OUTCOME_...` */
  uint8_t outcome;
  /** `QUORATE_DUPLICATE | QUORATE_NO_OFFSET` */
  uint8_t flags;
  /** 0. */
  uint8_t reserved[5];
} quorate_delivery_t;

/** One record. Every pointer is valid until `quorate_batch_free`. */
typedef struct quorate_record_t {
  /** The topic. */
  const char *topic;
  /** The name of the broker that served it. */
  const char *broker;
  /** The value; NULL: published without one. */
  const void *payload;
  /** Bytes of `payload`. */
  size_t payload_len;
  /** The key; NULL: none. */
  const void *key;
  /** Bytes of `key`. */
  size_t key_len;
  /** The application's id, 16 bytes; NULL: none. */
  const uint8_t *id;
  /** The headers, in order; NULL: none. */
  const struct quorate_header_t *headers;
  /** How many headers there are. */
  size_t headers_len;
  /** The position in the partition. */
  uint64_t offset;
  /** The term of the leader that appended it. */
  uint64_t term;
  /** The hybrid time of the append: comparable across partitions and brokers. */
  uint64_t hlc;
  /** When the leader appended it, in microseconds since 1970; never decreases with the offset. */
  int64_t timestamp_us;
  /** The partition. */
  uint32_t partition;
  /** How often it was handed out: 1 for a subscription. */
  uint32_t attempt;
} quorate_record_t;

/** Done. */
#define QUORATE_OK 0

/** The end that was asked for with `subscribe.until` is reached. */
#define QUORATE_END 1

/** The deadline passed before the work was begun. */
#define QUORATE_E_TIMEOUT (-0x0101)

/** Too few replicas are reachable to decide anything. */
#define QUORATE_E_NOT_ENOUGH_REPLICAS (-0x0102)

/** The batch was proposed, its fate is not known here. */
#define QUORATE_E_AMBIGUOUS_COMMIT (-0x0103)

/** The leader was elected but has not applied its log yet. */
#define QUORATE_E_LEADER_NOT_READY (-0x0104)

/** Another broker leads the partition. */
#define QUORATE_E_NOT_LEADER (-0x0201)

/** No leader is known at the moment. */
#define QUORATE_E_LEADER_UNKNOWN (-0x0202)

/** The connection reached its greatest age. */
#define QUORATE_E_SESSION_EXPIRED (-0x0203)

/** The broker is shutting down. */
#define QUORATE_E_DRAINING (-0x0204)

/** The client's picture of the cluster is too old. */
#define QUORATE_E_STALE_TOPOLOGY (-0x0205)

/** A quota of the principal is used up. */
#define QUORATE_E_QUOTA_EXCEEDED (-0x0301)

/** The broker or the principal has as many connections as it may. */
#define QUORATE_E_TOO_MANY_CONNECTIONS (-0x0302)

/** The broker's disk is nearly full. */
#define QUORATE_E_DISK_FULL (-0x0303)

/** The broker has no memory or queue room left. */
#define QUORATE_E_OVERLOADED (-0x0304)

/** Streams are opened too fast. */
#define QUORATE_E_STREAM_RATE (-0x0305)

/** The receiver did not keep up. */
#define QUORATE_E_SLOW_CONSUMER (-0x0306)

/** The peer broke a rule of the protocol. */
#define QUORATE_E_PROTOCOL_VIOLATION (-0x0401)

/** No common protocol version. */
#define QUORATE_E_UNSUPPORTED_VERSION (-0x0402)

/** A critical frame of an unknown kind. */
#define QUORATE_E_UNKNOWN_FRAME (-0x0403)

/** A frame exceeds the limit of its kind. */
#define QUORATE_E_FRAME_TOO_LARGE (-0x0404)

/** A frame's bytes are not what its kind and version say. */
#define QUORATE_E_MALFORMED (-0x0405)

/** A begun frame did not arrive in time. */
#define QUORATE_E_FRAME_TIMEOUT (-0x0406)

/** More was sent than credit allowed. */
#define QUORATE_E_CREDIT_EXCEEDED (-0x0407)

/** A field has a value that is not allowed. */
#define QUORATE_E_INVALID_ARGUMENT (-0x0408)

/** A batch or record exceeds its limit. */
#define QUORATE_E_BATCH_TOO_LARGE (-0x0409)

/** The topic does not exist. */
#define QUORATE_E_UNKNOWN_TOPIC (-0x040A)

/** The topic has no such partition. */
#define QUORATE_E_UNKNOWN_PARTITION (-0x040B)

/** The name is taken. */
#define QUORATE_E_ALREADY_EXISTS (-0x040C)

/** The cluster has not finalized the feature. */
#define QUORATE_E_FEATURE_NOT_FINALIZED (-0x040D)

/** A stated expectation does not hold. */
#define QUORATE_E_PRECONDITION_FAILED (-0x040E)

/** The broker belongs to another cluster. */
#define QUORATE_E_WRONG_CLUSTER (-0x040F)

/** The principal may not do this. */
#define QUORATE_E_AUTHORIZATION_FAILED (-0x0501)

/** The certificate is past its validity. */
#define QUORATE_E_CERTIFICATE_EXPIRED (-0x0502)

/** The certificate names no acceptable identity. */
#define QUORATE_E_IDENTITY_REJECTED (-0x0503)

/** The certificate was revoked. */
#define QUORATE_E_REVOKED (-0x0504)

/** The identity was not proved in time. */
#define QUORATE_E_AUTH_TIMEOUT (-0x0505)

/** The broker is no member of the cluster. */
#define QUORATE_E_NOT_MEMBER (-0x0506)

/** A batch's checksum or structure is wrong. */
#define QUORATE_E_CORRUPT_BATCH (-0x0601)

/** The offset is not in the log. */
#define QUORATE_E_OFFSET_OUT_OF_RANGE (-0x0602)

/** The batch is compressed in an unknown way. */
#define QUORATE_E_UNSUPPORTED_CODEC (-0x0603)

/** The batch was made for another topic. */
#define QUORATE_E_TOPIC_MISMATCH (-0x0604)

/** The data exists but cannot be read right now. */
#define QUORATE_E_DATA_UNAVAILABLE (-0x0605)

/** A newer owner of the producer exists. */
#define QUORATE_E_PRODUCER_FENCED (-0x0701)

/** Sequences are missing before this batch. */
#define QUORATE_E_OUT_OF_ORDER_SEQUENCE (-0x0702)

/** The partition remembers nothing of this producer. */
#define QUORATE_E_UNKNOWN_PRODUCER (-0x0703)

/** A sequence came again with other content. */
#define QUORATE_E_SEQUENCE_REUSED (-0x0704)

/** Some messages of the batch were published before. */
#define QUORATE_E_PARTIAL_DUPLICATE (-0x0705)

/** The consumer group has moved on. */
#define QUORATE_E_STALE_GENERATION (-0x0706)

/** A newer incarnation of the broker exists. */
#define QUORATE_E_INCARNATION_FENCED (-0x0707)

/** No broker could be reached. */
#define QUORATE_E_CONNECT (-0x0801)

/** The broker's certificate was not accepted. */
#define QUORATE_E_TLS (-0x0802)

/** The client's own identity files cannot be used. */
#define QUORATE_E_IDENTITY_FILES (-0x0803)

/** The call would have to wait. */
#define QUORATE_E_WOULD_BLOCK (-0x0804)

/** The handle was closed. */
#define QUORATE_E_CLOSED (-0x0805)

/** The call was cancelled. */
#define QUORATE_E_CANCELLED (-0x0806)

/** The process was forked. */
#define QUORATE_E_FORKED (-0x0807)

/** Header and library do not match. */
#define QUORATE_E_ABI_MISMATCH (-0x0808)

/** The caller's own time limit passed. */
#define QUORATE_E_WAIT_TIMEOUT (-0x0809)

/** Records are missing from a subscription. */
#define QUORATE_E_GAP (-0x080A)

/** A defect in the broker. */
#define QUORATE_E_INTERNAL (-0x0F01)

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The name of a status as in this header, such as "QUORATE_E_NOT_LEADER". Never NULL; not to be
 * freed. Does not block; may be called from any thread.
 */
const char *quorate_status_name(quorate_status_t status);

/**
 * One line about what a status means, for people. Never NULL; not to be freed. Does not block;
 * may be called from any thread. `quorate_last_error()` says more about the call that failed.
 */
const char *quorate_strerror(quorate_status_t status);

/**
 * 1 if the same call may succeed later without a change by the caller, else 0. Does not block; may
 * be called from any thread.
 */
uint8_t quorate_status_retryable(quorate_status_t status);

/**
 * What went wrong in the last failed call of this thread, as one line of UTF-8; empty if none has
 * failed. A successful call leaves it as it is. Never NULL; the buffer belongs to the thread: not
 * to be freed, changed by the thread's next failed call. Does not block.
 */
const char *quorate_last_error(void);

/**
 * `QUORATE_OUTCOME_...` of the last failed call of this thread: whether what was asked for took
 * effect. Does not block.
 */
uint8_t quorate_last_error_outcome(void);

/**
 * 1 if the last failed call of this thread may succeed later without a change by the caller, else
 * 0. Does not block.
 */
uint8_t quorate_last_error_retryable(void);

/**
 * The version of the library that is running, such as "0.1.0". Never NULL; not to be freed. Does
 * not block; may be called from any thread, even in a forked child.
 */
const char *quorate_version(void);

/**
 * The ABI of the library that is running. If it is not `QUORATE_ABI_VERSION`, the program was
 * compiled for another library. Does not block; may be called from any thread, even in a forked
 * child.
 */
uint32_t quorate_abi_version(void);

/**
 * Sends the library's log lines up to `level` (`QUORATE_LOG_...`) to `function`, with `ctx`; NULL
 * makes it silent. Without a call, lines go to stderr if `QUORATE_LOG` names a level, else nowhere.
 * The function is called from any thread, the library's above all: it must be quick, must not call
 * this function, and must not throw or jump out; its texts are UTF-8 and gone when it returns. Waits
 * for a line that is being written, so the function before is not running any more when this
 * returns. For the whole process; may be called from any thread.
 *
 * Errors: `QUORATE_E_INVALID_ARGUMENT`: no such level. `QUORATE_E_WOULD_BLOCK`: called inside a log
 * function.
 *
 * The caller promises:
 * `function` may be called with `ctx` from any thread until it is replaced.
 */
quorate_status_t quorate_set_log(void (*function)(int32_t level,
                                                  const char *target,
                                                  const char *text,
                                                  void *ctx),
                                 void *ctx,
                                 int32_t level);

/**
 * A new, empty set of options, to be freed with `quorate_config_free`. NULL only if 65,536 of them
 * are in use or in a forked child. Does not block; may be called from any thread.
 */
struct quorate_config_t *quorate_config_new(void);

/**
 * Frees a set of options; clients, producers and consumers made with it keep what they took. NULL
 * is fine; a handle that was freed is left alone. Does not block; may be called from any thread.
 */
void quorate_config_free(struct quorate_config_t *config);

/**
 * Sets an option, such as "client.servers" to "a:4747,b:4747" or "producer.linger_us" to "500";
 * the last value counts. Keys and values are the same as in contexts, in the environment
 * (`QUORATE_CLIENT__SERVERS`) and in the Rust client. Both texts are copied. Does not block; may
 * be called from any thread.
 *
 * Errors: `QUORATE_E_INVALID_ARGUMENT` names an unknown key or a bad value, and nothing is set.
 *
 * The caller promises:
 * `key` and `value` are NULL or NUL-terminated.
 */
quorate_status_t quorate_config_set(struct quorate_config_t *config,
                                    const char *key,
                                    const char *value);

/**
 * Takes the options of a context of the `quorate` command, then those of the environment
 * (`QUORATE_SECTION__KEY`). `context` NULL: the one that `QUORATE_CONTEXT` names, or the current
 * one, or none. Reads a file; may be called from any thread.
 *
 * Errors: `QUORATE_E_INVALID_ARGUMENT`: no such context, or an option of it or of the environment
 * is wrong; those before it are set.
 *
 * The caller promises:
 * `context` is NULL or NUL-terminated.
 */
quorate_status_t quorate_config_load(struct quorate_config_t *config, const char *context);

/**
 * Connects to a cluster and starts the thread that serves the connection; to be closed with
 * `quorate_close`. `config` NULL: the context and the environment, as after
 * `quorate_config_load(config, NULL)`; else `config` alone. Waits until a broker has accepted this
 * client: `timeout_ms` -1 as long as `client.connect_timeout_ms` allows. May be called from any
 * thread.
 *
 * Errors: `QUORATE_E_CONNECT`, `QUORATE_E_TLS`, `QUORATE_E_IDENTITY_FILES`, a refusal
 * (`QUORATE_E_IDENTITY_REJECTED`..), `QUORATE_E_WAIT_TIMEOUT`. `*out` is NULL then.
 *
 * The caller promises:
 * `out` is NULL or a place for a handle.
 */
quorate_status_t quorate_connect(const struct quorate_config_t *config,
                                 int32_t timeout_ms,
                                 struct quorate_client_t **out);

/**
 * Refuses new work, waits at most `timeout_ms` until accepted messages are answered, closes the
 * connections and frees the client whatever happens. Producers and consumers of it are closed with
 * it, and their handles are still to be freed with their own close functions; what waits in other
 * threads ends with `QUORATE_E_CLOSED`. `report` may be NULL. NULL as the client is fine. May be
 * called from any thread but not inside a callback.
 *
 * Errors: `QUORATE_E_CLOSED`: it was closed before. `QUORATE_E_WOULD_BLOCK`: called inside a
 * callback; it is still open.
 *
 * The caller promises:
 * `report` is NULL or a place for a report.
 */
quorate_status_t quorate_close(struct quorate_client_t *client,
                               int32_t timeout_ms,
                               struct quorate_close_report_t *report);

/**
 * Publishes one message and waits for its receipt: `timeout_ms` -1 as long as
 * `producer.delivery_timeout_ms` allows. For a steady stream a producer is far cheaper. `out`, if
 * not NULL, gets the receipt or, after an error, its status and outcome. May be called from any
 * thread but not inside a callback.
 *
 * Errors: those of a delivery; `quorate_last_error_outcome()` says whether the message may have
 * been stored. `QUORATE_E_WAIT_TIMEOUT`: no receipt in time.
 *
 * The caller promises:
 * `topic` is NULL or NUL-terminated; `message` is as for `quorate_producer_send`; `out` is NULL or
 * a place for a delivery.
 */
quorate_status_t quorate_publish(struct quorate_client_t *client,
                                 const char *topic,
                                 const struct quorate_message_t *message,
                                 int32_t timeout_ms,
                                 struct quorate_delivery_t *out);

/**
 * Opens a producer for a topic, to be closed with `quorate_producer_close`. `config` NULL: the
 * client's `producer.*` options; else those of `config` over them, the rest of it is not looked
 * at. Waits for a broker, at most `client.request_timeout_ms`; may be called from any thread.
 *
 * Errors: `QUORATE_E_UNKNOWN_TOPIC`, `QUORATE_E_CLOSED`, or why no broker answers. `*out` is NULL
 * then.
 *
 * The caller promises:
 * `topic` is NULL or NUL-terminated; `out` is NULL or a place for a handle.
 */
quorate_status_t quorate_producer_open(struct quorate_client_t *client,
                                       const char *topic,
                                       const struct quorate_config_t *config,
                                       struct quorate_producer_t **out);

/**
 * Accepts a message: copies it into the batch that leaves next for its partition, and fixes its
 * place in the order. How it ended is reported once, with `user_data`; with `user_data` NULL it is
 * not reported. Waits only while the buffers are full (`producer.in_flight_bytes_max`,
 * `client.in_flight_bytes_max`): `timeout_ms` 0 not at all, -1 for ever. Room comes back when
 * messages are answered, not when reports are taken. May be called from any thread; inside a
 * callback with `timeout_ms` 0.
 *
 * Errors: nothing was accepted, and nothing will be reported. `QUORATE_E_WOULD_BLOCK`,
 * `QUORATE_E_WAIT_TIMEOUT`: no room. `QUORATE_E_BATCH_TOO_LARGE`, `QUORATE_E_UNKNOWN_PARTITION`,
 * `QUORATE_E_INVALID_ARGUMENT`, `QUORATE_E_ABI_MISMATCH`: this message can never be sent.
 * `QUORATE_E_CLOSED`, `QUORATE_E_PRODUCER_FENCED`: nor can any other.
 *
 * The caller promises:
 * `message` is NULL or a message whose pointers are NULL or valid for the lengths beside them.
 */
quorate_status_t quorate_producer_send(struct quorate_producer_t *producer,
                                       const struct quorate_message_t *message,
                                       void *user_data,
                                       int32_t timeout_ms);

/**
 * Accepts `n` messages in order, as `quorate_producer_send` does; all have the `struct_size` of
 * the first. `user_data` is NULL or has `n` entries. Waits at most `timeout_ms` for all of them
 * together. `*accepted`, if not NULL, tells how many were accepted, from the first on. May be
 * called from any thread.
 *
 * Errors: those of `quorate_producer_send` for the first message that was not accepted.
 *
 * The caller promises:
 * `messages` and `user_data` are NULL or arrays of `n`; `accepted` is NULL or a place for a number.
 */
quorate_status_t quorate_producer_send_batch(struct quorate_producer_t *producer,
                                             const struct quorate_message_t *messages,
                                             size_t n,
                                             void *const *user_data,
                                             size_t *accepted,
                                             int32_t timeout_ms);

/**
 * Takes up to `cap` reports into `out`, oldest batch first; how many, at least 1. Waits for the
 * first one: `timeout_ms` 0 not at all, -1 for ever. May be called from any thread; each report
 * goes to one caller.
 *
 * Errors (negative): `QUORATE_E_WOULD_BLOCK`, `QUORATE_E_WAIT_TIMEOUT`: none is there.
 * `QUORATE_E_CLOSED`: none will come.
 *
 * The caller promises:
 * `out` is NULL or an array of `cap`.
 */
ptrdiff_t quorate_producer_poll(struct quorate_producer_t *producer,
                                struct quorate_delivery_t *out,
                                size_t cap,
                                int32_t timeout_ms);

/**
 * A descriptor that is readable while reports wait, for `poll` or `epoll`; do not read, write or
 * close it: it belongs to the library until the producer is closed. Take reports with a
 * `timeout_ms` of 0 until there are none. The same one at each call. Does not block; may be called
 * from any thread.
 *
 * Errors: -1; see `quorate_last_error()`.
 */
int32_t quorate_producer_event_fd(struct quorate_producer_t *producer);

/**
 * How many messages were accepted and not answered; 0 if the handle is wrong. Does not block; may
 * be called from any thread.
 */
uint64_t quorate_producer_in_flight(struct quorate_producer_t *producer);

/**
 * From now on reports go to `function`, with `ctx`, on the library's one thread of this client:
 * never inside `send`, and never after `close` has returned. It must not block (nothing else
 * happens on that thread meanwhile), must not throw or jump out, and may call what does not wait.
 * Once per producer, best before the first message; reports that wait already are for
 * `quorate_producer_poll`. Does not block; may be called from any thread.
 *
 * Errors: `QUORATE_E_PRECONDITION_FAILED`: there is a callback. `QUORATE_E_INVALID_ARGUMENT`:
 * `function` is NULL.
 *
 * The caller promises:
 * `function` may be called with `ctx` from another thread until the producer or its client is
 * closed.
 */
quorate_status_t quorate_producer_set_callback(struct quorate_producer_t *producer,
                                               void (*function)(const struct quorate_delivery_t *reports,
                                                                size_t n,
                                                                void *ctx),
                                               void *ctx);

/**
 * Sends what was accepted without lingering and waits until all of it is answered. Reports stay to
 * be taken. May be called from any thread.
 *
 * Errors: why the first message failed that did since the last flush; `QUORATE_E_WOULD_BLOCK`,
 * `QUORATE_E_WAIT_TIMEOUT`: some are not answered yet, and go on.
 */
quorate_status_t quorate_producer_flush(struct quorate_producer_t *producer, int32_t timeout_ms);

/**
 * Refuses new messages, waits at most `timeout_ms` until the accepted ones are answered, gives up
 * the others, and frees the producer whatever happens. A callback has heard of each message when
 * this returns; reports that wait to be polled are dropped, so `flush` and `poll` before if they
 * matter. Calls that are waiting on this producer in other threads end with `QUORATE_E_CLOSED`.
 * `report` may be NULL. NULL as the producer is fine. May be called from any thread but not inside
 * a callback.
 *
 * Errors: `QUORATE_E_CLOSED`: it was closed before. `QUORATE_E_WOULD_BLOCK`: called inside a
 * callback; it is still open.
 *
 * The caller promises:
 * `report` is NULL or a place for a report.
 */
quorate_status_t quorate_producer_close(struct quorate_producer_t *producer,
                                        int32_t timeout_ms,
                                        struct quorate_close_report_t *report);

/**
 * Follows a topic, to be closed with `quorate_consumer_close`. `config` NULL: the client's
 * `subscribe.*` options ("subscribe.from" above all: earliest, latest, offset:N, time:T, last:N);
 * else those of `config` over them, the rest of it is not looked at. Waits for the brokers, at most
 * `client.request_timeout_ms`; may be called from any thread.
 *
 * Errors: `QUORATE_E_UNKNOWN_TOPIC`, `QUORATE_E_OFFSET_OUT_OF_RANGE`, `QUORATE_E_CLOSED`, or why no
 * broker answers. `*out` is NULL then.
 *
 * The caller promises:
 * `topic` is NULL or NUL-terminated; `out` is NULL or a place for a handle.
 */
quorate_status_t quorate_subscribe(struct quorate_client_t *client,
                                   const char *topic,
                                   const struct quorate_config_t *config,
                                   struct quorate_consumer_t **out);

/**
 * Takes at least one and at most `max` records (never more than 100,000), as many as are there;
 * the batch is to be freed with `quorate_batch_free`. Waits for the first record: `timeout_ms` 0
 * not at all, -1 for ever. May be called from any thread; each record goes to one caller.
 *
 * Returns `QUORATE_OK`, or `QUORATE_END` once "subscribe.until" is reached, with `*out` NULL.
 * Errors, with `*out` NULL: `QUORATE_E_WOULD_BLOCK`, `QUORATE_E_WAIT_TIMEOUT`: there is none.
 * `QUORATE_E_GAP`: records are missing here, `quorate_last_error()` says which; the next call goes
 * on behind them. Others: a partition cannot be read on.
 *
 * The caller promises:
 * `out` is NULL or a place for a handle.
 */
quorate_status_t quorate_consumer_next(struct quorate_consumer_t *consumer,
                                       size_t max,
                                       int32_t timeout_ms,
                                       struct quorate_batch_t **out);

/**
 * Goes on from another place in every partition: "earliest", "latest", "offset:N", "time:T" or
 * "last:N". What was received and not taken is dropped. Waits for the brokers, at most
 * `client.request_timeout_ms`; may be called from any thread.
 *
 * Errors: `QUORATE_E_INVALID_ARGUMENT`: this is no place. `QUORATE_E_OFFSET_OUT_OF_RANGE`: it is
 * not in the log.
 *
 * The caller promises:
 * `start` is NULL or NUL-terminated.
 */
quorate_status_t quorate_consumer_seek(struct quorate_consumer_t *consumer, const char *start);

/**
 * A descriptor that is readable while records wait (or the end, or an error), for `poll` or
 * `epoll`; do not read, write or close it: it belongs to the library until the consumer is closed.
 * Take records with a `timeout_ms` of 0 until there are none. The same one at each call. Does not
 * block; may be called from any thread.
 *
 * Errors: -1; see `quorate_last_error()`.
 */
int32_t quorate_consumer_event_fd(struct quorate_consumer_t *consumer);

/**
 * How many committed records were not taken yet, as far as known; while another thread waits for
 * records, as it was before. 0 if the handle is wrong. Does not block; may be called from any
 * thread.
 */
uint64_t quorate_consumer_lag(struct quorate_consumer_t *consumer);

/**
 * Ends a subscription and frees it; what was received and not taken is dropped. Batches stay until
 * they are freed. Calls that are waiting on this consumer in other threads end with
 * `QUORATE_E_CLOSED`. NULL as the consumer is fine. Does not block; may be called from any thread.
 *
 * Errors: `QUORATE_E_CLOSED`: it was closed before.
 */
quorate_status_t quorate_consumer_close(struct quorate_consumer_t *consumer, int32_t timeout_ms);

/**
 * Reads a page of a partition's history, to be freed with `quorate_batch_free`. `config` NULL: the
 * client's `read.*` options; else those of `config` over them ("read.partition", "read.from",
 * "read.until", "read.limit", "read.cursor"), the rest of it is not looked at. `next_cursor`, if not
 * NULL, gets the "read.cursor" of the next page, to be freed with `quorate_string_free`, or NULL
 * when this page reached the end. Waits for a broker: `timeout_ms` -1 as long as
 * `client.request_timeout_ms` allows. May be called from any thread but not inside a callback.
 *
 * Errors, with `*out` NULL: `QUORATE_E_UNKNOWN_TOPIC`, `QUORATE_E_UNKNOWN_PARTITION`,
 * `QUORATE_E_OFFSET_OUT_OF_RANGE`, `QUORATE_E_WAIT_TIMEOUT`, `QUORATE_E_CLOSED`, or why no broker
 * answers.
 *
 * The caller promises:
 * `topic` is NULL or NUL-terminated; `out` is NULL or a place for a handle; `next_cursor` is NULL or
 * a place for a text.
 */
quorate_status_t quorate_read(struct quorate_client_t *client,
                              const char *topic,
                              const struct quorate_config_t *config,
                              int32_t timeout_ms,
                              struct quorate_batch_t **out,
                              char **next_cursor);

/**
 * How many records there are; 0 if the handle is wrong. Does not block; a batch is for one thread
 * at a time.
 */
size_t quorate_batch_len(const struct quorate_batch_t *batch);

/**
 * The record at `index`, from 0 on; NULL if there is none. It and what it points to are valid
 * until `quorate_batch_free`. Does not block; a batch is for one thread at a time.
 */
const struct quorate_record_t *quorate_batch_at(const struct quorate_batch_t *batch, size_t index);

/**
 * Frees a batch and everything its records point to. NULL is fine; a batch that was freed is left
 * alone. Does not block; may be called from any thread.
 */
void quorate_batch_free(struct quorate_batch_t *batch);

/**
 * Creates a topic. `config` NULL: the client's `topic.*` options; else those of `config` over them
 * ("topic.partitions", "topic.retention_bytes"..), the rest of it is not looked at. Waits for the
 * cluster: `timeout_ms` -1 as long as `client.request_timeout_ms` allows. May be called from any
 * thread but not inside a callback.
 *
 * Errors: `QUORATE_E_ALREADY_EXISTS`, `QUORATE_E_INVALID_ARGUMENT`, `QUORATE_E_WAIT_TIMEOUT` (it
 * may still be made), or why no broker answers.
 *
 * The caller promises:
 * `topic` is NULL or NUL-terminated.
 */
quorate_status_t quorate_topic_create(struct quorate_client_t *client,
                                      const char *topic,
                                      const struct quorate_config_t *config,
                                      int32_t timeout_ms);

/**
 * Deletes a topic with all its records. Waits for the cluster: `timeout_ms` -1 as long as
 * `client.request_timeout_ms` allows. May be called from any thread but not inside a callback.
 *
 * Errors: `QUORATE_E_UNKNOWN_TOPIC`, `QUORATE_E_WAIT_TIMEOUT` (it may still be deleted), or why no
 * broker answers.
 *
 * The caller promises:
 * `topic` is NULL or NUL-terminated.
 */
quorate_status_t quorate_topic_delete(struct quorate_client_t *client,
                                      const char *topic,
                                      int32_t timeout_ms);

/**
 * All topics as JSON, as `quorate topic list --json` prints them; to be freed with
 * `quorate_string_free`. Waits for a broker: `timeout_ms` -1 as long as
 * `client.request_timeout_ms` allows. May be called from any thread but not inside a callback.
 *
 * Errors, with `*json` NULL: `QUORATE_E_WAIT_TIMEOUT`, or why no broker answers.
 *
 * The caller promises:
 * `json` is NULL or a place for a text.
 */
quorate_status_t quorate_topic_list(struct quorate_client_t *client,
                                    int32_t timeout_ms,
                                    char **json);

/**
 * A topic and its partitions as JSON, as `quorate topic describe --json` prints them; to be freed
 * with `quorate_string_free`. Waits for a broker: `timeout_ms` -1 as long as
 * `client.request_timeout_ms` allows. May be called from any thread but not inside a callback.
 *
 * Errors, with `*json` NULL: `QUORATE_E_UNKNOWN_TOPIC`, `QUORATE_E_WAIT_TIMEOUT`, or why no broker
 * answers.
 *
 * The caller promises:
 * `topic` is NULL or NUL-terminated; `json` is NULL or a place for a text.
 */
quorate_status_t quorate_topic_describe(struct quorate_client_t *client,
                                        const char *topic,
                                        int32_t timeout_ms,
                                        char **json);

/**
 * How the cluster is as JSON, as `quorate cluster status --json` prints it; to be freed with
 * `quorate_string_free`. Waits for a broker: `timeout_ms` -1 as long as
 * `client.request_timeout_ms` allows. May be called from any thread but not inside a callback.
 *
 * Errors, with `*json` NULL: `QUORATE_E_AUTHORIZATION_FAILED`, `QUORATE_E_WAIT_TIMEOUT`, or why no
 * broker answers.
 *
 * The caller promises:
 * `json` is NULL or a place for a text.
 */
quorate_status_t quorate_cluster_status(struct quorate_client_t *client,
                                        int32_t timeout_ms,
                                        char **json);

/**
 * Frees a text that this library gave out. NULL is fine; what is no such text, or was freed, is
 * left alone. Does not block; may be called from any thread.
 */
void quorate_string_free(char *text);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* QUORATE_H */
