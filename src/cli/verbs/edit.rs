//! `kuke edit`: an object in the person's editor, and applied when it changed.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use clap::Args;
use serde_json::Value;

use crate::api::v1::{self, Object, ResourceResult};
use crate::api::{self, Code, Error, Release, Result, yaml};
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome, usage};
use crate::cli::follow::{follow, single_failure};
use crate::cli::kind::Kind;
use crate::cli::output::Format;
use crate::cli::scope::PlaceFlags;
use crate::cli::verbs::apply::{Results, print_result, settled};
use crate::cli::verbs::release::Patience;
use crate::model;

/// Variables that name the editor, and what is used without them.
const EDITORS: [&str; 2] = ["KUKE_EDITOR", "EDITOR"];
const EDITOR: &str = "vi";
/// What stands in front of every line that is not part of the object.
const COMMENT: &str = "# ";

/// Change an object in an editor
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "The editor is $KUKE_EDITOR, else $EDITOR, else vi. What is refused is opened again with the reason
on top. A file that is saved unchanged, or empty, changes nothing. If somebody else changed the
object meanwhile, nothing is changed (exit code 4) and what was written is kept.

Examples:
  kuke edit recipe web
  kuke edit cell web --space shop
  KUKE_EDITOR='sed -i s/1.0/1.1/' kuke edit recipe web"
)]
pub struct Edit {
    /// Kind
    #[arg(value_name = "KIND")]
    kind: Kind,
    /// Name
    #[arg(value_name = "NAME")]
    name: String,
    /// Message for the history of a Recipe
    #[arg(long, short, value_name = "TEXT")]
    message: Option<String>,
    #[command(flatten)]
    place: PlaceFlags,
    /// Only show what would change
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
    #[command(flatten)]
    patience: Patience,
    /// Output format
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

impl Edit {
    /// Opens, reads, applies.
    pub async fn run(self, context: &Context) -> Outcome {
        let what = Edited {
            kind: self.kind,
            name: self.name,
            scope: self.place.scope().of(self.kind),
            message: self.message,
            dry_run: self.dry_run,
            patience: self.patience,
            output: self.output,
        };
        what.run(context).await
    }
}

/// What is edited.
pub struct Edited {
    /// Kind.
    pub kind: Kind,
    /// Name.
    pub name: String,
    /// Where it lives.
    pub scope: v1::Scope,
    /// Message for the history of a Recipe.
    pub message: Option<String>,
    /// Nothing is changed.
    pub dry_run: bool,
    /// Whether it has to become ready.
    pub patience: Patience,
    /// How the answer is printed.
    pub output: Format,
}

impl Edited {
    /// Opens, reads, applies, until it is taken or given up.
    pub async fn run(self, context: &Context) -> Outcome {
        if matches!(self.kind, Kind::Image | Kind::Container) {
            return Err(match self.kind {
                Kind::Image => usage("an image cannot be edited"),
                _ => usage("a container cannot be edited by itself").hint("edit its cell"),
            }
            .into());
        }
        let (original, generation) = self.found(context).await?;
        let mut refused: Option<Error> = None;
        let mut shown = format!("{}{original}", commented(&[self.title()]));
        loop {
            let (written, file) = edit(&shown, self.kind.singular())?;
            let body = without_comments(&written);
            if body.trim().is_empty() || body == without_comments(&original) {
                return self.unchanged(context).await;
            }
            if written == shown {
                // Refused, and left as it was.
                let kept = keep(file)?;
                let what = format!("{}: given up; nothing was changed", self.title());
                let error = match refused {
                    Some(error) => error.context(what),
                    None => Error::invalid("EditCancelled", what),
                };
                let hint = format!("{}\nwhat you wrote is kept in {kept}", error.hint);
                return Err(error.hint(hint.trim_start()).into());
            }
            let error = match self.same_object(&body) {
                Err(error) => error,
                // Marks are no change of the generation.
                Ok(()) if self.is_other(context, &original).await => Error::changed(&self.title()),
                Ok(()) => match self.apply(context, &body, generation).await? {
                    Applied::Done(results) => return self.print(context, results).await,
                    Applied::Refused(error) => error,
                },
            };
            if error.reason == Error::CHANGED || !can_be_mended(error.code) {
                let kept = keep(file)?;
                let hint = format!("{}; what you wrote is kept in {kept}", error.hint);
                return Err(error.hint(hint.trim_start_matches("; ").to_owned()).into());
            }
            let mut lines = vec![self.title(), "It was not taken:".to_owned()];
            lines.extend(error.message.lines().map(str::to_owned));
            lines.extend(error.hint.lines().map(str::to_owned));
            shown = format!("{}{body}", commented(&lines));
            refused = Some(error);
        }
    }

