/*
 * One thread, one loop: publishes the lines of its standard input and prints what comes back, both
 * receipts and records. Ends when all that was sent has come back.
 *
 *   epoll TOPIC < FILE
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <quorate.h>

enum { LINE_BYTES = 4096, AT_ONCE = 64 };

struct loop {
  quorate_producer_t *producer;
  quorate_consumer_t *consumer;
  int epoll;
  int reading;     /* standard input is open */
  int blocked;     /* a line waits for room in the producer's buffers */
  char line[LINE_BYTES];
  size_t kept;
  uint64_t sent, acked, received;
};

static int fail(const char *what) {
  fprintf(stderr, "epoll: %s: %s\n", what, quorate_last_error());
  return 1;
}

static int watch(struct loop *loop, int fd) {
  struct epoll_event event;
  memset(&event, 0, sizeof event);
  event.events = EPOLLIN;
  event.data.fd = fd;
  return epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &event);
}

/* Sends the complete lines that are there; stops without an error while the buffers are full. */
static int send_lines(struct loop *loop) {
  char *end;
  while ((end = memchr(loop->line, '\n', loop->kept)) != NULL) {
    quorate_message_t message = QUORATE_MESSAGE_INIT;
    quorate_status_t status;
    message.payload = loop->line;
    message.payload_len = (size_t)(end - loop->line);
    status = quorate_producer_send(loop->producer, &message, loop, 0);
    loop->blocked = status == QUORATE_E_WOULD_BLOCK;
    if (loop->blocked) {
      return 0; /* room comes back with receipts */
    }
    if (status != QUORATE_OK) {
      return fail("send");
    }
    loop->sent++;
    loop->kept -= message.payload_len + 1;
    memmove(loop->line, end + 1, loop->kept);
  }
  return 0;
}

static int read_input(struct loop *loop) {
  ssize_t got = read(STDIN_FILENO, loop->line + loop->kept, sizeof loop->line - loop->kept);
  if (got <= 0) {
    loop->reading = 0;
    return 0;
  }
  loop->kept += (size_t)got;
  return send_lines(loop);
}

static int take_reports(struct loop *loop) {
  quorate_delivery_t reports[AT_ONCE];
  ptrdiff_t i, n;
  while ((n = quorate_producer_poll(loop->producer, reports, AT_ONCE, 0)) > 0) {
    for (i = 0; i < n; i++) {
      if (reports[i].status != QUORATE_OK) {
        fprintf(stderr, "epoll: %s\n", quorate_strerror(reports[i].status));
        return 1;
      }
      printf("acked %" PRIu64 "\n", reports[i].offset);
      loop->acked++;
    }
  }
  return n == QUORATE_E_WOULD_BLOCK ? send_lines(loop) : fail("poll");
}

static int take_records(struct loop *loop) {
  quorate_batch_t *batch;
  quorate_status_t status;
  while ((status = quorate_consumer_next(loop->consumer, AT_ONCE, 0, &batch)) == QUORATE_OK) {
    size_t i, n = quorate_batch_len(batch);
    for (i = 0; i < n; i++) {
      const quorate_record_t *record = quorate_batch_at(batch, i);
      printf("received %.*s\n", (int)record->payload_len, (const char *)record->payload);
    }
    loop->received += n;
    quorate_batch_free(batch);
  }
  return status == QUORATE_E_WOULD_BLOCK ? 0 : fail("next");
}

static int run(struct loop *loop) {
  int reports = quorate_producer_event_fd(loop->producer);
  int records = quorate_consumer_event_fd(loop->consumer);
  loop->epoll = epoll_create1(EPOLL_CLOEXEC);
  loop->reading = 1;
  if (loop->epoll < 0 || watch(loop, reports) != 0 || watch(loop, records) != 0) {
    perror("epoll");
    return 1;
  }
  while (loop->reading || loop->acked < loop->sent || loop->received < loop->sent) {
    struct epoll_event events[4];
    int i, n, status = 0;
    if (loop->reading && !loop->blocked) {
      status = read_input(loop); /* a pipe would be watched too; a file is always ready */
    }
    n = epoll_wait(loop->epoll, events, 4, loop->reading && !loop->blocked ? 0 : 30000);
    if (n == 0 && !loop->reading) {
      fprintf(stderr, "epoll: nothing for 30 s\n");
      status = 1;
    }
    for (i = 0; i < n && status == 0; i++) {
      status = events[i].data.fd == reports ? take_reports(loop) : take_records(loop);
    }
    if (status != 0) {
      return status;
    }
  }
  return 0;
}

int main(int argc, char **argv) {
  quorate_client_t *client = NULL;
  struct loop loop;
  int status = 1;
  memset(&loop, 0, sizeof loop);
  loop.epoll = -1;
  if (argc != 2) {
    fprintf(stderr, "usage: %s TOPIC < FILE\n", argv[0]);
    return 2;
  }
  if (quorate_connect(NULL, -1, &client) != QUORATE_OK) {
    fail("connect");
  } else if (quorate_producer_open(client, argv[1], NULL, &loop.producer) != QUORATE_OK ||
             quorate_subscribe(client, argv[1], NULL, &loop.consumer) != QUORATE_OK) {
    fail("open");
  } else {
    status = run(&loop);
  }
  if (loop.epoll >= 0) {
    close(loop.epoll);
  }
  quorate_consumer_close(loop.consumer, 0);
  quorate_producer_close(loop.producer, 1000, NULL);
  quorate_close(client, 1000, NULL);
  fprintf(stderr, "sent %" PRIu64 " acked %" PRIu64 " received %" PRIu64 "\n", loop.sent, loop.acked,
          loop.received);
  return status;
}
