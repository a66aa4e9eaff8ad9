//! Runs on Servings in memory, with failures and crashes wherever they can be.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::model::Name;
use crate::model::delivery::{
    Menu, MenuFailure, MenuMember, MenuRun, MenuSpec, MenuStatus, MenuStrategy, ReleaseMeta,
    Resource, RunPhase,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    None,
    Check,
    Apply,
    Unhealthy,
    Never,
    /// What it leaves behind cannot be removed.
    Prune,
    /// It also cannot be brought back.
    Stuck,
    /// Nobody answers for it, on the way out or back, for a while.
    Away {
        back: bool,
    },
}

#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Member {
    pointer: Option<Name>,
    live: Option<Name>,
    /// Left over from what was there before until it is pruned.
    leftover: bool,
    lock: Option<String>,
}

struct Kitchen {
    members: Mutex<BTreeMap<Name, Member>>,
    saved: Mutex<Option<MenuRun>>,
    trouble: (Name, Trouble),
    /// Calls until the process dies; never when negative.
    left: Mutex<i64>,
    new: Name,
    /// Somebody wants the end of it once this wave is out.
    abort_at: Option<u32>,
    log: Mutex<Vec<String>>,
    /// So many times nobody answers.
    away: Mutex<u32>,
}

/// A wave that stands for the time before all of them.
const PREPARING: u32 = u32::MAX;

struct Crash;

impl Kitchen {
    fn step(&self) -> Result<(), Crash> {
        let mut left = self.left.lock().unwrap();
        *left -= 1;
        if *left == 0 { Err(Crash) } else { Ok(()) }
    }

    /// Whether nobody answers this time.
    fn asked(&self) -> bool {
        let mut away = self.away.lock().unwrap();
        let now = *away > 0;
        *away = away.saturating_sub(1);
        now
    }

    fn has(&self, recipe: &Name, trouble: Trouble) -> bool {
        self.trouble == (recipe.clone(), trouble)
    }
}

#[async_trait]
impl Servings for Kitchen {
    type Error = Crash;

    async fn save(&self, run: &MenuRun) -> Result<(), Crash> {
        self.step()?;
        *self.saved.lock().unwrap() = Some(run.clone());
        // It may also die after the write.
        self.step()
    }

    async fn lock(&self, run: &MenuRun) -> Result<Result<(), String>, Crash> {
        self.step()?;
        let mut members = self.members.lock().unwrap();
        if let Some((name, m)) = members
            .iter()
            .find(|(_, m)| m.lock.as_ref().is_some_and(|l| *l != run.id))
        {
            return Ok(Err(format!("{name} is locked by {:?}", m.lock)));
        }
        members
            .values_mut()
            .for_each(|m| m.lock = Some(run.id.clone()));
        Ok(Ok(()))
    }

    async fn check(&self, run: &MenuRun) -> Checked {
        let members = run.members.iter();
        Checked {
            problems: match &self.trouble {
                (name, Trouble::Check) => vec![(name.clone(), "no image".into())],
                _ => Vec::new(),
            },
            changes: members
                .map(|m| (m.recipe.clone(), vec![format!("create {}", m.recipe)]))
                .collect(),
        }
    }

    async fn point(&self, run: &MenuRun, back: bool) -> Result<(), Crash> {
        self.step()?;
        let mut members = self.members.lock().unwrap();
        for m in &run.members {
            let member = members.get_mut(&m.recipe).unwrap();
            assert_eq!(member.lock.as_ref(), Some(&run.id), "moved without a lock");
            member.pointer = match back {
                true => m.from_preparation.clone(),
                false => Some(m.to_preparation.clone()),
            };
        }
        *self.saved.lock().unwrap() = Some(run.clone());
        drop(members);
        self.step()
    }

