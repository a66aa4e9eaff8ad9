//! The store on real file systems, between tasks and between processes.
//! A test that cannot run here says `skipped: <test>: <reason>`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kukeon::model::{
    Cell, CellRef, CellSpec, CellState, CellStatus, ContainerSpec, ContainerStatus, Meta, Name,
    ObjectRef, Realm, RealmRef, RealmSpec, RegistryCredential, ScopeState, ScopeStatus, Space,
    SpaceRef, SpaceSpec, Stack, StackRef,
};
use kukeon::store::{Error, LockMode, Store, check_name};
use proptest::prelude::*;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn realm_at(realm: &str) -> RealmRef {
    RealmRef { realm: name(realm) }
}

fn space_at() -> SpaceRef {
    realm_at("r").space(name("s"))
}

fn stack_at() -> StackRef {
    space_at().stack(name("t"))
}

fn cell_at(cell: &str) -> CellRef {
    stack_at().cell(name(cell))
}

fn realm(at: RealmRef) -> Realm {
    Realm {
        at,
        meta: Meta::default(),
        spec: RealmSpec::default(),
        status: ScopeStatus::default(),
    }
}

fn space(at: SpaceRef) -> Space {
    Space {
        at,
        meta: Meta::default(),
        spec: SpaceSpec::default(),
        status: ScopeStatus::default(),
    }
}

fn stack(at: StackRef) -> Stack {
    Stack {
        at,
        meta: Meta::default(),
        status: ScopeStatus::default(),
    }
}

fn cell(at: CellRef, containers: &[&str]) -> Cell {
    Cell {
        at,
        meta: Meta::default(),
        spec: CellSpec {
            containers: containers
                .iter()
                .map(|id| ContainerSpec::new(name(id), "docker.io/library/busybox:latest"))
                .collect(),
            ..CellSpec::default()
        },
        status: CellStatus::default(),
    }
}

/// Makes realm `r`, space `s`, stack `t`.
fn fill(store: &Store) {
    store.put_realm(&realm(realm_at("r"))).unwrap();
    store.put_space(&space(space_at())).unwrap();
    store.put_stack(&stack(stack_at())).unwrap();
}

fn fresh() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("root")).unwrap();
    (dir, store)
}

fn filled() -> (tempfile::TempDir, Store) {
    let (dir, store) = fresh();
    fill(&store);
    (dir, store)
}

/// Every path below a directory with its mode.
fn tree(root: &Path) -> BTreeMap<String, u32> {
    fn walk(dir: &Path, front: &str, found: &mut BTreeMap<String, u32>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{front}{}", entry.file_name().to_string_lossy());
            let meta = entry.path().symlink_metadata().unwrap();
            found.insert(path.clone(), meta.mode() & 0o7777);
            if meta.is_dir() {
                walk(&entry.path(), &format!("{path}/"), found);
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(root, "", &mut found);
    found
}

#[test]
fn layout_and_modes() {
    let (_dir, store) = filled();
    let at = cell_at("c");
    store.put_cell(&cell(at.clone(), &["one", "two"])).unwrap();
    store.check_instance("kukeon.io", "/kukeon").unwrap();
    let object: ObjectRef = at.clone().into();
    store.write_file(&object, "hosts", b"1\n", 0o644).unwrap();
    let expected = [
        (".instance.yaml", 0o640),
        (".locks", 0o750),
        (".locks/.instance", 0o640),
        ("r", 0o750),
        ("r/realm.yaml", 0o600),
        ("r/s", 0o750),
        ("r/s/space.yaml", 0o640),
        ("r/s/t", 0o750),
        ("r/s/t/c", 0o750),
        ("r/s/t/c/cell.yaml", 0o640),
        ("r/s/t/c/containers", 0o750),
        ("r/s/t/c/containers/one.yaml", 0o640),
        ("r/s/t/c/containers/two.yaml", 0o640),
        ("r/s/t/c/hosts", 0o644),
        ("r/s/t/stack.yaml", 0o640),
    ];
    let expected: BTreeMap<String, u32> = expected
        .into_iter()
        .map(|(p, m)| (p.to_owned(), m))
        .collect();
    assert_eq!(tree(store.root()), expected);
    assert_eq!(
        std::fs::metadata(store.root()).unwrap().mode() & 0o7777,
        0o750
    );
    let text = std::fs::read_to_string(store.root().join("r/s/t/c/cell.yaml")).unwrap();
    assert!(
        text.contains("apiVersion: v1beta1") && text.contains("kind: Cell"),
        "{text}"
    );
    let text = std::fs::read_to_string(store.root().join("r/s/t/c/containers/one.yaml")).unwrap();
    assert!(
        text.contains("kind: Container") && text.contains("cellId: c"),
        "{text}"
    );
    assert_eq!(
        store.log_path(&at, &name("one")),
        store.root().join("r/s/t/c/containers/one.log")
    );
}

#[test]
fn passwords_are_kept_and_never_shown_in_errors() {
    let (_dir, store) = fresh();
    let mut object = realm(realm_at("r"));
    object.spec.credentials.push(RegistryCredential {
        server: "registry.example:5000".to_owned(),
        username: "robot$ci".to_owned(),
        password: "s3cr3t: 'x' #\n\"\\ é".to_owned(),
    });
    store.put_realm(&object).unwrap();
    let other = Store::open(store.root()).unwrap();
    assert_eq!(other.realm(&object.at).unwrap().unwrap(), object);
    let path = store.root().join("r/realm.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("s3cr3t"));
    // Damage right at the password.
    std::fs::write(&path, text.replace("password:", "password: [")).unwrap();
    let error = other.realm(&object.at).unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }));
    assert!(!format!("{error} {error:?}").contains("s3cr3t"), "{error}");
}

