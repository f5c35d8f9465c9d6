/* Sending takes no memory per message but its place in the batch. */
#define _GNU_SOURCE
#include <errno.h>

#include "check.h"

enum { MESSAGES = 200000, BODY = 100 };

static __thread int counting;
static __thread size_t counted;

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

void *malloc(size_t size) {
  counted += (size_t)counting;
  return __libc_malloc(size);
}

void *calloc(size_t count, size_t size) {
  counted += (size_t)counting;
  return __libc_calloc(count, size);
}

void *realloc(void *old, size_t size) {
  counted += (size_t)counting;
  return __libc_realloc(old, size);
}

int posix_memalign(void **out, size_t alignment, size_t size) {
  counted += (size_t)counting;
  *out = __libc_memalign(alignment, size);
  return *out == NULL ? ENOMEM : 0;
}

void *aligned_alloc(size_t alignment, size_t size) {
  counted += (size_t)counting;
  return __libc_memalign(alignment, size);
}

int main(void) {
  static char body[BODY];
  quorate_client_t *client = connected();
  quorate_producer_t *producer;
  quorate_message_t message = QUORATE_MESSAGE_INIT;
  uintptr_t i;
  size_t refused = 0;
  message.payload = body;
  message.payload_len = sizeof body;
  OK(quorate_producer_open(client, "orders", NULL, &producer));
  for (i = 1; i <= MESSAGES; i++) {
    quorate_status_t status;
    counting = 1;
    status = quorate_producer_send(producer, &message, (void *)i, 0);
    counting = 0;
    if (status == QUORATE_E_WOULD_BLOCK) { /* telling so may allocate */
      refused++;
      OK(quorate_producer_send(producer, &message, (void *)i, -1));
    } else {
      OK(status);
    }
  }
  OK(quorate_producer_flush(producer, 60000));
  printf("%zu allocations for %d messages, %zu refused\n", counted, MESSAGES, refused);
  CHECK(counted - 8 * refused < MESSAGES / 20);
  OK(quorate_producer_close(producer, 1000, NULL));
  OK(quorate_close(client, 1000, NULL));
  return 0;
}
