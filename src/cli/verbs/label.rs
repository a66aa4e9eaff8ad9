//! `kuke label` and `kuke annotate`: one mark of an object, and nothing else of it.

use clap::Args;

use crate::api::{Code, Error, Result};
use crate::cli::context::Context;
use crate::cli::failure::Outcome;
use crate::cli::kind::Kind;
use crate::cli::output::Format;
use crate::cli::scope::ScopeFlags;
use crate::cli::verbs::edit::Edited;
use crate::cli::verbs::release::Patience;
use crate::model::Value;

/// Set or remove labels of an object
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "`KEY-` removes a label. One that has another value by now stays, unless --overwrite is given.

Examples:
  kuke label cell web tier=front
  kuke label cell web tier-
  kuke label prep web-0123456789ab delivery.kokumi.dev/approve-deploy=true --wait"
)]
pub struct Label {
    #[command(flatten)]
    marks: Marks,
}

impl Label {
    /// Sets and removes them.
    pub async fn run(self, context: &Context) -> Outcome {
        self.marks.run(context, "labels").await
    }
}

/// Set or remove annotations of an object
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "`KEY-` removes an annotation. One that has another value by now stays, unless --overwrite is given.

Examples:
  kuke annotate cell web delivery.kokumi.dev/allowed-recipe=default/web
  kuke annotate recipe web example.com/owner=ann --overwrite"
)]
pub struct Annotate {
    #[command(flatten)]
    marks: Marks,
}

impl Annotate {
    /// Sets and removes them.
    pub async fn run(self, context: &Context) -> Outcome {
        self.marks.run(context, "annotations").await
    }
}

#[derive(Debug, Args)]
struct Marks {
    /// Kind
    #[arg(value_name = "KIND")]
    kind: Kind,
    /// Name
    #[arg(value_name = "NAME")]
    name: String,
    /// What to set, and with a dash at the end what to remove
    #[arg(value_name = "KEY=VALUE|KEY-", required = true, value_parser = mark)]
    marks: Vec<Mark>,
    /// Replace values that are there
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    scope: ScopeFlags,
    /// Namespace of a release
    #[arg(
        long,
        short,
        value_name = "NAME",
        help_heading = "Scope",
        conflicts_with = "realm"
    )]
    namespace: Option<String>,
    /// Only show what would change
    #[arg(long, conflicts_with = "wait")]
    dry_run: bool,
    #[command(flatten)]
    patience: Patience,
    /// Output format
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

impl Marks {
    async fn run(mut self, context: &Context, field: &str) -> Outcome {
        self.scope.realm = self.namespace.take().or(self.scope.realm);
        let what = Edited {
            kind: self.kind,
            name: self.name,
            scope: self.scope.of(self.kind),
            message: None,
            dry_run: self.dry_run,
            patience: self.patience,
            output: self.output,
        };
        let change = |document: &mut Value| put(document, field, &self.marks, self.overwrite);
        what.alter(context, change).await
    }
}

/// One change of a mark.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Mark {
    Set(String, String),
    Remove(String),
}

fn mark(text: &str) -> std::result::Result<Mark, String> {
    let mark = match (text.split_once('='), text.strip_suffix('-')) {
        (Some((key, value)), _) => Mark::Set(key.to_owned(), value.to_owned()),
        (None, Some(key)) => Mark::Remove(key.to_owned()),
        (None, None) => return Err("neither KEY=VALUE nor KEY-".to_owned()),
    };
    let (Mark::Set(key, _) | Mark::Remove(key)) = &mark;
    match key.is_empty() {
        true => Err("the key is missing".to_owned()),
        false => Ok(mark),
    }
}

/// Changes the labels or the annotations of a document.
fn put(document: &mut Value, field: &str, marks: &[Mark], overwrite: bool) -> Result<()> {
    let meta = document
        .as_map_mut()
        .and_then(|all| all.get_mut("metadata"));
    let Some(meta) = meta.and_then(Value::as_map_mut) else {
        return Err(Error::failed("Encode", "the object has no metadata"));
    };
    let entry = meta.entry(field.to_owned()).or_insert_with(Value::map);
    if entry.is_null() {
        *entry = Value::map();
    }
    let Some(all) = entry.as_map_mut() else {
        return Err(Error::failed("Encode", format!("{field} is no map")));
    };
    for mark in marks {
        match mark {
            Mark::Remove(key) => {
                all.shift_remove(key);
            }
            Mark::Set(key, value) => {
                let now = all.get(key).and_then(Value::as_str);
                if let Some(now) = now.filter(|now| now != value && !overwrite) {
                    let what = format!("{key:?} in {field} is {now:?} already");
                    return Err(Error::new(Code::Conflict, "MarkExists", what)
                        .hint("give --overwrite to replace it"));
                }
                all.insert(key.clone(), Value::from(value.as_str()));
            }
        }
    }
    if all.is_empty() {
        meta.shift_remove(field);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(text: &str) -> Value {
        Value::from_json(text).expect("JSON")
    }

    #[test]
    fn marks_are_read() {
        let set = |key: &str, value: &str| Ok(Mark::Set(key.into(), value.into()));
        assert_eq!(mark("a=b"), set("a", "b"));
        assert_eq!(mark("a=b=c-"), set("a", "b=c-"));
        assert_eq!(mark("a="), set("a", ""));
        assert_eq!(mark("x.dev/a-b-"), Ok(Mark::Remove("x.dev/a-b".into())));
        for wrong in ["a", "=b", "-", ""] {
            assert!(mark(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn others_stay_as_they_are() {
        let marks = |all: &[&str]| -> Vec<Mark> {
            all.iter().map(|text| mark(text).expect("a mark")).collect()
        };
        let bare = r#"{"kind":"Cell","metadata":{"name":"web"},"spec":{"z":1,"a":2}}"#;
        let mut cell = document(bare);
        put(&mut cell, "labels", &marks(&["b=1", "a=2"]), false).expect("set");
        let text = cell.to_json();
        let wanted = r#"{"kind":"Cell","metadata":{"name":"web","labels":{"b":"1","a":"2"}},"spec":{"z":1,"a":2}}"#;
        assert_eq!(text, wanted);

        // The same again, and the removal of what is not there, are no changes.
        put(&mut cell, "labels", &marks(&["b=1", "c-"]), false).expect("the same");
        assert_eq!(cell.to_json(), wanted);
        let error = put(&mut cell, "labels", &marks(&["b=3"]), false).expect_err("it is there");
        assert_eq!(error.code, Code::Conflict);
        assert!(error.message.contains("\"1\""), "{error:?}");
        put(&mut cell, "labels", &marks(&["b=3", "a-"]), true).expect("overwritten");
        assert!(cell.to_json().contains(r#""labels":{"b":"3"}"#));
        put(&mut cell, "labels", &marks(&["b-"]), false).expect("removed");
        assert_eq!(cell.to_json(), bare);
    }
}
