/* Without a broker: memory stays below the limit, and each message is still reported once. */
#include <unistd.h>

#include "check.h"

enum { LIMIT = 4 << 20, BODY = 1000 };

static size_t failed, unknown;

static void told(const quorate_delivery_t *reports, size_t n, void *ctx) {
  size_t i;
  (void)ctx;
  for (i = 0; i < n; i++) {
    CHECK(reports[i].status != QUORATE_OK && reports[i].user_data != NULL);
    unknown += reports[i].outcome == QUORATE_OUTCOME_UNKNOWN;
    failed++;
  }
}

static long resident_kib(void) {
  char line[256];
  long pages = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  CHECK(file != NULL && fgets(line, sizeof line, file) != NULL);
  CHECK(sscanf(line, "%*d %ld", &pages) == 1);
  fclose(file);
  return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

int main(void) {
  static char body[BODY];
  quorate_config_t *config = quorate_config_new();
  quorate_client_t *client = connected();
  quorate_producer_t *producer;
  quorate_close_report_t closed;
  quorate_message_t message = QUORATE_MESSAGE_INIT;
  quorate_status_t status;
  size_t accepted = 0, i, in_one = 7;
  long before, after;
  message.payload = body;
  message.payload_len = sizeof body;
  OK(quorate_config_set(config, "producer.in_flight_bytes_max", "4MiB"));
  OK(quorate_producer_open(client, "orders", config, &producer));
  OK(quorate_producer_set_callback(producer, told, NULL));
  printf("ready\n");
  fflush(stdout);
  CHECK(getchar() == '\n'); /* the broker is gone */
  before = resident_kib();
  while ((status = quorate_producer_send(producer, &message, &message, 0)) == QUORATE_OK) {
    accepted++;
  }
  IS(status, QUORATE_E_WOULD_BLOCK);
  CHECK(quorate_last_error_retryable() && accepted > LIMIT / 2 / BODY && accepted <= LIMIT / BODY);
  for (i = 0; i < 100000; i++) {
    IS(quorate_producer_send(producer, &message, &message, 0), QUORATE_E_WOULD_BLOCK);
  }
  IS(quorate_producer_send(producer, &message, &message, 50), QUORATE_E_WAIT_TIMEOUT);
  IS(quorate_producer_send_batch(producer, &message, 1, NULL, &in_one, 50),
     QUORATE_E_WAIT_TIMEOUT);
  CHECK(in_one == 0);
  IS(quorate_producer_flush(producer, 50), QUORATE_E_WAIT_TIMEOUT);
  CHECK(quorate_producer_in_flight(producer) == accepted);
  after = resident_kib();
  CHECK(after - before <= 2 * LIMIT / 1024);
  OK(quorate_producer_close(producer, 100, &closed));
  CHECK(closed.flushed == 0 && closed.abandoned == accepted && failed == accepted);
  OK(quorate_close(client, 100, NULL));
  quorate_config_free(config);
  printf("accepted %zu, unknown %zu, grown by %ld KiB\n", accepted, unknown, after - before);
  return 0;
}
