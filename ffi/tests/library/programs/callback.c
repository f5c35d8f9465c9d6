/* Reports by callback: one thread, once each, none after close; and what may be called inside. */
#include <pthread.h>

#include "check.h"

enum { MESSAGES = 2000 };

struct context {
  quorate_client_t *client;
  quorate_producer_t *producer;
  pthread_t main_thread, library_thread;
  int started, calls, closed;
  int heard[MESSAGES + 1];
  int extra; /* sent inside the callback */
};

static void told(const quorate_delivery_t *reports, size_t n, void *ctx) {
  struct context *context = ctx;
  quorate_message_t message = text("from the callback");
  quorate_batch_t *batch;
  size_t i;
  CHECK(!context->closed && n > 0);
  CHECK(!pthread_equal(pthread_self(), context->main_thread));
  CHECK(context->calls == 0 || pthread_equal(pthread_self(), context->library_thread));
  context->library_thread = pthread_self();
  context->calls++;
  for (i = 0; i < n; i++) {
    CHECK(reports[i].status == QUORATE_OK);
    context->heard[(size_t)(uintptr_t)reports[i].user_data]++;
  }
  if (context->calls > 1) {
    return;
  }
  OK(quorate_producer_send(context->producer, &message, (void *)(uintptr_t)MESSAGES, 0));
  CHECK(quorate_producer_in_flight(context->producer) > 0);
  /* what waits is refused, and leaves everything as it was */
  IS(quorate_producer_flush(context->producer, -1), QUORATE_E_WOULD_BLOCK);
  IS(quorate_producer_close(context->producer, -1, NULL), QUORATE_E_WOULD_BLOCK);
  IS(quorate_close(context->client, -1, NULL), QUORATE_E_WOULD_BLOCK);
  IS(quorate_publish(context->client, "orders", &message, 1000, NULL), QUORATE_E_WOULD_BLOCK);
  IS(quorate_read(context->client, "orders", NULL, 1000, &batch, NULL), QUORATE_E_WOULD_BLOCK);
}

int main(void) {
  static struct context context;
  quorate_message_t message = text("x");
  quorate_close_report_t closed;
  uintptr_t i;
  context.main_thread = pthread_self();
  context.client = connected();
  OK(quorate_producer_open(context.client, "orders", NULL, &context.producer));
  IS(quorate_producer_set_callback(context.producer, NULL, NULL), QUORATE_E_INVALID_ARGUMENT);
  OK(quorate_producer_set_callback(context.producer, told, &context));
  IS(quorate_producer_set_callback(context.producer, told, &context),
     QUORATE_E_PRECONDITION_FAILED);
  for (i = 1; i < MESSAGES; i++) {
    OK(quorate_producer_send(context.producer, &message, (void *)i, -1));
  }
  OK(quorate_producer_flush(context.producer, -1));
  CHECK(context.calls > 0); /* told before flush has returned */
  OK(quorate_producer_close(context.producer, -1, &closed));
  context.closed = 1;
  CHECK(closed.abandoned == 0);
  for (i = 1; i <= MESSAGES; i++) {
    CHECK(context.heard[i] == 1);
  }
  OK(quorate_close(context.client, 1000, NULL));
  return 0;
}
