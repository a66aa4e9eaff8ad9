//! `kuke completion`.

use clap::{Args, ValueEnum};

use crate::api::Error;
use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::failure::Outcome;

/// Print the completion script of a shell
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  source <(kuke completion bash)
  kuke completion zsh > \"${fpath[1]}/_kuke\"
  kuke completion fish > ~/.config/fish/completions/kuke.fish")]
pub struct Completion {
    /// Shell
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

impl Completion {
    /// Prints the script.
    pub async fn run(self, context: &Context) -> Outcome {
        let shell = match self.shell {
            Shell::Bash => "bash",
            Shell::Zsh => "zsh",
            Shell::Fish => "fish",
        };
        let text = complete::script(shell)
            .map_err(|e| Error::failed("Completion", format!("the script of {shell}: {e}")))?;
        context.out.bytes(&text)?;
        Ok(0)
    }
}
