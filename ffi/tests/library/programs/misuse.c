/* What a program must not do: each time an error, never more. */
#include <limits.h>

#include "check.h"

static void nothing(void) {
  quorate_batch_t *batch;
  quorate_producer_t *producer;
  quorate_consumer_t *consumer;
  quorate_delivery_t report;
  char *text;
  OK(quorate_close(NULL, 0, NULL));
  OK(quorate_producer_close(NULL, 0, NULL));
  OK(quorate_consumer_close(NULL, 0));
  quorate_batch_free(NULL);
  quorate_config_free(NULL);
  quorate_string_free(NULL);
  IS(quorate_connect(NULL, 1000, NULL), QUORATE_E_INVALID_ARGUMENT);
  IS(quorate_producer_open(NULL, "t", NULL, &producer), QUORATE_E_INVALID_ARGUMENT);
  CHECK(producer == NULL);
  IS(quorate_producer_send(NULL, NULL, NULL, 0), QUORATE_E_INVALID_ARGUMENT);
  IS(quorate_producer_send_batch(NULL, NULL, 3, NULL, NULL, 0), QUORATE_E_INVALID_ARGUMENT);
  IS(quorate_producer_poll(NULL, &report, 1, 0), QUORATE_E_INVALID_ARGUMENT);
  IS(quorate_producer_flush(NULL, 0), QUORATE_E_INVALID_ARGUMENT);
  IS(quorate_producer_set_callback(NULL, NULL, NULL), QUORATE_E_INVALID_ARGUMENT);
  CHECK(quorate_producer_event_fd(NULL) == -1 && quorate_consumer_event_fd(NULL) == -1);
  CHECK(quorate_producer_in_flight(NULL) == 0 && quorate_consumer_lag(NULL) == 0);
  IS(quorate_subscribe(NULL, "t", NULL, &consumer), QUORATE_E_INVALID_ARGUMENT);
  IS(quorate_consumer_next(NULL, 1, 0, &batch), QUORATE_E_INVALID_ARGUMENT);
  IS(quorate_consumer_seek(NULL, "earliest"), QUORATE_E_INVALID_ARGUMENT);
  CHECK(quorate_batch_len(NULL) == 0 && quorate_batch_at(NULL, 0) == NULL);
  IS(quorate_read(NULL, "t", NULL, 1, &batch, &text), QUORATE_E_INVALID_ARGUMENT);
  IS(quorate_publish(NULL, "t", NULL, 1, NULL), QUORATE_E_INVALID_ARGUMENT);
  IS(quorate_topic_create(NULL, "t", NULL, 1), QUORATE_E_INVALID_ARGUMENT);
  IS(quorate_topic_delete(NULL, "t", 1), QUORATE_E_INVALID_ARGUMENT);
  IS(quorate_topic_list(NULL, 1, &text), QUORATE_E_INVALID_ARGUMENT);
  IS(quorate_cluster_status(NULL, 1, &text), QUORATE_E_INVALID_ARGUMENT);
  IS(quorate_topic_describe(NULL, "t", 1, &text), QUORATE_E_INVALID_ARGUMENT);
  IS(quorate_config_set(NULL, "a", "b"), QUORATE_E_INVALID_ARGUMENT);
  IS(quorate_config_load(NULL, NULL), QUORATE_E_INVALID_ARGUMENT);
}

static void options(void) {
  quorate_config_t *config = quorate_config_new();
  IS(quorate_config_set(config, NULL, "1"), QUORATE_E_INVALID_ARGUMENT);
  IS(quorate_config_set(config, "producer.linger_us", NULL), QUORATE_E_INVALID_ARGUMENT);
  IS(quorate_config_set(config, "producer.linger_us", "\xff"), QUORATE_E_INVALID_ARGUMENT);
  IS(quorate_config_set(config, "producer.linger_us", "soon"), QUORATE_E_INVALID_ARGUMENT);
  CHECK(strstr(quorate_last_error(), "producer.linger_us") != NULL);
  IS(quorate_config_set(config, "producer.lingerus", "1"), QUORATE_E_INVALID_ARGUMENT);
  CHECK(strstr(quorate_last_error(), "did you mean") != NULL);
  IS(quorate_config_load(config, "no-such-context"), QUORATE_E_INVALID_ARGUMENT);
  quorate_config_free(config);
  quorate_config_free(config);
  IS(quorate_config_set(config, "producer.linger_us", "1"), QUORATE_E_CLOSED);
}

