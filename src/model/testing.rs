//! Settings for tests, and generators of model objects for property tests; what
//! they make is valid.

use std::path::Path;

use jiff::Timestamp;
use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

/// Settings of an instance below `dir`, whose runtime directory is made.
pub fn settings(dir: &Path) -> Settings {
    let layer = SettingsLayer {
        run_path: Some(dir.display().to_string()),
        ..Default::default()
    };
    let settings = layer.resolve("/bin/true".into()).unwrap().settings;
    std::fs::create_dir_all(&settings.runtime_dir).unwrap();
    settings
}

/// A name.
pub fn name() -> impl Strategy<Value = Name> {
    "[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?".prop_map(|text| text.parse().unwrap())
}

/// Text with everything that YAML could stumble over, without NUL.
pub fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,12}",
        "\\PC{0,8}",
        select(vec![
            "no",
            "null",
            "~",
            "1",
            "0x1f",
            "1e3",
            ".inf",
            "true",
            "",
            " lead",
            "trail ",
            "a: b",
            "# x",
            "- a",
            "multi\nline\n",
            "\ttab",
            "&a",
            "*a",
            "!t",
            "|",
            ">",
            "%x",
            "@x",
            "`x",
            "---",
            "...",
            "\"q\"",
            "'q'",
            "é\u{85}\u{2028}\u{feff}",
            "\r\n",
            "\u{1b}[0m",
            "2001-01-01",
            "<<",
            "{a}",
            "[a]",
            "=",
            "a\\b",
            "\u{7f}",
            "\n",
            "  \n  x\n\n",
        ])
        .prop_map(str::to_owned),
    ]
}

fn some_text() -> impl Strategy<Value = String> {
    text().prop_filter("not empty", |text| !text.is_empty())
}

fn path() -> impl Strategy<Value = String> {
    "(/[a-zA-Z0-9 _.:#-]{1,6}){1,3}".prop_filter("plain", |path| {
        !path.split('/').any(|p| p == ".." || p == ".")
    })
}

/// Any time that RFC 3339 can express, to the nanosecond.
fn time() -> impl Strategy<Value = Timestamp> {
    (0i64..4_000_000_000, 0i32..1_000_000_000)
        .prop_map(|(second, nano)| Timestamp::new(second, nano).unwrap())
}

fn labels() -> impl Strategy<Value = Labels> {
    let value = text().prop_filter("no control", |v| !v.chars().any(char::is_control));
    btree_map("[a-zA-Z0-9./_-]{1,10}", value, 0..4)
}

prop_compose! {
    /// Labels and bookkeeping.
    pub fn meta()(
        labels in labels(),
        annotations in btree_map(text(), text(), 0..3),
        generation in 0i64..1000,
        uid in "[0-9a-f-]{0,36}",
        created_at in of(time()),
        deletion in of(time()),
    ) -> Meta {
        Meta { labels, annotations, generation, uid, created_at, deletion }
    }
}

prop_compose! {
    fn resources()(
        memory_bytes in of((1u64 << 20)..(1 << 62)),
        cpu_shares in of(2u64..=262_144),
        pids in of(1u64..(1 << 62)),
    ) -> Resources {
        Resources { memory_bytes, cpu_shares, pids }
    }
}

fn security() -> impl Strategy<Value = SecurityOptions> {
    let seccomp = prop_oneof![
        Just(Seccomp::Default),
        Just(Seccomp::Unconfined),
        path().prop_map(Seccomp::Profile),
    ];
    (of(any::<bool>()), seccomp).prop_map(|(no_new_privileges, seccomp)| SecurityOptions {
        no_new_privileges,
        seccomp,
    })
}

fn capabilities() -> impl Strategy<Value = Capabilities> {
    let list = || {
        let names = select(vec!["ALL", "CAP_CHOWN", "CAP_NET_ADMIN", "CAP_BPF"]);
        vec(names.prop_map(str::to_owned), 0..3)
    };
    (list(), list()).prop_map(|(drop, add)| Capabilities { drop, add })
}