#[test]
fn a_damaged_document_does_not_hide_its_neighbours() {
    let (_dir, store) = filled();
    for c in ["a", "b", "c", "d", "e"] {
        store.put_cell(&cell(cell_at(c), &["x"])).unwrap();
    }
    let path = |c: &str| store.root().join(format!("r/s/t/{c}/cell.yaml"));
    let whole = std::fs::read_to_string(path("a")).unwrap();
    std::fs::write(path("a"), "").unwrap();
    std::fs::write(path("b"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(path("c"), &whole).unwrap();
    std::fs::remove_file(path("d")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, path("d"), rustix::fs::Mode::RWXU).unwrap();
    let found = store.cells(&stack_at()).unwrap();
    assert_eq!(found, ["a", "b", "c", "d", "e"].map(cell_at));
    for c in ["a", "b", "c", "d"] {
        let error = store.cell(&cell_at(c)).unwrap_err();
        assert!(
            matches!(&error, Error::Corrupt { path: p, .. } if *p == path(c)),
            "{c}: {error}"
        );
    }
    store.cell(&cell_at("e")).unwrap().unwrap();
    assert_eq!(store.problems().unwrap().len(), 4);
    // Writing repairs it.
    store.put_cell(&cell(cell_at("a"), &["x"])).unwrap();
    assert_eq!(store.problems().unwrap().len(), 3);
}

#[test]
fn what_is_no_object_is_not_listed() {
    let (_dir, store) = filled();
    let root = store.root();
    std::fs::create_dir(root.join("no-document")).unwrap();
    std::fs::create_dir(root.join("Upper")).unwrap();
    std::fs::write(root.join("Upper/realm.yaml"), "x").unwrap();
    std::fs::create_dir(root.join("run")).unwrap();
    std::fs::write(root.join("run/realm.yaml"), "x").unwrap();
    std::fs::write(root.join("file"), "x").unwrap();
    symlink(root.join("r"), root.join("link")).unwrap();
    assert_eq!(store.realms().unwrap(), [realm_at("r")]);
    assert_eq!(store.objects().unwrap().len(), 3);
    assert!(matches!(
        check_name(&realm_at("run").into()),
        Err(Error::Reserved { .. })
    ));
    assert!(matches!(
        store.put_realm(&realm(realm_at("run"))),
        Err(Error::Reserved { .. })
    ));
}

#[test]
fn a_parent_is_needed_and_children_stay() {
    let (_dir, store) = fresh();
    let error = store.put_space(&space(space_at())).unwrap_err();
    assert!(matches!(error, Error::ParentMissing { .. }), "{error}");
    assert!(!store.root().join("r").exists());
    fill(&store);
    let error = store.remove(&space_at().into()).unwrap_err();
    assert!(
        matches!(&error, Error::HasChildren { children, .. } if children == &["t"]),
        "{error}"
    );
    store.stack(&stack_at()).unwrap().unwrap();
}

#[test]
fn removal_leaves_what_is_not_ours() {
    let (_dir, store) = filled();
    let at = cell_at("c");
    store.put_cell(&cell(at.clone(), &["one"])).unwrap();
    let dir = store.root().join("r/s/t/c");
    std::fs::write(dir.join("containers/one.log"), "log").unwrap();
    std::fs::write(dir.join("containers/one.log.1"), "log").unwrap();
    std::fs::write(dir.join("notes.txt"), "mine").unwrap();
    store.remove(&at.clone().into()).unwrap();
    assert_eq!(store.cell(&at).unwrap(), None);
    assert_eq!(store.cells(&stack_at()).unwrap(), []);
    assert_eq!(tree(&dir).into_keys().collect::<Vec<_>>(), ["notes.txt"]);
    store.remove(&at.clone().into()).unwrap();
    // The stack goes although a directory stays below it.
    store.remove(&stack_at().into()).unwrap();
    assert_eq!(store.stack(&stack_at()).unwrap(), None);
    assert!(dir.join("notes.txt").exists());
    std::fs::remove_file(dir.join("notes.txt")).unwrap();
    store.remove(&space_at().into()).unwrap();
    assert!(!store.root().join("r/s").exists());
}

#[test]
fn remove_all_takes_everything_and_reports_the_rest() {
    let (_dir, store) = filled();
    store.check_instance("kukeon.io", "/kukeon").unwrap();
    store.put_cell(&cell(cell_at("c"), &["one"])).unwrap();
    let root = store.root().to_path_buf();
    std::fs::create_dir(root.join("run")).unwrap();
    std::fs::write(root.join("r/s/mine"), "x").unwrap();
    std::fs::create_dir(root.join("keep")).unwrap();
    std::fs::write(root.join("keep/me"), "x").unwrap();
    // A removal that was cut short.
    std::fs::create_dir_all(root.join("r/s/t/half/containers")).unwrap();
    std::fs::write(root.join("r/s/t/half/containers/x.log"), "x").unwrap();
    let left = store.remove_all().unwrap();
    assert_eq!(left, [root.join("keep"), root.join("r/s/mine")]);
    let now: Vec<String> = tree(&root).into_keys().collect();
    assert_eq!(now, ["keep", "keep/me", "r", "r/s", "r/s/mine"]);
    std::fs::remove_dir_all(root.join("keep")).unwrap();
    std::fs::remove_dir_all(root.join("r")).unwrap();
    assert_eq!(store.remove_all().unwrap(), [] as [PathBuf; 0]);
    assert!(!root.exists());
}

#[test]
fn links_are_never_followed() {
    let (dir, store) = filled();
    store.put_cell(&cell(cell_at("c"), &["one"])).unwrap();
    let outside = dir.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("cell.yaml"), "secret").unwrap();
    std::fs::write(outside.join("hosts"), "secret").unwrap();
    let before = tree(&outside);
    let object: ObjectRef = cell_at("c").into();
    let inside = store.root().join("r/s/t/c");
    // The directory becomes a link.
    std::fs::rename(&inside, store.root().join("r/s/t/.moved")).unwrap();
    symlink(&outside, &inside).unwrap();
    assert!(store.cell(&cell_at("c")).is_err());
    assert!(store.put_cell(&cell(cell_at("c"), &["two"])).is_err());
    assert!(store.write_file(&object, "hosts", b"x", 0o644).is_err());
    assert!(store.rewrite_file(&object, "hosts", b"x", 0o644).is_err());
    assert!(store.remove(&object).is_err());
    assert_eq!(store.cells(&stack_at()).unwrap(), []);
    // The document becomes a link.
    std::fs::remove_file(&inside).unwrap();
    std::fs::rename(store.root().join("r/s/t/.moved"), &inside).unwrap();
    std::fs::remove_file(inside.join("cell.yaml")).unwrap();
    symlink(outside.join("cell.yaml"), inside.join("cell.yaml")).unwrap();
    symlink(outside.join("hosts"), inside.join("hosts")).unwrap();
    assert!(matches!(
        store.cell(&cell_at("c")),
        Err(Error::Corrupt { .. })
    ));
    assert!(store.rewrite_file(&object, "hosts", b"x", 0o644).is_err());
    // A replacement takes the link's place, a removal takes the link.
    store.put_cell(&cell(cell_at("c"), &["two"])).unwrap();
    store.write_file(&object, "hosts", b"x", 0o644).unwrap();
    assert!(
        !inside
            .join("hosts")
            .symlink_metadata()
            .unwrap()
            .is_symlink()
    );
    store.remove(&object).unwrap();
    assert!(!inside.exists());
    assert_eq!(tree(&outside), before);
    assert_eq!(std::fs::read(outside.join("hosts")).unwrap(), b"secret");
    // A link to the run path itself is the user's choice.
    let link = dir.path().join("link");
    symlink(store.root(), &link).unwrap();
    assert_eq!(Store::open(&link).unwrap().root(), store.root());
}

#[test]
fn bad_roots_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let open = dir.path().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
    for bad in [file.as_path(), &open, Path::new("relative")] {
        let error = Store::open(bad).unwrap_err();
        assert!(matches!(error, Error::Root { .. }), "{bad:?}: {error}");
    }
}

