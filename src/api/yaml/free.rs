//! Values of any shape in release kinds, by the scalar rules of their sources.
//!
//! The decoder of types takes scalars as YAML 1.1 does (`yes`, `1_000`, `0644`),
//! which does no harm where the schema says what is wanted. What goes into
//! manifests must mean there what it would mean in a source (YAML 1.2, core
//! schema), so those values are taken from the tree once the types are right.

use super::super::delivery::v1alpha1::{Assignment, Assignments, Json, Patch, Render};
use super::super::document::{Placed, Release};
use super::super::{Problem, yaml::scalar};
use super::located::{Kind, Value, expand};
use super::scalar::Octal;
use super::tree::Tree;
use crate::model;
use crate::model::Number;

type Result<T> = std::result::Result<T, Placed>;

/// Reads the patches and Helm values of a document again.
///
/// # Errors
/// A scalar that readers disagree about, or a number that is not kept whole,
/// with its place.
pub(in crate::api) fn free(release: &mut Release, tree: &Tree<'_>) -> Result<()> {
    let (lists, render) = match release {
        Release::Recipe(recipe) => match &mut recipe.spec {
            Some(spec) => (
                vec![("patches", &mut spec.patches), ("edits", &mut spec.edits)],
                &mut spec.render,
            ),
            None => return Ok(()),
        },
        Release::RecipeTemplate(template) => match &mut template.spec {
            Some(spec) => (vec![("patches", &mut spec.patches)], &mut spec.render),
            None => return Ok(()),
        },
        _ => return Ok(()),
    };
    // Doubts about keys were refused by the decoder.
    let root = expand(tree, &mut Vec::new());
    let Some(spec) = root.get("spec") else {
        return Ok(());
    };
    for (field, patches) in lists {
        let Some(Kind::List(found)) = spec.get(field).map(|list| &list.kind) else {
            continue;
        };
        for (patch, found) in patches.iter_mut().zip(found) {
            reread(patch, found)?;
        }
    }
    let values = |render: &Value| render.get("helm")?.get("values").cloned();
    if let Some(Render {
        helm: Some(helm), ..
    }) = render
        && let Some(found) = spec.get("render").and_then(values)
    {
        replace(&mut helm.values, &found)?;
    }
    Ok(())
}

fn reread(patch: &mut Patch, found: &Value) -> Result<()> {
    if let Some(found) = found.get("set") {
        assignments(&mut patch.set, found, read)?;
    }
    if let Some(found) = found.get("setString") {
        assignments(&mut patch.set_string, found, as_written)?;
    }
    if let Some(found) = found.get("merge") {
        replace(&mut patch.merge, found)?;
    }
    if let Some(found) = found.get("jsonPatch") {
        replace(&mut patch.json_patch, found)?;
    }
    Ok(())
}

/// A value that was left out stays left out.
fn replace(into: &mut Option<Json>, found: &Value) -> Result<()> {
    if into.is_some() {
        *into = Some(Json::new(&read(found)?));
    }
    Ok(())
}

fn assignments(
    into: &mut Option<Assignments>,
    found: &Value,
    read: fn(&Value) -> Result<model::Value>,
) -> Result<()> {
    let (Some(into), Kind::Map(entries)) = (into, &found.kind) else {
        return Ok(());
    };
    let mut items = Vec::with_capacity(entries.len());
    for entry in entries {
        items.push(Assignment {
            path: entry.key.clone(),
            value: Some(Json::new(&read(&entry.value)?)),
        });
    }
    into.items = items;
    Ok(())
}

/// Text, whatever it looks like; where nothing is written, nothing.
fn as_written(value: &Value) -> Result<model::Value> {
    match &value.kind {
        Kind::Scalar(text, plain) if !(*plain && text.is_empty()) => Ok(text.as_str().into()),
        _ => read(value),
    }
}

