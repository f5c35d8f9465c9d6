/*
 * What sending costs the thread that sends: CPU time per message, and how many were acknowledged in
 * a second.
 *
 *   cost TOPIC [COUNT [BYTES]]
 */
#define _POSIX_C_SOURCE 199309L
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <quorate.h>

static double now(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static int fail(const char *what) {
  fprintf(stderr, "cost: %s: %s\n", what, quorate_last_error());
  return 1;
}

static int measure(quorate_producer_t *producer, uint64_t count, size_t bytes) {
  quorate_message_t message = QUORATE_MESSAGE_INIT;
  double began = now(CLOCK_MONOTONIC), spent = now(CLOCK_THREAD_CPUTIME_ID), took;
  uint64_t i;
  message.payload = calloc(1, bytes + 1);
  message.payload_len = bytes;
  if (message.payload == NULL) {
    return 1;
  }
  for (i = 0; i < count; i++) {
    if (quorate_producer_send(producer, &message, NULL, -1) != QUORATE_OK) {
      return fail("send");
    }
  }
  spent = now(CLOCK_THREAD_CPUTIME_ID) - spent;
  if (quorate_producer_flush(producer, -1) != QUORATE_OK) {
    return fail("flush");
  }
  took = now(CLOCK_MONOTONIC) - began;
  printf("%" PRIu64 " messages of %zu bytes: %.0f ns of CPU per send, %.0f acknowledged per second\n",
         count, bytes, spent * 1e9 / (double)count, (double)count / took);
  free((void *)(uintptr_t)message.payload);
  return 0;
}

int main(int argc, char **argv) {
  quorate_client_t *client = NULL;
  quorate_producer_t *producer = NULL;
  int status = 1;
  if (argc < 2) {
    fprintf(stderr, "usage: %s TOPIC [COUNT [BYTES]]\n", argv[0]);
    return 2;
  }
  if (quorate_connect(NULL, -1, &client) != QUORATE_OK) {
    fail("connect");
  } else if (quorate_producer_open(client, argv[1], NULL, &producer) != QUORATE_OK) {
    fail("open");
  } else {
    status = measure(producer, argc > 2 ? strtoull(argv[2], NULL, 10) : 1000000,
                     argc > 3 ? (size_t)strtoull(argv[3], NULL, 10) : 100);
  }
  quorate_producer_close(producer, 1000, NULL);
  quorate_close(client, 1000, NULL);
  return status;
}