    /// What is shown of the object, and its generation.
    async fn found(&self, context: &Context) -> Result<(String, i64), Failure> {
        let request = v1::GetRequest {
            kind: self.kind.as_str().to_owned(),
            name: self.name.clone(),
            scope: Some(self.scope.clone()),
            ..Default::default()
        };
        let found = context.kukeon().await?.get(request).await?;
        let found = found.objects.first().ok_or_else(|| {
            let what = format!("{} {:?} not found", self.kind.singular(), self.name);
            Error::new(
                Code::NotFound,
                format!("{}NotFound", self.kind.as_str()),
                what,
            )
        })?;
        let (document, generation) = document(found)?;
        Ok((yaml::to_string(&document)?, generation))
    }

    /// Whether what was shown is not what is there any more. What cannot be read
    /// now is left to the apply that follows: it says why.
    async fn is_other(&self, context: &Context, original: &str) -> bool {
        let now = self.found(context).await;
        now.is_ok_and(|(now, _)| now != original)
    }

    fn title(&self) -> String {
        format!("{} {:?}", self.kind.as_str(), self.name)
    }

    /// Refuses a document that is another object by now.
    fn same_object(&self, body: &str) -> Result<()> {
        // What cannot be read here is refused with its place by the decoder.
        let Ok(read) = serde_saphyr::from_str::<Value>(body) else {
            return Ok(());
        };
        let kind = read["kind"].as_str().unwrap_or_default();
        let name = read["metadata"]["name"].as_str().unwrap_or_default();
        if kind == self.kind.as_str() && name == self.name {
            return Ok(());
        }
        let message = format!(
            "it was {} and is {kind} {name:?}: kind and name cannot be edited",
            self.title()
        );
        Err(Error::invalid("IdentityChanged", message)
            .hint("put them back, or make another object with `kuke apply`"))
    }

    async fn apply(
        &self,
        context: &Context,
        body: &str,
        generation: i64,
    ) -> Result<Applied, Failure> {
        let message = self.message.as_deref();
        let text = match message.filter(|_| self.kind == Kind::Recipe) {
            Some(message) => with_message(body, message)?,
            None => body.to_owned(),
        };
        let request = v1::ApplyRequest {
            files: vec![v1::ManifestFile {
                source: "the edited file".to_owned(),
                text: text.into_bytes(),
            }],
            dry_run: self.dry_run,
            progress: true,
            expected_generation: Some(generation),
            // What was shown is all there was, so what is gone was removed.
            replace_edits: true,
            ..Default::default()
        };
        let events = match context.kukeon().await?.apply(request).await {
            Ok(events) => events,
            Err(error) => return Ok(Applied::Refused(error)),
        };
        let results = match follow(context, events, |_| Ok(())).await {
            Ok(results) => results,
            Err(Failure::Error(error)) => return Ok(Applied::Refused(error)),
            Err(other) => return Err(other),
        };
        let own = |r: &&ResourceResult| r.kind == self.kind.as_str() && r.name == self.name;
        let saved = results.iter().filter(own).any(|r| r.error.is_none());
        Ok(match single_failure(&results) {
            Some(error) if !saved => Applied::Refused(error),
            _ => Applied::Done(results),
        })
    }

    async fn unchanged(&self, context: &Context) -> Outcome {
        let result = ResourceResult {
            kind: self.kind.as_str().to_owned(),
            name: self.name.clone(),
            scope: Some(self.scope.clone()),
            action: "unchanged".to_owned(),
            ..Default::default()
        };
        self.print(context, vec![result]).await
    }