/// What a container names, at most as deep as a stack (volumes) or a cell.
/// Places are in a realm of their own until they are in a cell.
fn source(deepest: usize) -> impl Strategy<Value = KeptSource> {
    (name(), 0..=deepest, name(), name(), name()).prop_map(|(name, depth, space, stack, cell)| {
        let realm = RealmRef {
            realm: "r".parse().unwrap(),
        };
        let scope: Option<ObjectRef> = match depth {
            0 => None,
            1 => Some(realm.into()),
            2 => Some(realm.space(space).into()),
            3 => Some(realm.space(space).stack(stack).into()),
            _ => Some(realm.space(space).stack(stack).cell(cell).into()),
        };
        KeptSource { name, scope }
    })
}

/// The same place in another realm.
pub fn in_realm(scope: &ObjectRef, realm: &Name) -> ObjectRef {
    let realm = RealmRef {
        realm: realm.clone(),
    };
    match scope {
        ObjectRef::Realm(_) => realm.into(),
        ObjectRef::Space(at) => realm.space(at.space.clone()).into(),
        ObjectRef::Stack(at) => realm.space(at.space.clone()).stack(at.stack.clone()).into(),
        ObjectRef::Cell(at) => {
            let stack = realm.space(at.space.clone()).stack(at.stack.clone());
            stack.cell(at.cell.clone()).into()
        }
        ObjectRef::Kept(_) => scope.clone(),
    }
}

/// Puts what a cell names into the cell's own realm.
pub fn put_in_realm(cell: &mut Cell) {
    let realm = cell.at.realm.clone();
    for container in &mut cell.spec.containers {
        let volumes = container
            .mounts
            .iter_mut()
            .filter_map(|m| match &mut m.kind {
                MountKind::Volume { source, .. } => Some(source),
                _ => None,
            });
        let secrets = container.secrets.iter_mut().map(|s| &mut s.source);
        for scope in volumes.chain(secrets).filter_map(|s| s.scope.as_mut()) {
            *scope = in_realm(scope, &realm);
        }
    }
}

fn secrets() -> impl Strategy<Value = Vec<SecretUse>> {
    let mode = select(vec![0o400, 0o440, 0o444, 0o500, 0]);
    let id = || of(0u32..4_000_000_000);
    let one = (source(4), of((id(), id(), of(mode))));
    vec(one, 0..4).prop_map(|list| {
        // Names and targets must differ, from those of others as well.
        let one = |(i, (source, file)): (usize, (KeptSource, Option<_>))| SecretUse {
            name: format!("SECRET_{i}"),
            source,
            target: match file {
                None => SecretTarget::Env,
                Some((uid, gid, mode)) => SecretTarget::File {
                    path: format!("/secret/{i}"),
                    uid,
                    gid,
                    mode,
                },
            },
        };
        list.into_iter().enumerate().map(one).collect()
    })
}

fn ports() -> impl Strategy<Value = Vec<ContainerPort>> {
    let protocol = select(vec![Protocol::Tcp, Protocol::Udp, Protocol::Sctp]);
    let port = (1u16.., protocol).prop_map(|(port, protocol)| ContainerPort { port, protocol });
    proptest::collection::btree_set(port, 0..4).prop_map(|ports| ports.into_iter().collect())
}

prop_compose! {
    /// A volume.
    pub fn volume()(source in source(3), meta in meta(), retain in any::<bool>()) -> Volume {
        let scope = source.scope.unwrap_or_else(|| RealmRef { realm: "r".parse().unwrap() }.into());
        let reclaim = if retain { Reclaim::Retain } else { Reclaim::Delete };
        let at = scope.keeps(KeptKind::Volume, source.name);
        Volume { at, meta, reclaim, path: String::new() }
    }
}

prop_compose! {
    /// A secret.
    pub fn secret()(source in source(4), meta in meta(), data in some_text()) -> Secret {
        let scope = source.scope.unwrap_or_else(|| RealmRef { realm: "r".parse().unwrap() }.into());
        let at = scope.keeps(KeptKind::Secret, source.name);
        Secret { at, meta, data: SecretText(format!("x{data}")) }
    }
}

