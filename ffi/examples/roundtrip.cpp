// Publishes some messages and reads them back, with the C++ classes of quorate.hpp.
//
//   roundtrip TOPIC [COUNT]

#include <iostream>
#include <string>

#include <quorate.hpp>

int main(int argc, char **argv) {
  if (argc < 2) {
    std::cerr << "usage: " << argv[0] << " TOPIC [COUNT]\n";
    return 2;
  }
  const int count = argc > 2 ? std::stoi(argv[2]) : 10;
  try {
    quorate::client client; // the current context, or the environment
    auto producer = client.producer(argv[1], {{"producer.linger_us", "100us"}});
    for (int number = 0; number < count; number++) {
      const auto text = "message " + std::to_string(number);
      producer.send(quorate::message(text).key("roundtrip").header("origin", "C++"));
    }
    producer.flush();

    auto consumer = client.subscribe(
        argv[1], {{"subscribe.from", "earliest"}, {"subscribe.until", "tail"}});
    int received = 0;
    for (auto batch = consumer.next(); !consumer.at_end(); batch = consumer.next()) {
      for (const auto record : batch) {
        received += record.key() == "roundtrip" && record.header("origin") == "C++";
      }
    }
    std::cout << "published " << count << ", found " << received << "\n";
    return received >= count ? 0 : 1;
  } catch (const quorate::error &error) {
    std::cerr << argv[0] << ": " << error.what() << "\n";
    return 1;
  }
}
