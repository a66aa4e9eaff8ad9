//! The low-level runtime: its messages made fit for people, and its state.

use std::path::Path;

use crate::runtime::{Connection, Error};

/// Where shims let runc keep its state when they are not told.
const DEFAULT_ROOT: &str = "/run/containerd/runc";

/// Removes the directory that runc made for a namespace, which nobody else does.
/// One that still holds a container stays.
pub fn forget_namespace(c: &Connection, namespace: &str) {
    let root = c.runc_root.as_deref().unwrap_or(Path::new(DEFAULT_ROOT));
    if let Err(error) = std::fs::remove_dir(root.join(namespace))
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::debug!(namespace, %error, "state of runc stays");
    }
}

/// Layers through which an error passed; each prepends its own words.
const PREFIXES: [&str; 9] = [
    "failed to create shim task: ",
    "failed to start shim task: ",
    "OCI runtime create failed: ",
    "OCI runtime start failed: ",
    "OCI runtime exec failed: ",
    "runc create failed: ",
    "runc start failed: ",
    "exec failed: ",
    "unable to start container process: ",
];

/// Ways in which runc and crun say that the program cannot be executed.
const NOT_EXECUTABLE: [(&str, &str); 6] = [
    ("executable file not found", "not found in the image's PATH"),
    ("not found in $PATH", "not found in the image's PATH"),
    ("no such file or directory", "no such file in the image"),
    ("permission denied", "it is not executable"),
    ("is a directory", "it is a directory"),
    ("exec format error", "it is built for another platform"),
];

/// The core of a message, without the chain of prefixes and the final code.
pub fn clean(message: &str) -> &str {
    let mut rest = message.trim();
    loop {
        let before = rest;
        for prefix in PREFIXES {
            rest = rest.strip_prefix(prefix).unwrap_or(rest);
        }
        rest = rest.strip_suffix(": unknown").unwrap_or(rest);
        if rest == before {
            return rest;
        }
    }
}

/// The error for a task or exec that containerd could not make or start.
/// `None` when the message does not come from the runtime's attempt to execute.
pub fn command_error(container: &str, message: &str) -> Option<Error> {
    let text = clean(message);
    let (program, rest) = exec_failure(text)?;
    let lower = rest.to_lowercase();
    let (_, cause) = NOT_EXECUTABLE
        .iter()
        .find(|(pattern, _)| lower.contains(&pattern.to_lowercase()))?;
    Some(Error::CommandNotFound {
        container: container.to_owned(),
        command: program,
        cause: (*cause).to_owned(),
    })
}

/// Takes `exec: "program": rest` (runc) or ``executable file `program` rest``
/// (crun) apart.
fn exec_failure(text: &str) -> Option<(String, &str)> {
    if let Some(at) = text.find("exec: \"") {
        let quoted = &text[at + "exec: \"".len()..];
        let mut program = String::new();
        let mut chars = quoted.char_indices();
        while let Some((i, c)) = chars.next() {
            match c {
                '\\' => program.extend(chars.next().map(|(_, c)| c)),
                '"' => return Some((program, &quoted[i + 1..])),
                c => program.push(c),
            }
        }
        return None;
    }
    let quoted = text.split_once("executable file `")?.1;
    let (program, rest) = quoted.split_once('`')?;
    Some((program.to_owned(), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(message: &str) -> (String, String) {
        match command_error("c", message) {
            Some(Error::CommandNotFound { command, cause, .. }) => (command, cause),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn recognises_what_cannot_be_executed() {
        let chain = "failed to create shim task: OCI runtime create failed: runc create failed: \
                     unable to start container process: exec: ";
        let (program, cause) = command(&format!(
            "{chain}\"no\\\"pe\": executable file not found in $PATH: unknown"
        ));
        assert_eq!(program, "no\"pe");
        assert!(cause.contains("PATH"));
        let (program, cause) = command(&format!(
            "{chain}\"/nope\": stat /nope: no such file or directory: unknown"
        ));
        assert_eq!(program, "/nope");
        assert!(cause.contains("no such file"));
        let (_, cause) = command(&format!("{chain}\"/etc\": permission denied: unknown"));
        assert!(cause.contains("not executable"));
        let (program, _) = command(
            "OCI runtime exec failed: executable file `x` not found in $PATH: No such file or directory: unknown",
        );
        assert_eq!(program, "x");
    }

    #[test]
    fn other_failures_are_not_the_commands() {
        let mount = "failed to create shim task: OCI runtime create failed: runc create failed: \
                     unable to start container process: error during container init: error \
                     mounting \"/x\" to rootfs at \"/y\": no such file or directory: unknown";
        assert!(command_error("c", mount).is_none());
        assert_eq!(
            clean(mount),
            "error during container init: error mounting \"/x\" to rootfs at \"/y\": no such \
             file or directory"
        );
    }
}
