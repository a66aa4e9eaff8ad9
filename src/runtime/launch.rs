//! Finds a containerd or brings one up.
