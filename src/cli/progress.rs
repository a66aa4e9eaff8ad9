//! Progress of long work, on standard error only: bars on a terminal, plain
//! lines otherwise.

use std::collections::{BTreeMap, HashMap};
use std::io::IsTerminal;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::api::v1::Progress;

/// Where progress is shown.
pub enum Show {
    /// Bars that are redrawn.
    Bars(MultiProgress, HashMap<String, ProgressBar>),
    /// A line whenever the text of an id changes, with the last text.
    Lines(BTreeMap<String, String>),
}

impl Show {
    /// Chooses by what standard error is.
    pub fn new() -> Self {
        if std::io::stderr().is_terminal() {
            let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10));
            Show::Bars(bars, HashMap::new())
        } else {
            Show::Lines(BTreeMap::new())
        }
    }

    /// Takes one message.
    pub fn update(&mut self, message: &Progress) {
        match self {
            Show::Lines(last) => {
                if let Some(line) = changed_line(last, message) {
                    crate::cli::failure::say!("{line}");
                }
            }
            Show::Bars(bars, by_id) => {
                let bar = by_id.entry(message.id.clone()).or_insert_with(|| {
                    let bar = bars.add(ProgressBar::new(0));
                    bar.set_prefix(short(&message.id));
                    bar
                });
                if message.total > 0 {
                    bar.set_style(bytes_style());
                    bar.set_length(message.total);
                    bar.set_position(message.current);
                } else {
                    bar.set_style(text_style());
                    bar.tick();
                }
                bar.set_message(message.text.clone());
                if message.done {
                    bar.finish();
                }
            }
        }
    }

    /// Runs `print` while no bar is on the screen.
    pub fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        match self {
            Show::Bars(bars, _) => bars.suspend(print),
            Show::Lines(_) => print(),
        }
    }

    /// Takes the bars off the screen.
    pub fn clear(&self) {
        if let Show::Bars(bars, _) = self {
            let _ = bars.clear();
        }
    }
}

impl Drop for Show {
    fn drop(&mut self) {
        self.clear();
    }
}

/// The line to print when the text of an id is new.
fn changed_line(last: &mut BTreeMap<String, String>, message: &Progress) -> Option<String> {
    let shown = last.get(&message.id);
    if shown == Some(&message.text) {
        return None;
    }
    last.insert(message.id.clone(), message.text.clone());
    let size = match message.total {
        0 => String::new(),
        total => format!(" ({})", indicatif::HumanBytes(total)),
    };
    Some(format!("{}: {}{size}", short(&message.id), message.text))
}

/// Digests are cut to the length people compare.
fn short(id: &str) -> String {
    match id.strip_prefix("sha256:") {
        Some(hex) => hex.chars().take(12).collect(),
        None => id.to_owned(),
    }
}

fn bytes_style() -> ProgressStyle {
    ProgressStyle::with_template(
        "{prefix:<16!} {msg:<12!} {wide_bar} {bytes:>10}/{total_bytes:<10} {binary_bytes_per_sec:>12}",
    )
    .unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn text_style() -> ProgressStyle {
    ProgressStyle::with_template("{prefix:<16!} {wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_printed_only_when_the_text_changes() {
        let mut last = BTreeMap::new();
        let mut message = Progress {
            id: format!("sha256:{}", "ab".repeat(32)),
            text: "downloading".into(),
            current: 1,
            total: 2048,
            done: false,
            recorded: false,
        };
        let line = changed_line(&mut last, &message).expect("first");
        assert_eq!(line, "abababababab: downloading (2.00 KiB)");
        message.current = 2;
        assert_eq!(changed_line(&mut last, &message), None);
        message.text = "done".into();
        assert!(changed_line(&mut last, &message).is_some());
    }

    #[test]
    fn the_templates_are_valid() {
        assert!(ProgressStyle::with_template("{prefix:<16!} {wide_msg}").is_ok());
        let bar = ProgressBar::hidden();
        bar.set_style(bytes_style());
        bar.set_length(10);
    }
}
