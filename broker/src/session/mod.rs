//! One client connection: hello, produce, subscribe, read, admin, credits.
