//! Manifests for tests.

/// A cell in the default stack with these containers (YAML list items, indented by four).
pub fn cell(name: &str, containers: &str) -> String {
    format!(
        "apiVersion: v1beta1\nkind: Cell\nmetadata:\n  name: {name}\nspec:\n  realmId: default\n  spaceId: default\n  stackId: default\n  containers:\n{containers}"
    )
}

/// One busybox container `main` that runs a shell script.
pub fn container(script: &str, more: &[&str]) -> String {
    let script = serde_json::to_string(script).unwrap();
    let mut text = format!(
        "    - id: main\n      image: busybox\n      command: /bin/sh\n      args: [\"-c\", {script}]\n"
    );
    for line in more {
        text.push_str(&format!("      {line}\n"));
    }
    text
}

/// A cell with one busybox container `main` that runs a shell script; `more`
/// are further fields of the container.
pub fn shell(name: &str, script: &str, more: &[&str]) -> String {
    cell(name, &container(script, more))
}

/// Something on the host that containers wait for, so that they end when the
/// test says so, and not when a busy machine is not looking.
pub struct Gate {
    dir: std::path::PathBuf,
    volume: String,
}

impl Gate {
    /// The shell command that waits.
    pub const WAIT: &str = "until [ -e /gate/open ]; do sleep 0.1; done";

    /// A closed one.
    pub fn new(host: &crate::host::Host, name: &str) -> Self {
        let dir = host.dir.join(format!("gate-{name}"));
        std::fs::create_dir(&dir).unwrap();
        let source = dir.display();
        let volume = format!("volumes: [{{source: {source}, target: /gate, readOnly: true}}]");
        Self { dir, volume }
    }

    /// The field of a container that waits.
    pub fn volume(&self) -> &str {
        &self.volume
    }

    /// Lets those that wait go on.
    pub fn open(&self) {
        std::fs::write(self.dir.join("open"), "").unwrap();
    }
}

/// As [`shell`], but the script begins when the gate is opened.
pub fn gated(name: &str, gate: &Gate, script: &str, more: &[&str]) -> String {
    let script = format!("{}; {script}", Gate::WAIT);
    shell(name, &script, &[&[gate.volume()], more].concat())
}

/// A cell that runs until it is stopped and ends at once on SIGTERM.
pub fn sleeper(name: &str) -> String {
    shell(
        name,
        "trap 'exit 0' TERM; echo up; while :; do sleep 1 & wait $!; done",
        &[],
    )
}
