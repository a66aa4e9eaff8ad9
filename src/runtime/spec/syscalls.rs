//! What the built-in seccomp profile allows, as data. A call that is in no list
//! fails with EPERM, one the kernel added after this was written with ENOSYS
//! (runc does that), so that programs fall back.
//!
//! Left out on purpose: loading code into the kernel, swapping, key rings
//! (shared between containers), `io_uring` and `userfaultfd` (a history of
//! kernel holes), module, quota and clock changes, and calls long gone from Linux.

use oci_spec::runtime::Capability;

/// Allowed for everybody.
#[rustfmt::skip] // one name a line would hide the groups
pub(super) const ALWAYS: &[&[&str]] = &[
    // Opening, reading, writing, seeking.
    &[
        "close", "close_range", "copy_file_range", "creat", "dup", "dup2", "dup3", "fadvise64",
        "fadvise64_64", "fallocate", "fcntl", "fcntl64", "fdatasync", "flock", "fsync",
        "ftruncate", "ftruncate64", "_llseek", "lseek", "open", "openat", "openat2", "pipe",
        "pipe2", "pread64", "preadv", "preadv2", "pwrite64", "pwritev", "pwritev2", "read",
        "readahead", "readv", "sendfile", "sendfile64", "splice", "sync", "sync_file_range",
        "sync_file_range2", "arm_sync_file_range", "syncfs", "tee", "truncate", "truncate64",
        "vmsplice", "write", "writev", "ioctl", "memfd_create", "memfd_secret", "cachestat",
    ],
    // Names, modes, times, attributes.
    &[
        "access", "faccessat", "faccessat2", "chdir", "fchdir", "chmod", "fchmod", "fchmodat",
        "fchmodat2", "chown", "chown32", "fchown", "fchown32", "fchownat", "lchown", "lchown32",
        "fstat", "fstat64", "fstatat64", "newfstatat", "lstat", "lstat64", "stat", "stat64",
        "statx", "oldfstat", "oldlstat", "oldstat", "fstatfs", "fstatfs64", "statfs", "statfs64",
        "futimesat", "utime", "utimensat", "utimensat_time64", "utimes", "getcwd", "getdents",
        "getdents64", "readdir", "link", "linkat", "mkdir", "mkdirat", "mknod", "mknodat",
        "name_to_handle_at", "readlink", "readlinkat", "rename", "renameat", "renameat2", "rmdir",
        "symlink", "symlinkat", "umask", "unlink", "unlinkat", "getxattr", "getxattrat",
        "fgetxattr", "lgetxattr", "listxattr", "listxattrat", "flistxattr", "llistxattr",
        "removexattr", "removexattrat", "fremovexattr", "lremovexattr", "setxattr", "setxattrat",
        "fsetxattr", "lsetxattr", "statmount", "listmount", "inotify_add_watch", "inotify_init",
        "inotify_init1", "inotify_rm_watch", "fanotify_mark", "landlock_create_ruleset",
        "landlock_add_rule", "landlock_restrict_self",
    ],
    // Waiting for many things at once.
    &[
        "epoll_create", "epoll_create1", "epoll_ctl", "epoll_ctl_old", "epoll_pwait",
        "epoll_pwait2", "epoll_wait", "epoll_wait_old", "eventfd", "eventfd2", "_newselect",
        "poll", "ppoll", "ppoll_time64", "pselect6", "pselect6_time64", "select", "signalfd",
        "signalfd4", "io_cancel", "io_destroy", "io_getevents", "io_pgetevents",
        "io_pgetevents_time64", "io_setup", "io_submit",
    ],
    // Memory.
    &[
        "brk", "madvise", "map_shadow_stack", "membarrier", "mincore", "mlock", "mlock2",
        "mlockall", "mmap", "mmap2", "mprotect", "mremap", "mseal", "msync", "munlock",
        "munlockall", "munmap", "pkey_alloc", "pkey_free", "pkey_mprotect", "process_mrelease",
        "remap_file_pages",
    ],
    // Processes and threads. `clone` and `personality` have rules of their own.
    &[
        "arch_prctl", "capget", "capset", "execve", "execveat", "exit", "exit_group", "fork",
        "vfork", "futex", "futex_requeue", "futex_time64", "futex_wait", "futex_waitv",
        "futex_wake", "get_robust_list", "set_robust_list", "get_thread_area", "set_thread_area",
        "set_tid_address", "set_tls", "modify_ldt", "prctl", "rseq", "seccomp", "pidfd_open",
        "pidfd_send_signal", "wait4", "waitid", "waitpid", "getcpu", "breakpoint", "cacheflush",
        "riscv_flush_icache", "riscv_hwprobe", "lsm_get_self_attr", "lsm_set_self_attr",
        "lsm_list_modules",
    ],
    // Identity, scheduling, limits.
    &[
        "getegid", "getegid32", "geteuid", "geteuid32", "getgid", "getgid32", "getgroups",
        "getgroups32", "getpgid", "getpgrp", "getpid", "getppid", "getresgid", "getresgid32",
        "getresuid", "getresuid32", "getsid", "gettid", "getuid", "getuid32", "setfsgid",
        "setfsgid32", "setfsuid", "setfsuid32", "setgid", "setgid32", "setgroups", "setgroups32",
        "setpgid", "setregid", "setregid32", "setresgid", "setresgid32", "setresuid",
        "setresuid32", "setreuid", "setreuid32", "setsid", "setuid", "setuid32", "getpriority",
        "setpriority", "ioprio_get", "ioprio_set", "getrlimit", "setrlimit", "ugetrlimit",
        "prlimit64", "getrusage", "sched_get_priority_max", "sched_get_priority_min",
        "sched_getaffinity", "sched_getattr", "sched_getparam", "sched_getscheduler",
        "sched_rr_get_interval", "sched_rr_get_interval_time64", "sched_setaffinity",
        "sched_setattr", "sched_setparam", "sched_setscheduler", "sched_yield", "sysinfo",
        "uname", "getrandom", "restart_syscall",
    ],
    // Signals.
    &[
        "alarm", "kill", "pause", "rt_sigaction", "rt_sigpending", "rt_sigprocmask",
        "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait",
        "rt_sigtimedwait_time64", "rt_tgsigqueueinfo", "sigaction", "sigaltstack", "signal",
        "sigpending", "sigprocmask", "sigreturn", "sigsuspend", "tgkill", "tkill",
    ],
    // Time.
    &[
        "adjtimex", "clock_adjtime", "clock_adjtime64", "clock_getres", "clock_getres_time64",
        "clock_gettime", "clock_gettime64", "clock_nanosleep", "clock_nanosleep_time64",
        "getitimer", "gettimeofday", "nanosleep", "setitimer", "time", "times", "timer_create",
        "timer_delete", "timer_getoverrun", "timer_gettime", "timer_gettime64", "timer_settime",
        "timer_settime64", "timerfd_create", "timerfd_gettime", "timerfd_gettime64",
        "timerfd_settime", "timerfd_settime64",
    ],
    // Sockets. `socket` has a rule of its own; `socketcall`, which would pass that
    // by, is not allowed (Linux has had the single calls on i386 since 4.3).
    &[
        "accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt",
        "listen", "recv", "recvfrom", "recvmmsg", "recvmmsg_time64", "recvmsg", "send",
        "sendmmsg", "sendmsg", "sendto", "setsockopt", "shutdown", "socketpair",
    ],
    // System V and POSIX IPC.
    &[
        "ipc", "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive",
        "mq_timedreceive_time64", "mq_timedsend", "mq_timedsend_time64", "mq_unlink", "msgctl",
        "msgget", "msgrcv", "msgsnd", "semctl", "semget", "semop", "semtimedop",
        "semtimedop_time64", "shmat", "shmctl", "shmdt", "shmget",
    ],
    // Tracing one's own kind; the kernel (since 4.8) keeps a filter over it.
    &[
        "kcmp", "pidfd_getfd", "process_madvise", "process_vm_readv", "process_vm_writev",
        "ptrace",
    ],
];

