//! Runs the cases on a few threads and reports them in the words of the
//! standard test runner, with a third outcome: skipped, with its reason.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

/// Why a test cannot run on this machine.
pub struct Skip(pub String);

/// What a test returns; a failure is a panic.
pub type Verdict = Result<(), Skip>;

/// A named test.
#[derive(Clone, Copy)]
pub struct Case {
    /// `module::function`, with `::daemon` or `::in_process` where it runs both ways.
    pub name: &'static str,
    /// The test itself.
    pub run: fn() -> Verdict,
}

/// Cases of functions without argument.
#[macro_export]
macro_rules! cases {
    ($($test:ident),* $(,)?) => {
        &[$($crate::runner::Case { name: concat!(module_path!(), "::", stringify!($test)), run: $test }),*]
    };
}

/// Cases of functions that take a [`crate::host::Mode`], one for each mode.
#[macro_export]
macro_rules! cases_in_both_modes {
    ($($test:ident),* $(,)?) => {
        &[$(
            $crate::runner::Case {
                name: concat!(module_path!(), "::", stringify!($test), "::daemon"),
                run: || $test($crate::host::Mode::Daemon),
            },
            $crate::runner::Case {
                name: concat!(module_path!(), "::", stringify!($test), "::in_process"),
                run: || $test($crate::host::Mode::InProcess),
            },
        )*]
    };
}

thread_local! {
    static TRANSCRIPT: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Does something of which nothing is shown if the test fails.
pub fn quietly<T>(f: impl FnOnce() -> T) -> T {
    let before = QUIET.replace(true);
    let done = f();
    QUIET.set(before);
    done
}

/// Adds to what is shown if the test of this thread fails.
pub fn note(text: impl Into<String>) {
    if !QUIET.get() {
        TRANSCRIPT.with_borrow_mut(|t| t.push(text.into()));
    }
}

struct Options {
    filters: Vec<String>,
    skips: Vec<String>,
    exact: bool,
    list: bool,
    threads: usize,
}

fn options() -> Options {
    let mut options = Options {
        filters: Vec::new(),
        skips: Vec::new(),
        exact: false,
        list: false,
        threads: 4,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--list" => options.list = true,
            "--exact" => options.exact = true,
            "--skip" => options.skips.extend(arguments.next()),
            "--test-threads" => {
                options.threads = arguments.next().and_then(|n| n.parse().ok()).unwrap_or(1);
            }
            flag if flag.starts_with('-') => {}
            filter => options.filters.push(filter.to_owned()),
        }
    }
    options
}

/// Name without the crate: `main::apply::twice` is `apply::twice` to people.
fn short(name: &str) -> &str {
    name.split_once("::").map_or(name, |(_, rest)| rest)
}

/// Runs what the arguments select. `ready` says why nothing can run here, if so.
pub fn run(groups: &[&[Case]], ready: impl Fn() -> Verdict, clean: impl FnOnce()) -> ExitCode {
    let options = options();
    let matches = |name: &str, pattern: &String| {
        if options.exact {
            name == pattern
        } else {
            name.contains(pattern.as_str())
        }
    };
    let all: Vec<Case> = groups.concat();
    let selected: VecDeque<Case> = all
        .iter()
        .filter(|c| {
            let name = short(c.name);
            (options.filters.is_empty() || options.filters.iter().any(|f| matches(name, f)))
                && !options.skips.iter().any(|s| matches(name, s))
        })
        .copied()
        .collect();
    if options.list {
        selected
            .iter()
            .for_each(|c| println!("{}: test", short(c.name)));
        return ExitCode::SUCCESS;
    }
    let total = selected.len();
    let started = Instant::now();
    println!("\nrunning {total} tests");
    let unready = ready().err();
    panic::set_hook(Box::new(|info| {
        QUIET.set(false);
        note(format!("panic: {info}"));
    }));
    let queue = Mutex::new(selected);
    let tally = Mutex::new((0_usize, Vec::new(), 0_usize));
    std::thread::scope(|scope| {
        for _ in 0..options.threads.clamp(1, 16) {
            scope.spawn(|| {
                loop {
                    let Some(case) = queue.lock().unwrap().pop_front() else {
                        break;
                    };
                    let name = short(case.name);
                    TRANSCRIPT.take();
                    let began = Instant::now();
                    let verdict = match &unready {
                        Some(Skip(reason)) => Ok(Err(Skip(reason.clone()))),
                        None => panic::catch_unwind(AssertUnwindSafe(case.run)),
                    };
                    let took = began.elapsed().as_secs_f32();
                    let mut tally = tally.lock().unwrap();
                    match verdict {
                        Ok(Ok(())) => {
                            tally.0 += 1;
                            println!("test {name} ... ok ({took:.1} s)");
                        }
                        Ok(Err(Skip(reason))) => {
                            tally.2 += 1;
                            println!("skipped: {name}: {reason}");
                        }
                        Err(_) => {
                            println!("test {name} ... FAILED ({took:.1} s)");
                            TRANSCRIPT
                                .take()
                                .iter()
                                .for_each(|line| println!("    {}", line.replace('\n', "\n    ")));
                            tally.1.push(name);
                        }
                    }
                }
            });
        }
    });
    clean();
    let (passed, failures, skipped) = tally.into_inner().unwrap();
    if !failures.is_empty() {
        println!("\nfailures:");
        failures.iter().for_each(|name| println!("    {name}"));
    }
    println!(
        "\ntest result: {}. {passed} passed; {} failed; {skipped} ignored; 0 measured; {} filtered out; finished in {:.2}s",
        if failures.is_empty() { "ok" } else { "FAILED" },
        failures.len(),
        all.len() - total,
        started.elapsed().as_secs_f32(),
    );
    if failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