    async fn apply(&self, recipe: &Name, wanted: Option<&Name>) -> Result<(), Refusal> {
        self.log
            .lock()
            .unwrap()
            .push(format!("{recipe} {wanted:?}"));
        let mut members = self.members.lock().unwrap();
        let member = members.get_mut(recipe).unwrap();
        assert_eq!(
            member.pointer.as_ref(),
            wanted,
            "applied what is not pointed at"
        );
        let new = wanted == Some(&self.new);
        if new && self.has(recipe, Trouble::Apply) {
            return Err(Refusal::Final("refused".into()));
        }
        if !new && self.has(recipe, Trouble::Stuck) {
            return Err(Refusal::Final("stuck".into()));
        }
        let away = |back| self.has(recipe, Trouble::Away { back });
        if away(!new) && self.asked() {
            return Err(Refusal::Passing("nobody answers".into()));
        }
        // What it changes away from is left, whichever way it goes.
        member.leftover |=
            wanted.is_some() && member.live.is_some() && member.live.as_ref() != wanted;
        member.leftover &= wanted.is_some();
        member.live = wanted.cloned();
        Ok(())
    }

    async fn health(&self, recipe: &Name, wanted: Option<&Name>) -> Health {
        let members = self.members.lock().unwrap();
        let live = &members[recipe].live;
        if live.as_ref() != wanted {
            return Health::Waiting("old".into());
        }
        let new = wanted == Some(&self.new);
        match self.trouble.1 {
            Trouble::Unhealthy | Trouble::Stuck | Trouble::Away { back: true }
                if new && self.trouble.0 == *recipe =>
            {
                Health::Failed("exited with 1".into())
            }
            Trouble::Never if new && self.trouble.0 == *recipe => {
                Health::Waiting("starting".into())
            }
            _ => Health::Healthy,
        }
    }

    fn abort_asked(&self, run: &MenuRun) -> bool {
        self.abort_at.is_some_and(|wave| {
            if wave == PREPARING {
                return run.phase == RunPhase::Preparing;
            }
            let out = |m: &crate::model::delivery::MenuRunMember| {
                m.wave == wave && m.outcome == crate::model::delivery::MemberOutcome::Deployed
            };
            run.members.iter().any(out)
        })
    }

    async fn prune(&self, recipe: &Name) -> Result<(), String> {
        if self.step().is_err() {
            // It died: neither the others nor what comes next are reached.
            *self.left.lock().unwrap() = 1;
            return Err("died".into());
        }
        if self.has(recipe, Trouble::Prune) {
            return Err("busy".into());
        }
        self.members
            .lock()
            .unwrap()
            .get_mut(recipe)
            .unwrap()
            .leftover = false;
        Ok(())
    }

