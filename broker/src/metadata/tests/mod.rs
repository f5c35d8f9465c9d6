//! One broker's metadata and partitions together, from the first start to the restart after a kill.

mod life;
mod model;
mod plan;
mod world;
