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

/// A cell that runs until it is stopped and ends at once on SIGTERM.
pub fn sleeper(name: &str) -> String {
    shell(
        name,
        "trap 'exit 0' TERM; echo up; while :; do sleep 1 & wait $!; done",
        &[],
    )
}
