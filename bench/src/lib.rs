//! Open-loop load generator for Quorate, with HDR histograms.

#![forbid(unsafe_code)]
