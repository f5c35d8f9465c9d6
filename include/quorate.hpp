// quorate.hpp: quorate.h for C++17 and later; header-only.
//
// Each class owns one handle, can be moved and not copied, and closes its handle at its end. A
// failed call throws quorate::error, but for what a program asks for and may not get: `try_send`,
// `poll` and `next` say so in their result.

#ifndef QUORATE_HPP
#define QUORATE_HPP

#include <chrono>
#include <cstdint>
#include <exception>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <quorate.h>

namespace quorate {

using milliseconds = std::chrono::milliseconds;

// Waits as long as it takes.
inline constexpr milliseconds for_ever{-1};

// A failed call.
class error : public std::exception {
 public:
  explicit error(quorate_status_t status)
      : status_(status),
        outcome_(quorate_last_error_outcome()),
        text_(quorate_last_error()) {}

  const char *what() const noexcept override { return text_.c_str(); }
  // QUORATE_E_...
  quorate_status_t status() const noexcept { return status_; }
  bool retryable() const noexcept { return quorate_status_retryable(status_) != 0; }
  // QUORATE_OUTCOME_...: whether what was asked for took effect.
  std::uint8_t outcome() const noexcept { return outcome_; }

 private:
  quorate_status_t status_;
  std::uint8_t outcome_;
  std::string text_;
};

namespace detail {

inline void check(quorate_status_t status) {
  if (status < 0) throw error(status);
}

inline std::int32_t count(milliseconds timeout) {
  constexpr auto most = milliseconds(0x7fffffff);
  if (timeout < milliseconds(0)) return -1;
  return static_cast<std::int32_t>((timeout < most ? timeout : most).count());
}

inline bool nothing_yet(quorate_status_t status) {
  return status == QUORATE_E_WOULD_BLOCK || status == QUORATE_E_WAIT_TIMEOUT;
}

struct close_client {
  void operator()(quorate_client_t *handle) const noexcept { quorate_close(handle, 5000, nullptr); }
};
struct close_producer {
  void operator()(quorate_producer_t *handle) const noexcept {
    quorate_producer_close(handle, 5000, nullptr);
  }
};
struct close_consumer {
  void operator()(quorate_consumer_t *handle) const noexcept { quorate_consumer_close(handle, 0); }
};
struct free_batch {
  void operator()(quorate_batch_t *handle) const noexcept { quorate_batch_free(handle); }
};
struct free_config {
  void operator()(quorate_config_t *handle) const noexcept { quorate_config_free(handle); }
};
struct free_string {
  void operator()(char *text) const noexcept { quorate_string_free(text); }
};

inline std::string taken(char *text) {
  std::unique_ptr<char, free_string> owned(text);
  return text == nullptr ? std::string() : std::string(text);
}

}  // namespace detail

// Options: `section.key` and text.
class config {
 public:
  config() : handle_(quorate_config_new()) {
    if (!handle_) throw error(QUORATE_E_OVERLOADED);
  }
  config(std::initializer_list<std::pair<const char *, const char *>> options) : config() {
    for (const auto &[key, value] : options) set(key, value);
  }

  config &set(const char *key, const char *value) {
    detail::check(quorate_config_set(handle_.get(), key, value));
    return *this;
  }
  config &set(const std::string &key, const std::string &value) {
    return set(key.c_str(), value.c_str());
  }
  // Takes a context and the environment; the current context without a name.
  config &load(const char *context = nullptr) {
    detail::check(quorate_config_load(handle_.get(), context));
    return *this;
  }

  const quorate_config_t *get() const noexcept { return handle_.get(); }

 private:
  std::unique_ptr<quorate_config_t, detail::free_config> handle_;
};

// A message under construction. It borrows everything: the parts must live until it was sent.
class message {
 public:
  message() = default;
  explicit message(std::string_view payload) { this->payload(payload); }

  message &payload(std::string_view bytes) {
    raw_.payload = bytes.data() == nullptr ? "" : bytes.data();
    raw_.payload_len = bytes.size();
    return *this;
  }
  message &key(std::string_view bytes) {
    raw_.key = bytes.data() == nullptr ? "" : bytes.data();
    raw_.key_len = bytes.size();
    return *this;
  }
  message &header(const char *name, std::string_view value) {
    headers_.push_back({name, value.data(), value.size()});
    return *this;
  }
  message &id(const std::uint8_t (&bytes)[16]) {
    raw_.id = bytes;
    return *this;
  }
  message &partition(std::uint32_t number) {
    raw_.partition = number;
    raw_.flags |= QUORATE_MSG_HAS_PARTITION;
    return *this;
  }
  message &timestamp_us(std::int64_t micros) {
    raw_.timestamp_us = micros;
    return *this;
  }