fn mounts() -> impl Strategy<Value = (Vec<Tmpfs>, Vec<Mount>)> {
    let kind = prop_oneof![
        path().prop_map(MountKind::Bind),
        (source(3), any::<bool>())
            .prop_map(|(source, ensure)| MountKind::Volume { source, ensure }),
        (0u64..(1 << 62), 0u32..=0o7777)
            .prop_map(|(size_bytes, mode)| MountKind::Tmpfs { size_bytes, mode }),
    ];
    let option = select(vec!["ro", "noexec", "mode=1777", "size=64m"]).prop_map(str::to_owned);
    let tmpfs = vec((0u64..(1 << 62), vec(option, 0..3)), 0..3);
    (tmpfs, vec((kind, any::<bool>()), 0..3)).prop_map(|(tmpfs, mounts)| {
        // Targets must differ.
        let tmpfs = tmpfs
            .into_iter()
            .enumerate()
            .map(|(i, (size_bytes, options))| Tmpfs {
                path: format!("/tmpfs/{i}"),
                size_bytes,
                options,
            });
        let mounts = mounts
            .into_iter()
            .enumerate()
            .map(|(i, (kind, read_only))| Mount {
                kind,
                target: format!("/mnt/{i}"),
                read_only,
            });
        (tmpfs.collect(), mounts.collect())
    })
}

/// When a container is started again, with the fields that fit.
fn restart() -> impl Strategy<Value = (RestartPolicy, Option<u32>, Option<u32>)> {
    prop_oneof![
        Just((RestartPolicy::Never, None, None)),
        of(0u32..=86_400).prop_map(|b| (RestartPolicy::Always, b, None)),
        (of(0u32..=86_400), of(1u32..)).prop_map(|(b, r)| (RestartPolicy::OnFailure, b, r)),
    ]
}

prop_compose! {
    /// A container with this id, every field of it. `root` and `host_network`
    /// are up to the cell.
    pub fn container(id: &'static str)(
        image in select(vec!["nginx", "docker.io/library/a:1", "localhost:5000/x/y"]),
        command in of(some_text()),
        args in vec(text(), 0..4),
        working_dir in of(path()),
        env in vec(("[A-Za-z_.-]{1,6}", text()).prop_map(|(k, v)| format!("{k}={v}")), 0..4),
        user in of(select(vec!["0", "1000:1000", "app", "app:staff", "4294967294"])),
        (restart_policy, restart_backoff_seconds, restart_max_retries) in restart(),
        stop_grace_seconds in of(0u32..=86_400),
        pull_policy in select(vec![PullPolicy::Missing, PullPolicy::Always, PullPolicy::Never]),
        flags in proptest::array::uniform4(any::<bool>()),
        capabilities in capabilities(),
        security in security(),
        devices in proptest::collection::btree_set("/dev/[a-z]{1,6}", 0..3),
        (tmpfs, mounts) in mounts(),
        (resources, secrets, ports) in (resources(), secrets(), ports()),
    ) -> ContainerSpec {
        let [privileged, host_pid, host_cgroup, read_only_root] = flags;
        ContainerSpec {
            id: id.parse().unwrap(),
            root: false,
            image: image.to_owned(),
            command,
            args,
            working_dir,
            env,
            user: user.map(str::to_owned),
            restart_policy,
            restart_backoff_seconds,
            restart_max_retries,
            stop_grace_seconds,
            pull_policy,
            privileged,
            host_network: false,
            host_pid,
            host_cgroup,
            read_only_root,
            capabilities,
            security,
            devices: devices.into_iter().collect(),
            tmpfs,
            resources,
            mounts,
            secrets,
            ports,
        }
    }
}

prop_compose! {
    fn network()(
        fields in proptest::array::uniform6(text()),
        addresses in vec(text(), 0..3),
    ) -> NetworkStatus {
        let [name, bridge, subnet, interface, host_interface, netns] = fields;
        NetworkStatus { name, bridge, subnet, addresses, interface, host_interface, netns }
    }
}

prop_compose! {
    fn scope_status()(
        state in select(vec![
            ScopeState::Pending, ScopeState::Ready, ScopeState::Deleting, ScopeState::Failed,
            ScopeState::Unknown,
        ]),
        fields in proptest::array::uniform4(text()),
        observed_generation in 0i64..1000,
        subtree_controllers in vec(text(), 0..3),
        network in network(),
    ) -> ScopeStatus {
        let [reason, message, cgroup_path, namespace] = fields;
        ScopeStatus {
            state, reason, message, observed_generation, cgroup_path, subtree_controllers,
            namespace, network,
        }
    }
}