#[test]
fn rewriting_keeps_the_inode() {
    let (_dir, store) = filled();
    store.put_cell(&cell(cell_at("c"), &["one"])).unwrap();
    let object: ObjectRef = cell_at("c").into();
    let path = store.file_path(&object, "hosts");
    let inode = |path: &Path| std::fs::metadata(path).unwrap().ino();
    store
        .rewrite_file(&object, "hosts", b"long first content", 0o644)
        .unwrap();
    let first = inode(&path);
    store
        .rewrite_file(&object, "hosts", b"short", 0o644)
        .unwrap();
    assert_eq!(inode(&path), first);
    assert_eq!(
        store.read_file(&object, "hosts").unwrap().unwrap(),
        b"short"
    );
    store.write_file(&object, "hosts", b"short", 0o644).unwrap();
    assert_eq!(inode(&path), first);
    store.write_file(&object, "hosts", b"other", 0o644).unwrap();
    assert_ne!(inode(&path), first);
    for bad in ["../hosts", "cell.yaml", "other", ""] {
        let error = store.write_file(&object, bad, b"", 0o644).unwrap_err();
        assert!(matches!(error, Error::BadFile(_)), "{bad:?}");
    }
}

#[test]
fn containers_follow_the_cell_and_the_status_is_written_once() {
    let (_dir, store) = filled();
    let at = cell_at("c");
    store.put_cell(&cell(at.clone(), &["one", "two"])).unwrap();
    let dir = store.root().join("r/s/t/c");
    let log = dir.join("containers/two.log");
    std::fs::write(&log, "x").unwrap();
    store.put_cell(&cell(at.clone(), &["one"])).unwrap();
    assert!(!dir.join("containers/two.yaml").exists());
    assert!(log.exists());
    let status = CellStatus {
        state: CellState::Ready,
        containers: vec![ContainerStatus {
            pid: 42,
            ..ContainerStatus::new(name("one"))
        }],
        ..CellStatus::default()
    };
    assert!(store.put_cell_status(&at, &status).unwrap());
    let inode = || std::fs::metadata(dir.join("cell.yaml")).unwrap().ino();
    let before = inode();
    assert!(!store.put_cell_status(&at, &status).unwrap());
    assert_eq!(inode(), before);
    assert_eq!(store.cell(&at).unwrap().unwrap().status, status);
    let text = std::fs::read_to_string(dir.join("containers/one.yaml")).unwrap();
    assert!(text.contains("pid: 42"), "{text}");
    let gone = cell_at("gone");
    assert!(!store.put_cell_status(&gone, &status).unwrap());
    assert_eq!(store.cell(&gone).unwrap(), None);
    let scope = ScopeStatus {
        state: ScopeState::Ready,
        ..ScopeStatus::default()
    };
    let space: ObjectRef = space_at().into();
    assert!(store.put_scope_status(&space, &scope).unwrap());
    assert!(!store.put_scope_status(&space, &scope).unwrap());
    assert_eq!(store.space(&space_at()).unwrap().unwrap().status, scope);
}

