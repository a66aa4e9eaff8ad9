//! The authoritative YAML tree below the run path: atomic, durable writes,
//! per-object cross-process locks, every path opened beneath the root.
