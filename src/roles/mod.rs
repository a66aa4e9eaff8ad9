//! Roles of the one binary that are not verbs: programs that containerd, a
//! container or the daemon starts (log writer, containerd launcher, hello server).
