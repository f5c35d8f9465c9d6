/*
 * Prints the records of a topic.
 *
 *   subscribe TOPIC [FROM [COUNT]]
 *
 * FROM is earliest, latest, offset:N, time:T or last:N; without COUNT it ends at what was published
 * when it started.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <quorate.h>

static int fail(const char *what) {
  fprintf(stderr, "subscribe: %s: %s\n", what, quorate_last_error());
  return 1;
}

static void print(const quorate_record_t *record) {
  size_t i;
  printf("%s/%" PRIu32 "@%" PRIu64 " ", record->topic, record->partition, record->offset);
  if (record->key != NULL) {
    printf("[%.*s] ", (int)record->key_len, (const char *)record->key);
  }
  for (i = 0; i < record->headers_len; i++) {
    const quorate_header_t *header = &record->headers[i];
    printf("%s=%.*s ", header->name, (int)header->value_len, (const char *)header->value);
  }
  printf("%.*s\n", (int)record->payload_len, (const char *)record->payload);
}

static int follow(quorate_consumer_t *consumer, uint64_t count) {
  uint64_t taken = 0;
  while (count == 0 || taken < count) {
    quorate_batch_t *batch;
    size_t i, n;
    uint64_t left = count == 0 ? 1000 : count - taken;
    quorate_status_t status =
        quorate_consumer_next(consumer, left < 1000 ? (size_t)left : 1000, 30000, &batch);
    if (status == QUORATE_END) {
      break;
    }
    if (status == QUORATE_E_GAP) {
      fail("records are missing"); /* the next call goes on behind them */
      continue;
    }
    if (status != QUORATE_OK) {
      return fail("next");
    }
    n = quorate_batch_len(batch);
    for (i = 0; i < n; i++) {
      print(quorate_batch_at(batch, i)); /* valid until the batch is freed */
    }
    taken += n;
    quorate_batch_free(batch);
  }
  return 0;
}

int main(int argc, char **argv) {
  quorate_config_t *config = quorate_config_new();
  quorate_client_t *client = NULL;
  quorate_consumer_t *consumer = NULL;
  uint64_t count = argc > 3 ? strtoull(argv[3], NULL, 10) : 0;
  int status = 1;
  if (argc < 2) {
    fprintf(stderr, "usage: %s TOPIC [FROM [COUNT]]\n", argv[0]);
    return 2;
  }
  if (quorate_config_load(config, NULL) != QUORATE_OK ||
      quorate_config_set(config, "subscribe.from", argc > 2 ? argv[2] : "earliest") != QUORATE_OK ||
      (count == 0 && quorate_config_set(config, "subscribe.until", "tail") != QUORATE_OK)) {
    fail("config");
  } else if (quorate_connect(config, -1, &client) != QUORATE_OK) {
    fail("connect");
  } else if (quorate_subscribe(client, argv[1], config, &consumer) != QUORATE_OK) {
    fail("open");
  } else {
    status = follow(consumer, count);
  }
  quorate_consumer_close(consumer, 0);
  quorate_close(client, 1000, NULL);
  quorate_config_free(config);
  return status;
}