    /// What became of it; what failed after it was saved is still a failure.
    async fn print(&self, context: &Context, mut results: Vec<ResourceResult>) -> Outcome {
        let mut failure = single_failure(&results);
        let out = &context.out;
        for result in &results {
            match self.output {
                Format::Json | Format::Yaml => {}
                Format::Name => {
                    let kind = result.kind.to_ascii_lowercase();
                    out.line(format_args!("{kind}/{}", result.name))?;
                }
                Format::Table | Format::Wide if result.error.is_some() => {}
                Format::Table | Format::Wide => print_result(context, result, self.dry_run)?,
            }
        }
        let changed = results.iter().any(|result| result.action != "unchanged");
        if failure.is_none() && changed && self.patience.waits() {
            let table = matches!(self.output, Format::Table | Format::Wide);
            let work = settled(context, &mut results, table);
            failure = self.patience.within(&self.title(), work).await?.err();
        }
        if self.output.is_structured() {
            out.structured(self.output, &Results { resources: results })?;
        }
        match failure {
            Some(error) => Err(error.into()),
            None => Ok(0),
        }
    }
}

/// A Recipe with its commit message; what cannot be read is left to the daemon,
/// which says where.
fn with_message(body: &str, message: &str) -> Result<String> {
    let Ok(documents) = api::decode("the edited file", body.as_bytes()) else {
        return Ok(body.to_owned());
    };
    for document in documents {
        if let api::Object::Release(release) = document.object
            && let Release::Recipe(mut recipe) = *release
        {
            let metadata = recipe.metadata.get_or_insert_default();
            let key = model::delivery::keys::COMMIT_MESSAGE.to_owned();
            metadata.annotations.insert(key, message.to_owned());
            return yaml::to_string(&recipe);
        }
    }
    Ok(body.to_owned())
}

/// What an attempt to apply came to.
enum Applied {
    Done(Vec<ResourceResult>),
    Refused(Error),
}

/// Whether another text may help.
fn can_be_mended(code: Code) -> bool {
    !matches!(
        code,
        Code::Unavailable | Code::Permission | Code::Timeout | Code::Cancelled
    )
}

/// What a person changes of an object, and its generation. Keys keep their
/// order: that of a patch's paths means something.
fn document(object: &Object) -> Result<(model::Value, i64)> {
    let unreadable = |e: serde_json::Error| Error::failed("Encode", e.to_string());
    let text = serde_json::to_string(object).map_err(unreadable)?;
    let mut value = model::Value::from_json(&text).map_err(unreadable)?;
    let generation = value.at(&["metadata", "generation"]);
    let generation = generation
        .and_then(model::Value::as_i64)
        .unwrap_or_default();
    if let Some(all) = value.as_map_mut() {
        all.shift_remove("status");
        if let Some(meta) = all.get_mut("metadata").and_then(model::Value::as_map_mut) {
            let kept = ["name", "namespace", "realm", "labels", "annotations"];
            meta.retain(|key, _| kept.contains(&key.as_str()));
        }
    }
    Ok((value, generation))
}

fn commented(lines: &[String]) -> String {
    let mut out = String::new();
    for line in lines {
        out.push_str(format!("{COMMENT}{line}").trim_end());
        out.push('\n');
    }
    out.push_str("#\n");
    out
}

/// The text without the comments on top.
fn without_comments(text: &str) -> String {
    let kept = text.lines().skip_while(|line| line.starts_with('#'));
    kept.flat_map(|line| [line, "\n"]).collect()
}

/// Has the person edit a text; gives what was written, and its file.
fn edit(text: &str, kind: &str) -> Result<(String, tempfile::NamedTempFile)> {
    let failed = |e: std::io::Error| Error::failed("EditFailed", format!("a temporary file: {e}"));
    let mut file = tempfile::Builder::new()
        .prefix(&format!("kuke-{kind}-"))
        .suffix(".yaml")
        .tempfile()
        .map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.flush().map_err(failed)?;
    let editor = EDITORS.iter().find_map(|name| std::env::var(name).ok());
    let editor = editor.filter(|e| !e.trim().is_empty());
    let editor = editor.unwrap_or_else(|| EDITOR.to_owned());
    // The shell splits what the variable holds, as others do.
    let ended = Command::new("sh")
        .args(["-c", &format!("{editor} \"$1\""), "sh"])
        .arg(file.path())
        .status();
    let hint = "name another editor with KUKE_EDITOR";
    match ended {
        Ok(status) if status.success() => {}
        Ok(status) => {
            let message = format!("the editor {editor:?} failed ({status}); nothing was changed");
            return Err(Error::failed("EditorFailed", message).hint(hint));
        }
        Err(error) => {
            let message = format!("the editor {editor:?} cannot be started: {error}");
            return Err(Error::failed("EditorFailed", message).hint(hint));
        }
    }
    // Editors write a new file in the place of the old one.
    let written = read(file.path())?;
    Ok((written, file))
}

fn read(path: &Path) -> Result<String> {
    let failed = |why: String| {
        let message = format!("what was edited, {}, cannot be read: {why}", path.display());
        Error::failed("EditFailed", message)
    };
    let bytes = std::fs::read(path).map_err(|e| failed(e.to_string()))?;
    String::from_utf8(bytes).map_err(|_| failed("it is not UTF-8 text".to_owned()))
}

/// Keeps what was written, so that nobody types it twice.
fn keep(file: tempfile::NamedTempFile) -> Result<String> {
    let kept = file
        .into_temp_path()
        .keep()
        .map_err(|e| Error::failed("EditFailed", format!("keeping the edited file: {e}")))?;
    Ok(kept.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::delivery::v1alpha1 as external;
    use crate::api::v1::object;

    #[test]
    fn only_what_a_person_writes_is_shown() {
        let recipe = external::Recipe {
            kind: "Recipe".into(),
            metadata: Some(external::Metadata {
                name: "web".into(),
                uid: "u".into(),
                generation: 7,
                labels: [("a".to_owned(), "b".to_owned())].into(),
                ..Default::default()
            }),
            spec: Some(external::RecipeSpec {
                patches: vec![external::Patch {
                    set: Some(external::Assignments {
                        items: ["z", "a"]
                            .map(|path| external::Assignment {
                                path: path.into(),
                                value: None,
                            })
                            .into(),
                    }),
                    ..Default::default()
                }],
                ..Default::default()
            }),
            status: Some(external::RecipeStatus::default()),
            ..Default::default()
        };
        let object = Object {
            object: Some(object::Object::Recipe(recipe)),
        };
        let (value, generation) = document(&object).expect("a document");
        assert_eq!(generation, 7);
        let shown = yaml::to_string(&value).expect("yaml");
        assert!(
            shown.contains("name: web") && shown.contains("a: b"),
            "{shown}"
        );
        assert!(shown.find("z: null") < shown.find("a: null"), "{shown}");
        for hidden in ["uid", "generation", "status"] {
            assert!(!shown.contains(hidden), "{shown}");
        }
    }

    #[test]
    fn a_commit_message_leaves_scalars_as_they_are_read() {
        let body = "apiVersion: delivery.kokumi.dev/v1alpha1\nkind: Recipe\nmetadata: {name: web}\nspec:\n  source: {path: /x}\n  patches:\n  - {target: {kind: A, name: a}, set: {z: yes, a: 1_000}, setString: {m: 0644}}\n";
        let text = with_message(body, "why: not").expect("text");
        for part in [
            "\"yes\"",
            "\"1_000\"",
            "\"0644\"",
            "commit-message: \"why: not\"",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(text.find("z:") < text.find("a: \"1_000"), "{text}");
        let broken = "kind: Recipe\nspec: [";
        assert_eq!(with_message(broken, "x").expect("text"), broken);
    }

    #[test]
    fn comments_on_top_go_and_others_stay() {
        let text = format!("{}kind: Cell\n# mine\nspec: x", commented(&["why".into()]));
        assert_eq!(without_comments(&text), "kind: Cell\n# mine\nspec: x\n");
        assert_eq!(without_comments("# all\n#\n"), "");
    }

    #[test]
    fn another_object_is_refused() {
        let what = Edited {
            kind: Kind::Cell,
            name: "web".into(),
            scope: v1::Scope::default(),
            message: None,
            dry_run: false,
            patience: Patience::new(false, None),
            output: Format::Table,
        };
        assert!(
            what.same_object("kind: Cell\nmetadata: {name: web}\n")
                .is_ok()
        );
        for other in [
            "kind: Cell\nmetadata: {name: db}\n",
            "kind: Realm\nmetadata: {name: web}\n",
        ] {
            let error = what.same_object(other).expect_err("another");
            assert_eq!(error.reason, "IdentityChanged");
        }
    }
}