prop_compose! {
    fn container_status()(
        name in name(),
        state in select(vec![
            ContainerState::Pending, ContainerState::Ready, ContainerState::Stopped,
            ContainerState::Paused, ContainerState::Failed, ContainerState::Unknown,
            ContainerState::NotCreated, ContainerState::Exited, ContainerState::Error,
        ]),
        fields in proptest::array::uniform3(text()),
        pid in any::<u32>(),
        times in proptest::array::uniform3(of(time())),
        exit_code in of(any::<i32>()),
        restart_count in any::<u32>(),
        run_generation in 0i64..1000,
    ) -> ContainerStatus {
        let [containerd_id, image_digest, message] = fields;
        let [started_at, finished_at, next_restart_at] = times;
        ContainerStatus {
            name, containerd_id, state, image_digest, pid, started_at, finished_at, exit_code,
            restart_count, next_restart_at, message, run_generation,
        }
    }
}

prop_compose! {
    /// A realm.
    pub fn realm()(
        realm in name(),
        meta in meta(),
        namespace in "([a-z0-9]{1,8}(\\.[a-z0-9]{1,8})?)?",
        logins in btree_map("[a-z0-9.:]{0,12}", (some_text(), text()), 0..3),
        status in scope_status(),
    ) -> Realm {
        let credentials = logins
            .into_iter()
            .map(|(server, (username, password))| RegistryCredential { server, username, password })
            .collect();
        Realm { at: RealmRef { realm }, meta, spec: RealmSpec { namespace, credentials }, status }
    }
}

prop_compose! {
    /// A space.
    pub fn space()(
        realm in name(), space in name(), meta in meta(), cni_config_path in of(path()),
        status in scope_status(),
    ) -> Space {
        Space { at: SpaceRef { realm, space }, meta, spec: SpaceSpec { cni_config_path }, status }
    }
}

prop_compose! {
    /// A stack.
    pub fn stack()(
        realm in name(), space in name(), stack in name(), meta in meta(),
        status in scope_status(),
    ) -> Stack {
        Stack { at: StackRef { realm, space, stack }, meta, status }
    }
}

prop_compose! {
    fn cell_status()(
        state in select(vec![
            CellState::Pending, CellState::Ready, CellState::Stopped, CellState::Failed,
            CellState::Unknown, CellState::Exited, CellState::Error, CellState::Degraded,
        ]),
        fields in proptest::array::uniform3(text()),
        observed_generation in 0i64..1000,
        network in network(),
        containers in vec(container_status(), 0..3),
        ready_at in of(time()),
    ) -> CellStatus {
        let [reason, message, cgroup_path] = fields;
        CellStatus {
            state, reason, message, observed_generation, cgroup_path, network, containers, ready_at,
        }
    }
}

prop_compose! {
    /// A cell with one to three containers.
    pub fn cell()(
        names in proptest::array::uniform4(name()),
        meta in meta(),
        all in (container("a"), container("b"), container("c")),
        count in 1usize..=3,
        root in of(0usize..3),
        host_network in any::<bool>(),
        auto_delete in any::<bool>(),
        stopped in any::<bool>(),
        run_generation in 0i64..1000,
        restart_generation in 0i64..1000,
        status in cell_status(),
    ) -> Cell {
        let [realm, space, stack, cell] = names;
        let mut containers = vec![all.0, all.1, all.2];
        containers.truncate(count);
        for (i, container) in containers.iter_mut().enumerate() {
            container.host_network = host_network;
            container.root = root == Some(i);
        }
        let run_state = if stopped { RunState::Stopped } else { RunState::Running };
        let mut cell = Cell {
            at: CellRef { realm, space, stack, cell },
            meta,
            spec: CellSpec { containers, auto_delete, run_state, run_generation, restart_generation },
            status,
        };
        put_in_realm(&mut cell);
        cell
    }
}
