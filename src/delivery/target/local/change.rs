//! Changing this machine, through the same calls as everybody else.

use std::collections::BTreeSet;

use futures::TryStreamExt;

use super::super::Problem;
use super::key::Key;
use super::live;
use super::owner::{LABELS, Owner};
use super::plan::{Step, is_ours};
use super::wanted::{document, meta_mut};
use crate::api::v1::{self, event};
use crate::api::{Code, Error, Result};
use crate::client::{EventStream, Kukeon};

/// Applies the objects of some steps and returns those that failed.
pub(super) async fn apply(kukeon: &dyn Kukeon, steps: &[&Step]) -> Result<Vec<Problem>> {
    let mut files = Vec::new();
    let mut waiting: BTreeSet<&Key> = BTreeSet::new();
    for step in steps {
        files.push(v1::ManifestFile {
            source: step.wanted.key.to_string(),
            text: document(&step.wanted.object)?.into_bytes(),
        });
        waiting.insert(&step.wanted.key);
    }
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let request = v1::ApplyRequest {
        files,
        // The gate looks at what was started.
        detach: true,
        ..Default::default()
    };
    let mut problems = Vec::new();
    let mut events = kukeon.apply(request).await?;
    while let Some(result) = next(&mut events).await? {
        let Some(key) = Key::of_result(&result) else {
            continue;
        };
        waiting.remove(&key);
        if let Some(error) = result.error {
            problems.push(failed(&key, error.into()));
        }
    }
    // A stream that ends early says nothing of the rest.
    for key in waiting {
        let message = format!("{key}: nothing was heard of it");
        problems.push(failed(key, Error::failed("NoResult", message)));
    }
    Ok(problems)
}

fn failed(key: &Key, error: Error) -> Problem {
    // Most errors name their object already.
    let message = match error.message.contains(&key.to_string()) {
        true => error.message,
        false => format!("{key}: {}", error.message),
    };
    Problem {
        resource: key.resource(String::new()),
        reason: error.reason,
        message,
        hint: error.hint,
    }
}

async fn next(events: &mut EventStream) -> Result<Option<v1::ResourceResult>> {
    while let Some(event) = events.try_next().await? {
        if let Some(event::Event::Result(result)) = event.event {
            return Ok(Some(result));
        }
    }
    Ok(None)
}

/// Removes objects, in the order given. A scope that something else lives in is
/// let go instead. Returns what could not be removed.
pub(super) async fn remove(kukeon: &dyn Kukeon, owner: &Owner, keys: &[Key]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut left: Vec<&Key> = Vec::new();
    for key in keys {
        // What lives in it will be tried again, and it after that.
        if left.iter().any(|below| key.holds(below)) {
            continue;
        }
        if let Err(error) = remove_one(kukeon, owner, key).await {
            problems.push(failed(key, error));
            left.push(key);
        }
    }
    problems
}

async fn remove_one(kukeon: &dyn Kukeon, owner: &Owner, key: &Key) -> Result<()> {
    // Looked at anew: it may have been handed over since the plan was made.
    match live::get(kukeon, &key.at()).await? {
        Some(found) if is_ours(owner, key, found.meta()) => {}
        _ => return Ok(()),
    }
    if key.is_scope() && live::children(kukeon, &key.at()).await? > 0 {
        return release(kukeon, owner, key).await;
    }
    let (name, scope) = key.address();
    let request = v1::DeleteRequest {
        kind: key.kind().to_owned(),
        name,
        scope: Some(scope),
        ignore_not_found: true,
        ..Default::default()
    };
    match deleted(kukeon, request).await {
        // Somebody put something into it meanwhile.
        Err(error) if key.is_scope() && error.reason == "ResourceHasDependencies" => {
            release(kukeon, owner, key).await
        }
        Err(error) if error.code == Code::NotFound => Ok(()),
        done => done,
    }
}

async fn deleted(kukeon: &dyn Kukeon, request: v1::DeleteRequest) -> Result<()> {
    let mut events = kukeon.delete(request).await?;
    let mut first = None;
    while let Some(result) = next(&mut events).await? {
        if let Some(error) = result.error {
            first.get_or_insert(Error::from(error));
        }
    }
    first.map_or(Ok(()), Err)
}

/// Takes the owner's labels off an object, which stays as it is.
pub(super) async fn release(kukeon: &dyn Kukeon, owner: &Owner, key: &Key) -> Result<()> {
    if let Key::Container(..) = key {
        return Ok(());
    }
    let Some(mut object) = live::get(kukeon, &key.at()).await? else {
        return Ok(());
    };
    if !owner.owns(object.meta()) {
        return Ok(());
    }
    let Some(meta) = meta_mut(&mut object) else {
        return Ok(());
    };
    // Reserved ones are put back by the apply itself.
    meta.labels.retain(|key, _| !key.ends_with(".kukeon.io"));
    for label in LABELS {
        // Without a value, because a label that is not named is kept.
        meta.labels.insert(label.to_owned(), String::new());
    }
    let request = v1::ApplyRequest {
        files: vec![v1::ManifestFile {
            source: key.to_string(),
            text: document(&object)?.into_bytes(),
        }],
        detach: true,
        ..Default::default()
    };
    let mut events = kukeon.apply(request).await?;
    while let Some(result) = next(&mut events).await? {
        if let Some(error) = result.error {
            return Err(Error::from(error));
        }
    }
    Ok(())
}

/// The last lines that a cell's containers wrote, for a failure's message.
pub(super) async fn last_words(kukeon: &dyn Kukeon, key: &Key, live: &live::Live) -> String {
    const LINES: i64 = 5;
    let Some(cell) = live.cell(&key.at()) else {
        return String::new();
    };
    let failed = |c: &&crate::model::ContainerStatus| match key {
        Key::Container(_, id) => c.name == *id,
        Key::Object(_) => c.exit_code.is_some_and(|code| code != 0),
    };
    let Some(container) = cell.status.containers.iter().find(failed) else {
        return String::new();
    };
    let (name, scope) = Key::Object(key.at()).address();
    let request = v1::LogsRequest {
        name,
        scope: Some(scope),
        container: container.name.to_string(),
        tail: Some(LINES),
        ..Default::default()
    };
    let mut text = Vec::new();
    if let Ok(mut chunks) = kukeon.logs(request).await {
        while let Ok(Some(chunk)) = chunks.try_next().await {
            text.extend_from_slice(&chunk.data);
        }
    }
    match String::from_utf8_lossy(&text).trim_end() {
        "" => String::new(),
        text => format!("; its last output: {}", text.replace('\n', " | ")),
    }
}
