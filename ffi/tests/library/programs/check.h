/* What every test program needs. */
#ifndef CHECK_H
#define CHECK_H

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <quorate.h>

#define CHECK(condition)                                                                  \
  do {                                                                                    \
    if (!(condition)) {                                                                   \
      fprintf(stderr, "%s:%d: %s (last error: %s)\n", __FILE__, __LINE__, #condition,     \
              quorate_last_error());                                                      \
      fflush(NULL);                                                                       \
      _Exit(1);                                                                           \
    }                                                                                     \
  } while (0)

#define OK(call) CHECK((call) == QUORATE_OK)
#define IS(call, status) CHECK((call) == (status))

static inline quorate_client_t *connected(void) {
  quorate_client_t *client = NULL;
  OK(quorate_connect(NULL, -1, &client));
  CHECK(client != NULL);
  return client;
}

static inline quorate_message_t text(const char *payload) {
  quorate_message_t message = QUORATE_MESSAGE_INIT;
  message.payload = payload;
  message.payload_len = strlen(payload);
  return message;
}

static inline int same(const void *bytes, size_t length, const char *expected) {
  return bytes != NULL && length == strlen(expected) && memcmp(bytes, expected, length) == 0;
}

#endif