#[test]
fn the_instance_is_pinned() {
    let (_dir, store) = fresh();
    store.check_instance("kukeon.io", "/kukeon").unwrap();
    let other = Store::open(store.root()).unwrap();
    other.check_instance("kukeon.io", "/kukeon").unwrap();
    for (suffix, cgroup, named) in [
        ("example.org", "/kukeon", "containerdNamespaceSuffix"),
        ("kukeon.io", "/other", "cgroupRoot"),
    ] {
        let error = other.check_instance(suffix, cgroup).unwrap_err();
        assert!(
            matches!(&error, Error::InstanceMismatch { setting, .. } if *setting == named),
            "{error}"
        );
    }
    std::fs::write(store.root().join(".instance.yaml"), "").unwrap();
    let error = other.check_instance("kukeon.io", "/kukeon").unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
}

#[test]
fn temporary_files_are_ignored_and_swept_when_old() {
    let (_dir, store) = filled();
    let old = store.root().join("r/s/t/.tmp-old");
    let young = store.root().join("r/s/t/.tmp-young");
    for path in [&old, &young] {
        std::fs::write(path, "half").unwrap();
    }
    let hour_ago = std::time::SystemTime::now() - Duration::from_secs(3600);
    let file = std::fs::File::options().write(true).open(&old).unwrap();
    file.set_modified(hour_ago).unwrap();
    assert_eq!(store.objects().unwrap().len(), 3);
    let mut changed = stack(stack_at());
    changed.meta.generation = 7;
    store.put_stack(&changed).unwrap();
    assert!(!old.exists() && young.exists());
    store.remove(&stack_at().into()).unwrap();
    assert!(!store.root().join("r/s/t").exists());
}