  // As the C functions take it, until this message is changed.
  quorate_message_t get() const noexcept {
    quorate_message_t raw = raw_;
    raw.headers = headers_.empty() ? nullptr : headers_.data();
    raw.headers_len = static_cast<std::uint32_t>(headers_.size());
    return raw;
  }

 private:
  quorate_message_t raw_ = QUORATE_MESSAGE_INIT;
  std::vector<quorate_header_t> headers_;
};

// A record of a batch; valid as long as the batch.
class record {
 public:
  explicit record(const quorate_record_t *raw) : raw_(raw) {}

  std::string_view topic() const { return raw_->topic; }
  std::string_view broker() const { return raw_->broker; }
  // Empty for none as well; see `get()->payload`.
  std::string_view payload() const { return text(raw_->payload, raw_->payload_len); }
  std::optional<std::string_view> key() const {
    if (raw_->key == nullptr) return std::nullopt;
    return text(raw_->key, raw_->key_len);
  }
  std::optional<std::string_view> header(std::string_view name) const {
    for (std::size_t i = 0; i < raw_->headers_len; i++) {
      const quorate_header_t &header = raw_->headers[i];
      if (name == header.name) return text(header.value, header.value_len);
    }
    return std::nullopt;
  }
  std::uint64_t offset() const { return raw_->offset; }
  std::uint32_t partition() const { return raw_->partition; }
  const quorate_record_t *get() const noexcept { return raw_; }

 private:
  static std::string_view text(const void *bytes, std::size_t length) {
    return bytes == nullptr ? std::string_view()
                            : std::string_view(static_cast<const char *>(bytes), length);
  }

  const quorate_record_t *raw_;
};

// Some records.
class batch {
 public:
  class iterator {
   public:
    iterator(const batch *owner, std::size_t at) : owner_(owner), at_(at) {}
    record operator*() const { return (*owner_)[at_]; }
    iterator &operator++() {
      ++at_;
      return *this;
    }
    bool operator!=(const iterator &other) const { return at_ != other.at_; }

   private:
    const batch *owner_;
    std::size_t at_;
  };

  batch() = default;
  explicit batch(quorate_batch_t *handle) : handle_(handle) {}

  std::size_t size() const noexcept { return quorate_batch_len(handle_.get()); }
  bool empty() const noexcept { return size() == 0; }
  record operator[](std::size_t index) const {
    const quorate_record_t *raw = quorate_batch_at(handle_.get(), index);
    if (raw == nullptr) throw error(QUORATE_E_INVALID_ARGUMENT);
    return record(raw);
  }
  iterator begin() const { return {this, 0}; }
  iterator end() const { return {this, handle_ ? size() : 0}; }

 private:
  std::unique_ptr<quorate_batch_t, detail::free_batch> handle_;
};

// Publishes to one topic, in order. Thread-safe.
class producer {
 public:
  explicit producer(quorate_producer_t *handle) : handle_(handle) {}

  // Waits for room in the buffers only.
  void send(const message &message, void *user_data = nullptr, milliseconds timeout = for_ever) {
    const quorate_message_t raw = message.get();
    detail::check(quorate_producer_send(handle_.get(), &raw, user_data, detail::count(timeout)));
  }
  // False: there is no room now.
  bool try_send(const message &message, void *user_data = nullptr) {
    const quorate_message_t raw = message.get();
    const auto status = quorate_producer_send(handle_.get(), &raw, user_data, 0);
    if (detail::nothing_yet(status)) return false;
    detail::check(status);
    return true;
  }
  // How messages with user data ended; none within the time: an empty list.
  std::vector<quorate_delivery_t> poll(std::size_t most = 256, milliseconds timeout = {}) {
    std::vector<quorate_delivery_t> reports(most);
    const auto n =
        quorate_producer_poll(handle_.get(), reports.data(), most, detail::count(timeout));
    if (n < 0 && !detail::nothing_yet(static_cast<quorate_status_t>(n))) {
      throw error(static_cast<quorate_status_t>(n));
    }
    reports.resize(n < 0 ? 0 : static_cast<std::size_t>(n));
    return reports;
  }
  void flush(milliseconds timeout = for_ever) {
    detail::check(quorate_producer_flush(handle_.get(), detail::count(timeout)));
  }
  quorate_close_report_t close(milliseconds timeout) {
    quorate_close_report_t report{0, 0};
    detail::check(quorate_producer_close(handle_.release(), detail::count(timeout), &report));
    return report;
  }
  std::uint64_t in_flight() const noexcept { return quorate_producer_in_flight(handle_.get()); }
  int event_fd() const { return quorate_producer_event_fd(handle_.get()); }
  quorate_producer_t *get() const noexcept { return handle_.get(); }

