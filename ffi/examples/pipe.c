/*
 * Publishes each line of its standard input, as fast as the cluster takes them.
 *
 *   pipe TOPIC < FILE
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <quorate.h>

enum { BUFFER_BYTES = 1 << 20 };

static char buffer[BUFFER_BYTES];

static int fail(const char *what) {
  fprintf(stderr, "pipe: %s: %s\n", what, quorate_last_error());
  return 1;
}

/* Sends one line; it is copied, and nothing else is allocated or awaited unless buffers are full. */
static int send_line(quorate_producer_t *producer, const char *line, size_t length) {
  quorate_message_t message = QUORATE_MESSAGE_INIT;
  message.payload = line;
  message.payload_len = length;
  /* No user data: failures are told by flush. */
  return quorate_producer_send(producer, &message, NULL, -1) == QUORATE_OK ? 0 : fail("send");
}

static int send_lines(quorate_producer_t *producer, uint64_t *lines) {
  size_t kept = 0; /* bytes of a line that is not complete */
  for (;;) {
    ssize_t got = read(STDIN_FILENO, buffer + kept, sizeof buffer - kept);
    const char *line = buffer, *end;
    if (got < 0) {
      perror("pipe: read");
      return 1;
    }
    if (got == 0) {
      break;
    }
    kept += (size_t)got;
    while ((end = memchr(line, '\n', kept)) != NULL) {
      size_t length = (size_t)(end - line);
      if (send_line(producer, line, length) != 0) {
        return 1;
      }
      ++*lines;
      kept -= length + 1;
      line = end + 1;
    }
    if (kept == sizeof buffer) {
      fprintf(stderr, "pipe: a line is longer than %d bytes\n", BUFFER_BYTES);
      return 1;
    }
    memmove(buffer, line, kept);
  }
  if (kept > 0) {
    ++*lines;
    return send_line(producer, buffer, kept);
  }
  return 0;
}

int main(int argc, char **argv) {
  quorate_client_t *client = NULL;
  quorate_producer_t *producer = NULL;
  quorate_close_report_t closed = {0, 0};
  uint64_t lines = 0;
  int status = 1;
  if (argc != 2) {
    fprintf(stderr, "usage: %s TOPIC < FILE\n", argv[0]);
    return 2;
  }
  if (quorate_connect(NULL, -1, &client) != QUORATE_OK) {
    fail("connect");
  } else if (quorate_producer_open(client, argv[1], NULL, &producer) != QUORATE_OK) {
    fail("open");
  } else {
    status = send_lines(producer, &lines);
    if (quorate_producer_flush(producer, -1) != QUORATE_OK) {
      status = fail("not all lines were acknowledged");
    }
  }
  quorate_producer_close(producer, 0, &closed);
  quorate_close(client, 1000, NULL);
  fprintf(stderr, "%" PRIu64 " lines%s\n", lines, status == 0 ? ", all acknowledged" : "");
  return status != 0;
}
