//! Keeps the allocator small: glibc makes up to eight arenas per core, which an
//! idle daemon with many short-lived threads never gives back (mallopt(3)).

/// Bounds the arenas. Called before threads are made.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code)] // mallopt has no safe wrapper.
pub fn bound_arenas() {
    // SAFETY: mallopt takes plain integers and is called while there is one
    // thread; a value it does not know is ignored.
    unsafe {
        nix::libc::mallopt(nix::libc::M_ARENA_MAX, 2);
    }
}

/// Other allocators have no such knob.
#[cfg(not(target_env = "gnu"))]
pub fn bound_arenas() {}
