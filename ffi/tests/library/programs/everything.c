/* Each function once, with every field. */
#include "check.h"

static void topics(quorate_client_t *client) {
  quorate_config_t *config = quorate_config_new();
  char *json = NULL;
  OK(quorate_config_set(config, "topic.partitions", "3"));
  OK(quorate_config_set(config, "producer.linger_us", "1ms"));
  OK(quorate_topic_create(client, "three", config, 10000));
  IS(quorate_topic_create(client, "three", config, 10000), QUORATE_E_ALREADY_EXISTS);
  CHECK(quorate_last_error_outcome() == QUORATE_OUTCOME_NOT_APPLIED);
  OK(quorate_topic_create(client, "orders", NULL, -1));
  OK(quorate_topic_list(client, 10000, &json));
  CHECK(strstr(json, "{\"topics\":[") == json && strstr(json, "\"name\":\"three\"") != NULL);
  quorate_string_free(json);
  OK(quorate_topic_describe(client, "three", 10000, &json));
  CHECK(strstr(json, "\"partition_list\":[{\"partition\":0") != NULL);
  quorate_string_free(json);
  OK(quorate_topic_delete(client, "three", 10000));
  IS(quorate_topic_describe(client, "three", 10000, &json), QUORATE_E_UNKNOWN_TOPIC);
  CHECK(json == NULL && strstr(quorate_last_error(), "QRT-040A") != NULL);
  CHECK(!quorate_last_error_retryable() && !quorate_status_retryable(QUORATE_E_UNKNOWN_TOPIC));
  OK(quorate_cluster_status(client, 10000, &json));
  CHECK(strstr(json, "{\"cluster\":\"test") == json && strstr(json, "\"health\":\"") != NULL);
  CHECK(strstr(json, "\"topic\":\"orders\"") != NULL);
  quorate_string_free(json);
  quorate_config_free(config);
}