 private:
  std::unique_ptr<quorate_producer_t, detail::close_producer> handle_;
};

// Follows one topic. Thread-safe.
class consumer {
 public:
  explicit consumer(quorate_consumer_t *handle) : handle_(handle) {}

  // An empty batch: none within the time, or the end; see `at_end`. Missing records are thrown as
  // QUORATE_E_GAP; the next call goes on behind them.
  batch next(std::size_t most = 1000, milliseconds timeout = for_ever) {
    quorate_batch_t *raw = nullptr;
    const auto status =
        quorate_consumer_next(handle_.get(), most, detail::count(timeout), &raw);
    at_end_ = status == QUORATE_END;
    if (detail::nothing_yet(status)) return batch();
    detail::check(status);
    return batch(raw);
  }
  // Whether the last call of `next` found the end that was asked for.
  bool at_end() const noexcept { return at_end_; }
  void seek(const char *start) { detail::check(quorate_consumer_seek(handle_.get(), start)); }
  std::uint64_t lag() const noexcept { return quorate_consumer_lag(handle_.get()); }
  int event_fd() const { return quorate_consumer_event_fd(handle_.get()); }
  quorate_consumer_t *get() const noexcept { return handle_.get(); }

 private:
  std::unique_ptr<quorate_consumer_t, detail::close_consumer> handle_;
  bool at_end_ = false;
};

// A connection with a cluster. Thread-safe; ends after the producers and consumers declared behind
// it.
class client {
 public:
  // With the current context and the environment.
  explicit client(milliseconds timeout = for_ever) : client(nullptr, timeout) {}
  explicit client(const config &options, milliseconds timeout = for_ever)
      : client(options.get(), timeout) {}

  quorate_delivery_t publish(const char *topic, const message &message,
                             milliseconds timeout = for_ever) {
    const quorate_message_t raw = message.get();
    quorate_delivery_t receipt{};
    detail::check(
        quorate_publish(handle_.get(), topic, &raw, detail::count(timeout), &receipt));
    return receipt;
  }
  quorate::producer producer(const char *topic) { return open_producer(topic, nullptr); }
  quorate::producer producer(const char *topic, const config &options) {
    return open_producer(topic, options.get());
  }
  quorate::consumer subscribe(const char *topic) { return open_consumer(topic, nullptr); }
  quorate::consumer subscribe(const char *topic, const config &options) {
    return open_consumer(topic, options.get());
  }
  void create_topic(const char *topic, milliseconds timeout = for_ever) {
    detail::check(quorate_topic_create(handle_.get(), topic, nullptr, detail::count(timeout)));
  }
  void create_topic(const char *topic, const config &options, milliseconds timeout = for_ever) {
    detail::check(
        quorate_topic_create(handle_.get(), topic, options.get(), detail::count(timeout)));
  }
  void delete_topic(const char *topic, milliseconds timeout = for_ever) {
    detail::check(quorate_topic_delete(handle_.get(), topic, detail::count(timeout)));
  }
  // JSON, as the `quorate` command prints it.
  std::string topics(milliseconds timeout = for_ever) {
    char *json = nullptr;
    detail::check(quorate_topic_list(handle_.get(), detail::count(timeout), &json));
    return detail::taken(json);
  }
  std::string topic(const char *name, milliseconds timeout = for_ever) {
    char *json = nullptr;
    detail::check(quorate_topic_describe(handle_.get(), name, detail::count(timeout), &json));
    return detail::taken(json);
  }
  quorate_client_t *get() const noexcept { return handle_.get(); }

 private:
  client(const quorate_config_t *options, milliseconds timeout) {
    quorate_client_t *raw = nullptr;
    detail::check(quorate_connect(options, detail::count(timeout), &raw));
    handle_.reset(raw);
  }
  quorate::producer open_producer(const char *topic, const quorate_config_t *options) {
    quorate_producer_t *raw = nullptr;
    detail::check(quorate_producer_open(handle_.get(), topic, options, &raw));
    return quorate::producer(raw);
  }
  quorate::consumer open_consumer(const char *topic, const quorate_config_t *options) {
    quorate_consumer_t *raw = nullptr;
    detail::check(quorate_subscribe(handle_.get(), topic, options, &raw));
    return quorate::consumer(raw);
  }

  std::unique_ptr<quorate_client_t, detail::close_client> handle_;
};

}  // namespace quorate

#endif