// ---- faults of the file system --------------------------------------------

struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(at: &Path, options: &str) -> Option<Self> {
        std::fs::create_dir_all(at).unwrap();
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "kukeon-test"])
            .arg(at)
            .stderr(Stdio::null())
            .status();
        matches!(status, Ok(s) if s.success()).then(|| Self(at.to_path_buf()))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_told_and_harms_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mount) = Tmpfs::mount(&dir.path().join("m"), "size=256k,mode=0750") else {
        println!("skipped: a_full_disk_is_told_and_harms_nothing: no tmpfs can be mounted");
        return;
    };
    let store = Store::open(&mount.0.join("root")).unwrap();
    fill(&store);
    let at = cell_at("c");
    let first = cell(at.clone(), &["one"]);
    store.put_cell(&first).unwrap();
    let _ = std::fs::write(mount.0.join("ballast"), vec![0; 1 << 20]);
    let mut second = first.clone();
    second
        .meta
        .annotations
        .insert("note".to_owned(), "x".repeat(9000));
    let error = store.put_cell(&second).unwrap_err();
    assert!(matches!(error, Error::Full { .. }), "{error}");
    assert_eq!(store.cell(&at).unwrap().unwrap(), first);
    assert!(!tree(store.root()).keys().any(|p| p.contains(".tmp-")));
    // Removing works on a full disk, and makes room.
    std::fs::remove_file(mount.0.join("ballast")).unwrap();
    store.put_cell(&second).unwrap();
    let _ = std::fs::write(mount.0.join("ballast"), vec![0; 1 << 20]);
    store.remove(&at.into()).unwrap();
}

#[test]
fn a_read_only_disk_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mount) = Tmpfs::mount(&dir.path().join("m"), "size=1m,mode=0750") else {
        println!("skipped: a_read_only_disk_can_be_read: no tmpfs can be mounted");
        return;
    };
    let path = mount.0.join("root");
    fill(&Store::open(&path).unwrap());
    let status = Command::new("mount")
        .args(["-o", "remount,ro"])
        .arg(&mount.0)
        .status()
        .unwrap();
    assert!(status.success());
    let store = Store::open(&path).unwrap();
    store.stack(&stack_at()).unwrap().unwrap();
    for error in [
        store.put_cell(&cell(cell_at("c"), &["one"])).unwrap_err(),
        store.remove(&stack_at().into()).unwrap_err(),
        store.check_instance("kukeon.io", "/kukeon").unwrap_err(),
    ] {
        assert!(matches!(error, Error::ReadOnly { .. }), "{error}");
    }
}

// ---- several at once ------------------------------------------------------