static void connecting(void) {
  quorate_config_t *config = quorate_config_new();
  quorate_client_t *client = (quorate_client_t *)&config;
  IS(quorate_connect(NULL, 0, &client), QUORATE_E_WOULD_BLOCK);
  CHECK(client == NULL);
  IS(quorate_connect(NULL, -7, &client), QUORATE_E_INVALID_ARGUMENT);
  IS(quorate_connect(config, 1000, &client), QUORATE_E_CONNECT); /* no server */
  OK(quorate_config_set(config, "client.servers", "127.0.0.1:1"));
  IS(quorate_connect(config, 1000, &client), QUORATE_E_IDENTITY_FILES);
  OK(quorate_config_load(config, NULL));
  OK(quorate_config_set(config, "client.servers", "192.0.2.1:1"));
  IS(quorate_connect(config, 20, &client), QUORATE_E_WAIT_TIMEOUT);
  CHECK(client == NULL);
  quorate_config_free(config);
}

static void messages(quorate_producer_t *producer) {
  quorate_message_t message = text("x"), two[2];
  quorate_header_t header = {"\xff\xfe", NULL, 0};
  size_t accepted = 9;
  message.payload_len = SIZE_MAX;
  IS(quorate_producer_send(producer, &message, NULL, 0), QUORATE_E_BATCH_TOO_LARGE);
  message.payload_len = (size_t)1 << 40;
  IS(quorate_producer_send(producer, &message, NULL, 0), QUORATE_E_BATCH_TOO_LARGE);
  message = text("x");
  message.payload = NULL;
  IS(quorate_producer_send(producer, &message, NULL, 0), QUORATE_E_INVALID_ARGUMENT);
  message = text("x");
  message.headers = &header;
  message.headers_len = 1;
  IS(quorate_producer_send(producer, &message, NULL, 0), QUORATE_E_INVALID_ARGUMENT);
  message.headers_len = UINT32_MAX;
  IS(quorate_producer_send(producer, &message, NULL, 0), QUORATE_E_INVALID_ARGUMENT);
  message = text("x");
  message.struct_size = 0;
  IS(quorate_producer_send(producer, &message, NULL, 0), QUORATE_E_ABI_MISMATCH);
  message = text("x");
  message.flags = 1u << 31;
  IS(quorate_producer_send(producer, &message, NULL, 0), QUORATE_E_INVALID_ARGUMENT);
  IS(quorate_producer_send(producer, NULL, NULL, 0), QUORATE_E_INVALID_ARGUMENT);
  two[0] = text("fine");
  two[1] = text("x");
  two[1].flags = 4;
  IS(quorate_producer_send_batch(producer, two, 2, NULL, &accepted, 0), QUORATE_E_INVALID_ARGUMENT);
  CHECK(accepted == 1);
  IS(quorate_producer_send_batch(producer, NULL, 2, NULL, &accepted, 0), QUORATE_E_INVALID_ARGUMENT);
  CHECK(accepted == 0);
  IS(quorate_producer_send(producer, two, NULL, INT_MIN), QUORATE_E_INVALID_ARGUMENT);
  OK(quorate_producer_flush(producer, 10000));
}