    async fn unlock(&self, run: &MenuRun) -> Result<(), Crash> {
        self.step()?;
        for m in self.members.lock().unwrap().values_mut() {
            if m.lock.as_ref() == Some(&run.id) {
                m.lock = None;
            }
        }
        *self.saved.lock().unwrap() = Some(run.clone());
        self.step()
    }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn pointer(text: &str) -> Pointer {
    Pointer {
        preparation: name(text),
        digest: format!("sha256:{text}"),
    }
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// A Menu of `a` … where each member may depend on those before it.
fn menu(depends: &[Vec<usize>], on_failure: MenuFailure) -> Menu {
    let recipes = depends.iter().enumerate().map(|(i, on)| MenuMember {
        name: name(NAMES[i]),
        preparation: None,
        depends_on: on
            .iter()
            .map(|j| name(NAMES[j % (i.max(1))]))
            .filter(|_| i > 0)
            .collect(),
    });
    Menu {
        meta: ReleaseMeta::new(name("default"), name("lunch")),
        spec: MenuSpec {
            recipes: recipes.collect(),
            strategy: MenuStrategy {
                health_timeout: Duration::from_millis(50),
                min_healthy: Duration::from_millis(1),
                on_failure,
                ..MenuStrategy::default()
            },
            auto_deploy_latest: false,
            exclusive: true,
            suspend: false,
        },
        status: MenuStatus::default(),
    }
}

struct World {
    menu: Menu,
    kitchen: Kitchen,
    before: BTreeMap<Name, Member>,
    run: MenuRun,
}

/// The first member serves nothing yet where `fresh`.
fn world(menu: Menu, fresh: bool, trouble: (usize, Trouble), crash: i64) -> World {
    let members: Vec<_> = menu.spec.recipes.iter().map(|m| m.name.clone()).collect();
    let from = |i: usize| (i > 0 || !fresh).then(|| pointer("old"));
    let pairs: Vec<_> = (0..members.len())
        .map(|i| (from(i), pointer("new")))
        .collect();
    let Decision::Run(run) = decide(&menu, &pairs, false, "me", Timestamp::now()) else {
        panic!("there is something to do");
    };
    let state = |i: usize| Member {
        pointer: from(i).map(|p| p.preparation),
        live: from(i).map(|p| p.preparation),
        ..Member::default()
    };
    let before: BTreeMap<_, _> = members
        .iter()
        .cloned()
        .enumerate()
        .map(|(i, n)| (n, state(i)))
        .collect();
    let kitchen = Kitchen {
        trouble: (members[trouble.0 % members.len()].clone(), trouble.1),
        members: Mutex::new(before.clone()),
        saved: Mutex::new(None),
        left: Mutex::new(crash),
        new: name("new"),
        abort_at: None,
        log: Mutex::default(),
        away: Mutex::new(3),
    };
    World {
        menu,
        kitchen,
        before,
        run,
    }
}

impl World {
    /// Drives it to the end, through every crash. None: it died before it was saved.
    async fn drive(&self, crashes: &[i64]) -> Option<MenuRun> {
        let strategy = &self.menu.spec.strategy;
        if let Ok(run) = drive(&self.kitchen, strategy, self.run.clone(), false).await {
            return Some(run);
        }
        for again in crashes.iter().copied().chain([-1]) {
            *self.kitchen.left.lock().unwrap() = again;
            let saved = self.kitchen.saved.lock().unwrap().clone()?;
            if let Ok(run) = drive(&self.kitchen, strategy, saved, true).await {
                return Some(run);
            }
        }
        panic!("the last drive has no crash");
    }

    fn members(&self) -> BTreeMap<Name, Member> {
        self.kitchen.members.lock().unwrap().clone()
    }

    fn all_new(&self) -> bool {
        let new = Some(name("new"));
        self.members()
            .values()
            .all(|m| m.pointer == new && m.live == new && !m.leftover && m.lock.is_none())
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_goes_out_in_waves() {
    let world = world(
        menu(&[vec![], vec![0], vec![1]], MenuFailure::Rollback),
        true,
        (0, Trouble::None),
        -1,
    );
    let run = world.drive(&[]).await.unwrap();
    assert_eq!(run.phase, RunPhase::Committed);
    assert!(world.all_new(), "{:?}", world.members());
    // What is over cannot be ended any more.
    let strategy = &world.menu.spec.strategy;
    let late = abort(&world.kitchen, strategy, run.clone(), true).await;
    assert_eq!(late.ok().map(|late| late.phase), Some(RunPhase::Committed));
    assert_eq!(
        run.members.iter().map(|m| m.wave).collect::<Vec<_>>(),
        [0, 1, 2]
    );
    let log = world.kitchen.log.lock().unwrap().clone();
    assert_eq!(
        log,
        ["a Some(\"new\")", "b Some(\"new\")", "c Some(\"new\")"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_failing_member_brings_all_back() {
    for trouble in [Trouble::Apply, Trouble::Unhealthy, Trouble::Never] {
        let world = world(
            menu(&[vec![], vec![0], vec![1]], MenuFailure::Rollback),
            true,
            (1, trouble),
            -1,
        );
        let run = world.drive(&[]).await.unwrap();
        assert_eq!(run.phase, RunPhase::RolledBack, "{trouble:?} {run:?}");
        assert_eq!(world.members(), world.before, "{trouble:?}");
        assert!(
            run.message.contains('b') || trouble == Trouble::Never,
            "{}",
            run.message
        );
        // The highest wave goes back first; `a` had nothing before.
        let log = world.kitchen.log.lock().unwrap().clone();
        let back: Vec<_> = log.iter().rev().take(3).rev().cloned().collect();
        assert_eq!(back, ["c Some(\"old\")", "b Some(\"old\")", "a None"]);
    }
}

#[tokio::test(start_paused = true)]
async fn leftovers_that_stay_are_told_and_hold_nothing_up() {
    let menu = menu(&[vec![], vec![0]], MenuFailure::Rollback);
    let world = world(menu, false, (1, Trouble::Prune), -1);
    let run = world.drive(&[]).await.unwrap();
    assert_eq!(run.phase, RunPhase::Committed, "{run:?}");
    let told: Vec<_> = run.members.iter().map(|m| m.message.as_str()).collect();
    assert_eq!(told, ["", "removing the leftovers failed: busy"]);
    let left: Vec<_> = world.members().values().map(|m| m.leftover).collect();
    assert_eq!(left, [false, true], "{:?}", world.members());
    assert!(world.members().values().all(|m| m.lock.is_none()));
}

#[tokio::test(start_paused = true)]
async fn who_does_not_answer_has_the_time_of_the_run() {
    let world = |on_failure, trouble, limit, times| {
        let mut menu = menu(&[vec![], vec![0]], on_failure);
        menu.spec.strategy.health_timeout = Duration::from_secs(limit);
        let world = world(menu, false, (1, trouble), -1);
        *world.kitchen.away.lock().unwrap() = times;
        world
    };
    let out = Trouble::Away { back: false };
    let short = world(MenuFailure::Rollback, out, 60, 3);
    let run = short.drive(&[]).await.unwrap();
    assert_eq!(run.phase, RunPhase::Committed, "{run:?}");
    assert!(short.all_new());

    // Time of the tests does not go on for what is saved: the limit is over at once.
    let long = world(MenuFailure::Rollback, out, 0, u32::MAX);
    let run = long.drive(&[]).await.unwrap();
    assert_eq!(run.phase, RunPhase::RolledBack, "{run:?}");
    assert_eq!(long.members(), long.before);

    let back = Trouble::Away { back: true };
    let short = world(MenuFailure::Rollback, back, 60, 3);
    let run = short.drive(&[]).await.unwrap();
    assert_eq!(run.phase, RunPhase::RolledBack, "{run:?}");
    assert_eq!(short.members(), short.before);
    let long = world(MenuFailure::Rollback, back, 0, u32::MAX);
    let run = long.drive(&[]).await.unwrap();
    assert_eq!(run.phase, RunPhase::Failed, "{run:?}");
    assert!(run.message.contains("nobody answers"), "{}", run.message);
}

#[tokio::test(start_paused = true)]
async fn a_failed_check_changes_nothing() {
    let world = world(
        menu(&[vec![], vec![]], MenuFailure::Rollback),
        false,
        (1, Trouble::Check),
        -1,
    );
    let run = world.drive(&[]).await.unwrap();
    assert_eq!(run.phase, RunPhase::PrepareFailed);
    assert_eq!(run.message, "b: no image");
    assert_eq!(run.members[1].changes, ["create b"]);
    assert_eq!(world.members(), world.before);
    assert!(world.kitchen.log.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn halt_keeps_the_locks_until_somebody_decides() {
    let world = world(
        menu(&[vec![], vec![0]], MenuFailure::Halt),
        false,
        (1, Trouble::Unhealthy),
        -1,
    );
    let run = world.drive(&[]).await.unwrap();
    assert_eq!(run.phase, RunPhase::Failed);
    assert!(world.members().values().all(|m| m.lock.is_some()));
    let strategy = &world.menu.spec.strategy;
    let run = abort(&world.kitchen, strategy, run, false)
        .await
        .ok()
        .unwrap();
    assert_eq!(run.phase, RunPhase::RolledBack);
    assert_eq!(world.members(), world.before);
}

#[tokio::test(start_paused = true)]
async fn a_run_can_be_ended_on_its_way() {
    let menu = menu(&[vec![], vec![0]], MenuFailure::Halt);
    let mut world = world(menu, false, (0, Trouble::None), -1);
    world.kitchen.abort_at = Some(0);
    let run = world.drive(&[]).await.unwrap();
    assert_eq!(
        (run.phase, run.message.as_str()),
        (RunPhase::RolledBack, "aborted")
    );
    assert_eq!(world.members(), world.before);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_ended_while_it_prepares_moves_nothing() {
    let menu = menu(&[vec![], vec![0]], MenuFailure::Rollback);
    let mut world = world(menu, false, (0, Trouble::None), -1);
    world.kitchen.abort_at = Some(PREPARING);
    let run = world.drive(&[]).await.unwrap();
    assert_eq!(
        (run.phase, run.message.as_str()),
        (RunPhase::Aborted, "aborted")
    );
    assert!(world.kitchen.log.lock().unwrap().is_empty());
    assert_eq!(world.members(), world.before);
}

#[tokio::test(start_paused = true)]
async fn who_cannot_go_back_keeps_the_locks_and_can_be_forced() {
    let world = world(
        menu(&[vec![], vec![0]], MenuFailure::Rollback),
        false,
        (1, Trouble::Stuck),
        -1,
    );
    let run = world.drive(&[]).await.unwrap();
    assert_eq!(run.phase, RunPhase::Failed);
    assert!(run.message.starts_with(ROLLBACK_FAILED), "{}", run.message);
    let strategy = &world.menu.spec.strategy;
    let again = retry(&world.kitchen, strategy, run.clone())
        .await
        .ok()
        .unwrap();
    assert_eq!(again.phase, RunPhase::Failed);
    let forced = abort(&world.kitchen, strategy, again, true)
        .await
        .ok()
        .unwrap();
    assert_eq!(forced.phase, RunPhase::Aborted);
    assert!(world.members().values().all(|m| m.lock.is_none()));
}

#[tokio::test(start_paused = true)]
async fn a_member_of_another_run_is_left_alone() {
    let world = world(
        menu(&[vec![], vec![]], MenuFailure::Rollback),
        false,
        (0, Trouble::None),
        -1,
    );
    world
        .kitchen
        .members
        .lock()
        .unwrap()
        .get_mut(&name("b"))
        .unwrap()
        .lock = Some("other/7".into());
    let before = world.members();
    let run = world.drive(&[]).await.unwrap();
    assert_eq!(run.phase, RunPhase::PrepareFailed);
    assert!(run.message.contains("other/7"), "{}", run.message);
    assert_eq!(world.members(), before);
}

#[test]
fn what_failed_before_waits_for_a_change() {
    let mut menu = menu(&[vec![], vec![]], MenuFailure::Rollback);
    let now = Timestamp::now();
    let pairs = [
        (None, pointer("new")),
        (Some(pointer("old")), pointer("new")),
    ];
    let Decision::Run(run) = decide(&menu, &pairs, false, "me", now) else {
        panic!()
    };
    menu.status.last_failed_plan_hash = Some(run.plan_hash.clone());
    menu.status.runs.push(run);
    assert_eq!(
        decide(&menu, &pairs, false, "me", now),
        Decision::FailedBefore
    );
    let Decision::Run(again) = decide(&menu, &pairs, true, "me", now) else {
        panic!()
    };
    assert_eq!(again.id, "2");
    menu.spec.strategy.health_timeout = Duration::from_secs(9);
    assert!(matches!(
        decide(&menu, &pairs, false, "me", now),
        Decision::Run(_)
    ));
    let same = [
        (Some(pointer("new")), pointer("new")),
        (Some(pointer("new")), pointer("new")),
    ];
    assert_eq!(decide(&menu, &same, false, "me", now), Decision::Nothing);
}

#[test]
fn one_resource_has_one_owner() {
    let cell = |name: &str, hash: &str| Resource {
        api_version: "v1beta1".into(),
        kind: "Cell".into(),
        name: name.into(),
        hash: hash.into(),
        ..Resource::default()
    };
    let member =
        |name_: &str, place: &str, cells: Vec<Resource>| (name(name_), place.to_owned(), cells);
    let a = member("a", "realm shop", vec![cell("web", "1"), cell("db", "1")]);
    let b = member("b", "realm shop", vec![cell("web", "2")]);
    let clash = claims(&[a.clone(), b]).unwrap_err();
    assert_eq!(clash.to_string(), "Cell \"web\" is in both a and b");
    let elsewhere = member("b", "realm other", vec![cell("web", "2")]);
    assert_eq!(claims(&[a, elsewhere]), Ok(()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Whatever fails, and wherever the process dies, again and again: in the
    /// end every member is new, or every member is as it was.
    #[test]
    fn all_new_or_all_old(
        depends in prop::collection::vec(prop::collection::vec(0usize..4, 0..3), 2..=4),
        fresh: bool,
        who in 0usize..4,
        trouble in prop::sample::select(vec![
            Trouble::None, Trouble::Check, Trouble::Apply, Trouble::Unhealthy, Trouble::Never,
        ]),
        crashes in prop::collection::vec(1i64..30, 0..4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let first = crashes.first().copied().unwrap_or(-1);
            let mut menu = menu(&depends, MenuFailure::Rollback);
            if trouble != Trouble::Never {
                // Only what never becomes healthy runs out of time.
                menu.spec.strategy.health_timeout = Duration::from_secs(3600);
            }
            let world = world(menu, fresh, (who, trouble), first);
            let run = world.drive(crashes.get(1..).unwrap_or_default()).await;
            match run.as_ref().map(|r| r.phase) {
                Some(RunPhase::Committed) => prop_assert!(world.all_new(), "{:?}", world.members()),
                Some(RunPhase::RolledBack | RunPhase::PrepareFailed) | None => {
                    prop_assert_eq!(world.members(), world.before.clone());
                }
                other => prop_assert!(false, "ended in {:?}: {:?}", other, run),
            }
            if trouble == Trouble::None && crashes.is_empty() {
                prop_assert_eq!(run.map(|r| r.phase), Some(RunPhase::Committed));
            }
            Ok(())
        })?;
    }
}

/// What comes next after all members of a run were healthy for so long, when so
/// much time has gone by since it began.
fn verifying(healthy_for: u64, gone: u64) -> Step {
    let menu = menu(&[vec![], vec![]], MenuFailure::Rollback);
    let pairs = [(None, pointer("new")), (None, pointer("new"))];
    let began = Timestamp::now();
    let Decision::Run(mut run) = decide(&menu, &pairs, false, "me", began) else {
        panic!("there is something to do");
    };
    run.phase = RunPhase::Verifying;
    let strategy = MenuStrategy {
        health_timeout: Duration::from_secs(60),
        min_healthy: Duration::from_secs(10),
        ..MenuStrategy::default()
    };
    let members = run.members.iter();
    let look = Look {
        now: began + Duration::from_secs(gone),
        members: members
            .map(|m| (m.recipe.clone(), Health::Healthy))
            .collect(),
        healthy_for: Duration::from_secs(healthy_for),
    };
    next(&run, &strategy, &look)
}

#[test]
fn the_time_together_is_part_of_the_health_timeout() {
    assert_eq!(verifying(9, 59), Step::Wait);
    assert_eq!(verifying(10, 60), Step::Commit);
    // It was reached in time, and seen late.
    assert_eq!(verifying(15, 65), Step::Commit);
    assert!(matches!(verifying(5, 61), Step::RollBack(_)));
    assert!(matches!(verifying(10, 65), Step::RollBack(_)));
}
