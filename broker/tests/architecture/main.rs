//! The walls of the house, as tests: floors, confinement, sizes, docs, dependencies.

mod dependencies;
mod floors;
mod libraries;
mod map;
mod sizes;
mod source;
