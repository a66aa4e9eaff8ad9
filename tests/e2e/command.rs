//! Programs that are run to their end, with a time limit, and what they said.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::runner::note;

/// What a program said and how it ended.
#[derive(Debug, Clone)]
pub struct Done {
    /// The command line, for messages.
    pub line: String,
    /// Exit code; minus the signal's number if one ended it.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// How long it took.
    pub took: Duration,
}

impl Done {
    /// Fails the test unless the program ended with 0.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.code(0)
    }

    /// Fails the test unless the program ended with this code.
    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert!(
            self.code == code,
            "wanted exit code {code}\n{}",
            self.show()
        );
        self
    }

    /// Fails the test unless all these words are in what it said.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Self {
        for word in words {
            assert!(
                self.out.contains(word) || self.err.contains(word),
                "wanted to read {word:?}\n{}",
                self.show()
            );
        }
        self
    }

    /// Fails the test if one of these words is in what it said.
    #[track_caller]
    pub fn says_nothing_of(self, words: &[&str]) -> Self {
        for word in words {
            assert!(
                !self.out.contains(word) && !self.err.contains(word),
                "did not want to read {word:?}\n{}",
                self.show()
            );
        }
        self
    }

    /// Standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("not JSON: {e}\n{}", self.show()))
    }

    /// For people.
    pub fn show(&self) -> String {
        let cut = |s: &str| match s.char_indices().nth(4000) {
            Some((at, _)) => format!("{}…", &s[..at]),
            None => s.trim_end().to_owned(),
        };
        format!(
            "$ {}\n[{} in {:.2} s]\n{}\n{}",
            self.line,
            self.code,
            self.took.as_secs_f32(),
            cut(&self.out),
            cut(&self.err)
        )
    }
}

/// A program that runs.
pub struct Running {
    line: String,
    child: Child,
    out: Arc<Mutex<Vec<u8>>>,
    err: Arc<Mutex<Vec<u8>>>,
    readers: Vec<JoinHandle<()>>,
    started: Instant,
}

fn reader(mut from: impl Read + Send + 'static, into: Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(n) = from.read(&mut buffer) {
            if n == 0 {
                break;
            }
            into.lock().unwrap().extend_from_slice(&buffer[..n]);
        }
    })
}

impl Running {
    /// Starts a program. Without `input` its standard input is empty.
    pub fn start(mut command: Command, line: String, input: Option<Vec<u8>>) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.stdin(if input.is_some() {
            Stdio::piped()
        } else {
            Stdio::null()
        });
        let mut child = command
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {line}: {e}"));
        let out = Arc::new(Mutex::new(Vec::new()));
        let err = Arc::new(Mutex::new(Vec::new()));
        let readers = vec![
            reader(child.stdout.take().unwrap(), out.clone()),
            reader(child.stderr.take().unwrap(), err.clone()),
        ];
        if let Some(input) = input {
            let mut stdin = child.stdin.take().unwrap();
            // Who does not read its input closes the pipe: no failure of the test.
            std::thread::spawn(move || stdin.write_all(&input).ok());
        }
        Self {
            line,
            child,
            out,
            err,
            readers,
            started: Instant::now(),
        }
    }

    /// Standard output so far.
    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.out.lock().unwrap()).into_owned()
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended.
    pub fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits until it handles SIGINT itself, or has ended (proc(5), `SigCgt`).
    #[track_caller]
    pub fn await_handler(&mut self) {
        let status = format!("/proc/{}/status", self.child.id());
        eventually(20.0, "it takes over SIGINT", || {
            let text = std::fs::read_to_string(&status).unwrap_or_default();
            let mut caught = text.lines().filter_map(|l| l.strip_prefix("SigCgt:"));
            let caught = caught.next().map_or(0, |mask| {
                u64::from_str_radix(mask.trim(), 16).unwrap_or_default()
            });
            caught & (1 << (Signal::SIGINT as i32 - 1)) != 0 || !self.alive()
        });
    }

    /// Sends a signal; a gone process is no failure.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).ok();
    }

    /// Waits for its end; fails the test when it takes longer.
    #[track_caller]
    pub fn wait(mut self, limit: Duration) -> Done {
        use std::os::unix::process::ExitStatusExt;
        let deadline = Instant::now() + limit;
        let status = loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                break status;
            }
            if Instant::now() > deadline {
                self.child.kill().ok();
                self.child.wait().ok();
                let said = String::from_utf8_lossy(&self.err.lock().unwrap()).into_owned();
                panic!(
                    "still running after {limit:?}: {}\n{}\n{said}",
                    self.line,
                    self.out()
                );
            }
            std::thread::sleep(Duration::from_millis(3));
        };
        let took = self.started.elapsed();
        // A background child may hold the pipe open: what came so far is enough.
        let patience = Instant::now() + Duration::from_secs(1);
        while self.readers.iter().any(|r| !r.is_finished()) && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(2));
        }
        let err = String::from_utf8_lossy(&self.err.lock().unwrap()).into_owned();
        let done = Done {
            line: self.line.clone(),
            code: status
                .code()
                .unwrap_or_else(|| -status.signal().unwrap_or(0)),
            out: self.out(),
            err,
            took,
        };
        note(done.show());
        done
    }
}

/// Runs a program of the system to its end and returns what it said.
#[track_caller]
pub fn system(program: &str, arguments: &[&str]) -> Done {
    let mut command = Command::new("env");
    command.arg(program).args(arguments);
    command.env("PATH", crate::world::path());
    let line = format!("{program} {}", arguments.join(" "));
    Running::start(command, line, None).wait(Duration::from_secs(60))
}

/// How much longer than an idle machine a busy one may take.
const BUSY: f32 = 6.0;

/// Fails the test unless `check` becomes true. The seconds are those of an idle
/// machine; since a test goes on as soon as it can, a busy one is given more.
#[track_caller]
pub fn eventually(seconds: f32, what: &str, mut check: impl FnMut() -> bool) {
    let seconds = seconds * BUSY;
    let deadline = Instant::now() + Duration::from_secs_f32(seconds);
    while !check() {
        assert!(Instant::now() < deadline, "not within {seconds} s: {what}");
        std::thread::sleep(Duration::from_millis(30));
    }
}