static void handles(quorate_client_t *client) {
  quorate_producer_t *producer;
  quorate_consumer_t *consumer;
  quorate_delivery_t report;
  quorate_message_t message = text("x");
  quorate_batch_t *batch;
  char *json;
  int object = 0;
  OK(quorate_producer_open(client, "orders", NULL, &producer));
  OK(quorate_subscribe(client, "orders", NULL, &consumer));
  messages(producer);
  IS(quorate_producer_poll(producer, NULL, 1, 0), QUORATE_E_INVALID_ARGUMENT);
  IS(quorate_producer_poll(producer, &report, 0, 0), QUORATE_E_INVALID_ARGUMENT);
  IS(quorate_consumer_next(consumer, 0, 0, &batch), QUORATE_E_INVALID_ARGUMENT);
  IS(quorate_consumer_next(consumer, 1, 0, NULL), QUORATE_E_INVALID_ARGUMENT);
  /* the wrong kind, what is no handle, what was one */
  IS(quorate_producer_send((quorate_producer_t *)client, &message, NULL, 0),
     QUORATE_E_INVALID_ARGUMENT);
  CHECK(strstr(quorate_last_error(), "this is a client, not a producer") != NULL);
  IS(quorate_close((quorate_client_t *)consumer, 0, NULL), QUORATE_E_INVALID_ARGUMENT);
  IS(quorate_close((quorate_client_t *)&object, 0, NULL), QUORATE_E_INVALID_ARGUMENT);
  IS(quorate_close((quorate_client_t *)(uintptr_t)3, 0, NULL), QUORATE_E_CLOSED);
  CHECK(quorate_batch_len((quorate_batch_t *)(uintptr_t)UINTPTR_MAX) == 0);
  OK(quorate_producer_close(producer, 1000, NULL));
  IS(quorate_producer_close(producer, 1000, NULL), QUORATE_E_CLOSED);
  IS(quorate_producer_send(producer, &message, NULL, -1), QUORATE_E_CLOSED);
  IS(quorate_producer_poll(producer, &report, 1, -1), QUORATE_E_CLOSED);
  OK(quorate_consumer_close(consumer, 1000));
  IS(quorate_consumer_close(consumer, 1000), QUORATE_E_CLOSED);
  IS(quorate_consumer_next(consumer, 1, -1, &batch), QUORATE_E_CLOSED);
  IS(quorate_producer_open(client, "a\xc3", NULL, &producer), QUORATE_E_INVALID_ARGUMENT);
  IS(quorate_producer_open(client, NULL, NULL, &producer), QUORATE_E_INVALID_ARGUMENT);
  IS(quorate_producer_open(client, "orders", NULL, NULL), QUORATE_E_INVALID_ARGUMENT);
  IS(quorate_topic_describe(client, "orders", 0, &json), QUORATE_E_WOULD_BLOCK);
  OK(quorate_topic_describe(client, "orders", 10000, &json));
  quorate_string_free(json);
  quorate_string_free(json);
  quorate_string_free((char *)&object);
  OK(quorate_read(client, "orders", NULL, 10000, &batch, NULL));
  CHECK(quorate_batch_len(batch) == 1);
  quorate_batch_free(batch);
  quorate_batch_free(batch);
  CHECK(quorate_batch_at(batch, 0) == NULL && quorate_batch_len(batch) == 0);
}

static void after_the_client(quorate_client_t *client) {
  quorate_producer_t *producer;
  quorate_consumer_t *consumer;
  quorate_batch_t *batch;
  quorate_delivery_t report;
  quorate_message_t message = text("last");
  OK(quorate_producer_open(client, "orders", NULL, &producer));
  OK(quorate_subscribe(client, "orders", NULL, &consumer));
  OK(quorate_producer_send(producer, &message, &message, -1));
  OK(quorate_close(client, 10000, NULL));
  IS(quorate_close(client, 10000, NULL), QUORATE_E_CLOSED);
  IS(quorate_publish(client, "orders", &message, 1000, NULL), QUORATE_E_CLOSED);
  IS(quorate_producer_send(producer, &message, NULL, -1), QUORATE_E_CLOSED);
  CHECK(quorate_producer_poll(producer, &report, 1, -1) == 1); /* still to be had */
  CHECK(report.status == QUORATE_OK && report.user_data == &message);
  IS(quorate_producer_poll(producer, &report, 1, -1), QUORATE_E_CLOSED);
  while (quorate_consumer_next(consumer, 1, -1, &batch) == QUORATE_OK) {
    quorate_batch_free(batch);
  }
  IS(quorate_consumer_next(consumer, 1, -1, &batch), QUORATE_E_CLOSED);
  OK(quorate_producer_close(producer, -1, NULL));
  OK(quorate_consumer_close(consumer, -1));
}

int main(void) {
  quorate_client_t *client;
  nothing();
  options();
  connecting();
  client = connected();
  handles(client);
  after_the_client(client);
  CHECK(strcmp(quorate_strerror(12345), quorate_strerror(INT_MIN)) == 0);
  return 0;
}
