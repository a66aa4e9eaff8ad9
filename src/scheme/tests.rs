//! round trips
