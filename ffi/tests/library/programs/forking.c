/* In a forked child every call says so at once, and the parent does not notice. */
#define _POSIX_C_SOURCE 200809L
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

static void child(quorate_client_t *client, quorate_producer_t *producer,
                  quorate_consumer_t *consumer, quorate_batch_t *batch) {
  quorate_message_t message = text("from the child");
  quorate_client_t *other;
  quorate_batch_t *more;
  quorate_delivery_t report;
  char *json;
  alarm(20); /* at once, so not after this */
  IS(quorate_producer_send(producer, &message, NULL, -1), QUORATE_E_FORKED);
  CHECK(strstr(quorate_last_error(), "QRT-0807") != NULL);
  IS(quorate_producer_poll(producer, &report, 1, -1), QUORATE_E_FORKED);
  IS(quorate_producer_flush(producer, -1), QUORATE_E_FORKED);
  IS(quorate_consumer_next(consumer, 1, -1, &more), QUORATE_E_FORKED);
  IS(quorate_publish(client, "orders", &message, -1, NULL), QUORATE_E_FORKED);
  IS(quorate_topic_list(client, -1, &json), QUORATE_E_FORKED);
  IS(quorate_connect(NULL, -1, &other), QUORATE_E_FORKED);
  CHECK(quorate_batch_len(batch) == 0 && quorate_config_new() == NULL);
  CHECK(quorate_producer_in_flight(producer) == 0);
  quorate_batch_free(batch);
  IS(quorate_consumer_close(consumer, -1), QUORATE_E_FORKED);
  IS(quorate_producer_close(producer, -1, NULL), QUORATE_E_FORKED);
  IS(quorate_close(client, -1, NULL), QUORATE_E_FORKED);
  CHECK(strlen(quorate_version()) > 0 && strlen(quorate_strerror(QUORATE_E_FORKED)) > 0);
  _exit(0);
}

int main(void) {
  quorate_client_t *client = connected();
  quorate_producer_t *producer;
  quorate_consumer_t *consumer;
  quorate_batch_t *batch;
  quorate_message_t message = text("before");
  pid_t pid;
  int status, i;
  OK(quorate_producer_open(client, "orders", NULL, &producer));
  OK(quorate_subscribe(client, "orders", NULL, &consumer));
  OK(quorate_producer_send(producer, &message, NULL, -1));
  OK(quorate_consumer_next(consumer, 1, 10000, &batch));
  for (i = 0; i < 3; i++) {
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
      child(client, producer, consumer, batch);
    }
    OK(quorate_producer_send(producer, &message, NULL, -1));
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
  CHECK(same(quorate_batch_at(batch, 0)->payload, quorate_batch_at(batch, 0)->payload_len,
             "before"));
  quorate_batch_free(batch);
  OK(quorate_producer_flush(producer, 10000));
  OK(quorate_consumer_close(consumer, 0));
  OK(quorate_producer_close(producer, 1000, NULL));
  OK(quorate_close(client, 1000, NULL));
  return 0;
}
