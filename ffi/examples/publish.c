/*
 * Publishes numbered messages and accounts for each of them.
 *
 *   publish TOPIC [COUNT [PER_SECOND]]
 *
 * Connects with the current context of the `quorate` command, or as QUORATE_CLIENT__SERVERS and the
 * other variables say. Exit status 0: every message was acknowledged, once.
 */
#define _POSIX_C_SOURCE 199309L
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <quorate.h>

enum { REPORTS_MAX = 512 };

struct tally {
  uint64_t acked, duplicates, failed, unknown, wrong;
  unsigned char *heard; /* how often each message was reported */
  size_t count;
};

static int fail(const char *what) {
  fprintf(stderr, "publish: %s: %s\n", what, quorate_last_error());
  return 1;
}

/* Takes the reports that are there, or waits for some. Returns 0 once the time is over. */
static int take_reports(quorate_producer_t *producer, struct tally *tally, int32_t timeout_ms) {
  quorate_delivery_t reports[REPORTS_MAX];
  ptrdiff_t n = quorate_producer_poll(producer, reports, REPORTS_MAX, timeout_ms);
  ptrdiff_t i;
  for (i = 0; i < n; i++) {
    const quorate_delivery_t *report = &reports[i];
    size_t number = (size_t)(uintptr_t)report->user_data - 1; /* NULL would mean: no report */
    if (number >= tally->count || tally->heard[number]++ != 0) {
      tally->wrong++;
    } else if (report->status == QUORATE_OK) {
      tally->acked++;
      tally->duplicates += (report->flags & QUORATE_DUPLICATE) != 0;
    } else {
      tally->failed++;
      tally->unknown += report->outcome == QUORATE_OUTCOME_UNKNOWN;
      fprintf(stderr, "publish: message %zu: %s\n", number, quorate_strerror(report->status));
    }
  }
  return n > 0;
}

static void pace(uint64_t per_second) {
  struct timespec gap = {0, 0};
  if (per_second > 0) {
    gap.tv_nsec = (long)(1000000000 / per_second);
    gap.tv_sec = gap.tv_nsec / 1000000000;
    gap.tv_nsec %= 1000000000;
    nanosleep(&gap, NULL);
  }
}

static int publish(quorate_producer_t *producer, struct tally *tally, uint64_t per_second) {
  static const char origin[] = "publish.c";
  quorate_header_t header = {"origin", origin, sizeof origin - 1};
  size_t number;
  for (number = 0; number < tally->count; number++) {
    char text[32], key[16];
    quorate_message_t message = QUORATE_MESSAGE_INIT;
    quorate_status_t status;
    message.payload = text;
    message.payload_len = (size_t)snprintf(text, sizeof text, "%zu", number);
    message.key = key;
    message.key_len = (size_t)snprintf(key, sizeof key, "key-%zu", number % 10);
    message.headers = &header;
    message.headers_len = 1;
    /* With the buffers full this waits for room; the text may be reused when it returns. */
    status = quorate_producer_send(producer, &message, (void *)(uintptr_t)(number + 1), -1);
    if (status != QUORATE_OK) {
      return fail("send");
    }
    while (take_reports(producer, tally, 0)) {
    }
    pace(per_second);
  }
  return 0;
}

int main(int argc, char **argv) {
  quorate_client_t *client = NULL;
  quorate_producer_t *producer = NULL;
  quorate_close_report_t closed = {0, 0};
  struct tally tally;
  uint64_t per_second = argc > 3 ? strtoull(argv[3], NULL, 10) : 0;
  int status = 1;
  memset(&tally, 0, sizeof tally);
  if (argc < 2) {
    fprintf(stderr, "usage: %s TOPIC [COUNT [PER_SECOND]]\n", argv[0]);
    return 2;
  }
  tally.count = argc > 2 ? (size_t)strtoull(argv[2], NULL, 10) : 10;
  tally.heard = calloc(tally.count + 1, 1);
  if (tally.heard == NULL) {
    return 1;
  }
  if (quorate_abi_version() != QUORATE_ABI_VERSION) {
    fprintf(stderr, "publish: compiled for another libquorate than %s\n", quorate_version());
  } else if (quorate_connect(NULL, -1, &client) != QUORATE_OK) {
    fail("connect");
  } else if (quorate_producer_open(client, argv[1], NULL, &producer) != QUORATE_OK) {
    fail("open");
  } else {
    status = publish(producer, &tally, per_second);
    while (quorate_producer_in_flight(producer) > 0 && take_reports(producer, &tally, 60000)) {
    }
    while (take_reports(producer, &tally, 0)) {
    }
  }
  quorate_producer_close(producer, 5000, &closed);
  quorate_close(client, 5000, NULL);
  printf("count %zu acked %" PRIu64 " duplicates %" PRIu64 " failed %" PRIu64 " unknown %" PRIu64
         " wrong %" PRIu64 " abandoned %" PRIu64 "\n",
         tally.count, tally.acked, tally.duplicates, tally.failed, tally.unknown, tally.wrong,
         closed.abandoned);
  free(tally.heard);
  return status != 0 || tally.acked != tally.count || tally.wrong != 0;
}
