/* Many threads on one producer, and closing under those that are inside. */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <sched.h>
#include <time.h>

#include "check.h"

enum { THREADS = 6, MESSAGES = 5000 };

static quorate_client_t *client;
static quorate_producer_t *producer;
static quorate_consumer_t *consumer;
static unsigned char heard[THREADS * MESSAGES + 1];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static size_t reported;

static void *sender(void *argument) {
  uintptr_t first = (uintptr_t)argument * MESSAGES, i;
  quorate_message_t message = text("a message of some length, to be copied");
  for (i = 1; i <= MESSAGES; i++) {
    OK(quorate_producer_send(producer, &message, (void *)(first + i), -1));
  }
  return NULL;
}

static void *poller(void *argument) {
  quorate_delivery_t reports[100];
  size_t all = 0;
  (void)argument;
  while (all < THREADS * MESSAGES) {
    ptrdiff_t i, n = quorate_producer_poll(producer, reports, 100, 20);
    CHECK(n > 0 || n == QUORATE_E_WAIT_TIMEOUT);
    pthread_mutex_lock(&lock);
    for (i = 0; i < n; i++) {
      CHECK(reports[i].status == QUORATE_OK);
      CHECK(heard[(uintptr_t)reports[i].user_data]++ == 0);
      reported++;
    }
    all = reported;
    pthread_mutex_unlock(&lock);
  }
  return NULL;
}

static void many_at_once(void) {
  pthread_t senders[THREADS], pollers[2];
  uintptr_t i;
  OK(quorate_producer_open(client, "orders", NULL, &producer));
  for (i = 0; i < THREADS; i++) {
    CHECK(pthread_create(&senders[i], NULL, sender, (void *)i) == 0);
  }
  for (i = 0; i < 2; i++) {
    CHECK(pthread_create(&pollers[i], NULL, poller, NULL) == 0);
  }
  for (i = 0; i < THREADS; i++) {
    pthread_join(senders[i], NULL);
  }
  for (i = 0; i < 2; i++) {
    pthread_join(pollers[i], NULL);
  }
  CHECK(reported == THREADS * MESSAGES && quorate_producer_in_flight(producer) == 0);
  OK(quorate_producer_close(producer, 1000, NULL));
}

static void *busy_sender(void *argument) {
  quorate_message_t message = text("until it is closed");
  quorate_status_t status;
  (void)argument;
  do {
    status = quorate_producer_send(producer, &message, NULL, -1);
  } while (status == QUORATE_OK);
  IS(status, QUORATE_E_CLOSED);
  return NULL;
}

static void *waiting_poller(void *argument) {
  quorate_delivery_t report;
  (void)argument;
  IS(quorate_producer_poll(producer, &report, 1, -1), QUORATE_E_CLOSED);
  return NULL;
}

static void *waiting_consumer(void *argument) {
  quorate_batch_t *batch;
  quorate_status_t status;
  (void)argument;
  while ((status = quorate_consumer_next(consumer, 100, -1, &batch)) == QUORATE_OK) {
    CHECK(quorate_batch_at(batch, 0) != NULL);
    (void)quorate_consumer_lag(consumer);
    quorate_batch_free(batch);
  }
  IS(status, QUORATE_E_CLOSED);
  return NULL;
}

static void *busy_publisher(void *argument) {
  quorate_message_t message = text("one by one");
  quorate_status_t status;
  (void)argument;
  do {
    status = quorate_publish(client, "orders", &message, 10000, NULL);
  } while (status == QUORATE_OK);
  IS(status, QUORATE_E_CLOSED);
  return NULL;
}

static void closing_under_them(void) {
  void *(*roles[5])(void *) = {busy_sender, busy_sender, waiting_poller, waiting_consumer,
                               busy_publisher};
  pthread_t threads[5];
  struct timespec moment = {0, 30000000};
  int i;
  OK(quorate_producer_open(client, "orders", NULL, &producer));
  OK(quorate_subscribe(client, "orders", NULL, &consumer));
  for (i = 0; i < 5; i++) {
    CHECK(pthread_create(&threads[i], NULL, roles[i], NULL) == 0);
  }
  while (quorate_producer_in_flight(producer) == 0) {
    sched_yield();
  }
  nanosleep(&moment, NULL);
  OK(quorate_producer_close(producer, 10000, NULL));
  OK(quorate_consumer_close(consumer, 10000));
  OK(quorate_close(client, 10000, NULL));
  for (i = 0; i < 5; i++) {
    pthread_join(threads[i], NULL);
  }
}

int main(void) {
  client = connected();
  many_at_once();
  closing_under_them();
  return 0;
}
