//! From bytes to wanted objects, and the order in which they depend on each other.

use crate::api::{self, Problem};
use crate::model::delivery::AnyRelease;
use crate::model::{AnyObject, CellContainer, CellRef, Name};
use crate::scheme::{self, Decoded};

/// One file or stream of a request: its name in messages, and its bytes.
pub type Source<'a> = (&'a str, &'a [u8]);

/// The objects of a request, each with its position among all documents, from 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Of the runtime.
    pub runtime: Vec<(u32, AnyObject)>,
    /// Of delivery.
    pub releases: Vec<(u32, AnyRelease)>,
}

/// As [`read_all`], for requests that have nothing to do with delivery.
pub fn read(sources: &[Source<'_>]) -> api::Result<Vec<(u32, AnyObject)>> {
    let wanted = read_all(sources)?;
    match wanted.releases.first() {
        None => Ok(wanted.runtime),
        Some((_, object)) => Err(api::Error::invalid(
            "NotSupported",
            format!("{} cannot be worked with here", object.at()),
        )),
    }
}

/// As [`read_in`]; releases live in `default`.
pub fn read_all(sources: &[Source<'_>]) -> api::Result<Wanted> {
    read_in(sources, "")
}

/// Reads a request: decodes every document of every source and translates it.
/// Every problem of every document of a source is in one error.
///
/// A Container whose Cell is in the same request becomes part of that Cell, as
/// if it had been written there: applied one after the other, the Cell would
/// remove what the Container adds, each time.
///
/// `namespace` is where releases live whose documents name none; empty is `default`.
pub fn read_in(sources: &[Source<'_>], namespace: &str) -> api::Result<Wanted> {
    if !namespace.is_empty() {
        namespace.parse::<Name>()?;
    }
    let mut seen: Vec<(String, String)> = Vec::new();
    let mut objects = Vec::new();
    for (source, bytes) in sources {
        let read = api::decode_each(source, bytes, |mut document| {
            let line = document.line;
            if let api::Object::Release(release) = &mut document.object {
                release.live_in(namespace);
            }
            let object = scheme::decode(document).map_err(|error| error.problems)?;
            let key = match &object {
                Decoded::Runtime(AnyObject::Container(c)) => {
                    format!("container {:?} of {}", c.spec.id, c.at)
                }
                Decoded::Runtime(other) => other.at().to_string(),
                Decoded::Release(object) => object.at().to_string(),
            };
            if let Some((_, first)) = seen.iter().find(|(other, _)| *other == key) {
                let message = format!("{key} is there twice");
                return Err(vec![
                    Problem::new("metadata.name", "Duplicate", message)
                        .suggest(format!("the first is {first}")),
                ]);
            }
            let place = match sources.len() {
                1 => format!("on line {line}"),
                _ => format!("at {source}:{line}"),
            };
            seen.push((key, place));
            Ok(object)
        })?;
        objects.extend(read.into_iter().map(|object| (*source, object)));
    }
    let mut runtime = Vec::new();
    let mut releases = Vec::new();
    for (n, (source, object)) in objects.into_iter().enumerate() {
        let n = u32::try_from(n).unwrap_or(u32::MAX);
        match object {
            Decoded::Runtime(object) => runtime.push((n, source, object)),
            Decoded::Release(object) => releases.push((n, object)),
        }
    }
    Ok(Wanted {
        runtime: fold(runtime)?,
        releases,
    })
}

fn fold(objects: Vec<(u32, &str, AnyObject)>) -> api::Result<Vec<(u32, AnyObject)>> {
    let (containers, rest): (Vec<_>, Vec<_>) = objects
        .into_iter()
        .partition(|(_, _, object)| matches!(object, AnyObject::Container(_)));
    let mut rest: Vec<(u32, AnyObject)> = rest.into_iter().map(|(n, _, o)| (n, o)).collect();
    for (index, source, object) in containers {
        let AnyObject::Container(container) = object else {
            continue;
        };
        let cell = rest.iter_mut().find_map(|(_, object)| match object {
            AnyObject::Cell(cell) if cell.at == container.at => Some(cell),
            _ => None,
        });
        let Some(cell) = cell else {
            rest.push((index, AnyObject::Container(container)));
            continue;
        };
        let CellContainer { at, meta: _, spec } = *container;
        cell.spec.containers.push(spec);
        // Together they are held to the same rules as any cell.
        let whole = scheme::cell_to_model(scheme::cell_to_external(cell));
        *cell = whole.map_err(|error| with_container(source, &at, index, error))?;
    }
    rest.sort_by_key(|(index, _)| *index);
    Ok(rest)
}

fn with_container(source: &str, at: &CellRef, index: u32, error: scheme::Error) -> api::Error {
    api::Error::from(error).context(format!(
        "{source}: {at} together with document {} (Container)",
        index + 1
    ))
}

/// Stable order of dependency: what others live in comes first. Reversed it is
/// the order of deletion.
pub fn order<T>(mut objects: Vec<(T, AnyObject)>) -> Vec<(T, AnyObject)> {
    objects.sort_by_key(|(_, object)| match object {
        AnyObject::Realm(_) => 1,
        AnyObject::Space(_) => 2,
        AnyObject::Stack(_) => 3,
        AnyObject::Volume(_) => 4,
        AnyObject::Secret(_) => 5,
        AnyObject::Cell(_) => 6,
        AnyObject::Container(_) => 7,
    });
    objects
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CELL: &str = "kind: Cell\nmetadata: {name: web}\nspec: {realmId: r, spaceId: s, stackId: t, containers: [{id: a, image: x}]}\n";

    fn container(id: &str, cell: &str) -> String {
        format!(
            "kind: Container\nmetadata: {{name: {id}}}\nspec: {{realmId: r, spaceId: s, stackId: t, cellId: {cell}, image: y}}\n"
        )
    }

    #[test]
    fn problems_of_values_have_their_place_in_the_file() {
        let text =
            format!("{CELL}---\nkind: Space\nmetadata:\n  name: My_Space\nspec:\n  realmId: r\n");
        let error = read(&[("f.yaml", text.as_bytes())]).unwrap_err();
        assert_eq!(error.reason, "BadName");
        assert!(
            error.message.starts_with(
                "document 2 (Space \"My_Space\") at f.yaml:7:9: metadata.name: name is invalid"
            ),
            "{error}"
        );
    }

    #[test]
    fn releases_live_where_they_or_the_request_say() {
        let document = |kind: &str, more: &str, spec: &str| {
            format!(
                "apiVersion: delivery.kokumi.dev/v1alpha1\nkind: {kind}\n\
                 metadata: {{name: default{more}}}\nspec: {spec}\n---\n"
            )
        };
        let source = "{source: {path: /srv/a}}";
        let text = [
            document("Recipe", "", source),
            document("Recipe", ", namespace: own", source),
            document("Kitchen", "", "{}"),
        ]
        .concat();
        let found = |namespace: &str| {
            let wanted = read_in(&[("f", text.as_bytes())], namespace).unwrap();
            let place = |(_, o): &(u32, AnyRelease)| o.meta().namespace.to_string();
            wanted.releases.iter().map(place).collect::<Vec<_>>()
        };
        assert_eq!(found("shop"), ["shop", "own", "default"]);
        assert_eq!(found(""), ["default", "own", "default"]);
        assert!(read_in(&[("f", text.as_bytes())], "No Name").is_err());
    }

    #[test]
    fn order_is_that_of_dependency_and_stable() {
        let text = [
            &*container("x", "other"),
            CELL,
            "kind: Secret\nmetadata: {name: k, realm: r, space: s, stack: t, cell: web}\nspec: {data: v}\n",
            "kind: Volume\nmetadata: {name: v, realm: r}\n",
            "kind: Stack\nmetadata: {name: t}\nspec: {realmId: r, spaceId: s}\n",
            "kind: Realm\nmetadata: {name: r}\n",
            "kind: Space\nmetadata: {name: s}\nspec: {realmId: r}\n",
            "kind: Realm\nmetadata: {name: q}\n",
        ]
        .join("---\n");
        let ordered = order(read(&[("t", text.as_bytes())]).unwrap());
        let found: Vec<_> = ordered.iter().map(|(i, o)| (*i, o.kind())).collect();
        assert_eq!(
            found,
            [
                (5, "Realm"),
                (7, "Realm"),
                (6, "Space"),
                (4, "Stack"),
                (3, "Volume"),
                (2, "Secret"),
                (1, "Cell"),
                (0, "Container")
            ]
        );
    }

    #[test]
    fn a_container_joins_its_cell_in_the_same_request() {
        let text = format!(
            "{}---\n{CELL}---\n{}",
            container("b", "web"),
            container("c", "other")
        );
        let objects = read(&[("t", text.as_bytes())]).unwrap();
        assert_eq!(objects.len(), 2);
        let AnyObject::Cell(cell) = &objects[0].1 else {
            panic!("{objects:?}");
        };
        let ids: Vec<_> = cell.spec.containers.iter().map(|c| c.id.as_str()).collect();
        assert_eq!(ids, ["a", "b"]);
        assert_eq!(objects[1].0, 2);
    }

    #[test]
    fn one_object_is_wanted_once() {
        for (text, part) in [
            (
                format!("{CELL}---\n{CELL}"),
                "cell \"web\" in r/s/t is there twice; the first is on line 1",
            ),
            (
                format!("{CELL}---\n{}", container("a", "web")),
                "another container of this cell is called \"a\"",
            ),
        ] {
            let error = read(&[("t", text.as_bytes())]).unwrap_err();
            assert_eq!(error.reason, "Duplicate");
            assert!(error.message.contains(part), "{error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// A manifest with a few bytes replaced, removed or doubled.
        #[test]
        fn damaged_manifests_give_objects_or_an_error(
            edits in prop::collection::vec((any::<prop::sample::Index>(), 0..3u8, any::<u8>()), 1..6),
        ) {
            let mut bytes = format!("{CELL}---\n{}", container("b", "web")).into_bytes();
            for (index, edit, byte) in edits {
                let at = index.index(bytes.len());
                match edit {
                    0 => bytes[at] = byte,
                    1 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, byte),
                }
            }
            if let Err(error) = read(&[("t", &bytes)]) {
                prop_assert_eq!(error.code, api::Code::Invalid);
            }
        }
    }
}