static quorate_message_t whole(void) {
  static const uint8_t id[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
  static const quorate_header_t headers[2] = {{"origin", "till-7", 6}, {"empty", NULL, 0}};
  quorate_message_t message = text("3 apples");
  message.key = "customer";
  message.key_len = 8;
  message.id = id;
  message.headers = headers;
  message.headers_len = 2;
  message.timestamp_us = 1700000000000000;
  message.flags = QUORATE_MSG_HAS_PARTITION;
  return message;
}

static void publishing(quorate_client_t *client) {
  quorate_message_t message = whole();
  quorate_delivery_t receipt, again;
  OK(quorate_publish(client, "orders", &message, 10000, &receipt));
  CHECK(receipt.status == QUORATE_OK && receipt.offset == 0 && receipt.partition == 0);
  CHECK(receipt.level == QUORATE_LEVEL_QUORUM && receipt.outcome == QUORATE_OUTCOME_APPLIED);
  CHECK(receipt.flags == 0 && receipt.term > 0 && receipt.timestamp_us > 1700000000000000);
  OK(quorate_publish(client, "orders", &message, -1, &again));
  CHECK(again.offset == receipt.offset && (again.flags & QUORATE_DUPLICATE) != 0);
  message.partition = 7;
  message.id = NULL;
  IS(quorate_publish(client, "orders", &message, 10000, &again), QUORATE_E_UNKNOWN_PARTITION);
  CHECK(again.status == QUORATE_E_UNKNOWN_PARTITION && (again.flags & QUORATE_NO_OFFSET) != 0);
  CHECK(again.outcome == QUORATE_OUTCOME_NOT_APPLIED);
  IS(quorate_publish(client, "bad name", &message, 10000, NULL), QUORATE_E_INVALID_ARGUMENT);
}

static void producing(quorate_client_t *client, const char *topic, const char *ack,
                      uint8_t level) {
  quorate_config_t *config = quorate_config_new();
  quorate_producer_t *producer;
  quorate_delivery_t reports[8];
  quorate_close_report_t closed;
  quorate_message_t messages[3];
  void *tags[3];
  size_t accepted = 9, taken = 0;
  int i;
  OK(quorate_config_set(config, "producer.ack", ack));
  OK(quorate_producer_open(client, topic, config, &producer));
  IS(quorate_producer_poll(producer, reports, 8, 0), QUORATE_E_WOULD_BLOCK);
  IS(quorate_producer_poll(producer, reports, 8, 5), QUORATE_E_WAIT_TIMEOUT);
  for (i = 0; i < 3; i++) {
    messages[i] = text(i == 0 ? "first" : i == 1 ? "second" : "third");
    tags[i] = &messages[i];
  }
  tags[1] = NULL; /* no report */
  OK(quorate_producer_send_batch(producer, messages, 3, tags, &accepted, 10000));
  CHECK(accepted == 3);
  OK(quorate_producer_send(producer, &messages[0], &tags[0], 0));
  OK(quorate_producer_send_batch(producer, messages, 0, NULL, NULL, 0));
  OK(quorate_producer_flush(producer, 10000));
  CHECK(quorate_producer_in_flight(producer) == 0);
  while (taken < 3) {
    ptrdiff_t n = quorate_producer_poll(producer, reports + taken, 1, 10000);
    CHECK(n == 1);
    taken += (size_t)n;
  }
  CHECK(reports[0].user_data == &messages[0] && reports[1].user_data == &messages[2]);
  CHECK(reports[2].user_data == &tags[0]);
  for (i = 0; i < 3; i++) {
    CHECK(reports[i].status == QUORATE_OK && reports[i].level == level);
  }
  IS(quorate_producer_poll(producer, reports, 8, 0), QUORATE_E_WOULD_BLOCK);
  OK(quorate_producer_send(producer, &messages[0], NULL, -1));
  OK(quorate_producer_close(producer, 10000, &closed));
  CHECK(closed.flushed <= 1 && closed.abandoned == 0);
  quorate_config_free(config);
}

static void first_record(const quorate_record_t *record) {
  CHECK(strcmp(record->topic, "orders") == 0 && strcmp(record->broker, "broker-1") == 0);
  CHECK(same(record->payload, record->payload_len, "3 apples"));
  CHECK(same(record->key, record->key_len, "customer"));
  CHECK(record->id != NULL && record->id[0] == 1 && record->id[15] == 16);
  CHECK(record->headers_len == 2 && strcmp(record->headers[0].name, "origin") == 0);
  CHECK(same(record->headers[0].value, record->headers[0].value_len, "till-7"));
  CHECK(strcmp(record->headers[1].name, "empty") == 0 && record->headers[1].value_len == 0);
  CHECK(record->offset == 0 && record->partition == 0 && record->term > 0 && record->hlc > 0);
  CHECK(record->attempt == 1 && record->timestamp_us > 1700000000000000);
}

static void subscribing(quorate_client_t *client) {
  quorate_config_t *config = quorate_config_new();
  quorate_consumer_t *consumer;
  quorate_batch_t *batch, *kept;
  quorate_status_t status;
  size_t records = 0;
  OK(quorate_config_set(config, "subscribe.from", "earliest"));
  OK(quorate_config_set(config, "subscribe.until", "tail"));
  OK(quorate_subscribe(client, "orders", config, &consumer));
  OK(quorate_consumer_next(consumer, 1, 10000, &kept));
  CHECK(quorate_batch_len(kept) == 1);
  CHECK(quorate_consumer_lag(consumer) == 10);
  while ((status = quorate_consumer_next(consumer, 100, 10000, &batch)) == QUORATE_OK) {
    records += quorate_batch_len(batch);
    CHECK(quorate_batch_at(batch, quorate_batch_len(batch)) == NULL);
    CHECK(quorate_batch_at(batch, 0)->key == NULL && quorate_batch_at(batch, 0)->id == NULL);
    quorate_batch_free(batch);
  }
  IS(status, QUORATE_END);
  CHECK(batch == NULL && records == 10 && quorate_consumer_lag(consumer) == 0);
  IS(quorate_consumer_next(consumer, 1, 0, &batch), QUORATE_END);
  OK(quorate_consumer_seek(consumer, "last:2"));
  OK(quorate_consumer_next(consumer, 1, 10000, &batch));
  CHECK(quorate_batch_at(batch, 0)->offset == 9);
  quorate_batch_free(batch);
  IS(quorate_consumer_seek(consumer, "somewhere"), QUORATE_E_INVALID_ARGUMENT);
  OK(quorate_consumer_close(consumer, 0));
  first_record(quorate_batch_at(kept, 0)); /* a batch outlives its consumer */
  quorate_batch_free(kept);
  OK(quorate_subscribe(client, "orders", NULL, &consumer)); /* from latest */
  IS(quorate_consumer_next(consumer, 1, 0, &batch), QUORATE_E_WOULD_BLOCK);
  IS(quorate_consumer_next(consumer, 1, 5, &batch), QUORATE_E_WAIT_TIMEOUT);
  OK(quorate_consumer_close(consumer, 0));
  quorate_config_free(config);
}

static void reading(quorate_client_t *client) {
  quorate_config_t *config = quorate_config_new();
  quorate_batch_t *batch;
  char *cursor;
  OK(quorate_config_set(config, "read.from", "offset:1"));
  OK(quorate_config_set(config, "read.limit", "8"));
  OK(quorate_read(client, "orders", config, 10000, &batch, &cursor));
  CHECK(quorate_batch_len(batch) == 8 && quorate_batch_at(batch, 0)->offset == 1);
  CHECK(cursor != NULL);
  quorate_batch_free(batch);
  OK(quorate_config_set(config, "read.cursor", cursor));
  quorate_string_free(cursor);
  OK(quorate_read(client, "orders", config, -1, &batch, &cursor));
  CHECK(quorate_batch_len(batch) == 2 && quorate_batch_at(batch, 0)->offset == 9);
  CHECK(cursor == NULL);
  quorate_batch_free(batch);
  IS(quorate_read(client, "nothing-here", config, 10000, &batch, NULL), QUORATE_E_UNKNOWN_TOPIC);
  quorate_config_free(config);
}

int main(void) {
  quorate_client_t *client = connected();
  quorate_close_report_t closed;
  CHECK(quorate_abi_version() == QUORATE_ABI_VERSION);
  CHECK(strlen(quorate_version()) >= 5);
  topics(client);
  publishing(client);
  producing(client, "orders", "quorum", QUORATE_LEVEL_QUORUM);
  producing(client, "orders", "leader", QUORATE_LEVEL_LEADER);
  producing(client, "perhaps", "none", QUORATE_LEVEL_NONE);
  subscribing(client);
  reading(client);
  OK(quorate_close(client, 10000, &closed));
  return 0;
}