/// Allowed with a capability, which the kernel asks for anyway.
#[rustfmt::skip]
pub(super) const WITH: &[(Capability, &[&str])] = &[
    (
        Capability::SysAdmin,
        &[
            "bpf", "clone", "clone3", "fanotify_init", "fsconfig", "fsmount", "fsopen", "fspick",
            "mount", "mount_setattr", "move_mount", "open_tree", "open_tree_attr",
            "perf_event_open", "pivot_root", "quotactl", "quotactl_fd", "setdomainname",
            "sethostname", "setns", "syslog", "umount", "umount2", "unshare",
        ],
    ),
    (Capability::Bpf, &["bpf"]),
    (Capability::Perfmon, &["perf_event_open"]),
    (Capability::Syslog, &["syslog"]),
    (Capability::DacReadSearch, &["open_by_handle_at"]),
    (Capability::SysBoot, &["reboot"]),
    (Capability::SysChroot, &["chroot"]),
    (
        Capability::SysModule,
        &["delete_module", "finit_module", "init_module"],
    ),
    (
        Capability::SysNice,
        &[
            "get_mempolicy", "mbind", "move_pages", "set_mempolicy", "set_mempolicy_home_node",
        ],
    ),
    (Capability::SysPacct, &["acct"]),
    (Capability::SysRawio, &["ioperm", "iopl"]),
    (
        Capability::SysTime,
        &["clock_settime", "clock_settime64", "settimeofday", "stime"],
    ),
    (Capability::SysTtyConfig, &["vhangup"]),
];

/// Address families of `socket`: AF_UNIX, AF_INET, AF_INET6, AF_NETLINK,
/// AF_PACKET, AF_CAN, AF_XDP. Not AF_VSOCK, which reaches past network
/// namespaces, nor AF_ALG and rarely used protocols.
pub(super) const FAMILIES: &[u64] = &[1, 2, 10, 16, 17, 29, 44];

/// Values of `personality`: PER_LINUX, PER_LINUX32, both with UNAME26, and the query.
pub(super) const PERSONALITIES: &[u64] = &[0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// The namespace flags of `clone(2)`: mount, cgroup, UTS, IPC, user, PID, network.
/// (The one for time namespaces lies in the bits of the exit signal: `clone3` only.)
pub(super) const CLONE_NAMESPACES: u64 = 0x7e02_0000;