fn read(value: &Value) -> Result<model::Value> {
    let bad = |what: String| (Problem::new("", "BadValue", what), Some(value.at));
    Ok(match &value.kind {
        Kind::Scalar(text, false) => text.as_str().into(),
        Kind::Scalar(text, true) => match scalar::resolve(text, Octal::Refuse).map_err(bad)? {
            model::Value::Number(number) => kept(number).map_err(bad)?.into(),
            other => other,
        },
        Kind::List(list) => model::Value::List(list.iter().map(read).collect::<Result<_>>()?),
        Kind::Map(entries) => {
            let mut map = model::ValueMap::with_capacity(entries.len());
            for entry in entries {
                map.insert(entry.key.clone(), read(&entry.value)?);
            }
            map.into()
        }
    })
}

/// A number as the store gives it back, so that what is rendered before and
/// after it was kept is the same.
fn kept(number: Number) -> std::result::Result<Number, String> {
    let text = number.as_str();
    if let Ok(whole) = text.parse::<i64>() {
        return Ok(whole.into());
    }
    if let Ok(whole) = text.parse::<u64>() {
        return Ok(whole.into());
    }
    match number.is_whole() {
        true => Err(format!(
            "the number {text} is more than 64 bits hold; quote it"
        )),
        false => Number::from_f64(number.as_f64()).map_err(|error| error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{Object, decode};
    use super::*;

    fn recipe(spec: &str) -> String {
        format!(
            "apiVersion: delivery.kokumi.dev/v1alpha1\nkind: Recipe\nmetadata: {{name: web}}\nspec:\n  source: {{path: /x}}\n{spec}"
        )
    }

    fn decoded(spec: &str) -> super::super::super::delivery::v1alpha1::RecipeSpec {
        let text = recipe(spec);
        let documents = decode("f.yaml", text.as_bytes()).unwrap();
        match documents.into_iter().next().unwrap().object {
            Object::Release(release) => match *release {
                Release::Recipe(recipe) => recipe.spec.unwrap(),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    fn text(json: &Option<Json>) -> &str {
        &json.as_ref().unwrap().text
    }

    /// What is written, what it is as a value, and what it is as text.
    const SCALARS: &[(&str, &str, &str)] = &[
        ("n", "\"n\"", "n"),
        ("y", "\"y\"", "y"),
        ("yes", "\"yes\"", "yes"),
        ("Off", "\"Off\"", "Off"),
        ("true", "true", "true"),
        ("False", "false", "False"),
        ("1_000", "\"1_000\"", "1_000"),
        ("0b11", "\"0b11\"", "0b11"),
        ("0O17", "\"0O17\"", "0O17"),
        ("0X1F", "\"0X1F\"", "0X1F"),
        ("-0x1F", "\"-0x1F\"", "-0x1F"),
        ("0o17", "15", "0o17"),
        ("0x1F", "31", "0x1F"),
        ("+12", "12", "+12"),
        ("-0", "0", "-0"),
        ("1.10", "1.1", "1.10"),
        ("5.", "5.0", "5."),
        ("1e3", "1000.0", "1e3"),
        (
            "18446744073709551615",
            "18446744073709551615",
            "18446744073709551615",
        ),
        ("12:30:45", "\"12:30:45\"", "12:30:45"),
        ("2001-01-01", "\"2001-01-01\"", "2001-01-01"),
        ("nan", "\"nan\"", "nan"),
        ("~", "null", "~"),
        ("'0644'", "\"0644\"", "0644"),
        ("\"yes\"", "\"yes\"", "yes"),
        ("!!str 12", "\"12\"", "12"),
        ("! 12", "\"12\"", "12"),
        ("!!int '12'", "12", "12"),
        ("x y", "\"x y\"", "x y"),
    ];

    #[test]
    fn scalars_are_read_as_in_a_source() {
        for (written, value, as_text) in SCALARS {
            let spec = decoded(&format!(
                "  patches:\n  - target: {{kind: A, name: a}}\n    set: {{a: {written}}}\n    setString: {{b: {written}}}\n    merge: {{c: [{written}]}}\n    jsonPatch: [{{op: add, path: /d, value: {written}}}]\n  edits:\n  - target: {{kind: A, name: a}}\n    set: {{e: {written}}}\n  render: {{helm: {{values: {{f: {{g: {written}}}}}}}}}\n"
            ));
            let patch = &spec.patches[0];
            let item = |items: &Option<Assignments>| items.as_ref().unwrap().items[0].clone();
            assert_eq!(text(&item(&patch.set).value), *value, "{written}");
            let wanted = model::Value::from(*as_text).to_json();
            assert_eq!(text(&item(&patch.set_string).value), wanted, "{written}");
            let wanted = format!("{{\"c\":[{value}]}}");
            assert_eq!(text(&patch.merge), wanted, "{written}");
            let wanted = format!("[{{\"op\":\"add\",\"path\":\"/d\",\"value\":{value}}}]");
            assert_eq!(text(&patch.json_patch), wanted, "{written}");
            let edit = item(&spec.edits[0].set);
            assert_eq!(text(&edit.value), *value, "{written}");
            let helm = spec.render.unwrap().helm.unwrap();
            let wanted = format!("{{\"f\":{{\"g\":{value}}}}}");
            assert_eq!(text(&helm.values), wanted, "{written}");
        }
    }

    #[test]
    fn what_is_read_is_what_the_store_gives_back() {
        for (written, ..) in SCALARS {
            let spec = decoded(&format!(
                "  patches:\n  - {{target: {{kind: A, name: a}}, set: {{a: {written}}}, setString: {{b: {written}}}, merge: {{c: {written}}}}}\n"
            ));
            let stored = super::super::to_string(&spec).unwrap();
            let back: super::super::super::delivery::v1alpha1::RecipeSpec =
                serde_saphyr::from_str(&stored).unwrap();
            assert_eq!(back, spec, "{written}: {stored}");
        }
    }

    #[test]
    fn what_readers_disagree_about_is_refused_at_its_place() {
        let refused = |spec: &str| decode("f.yaml", recipe(spec).as_bytes()).unwrap_err();
        let patch = "  patches:\n  - target: {kind: A, name: a}\n    set:\n      .mode: 0644\n";
        let error = refused(patch);
        assert_eq!(error.reason, "BadValue");
        let wanted = "Recipe \"web\" at f.yaml:9:14: 0644 is 420 to some readers and 644 to others; write 0o644, 644 or \"0644\"";
        assert!(error.message.starts_with(wanted), "{}", error.message);
        let helm = "  render:\n    helm:\n      values:\n        big: 0xFFFFFFFFFFFFFFFFFF\n";
        let error = refused(helm);
        assert!(error.message.contains("f.yaml:9:14: "), "{}", error.message);
        // As text it is what it is.
        let spec = decoded(
            "  patches:\n  - target: {kind: A, name: a}\n    setString: {.mode: 0644, .x: null}\n",
        );
        let items = &spec.patches[0].set_string.as_ref().unwrap().items;
        assert_eq!(
            (text(&items[0].value), text(&items[1].value)),
            ("\"0644\"", "\"null\"")
        );
    }

    #[test]
    fn aliases_and_merge_keys_are_resolved_and_keep_their_order() {
        let spec = decoded(
            "  patches:\n  - target: {kind: A, name: a}\n    set: {z: &m {b: no}, a: *m}\n    merge: {<<: *m, c: 1_0}\n",
        );
        let items = &spec.patches[0].set.as_ref().unwrap().items;
        let shown: Vec<_> = items
            .iter()
            .map(|i| (i.path.as_str(), text(&i.value)))
            .collect();
        assert_eq!(shown, [("z", "{\"b\":\"no\"}"), ("a", "{\"b\":\"no\"}")]);
        let merge = spec.patches[0].merge.as_ref().unwrap().value().unwrap();
        let wanted: model::Value = [("b", "no"), ("c", "1_0")].into_iter().collect();
        assert_eq!(merge, wanted);
    }
}
