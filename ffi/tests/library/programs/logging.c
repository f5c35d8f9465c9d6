/* Log lines: silent by default, to a function if asked, and never after it was replaced. */
#include "check.h"

struct lines {
  int count, replaced;
  int32_t worst;
};

static void line(int32_t level, const char *target, const char *text, void *ctx) {
  struct lines *lines = ctx;
  CHECK(!lines->replaced && level >= QUORATE_LOG_ERROR && level <= QUORATE_LOG_TRACE);
  CHECK(strlen(target) > 0 && text != NULL);
  IS(quorate_set_log(NULL, NULL, 0), QUORATE_E_WOULD_BLOCK);
  lines->count++;
  if (level > lines->worst) {
    lines->worst = level;
  }
}

int main(void) {
  static struct lines first, second;
  quorate_client_t *client;
  IS(quorate_set_log(line, &first, 0), QUORATE_E_INVALID_ARGUMENT);
  IS(quorate_set_log(line, &first, 6), QUORATE_E_INVALID_ARGUMENT);
  OK(quorate_set_log(line, &first, QUORATE_LOG_TRACE));
  client = connected();
  OK(quorate_close(client, 1000, NULL));
  CHECK(first.count > 0 && first.worst == QUORATE_LOG_TRACE);
  OK(quorate_set_log(line, &second, QUORATE_LOG_ERROR));
  first.replaced = 1;
  client = connected();
  OK(quorate_close(client, 1000, NULL));
  CHECK(second.worst <= QUORATE_LOG_ERROR);
  OK(quorate_set_log(NULL, NULL, 0));
  second.replaced = 1;
  client = connected();
  OK(quorate_close(client, 1000, NULL));
  return 0;
}