const SHORT: Duration = Duration::from_millis(150);
const LONG: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks_exclude_between_tasks_and_stores() {
    let (_dir, store) = filled();
    // Another store on the same root is what another process sees.
    let other = Store::open(store.root()).unwrap();
    let at: ObjectRef = cell_at("c").into();
    for second in [&store.clone(), &other] {
        let held = store.lock(&at, LockMode::Exclusive, SHORT).await.unwrap();
        for mode in [LockMode::Shared, LockMode::Exclusive] {
            let error = second.lock(&at, mode, SHORT).await.unwrap_err();
            let Error::LockTimeout {
                object, holders, ..
            } = &error
            else {
                panic!("{error}");
            };
            assert_eq!(object, &at.to_string());
            assert_eq!(holders, &[std::process::id()]);
            assert!(error.to_string().contains("this process"), "{error}");
        }
        // Nobody takes an object above it exclusively, or a neighbour waits for it.
        for above in [ObjectRef::from(realm_at("r")), stack_at().into()] {
            assert!(
                second
                    .lock(&above, LockMode::Exclusive, SHORT)
                    .await
                    .is_err()
            );
            let _shared = second.lock(&above, LockMode::Shared, SHORT).await.unwrap();
        }
        let beside = cell_at("d").into();
        let _beside = second
            .lock(&beside, LockMode::Exclusive, SHORT)
            .await
            .unwrap();
        drop(held);
        let _again = second.lock(&at, LockMode::Exclusive, SHORT).await.unwrap();
    }
    let _realm = store
        .lock(&realm_at("r").into(), LockMode::Exclusive, SHORT)
        .await
        .unwrap();
    assert!(other.lock(&at, LockMode::Shared, SHORT).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn giving_up_leaves_nothing_locked() {
    let (_dir, store) = filled();
    let other = Store::open(store.root()).unwrap();
    let at: ObjectRef = cell_at("c").into();
    let held = other.lock(&at, LockMode::Exclusive, SHORT).await.unwrap();
    for _ in 0..20 {
        let waiting = store.lock(&at, LockMode::Exclusive, LONG);
        let cut = tokio::time::timeout(Duration::from_millis(3), waiting).await;
        assert!(cut.is_err());
    }
    drop(held);
    let begin = Instant::now();
    let _other = other.lock(&at, LockMode::Exclusive, LONG).await.unwrap();
    assert!(begin.elapsed() < Duration::from_secs(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_gets_its_turn_among_readers() {
    let (_dir, store) = filled();
    let at: ObjectRef = realm_at("r").into();
    let stop = tokio_util::sync::CancellationToken::new();
    // Readers of another process that overlap all the time.
    let mut readers = Vec::new();
    for i in 0..4 {
        let (other, at, stop) = (Store::open(store.root()).unwrap(), at.clone(), stop.clone());
        readers.push(tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(7 * i)).await;
            while !stop.is_cancelled() {
                let _held = other.lock(&at, LockMode::Shared, LONG).await.unwrap();
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
        }));
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let got = store
        .lock(&at, LockMode::Exclusive, Duration::from_secs(5))
        .await;
    stop.cancel();
    drop(got.expect("a stream of readers keeps the writer out"));
    for reader in readers {
        reader.await.unwrap();
    }
}

/// Runs the test binary once more as another process that does `work`.
fn another_process(test: &str, root: &Path, work: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture"])
        .env("KUKEON_TEST_ROOT", root)
        .env("KUKEON_TEST_WORK", work)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

fn work() -> Option<(PathBuf, String)> {
    let root = std::env::var_os("KUKEON_TEST_ROOT")?;
    Some((root.into(), std::env::var("KUKEON_TEST_WORK").unwrap()))
}

#[tokio::test]
async fn a_lock_ends_with_its_process() {
    use std::io::Read;

    let at: ObjectRef = cell_at("c").into();
    if let Some((root, _)) = work() {
        let store = Store::open(&root).unwrap();
        let _held = store.lock(&at, LockMode::Exclusive, LONG).await.unwrap();
        println!("locked");
        tokio::time::sleep(LONG).await;
        return;
    }
    let (_dir, store) = filled();
    let mut child = another_process("a_lock_ends_with_its_process", store.root(), "hold")
        .spawn()
        .unwrap();
    let mut output = child.stdout.take().unwrap();
    let mut said = String::new();
    while !said.contains("locked") {
        let mut part = [0; 256];
        let n = output.read(&mut part).unwrap();
        assert_ne!(n, 0, "{said}");
        said.push_str(&String::from_utf8_lossy(&part[..n]));
    }
    let error = store.lock(&at, LockMode::Shared, SHORT).await.unwrap_err();
    assert!(
        matches!(&error, Error::LockTimeout { holders, .. } if holders == &[child.id()]),
        "{error}"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    let _free = store.lock(&at, LockMode::Exclusive, LONG).await.unwrap();
}

/// Two processes raise one number under the lock; none of the steps is lost.
#[tokio::test]
async fn processes_take_turns() {
    const STEPS: i64 = 40;
    async fn raise(store: &Store) {
        for _ in 0..STEPS {
            let at = cell_at("c");
            let _held = store
                .lock(&at.clone().into(), LockMode::Exclusive, LONG)
                .await
                .unwrap();
            let mut cell = store.cell(&at).unwrap().unwrap();
            cell.meta.generation += 1;
            store.put_cell(&cell).unwrap();
        }
    }
    if let Some((root, _)) = work() {
        raise(&Store::open(&root).unwrap()).await;
        return;
    }
    let (_dir, store) = filled();
    store.put_cell(&cell(cell_at("c"), &["one"])).unwrap();
    let mut child = another_process("processes_take_turns", store.root(), "raise")
        .spawn()
        .unwrap();
    raise(&store).await;
    assert!(child.wait().unwrap().success());
    let found = store.cell(&cell_at("c")).unwrap().unwrap();
    assert_eq!(found.meta.generation, 2 * STEPS);
}

/// Readers without a lock see whole documents only, and always the newest one
/// after the writer is done, although versions differ in nothing but content.
#[test]
fn readers_see_whole_and_new_documents() {
    let (_dir, store) = filled();
    let reader = Store::open(store.root()).unwrap();
    let at = cell_at("c");
    let version = |i: i64| {
        let mut cell = cell(cell_at("c"), &["one"]);
        cell.meta.generation = 1000 + i;
        cell
    };
    store.put_cell(&version(0)).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for i in 1..200 {
                store.put_cell(&version(i)).unwrap();
            }
        });
        let mut last = 0;
        while !writer.is_finished() {
            let found = reader.cell(&at).unwrap().unwrap();
            assert!(found.meta.generation >= last);
            last = found.meta.generation;
        }
    });
    assert_eq!(reader.cell(&at).unwrap().unwrap(), version(199));
}

#[test]
fn two_hundred_cells_are_read_quickly() {
    let (_dir, store) = filled();
    for i in 0..200 {
        store
            .put_cell(&cell(cell_at(&format!("c{i}")), &["one", "two"]))
            .unwrap();
    }
    // Past the time in which a file counts as just written.
    std::thread::sleep(Duration::from_millis(80));
    let load = || {
        let begin = Instant::now();
        let cells = store.cells(&stack_at()).unwrap();
        let found = cells.iter().filter_map(|c| store.cell(c).unwrap()).count();
        assert_eq!(found, 200);
        begin.elapsed()
    };
    let cold = load();
    let mut warm: Vec<Duration> = (0..20).map(|_| load()).collect();
    warm.sort();
    println!("200 cells: first {cold:?}, then {:?} (median)", warm[10]);
    // Generous: this is a debug build on a shared machine.
    assert!(warm[10] < Duration::from_millis(50), "{:?}", warm[10]);
    assert!(
        warm[10] * 2 < cold,
        "the cache is not used: {cold:?}, {:?}",
        warm[10]
    );
}

// ---- any sequence ---------------------------------------------------------

#[derive(Debug, Clone)]
enum Action {
    PutRealm(u8, i64),
    PutSpace(u8, u8, i64),
    PutStack(u8, u8, i64),
    PutCell(u8, u8, i64),
    Remove(u8, u8, u8),
    Reopen,
    Settle,
}

fn action() -> impl Strategy<Value = Action> {
    let (n, g) = (0..3_u8, 0..4_i64);
    prop_oneof![
        2 => (n.clone(), g.clone()).prop_map(|(r, g)| Action::PutRealm(r, g)),
        2 => (n.clone(), n.clone(), g.clone()).prop_map(|(r, s, g)| Action::PutSpace(r, s, g)),
        2 => (n.clone(), n.clone(), g.clone()).prop_map(|(r, s, g)| Action::PutStack(r, s, g)),
        3 => (n.clone(), n.clone(), g).prop_map(|(r, s, g)| Action::PutCell(r, s, g)),
        2 => (n.clone(), n, 0..4_u8).prop_map(|(r, s, level)| Action::Remove(r, s, level)),
        1 => Just(Action::Reopen),
        1 => Just(Action::Settle),
    ]
}

fn object(r: u8, s: u8, level: u8) -> ObjectRef {
    let realm = realm_at(&format!("r{r}"));
    let space = realm.space(name(&format!("s{s}")));
    let stack = space.stack(name("t"));
    match level {
        0 => realm.into(),
        1 => space.into(),
        2 => stack.into(),
        _ => stack.cell(name("c")).into(),
    }
}

fn put(store: &Store, at: &ObjectRef, generation: i64) -> Result<(), Error> {
    let meta = Meta {
        generation,
        ..Meta::default()
    };
    match at.clone() {
        ObjectRef::Realm(at) => store.put_realm(&Realm { meta, ..realm(at) }),
        ObjectRef::Space(at) => store.put_space(&Space { meta, ..space(at) }),
        ObjectRef::Stack(at) => store.put_stack(&Stack { meta, ..stack(at) }),
        ObjectRef::Cell(at) => store.put_cell(&Cell {
            meta,
            ..cell(at, &["one"])
        }),
        ObjectRef::Kept(_) => panic!("not in this tree"),
    }
}

fn generation(store: &Store, at: &ObjectRef) -> Option<i64> {
    match at {
        ObjectRef::Realm(at) => store.realm(at).unwrap().map(|o| o.meta.generation),
        ObjectRef::Space(at) => store.space(at).unwrap().map(|o| o.meta.generation),
        ObjectRef::Stack(at) => store.stack(at).unwrap().map(|o| o.meta.generation),
        ObjectRef::Cell(at) => store.cell(at).unwrap().map(|o| o.meta.generation),
        ObjectRef::Kept(_) => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 32,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// The store behaves as a map with the two rules on parents and children,
    /// seen through the store that writes and through another one.
    #[test]
    fn behaves_as_a_map(actions in proptest::collection::vec(action(), 1..40)) {
        let (_dir, mut store) = fresh();
        let reader = Store::open(store.root()).unwrap();
        let mut model: BTreeMap<ObjectRef, i64> = BTreeMap::new();
        for action in actions {
            let target = match action {
                Action::PutRealm(r, g) => Some((object(r, 0, 0), g)),
                Action::PutSpace(r, s, g) => Some((object(r, s, 1), g)),
                Action::PutStack(r, s, g) => Some((object(r, s, 2), g)),
                Action::PutCell(r, s, g) => Some((object(r, s, 3), g)),
                _ => None,
            };
            if let Some((at, g)) = target {
                let fits = at.parent().is_none_or(|p| model.contains_key(&p));
                prop_assert_eq!(put(&store, &at, g).is_ok(), fits);
                if fits {
                    model.insert(at, g);
                }
            }
            match action {
                Action::Remove(r, s, level) => {
                    let at = object(r, s, level);
                    let free = !model.keys().any(|k| k.parent().as_ref() == Some(&at));
                    prop_assert_eq!(store.remove(&at).is_ok(), free);
                    if free {
                        model.remove(&at);
                    }
                }
                Action::Reopen => store = Store::open(store.root()).unwrap(),
                Action::Settle => std::thread::sleep(Duration::from_millis(60)),
                _ => {}
            }
            for store in [&store, &reader] {
                let mut found = store.objects().unwrap();
                found.sort();
                prop_assert_eq!(&found, &model.keys().cloned().collect::<Vec<_>>());
                for at in &found {
                    prop_assert_eq!(generation(store, at), model.get(at).copied());
                }
            }
        }
        for at in model.keys().rev() {
            store.remove(at).unwrap();
        }
        let left: Vec<String> = tree(store.root()).into_keys().collect();
        prop_assert_eq!(left, Vec::<String>::new());
    }
}
