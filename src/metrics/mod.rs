//! Counters and histograms that the proxy keeps of itself.
//!
//! Owns: what is counted, as plain atomics, and its bounds. Does not own: who counts, or how it is published.
