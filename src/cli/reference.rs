//! `docs/cli.md` is made from the definitions, and this test keeps the two
//! together. Run it with `KUKEON_WRITE_DOCS=1` to write the file anew.

use std::fmt::Write;
use std::path::Path;

use clap::Command;

use super::args;

const HEAD: &str = "# Command line reference\n\n\
    Made from the definitions in `src/cli/`; every flag of a verb can also be given as \
    `KUKE_<VERB>_<FLAG>`, and a scope flag of `get` and `delete` as \
    `KUKE_<VERB>_<KIND>_<FLAG>`. Precedence: flag, environment, file, default.\n\n\
    Exit codes: 0 done; 1 failed; 2 usage; 3 not found; 4 refused or in conflict; 5 daemon or \
    containerd unreachable; 6 permission; 7 timed out. `run` in the foreground and `exec` give \
    the workload's own code, 125 when kukeon failed, 126 when the program cannot be executed, \
    127 when it does not exist. An interrupted verb ends with 130.\n";

fn render() -> String {
    let mut command = args::command().term_width(90);
    command.build();
    let mut text = HEAD.to_owned();
    append(&mut text, &mut command, "kuke");
    text
}

fn append(text: &mut String, command: &mut Command, path: &str) {
    let mut shown = command.clone();
    if path != "kuke" {
        // The same for every verb: shown once, above.
        shown = shown.mut_args(|arg| {
            let global = arg.get_help_heading() == Some("Global options");
            if global { arg.hide(true) } else { arg }
        });
    }
    let help = shown.render_help().to_string();
    let lines: Vec<_> = help.lines().map(str::trim_end).collect();
    let _ = write!(
        text,
        "\n## {path}\n\n```text\n{}\n```\n",
        lines.join("\n").trim_end()
    );
    for inner in command.get_subcommands_mut() {
        if inner.get_name() == "help" {
            continue;
        }
        let path = format!("{path} {}", inner.get_name());
        append(text, inner, &path);
    }
}

#[test]
fn the_reference_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md");
    let text = render();
    if std::env::var_os("KUKEON_WRITE_DOCS").is_some() {
        std::fs::write(&path, &text).expect("docs/cli.md");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = text
        .lines()
        .zip(written.lines())
        .find(|(now, then)| now != then);
    assert!(
        text == written,
        "docs/cli.md is out of date (first difference: {differs:?}); write it anew with KUKEON_WRITE_DOCS=1"
    );
}
