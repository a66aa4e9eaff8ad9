//! Keeps the resident memory of a daemon that has nothing to do small.

use std::time::Duration;

use crate::sys::program::{map_sparsely, unmap};

/// Pause between two looks at what is not needed: short beside the half minute
/// between two resyncs, each of which uses most of the program for a moment.
const PAUSE: Duration = Duration::from_secs(5);
/// Pause in the first five seconds: what starting takes is over soon.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const FIRST_LOOKS: usize = 20;
/// Looks at the program for each look at the heap, which takes its locks.
const HEAP_EVERY: u32 = 6;
/// Bytes above which memory is asked of the kernel, and goes back to it, by
/// itself. Left alone, glibc raises the bound to the largest block that was freed.
#[cfg(target_env = "gnu")]
const LARGE: i32 = 1 << 20;

/// Bounds what the heap and the program's code may take from now on. Called
/// before threads are made.
pub fn begin_small() {
    bound_arenas();
    map_sparsely();
}

/// Bounds the arenas: glibc makes up to eight per core, which an idle daemon
/// with many short-lived threads never gives back (mallopt(3)). Large blocks go
/// back at once: a hash of a password takes seven MiB.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code)] // mallopt has no safe wrapper.
fn bound_arenas() {
    // SAFETY: mallopt takes plain integers and is called while there is one
    // thread; a value it does not know is ignored.
    unsafe {
        nix::libc::mallopt(nix::libc::M_ARENA_MAX, 2);
        nix::libc::mallopt(nix::libc::M_MMAP_THRESHOLD, LARGE);
    }
}

/// Other allocators have no such knob.
#[cfg(not(target_env = "gnu"))]
fn bound_arenas() {}

/// Gives back, from time to time, what work that is over has left: free memory
/// inside the heap, and the parts of the program that only it needed. Ends with
/// the task.
pub async fn keep_small() {
    for _ in 0..FIRST_LOOKS {
        unmap();
        tokio::time::sleep(FIRST_PAUSE).await;
    }
    for turn in (0..HEAP_EVERY).cycle() {
        tokio::time::sleep(PAUSE).await;
        if turn == 0 {
            trim_heap();
        }
        unmap();
    }
}

#[cfg(target_env = "gnu")]
#[allow(unsafe_code)] // malloc_trim has no safe wrapper.
fn trim_heap() {
    // SAFETY: malloc_trim(3) is thread-safe and frees nothing that is in use.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}

#[cfg(not(target_env = "gnu"))]
fn trim_heap() {}
