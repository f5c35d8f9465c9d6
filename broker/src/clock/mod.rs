//! Wall time, monotonic time and hybrid logical time.
