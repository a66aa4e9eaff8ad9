//! Document streams: bytes to typed documents, strictly, with every problem of
//! every document in one error.

use serde::de::DeserializeOwned;

use super::delivery::v1alpha1;
use super::problem::{Located, report};
use super::yaml::{self, Fault, Node, Position, Tree};
use super::{Error, Problem, Result, closest, v1beta1};

/// Largest input that is parsed, in bytes.
pub const MAX_INPUT: usize = 4 << 20;

/// One document of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Position among the documents that are not blank, from 0.
    pub index: usize,
    /// Line of its first key, from 1.
    pub line: usize,
    /// Kind, as the schema spells it.
    pub kind: &'static str,
    /// For messages: `document 2 (Cell "web") at file.yaml:9`.
    place: String,
    /// Its content in the version it was written in.
    pub object: Object,
}

impl Document {
    /// Where it stands, for messages.
    pub fn place(&self) -> &str {
        &self.place
    }
}

/// A document's content, by version.
#[derive(Debug, Clone, PartialEq)]
pub enum Object {
    /// `apiVersion: v1beta1`
    V1beta1(Box<V1beta1>),
    /// `apiVersion: delivery.kokumi.dev/v1alpha1`
    Release(Box<Release>),
}

/// The kinds of `delivery.kokumi.dev/v1alpha1`.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone, PartialEq)]
pub enum Release {
    /// Settings of delivery.
    Kitchen(v1alpha1::Kitchen),
    /// A source registry with its login.
    Pantry(v1alpha1::Pantry),
    /// The common part of several Recipes.
    RecipeTemplate(v1alpha1::RecipeTemplate),
    /// Intent.
    Recipe(v1alpha1::Recipe),
    /// Artifact.
    Preparation(v1alpha1::Preparation),
    /// Activation.
    Serving(v1alpha1::Serving),
    /// Atomic rollout.
    Menu(v1alpha1::Menu),
}

impl Release {
    /// Puts a document that names no namespace into this one; empty leaves it.
    /// The Kitchen has its own.
    pub fn live_in(&mut self, namespace: &str) {
        let metadata = match self {
            Release::Kitchen(_) => None,
            Release::Pantry(o) => o.metadata.as_mut(),
            Release::RecipeTemplate(o) => o.metadata.as_mut(),
            Release::Recipe(o) => o.metadata.as_mut(),
            Release::Preparation(o) => o.metadata.as_mut(),
            Release::Serving(o) => o.metadata.as_mut(),
            Release::Menu(o) => o.metadata.as_mut(),
        };
        if let Some(metadata) = metadata.filter(|metadata| metadata.namespace.is_empty()) {
            namespace.clone_into(&mut metadata.namespace);
        }
    }
}

/// The kinds of `v1beta1`. Boxed as a whole, so the sizes do not matter.
#[allow(clippy::large_enum_variant)]
#[derive(Debug, Clone, PartialEq)]
pub enum V1beta1 {
    /// A tenant.
    Realm(v1beta1::Realm),
    /// A network.
    Space(v1beta1::Space),
    /// A group of cells.
    Stack(v1beta1::Stack),
    /// A pod.
    Cell(v1beta1::Cell),
    /// A container for an existing cell.
    Container(v1beta1::Container),
    /// A directory that outlives cells.
    Volume(v1beta1::Volume),
    /// A value that only containers see.
    Secret(v1beta1::Secret),
}

type Decoded<T> = std::result::Result<T, serde_saphyr::Error>;
type Decoder = fn(&str) -> Decoded<Object>;

/// Every version with its kinds. A blank `apiVersion` means the first.
const VERSIONS: &[(&str, &[(&str, Decoder)])] = &[
    (
        "v1beta1",
        &[
            ("Realm", |text| v1beta1_object(text, V1beta1::Realm)),
            ("Space", |text| v1beta1_object(text, V1beta1::Space)),
            ("Stack", |text| v1beta1_object(text, V1beta1::Stack)),
            ("Cell", |text| v1beta1_object(text, V1beta1::Cell)),
            ("Container", |text| v1beta1_object(text, V1beta1::Container)),
            ("Volume", |text| v1beta1_object(text, V1beta1::Volume)),
            ("Secret", |text| v1beta1_object(text, V1beta1::Secret)),
        ],
    ),
    (
        RELEASES,
        &[
            ("Recipe", |text| release(text, Release::Recipe)),
            ("Preparation", |text| release(text, Release::Preparation)),
            ("Serving", |text| release(text, Release::Serving)),
            ("Menu", |text| release(text, Release::Menu)),
            ("Pantry", |text| release(text, Release::Pantry)),
            ("RecipeTemplate", |text| {
                release(text, Release::RecipeTemplate)
            }),
            ("Kitchen", |text| release(text, Release::Kitchen)),
            // What others call a Recipe by now.
            ("Order", |text| release(text, Release::Recipe)),
        ],
    ),
];

/// `apiVersion` of the release kinds.
const RELEASES: &str = "delivery.kokumi.dev/v1alpha1";

fn v1beta1_object<T: DeserializeOwned>(text: &str, kind: fn(T) -> V1beta1) -> Decoded<Object> {
    Ok(Object::V1beta1(Box::new(kind(yaml::typed(text)?))))
}

fn release<T: DeserializeOwned>(text: &str, kind: fn(T) -> Release) -> Decoded<Object> {
    Ok(Object::Release(Box::new(kind(yaml::typed(text)?))))
}

/// Kinds that come with later releases.
const LATER: &[&str] = &["CellBlueprint", "CellConfig"];

/// Decodes a YAML stream or JSON. `source` names it in errors.
pub fn decode(source: &str, bytes: &[u8]) -> Result<Vec<Document>> {
    decode_each(source, bytes, Ok)
}

/// Decodes a stream and hands every document to `translate`, whose problems are
/// reported with the places in the source, together with all others.
pub fn decode_each<T>(
    source: &str,
    bytes: &[u8],
    mut translate: impl FnMut(Document) -> std::result::Result<T, Vec<Problem>>,
) -> Result<Vec<T>> {
    let text = text(source, bytes)?;
    let (trees, fault) = yaml::read(text);
    if trees.is_empty() && fault.is_none() {
        return Err(Error::invalid(
            "NoDocuments",
            format!("{source}: no documents found"),
        ));
    }
    let many = trees.len() > 1 || fault.is_some();
    let mut problems = Vec::new();
    let mut out = Vec::new();
    for (index, tree) in trees.iter().enumerate() {
        let title = title(index, many, tree);
        let document = one(index, tree, text).map(|document| Document {
            place: format!("{title} at {source}:{}", document.line),
            ..document
        });
        let found = match document {
            Ok(document) => translate(document).map_err(|problems| {
                let place = |problem: Problem| {
                    let at = tree.root.locate(&problem.path);
                    (problem, Some(at))
                };
                problems.into_iter().map(place).collect()
            }),
            Err(placed) => Err(vec![placed]),
        };
        match found {
            Ok(value) => out.push(value),
            Err(found) => problems.extend(found.into_iter().map(|(problem, at)| Located {
                problem,
                at,
                document: title.clone(),
            })),
        }
    }
    if let Some(fault) = fault {
        let (problem, at) = Fault::located(fault);
        let document = if trees.is_empty() {
            String::new()
        } else {
            format!("document {}", trees.len() + 1)
        };
        problems.push(Located {
            problem,
            at,
            document,
        });
    }
    if problems.is_empty() {
        Ok(out)
    } else {
        report(source, text, &problems)
    }
}

/// The input as text, within its limit.
pub(super) fn text<'t>(source: &str, bytes: &'t [u8]) -> Result<&'t str> {
    if bytes.len() > MAX_INPUT {
        return Err(Error::invalid(
            "DocumentTooLarge",
            format!(
                "{source}: {} bytes are more than the {MAX_INPUT} that are read",
                bytes.len()
            ),
        )
        .hint("split it into several files"));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').unwrap_or(text)),
        Err(error) => {
            let before = &bytes[..error.valid_up_to()];
            let line = before.iter().filter(|b| **b == b'\n').count() + 1;
            let start = before
                .iter()
                .rposition(|b| *b == b'\n')
                .map_or(0, |i| i + 1);
            let column = String::from_utf8_lossy(&before[start..]).chars().count() + 1;
            Err(Error::invalid(
                "NotUtf8",
                format!("{source}:{line}:{column}: not UTF-8 text"),
            )
            .hint("save the file with the encoding UTF-8"))
        }
    }
}

/// `document 2 (Cell "web")`, as much of it as is known.
fn title(index: usize, many: bool, tree: &Tree<'_>) -> String {
    let of = |node: Option<&Node<'_>>| node.map(Node::text).unwrap_or_default().to_owned();
    let kind = of(tree.root.get("kind"));
    let name = of(tree.root.get("metadata").and_then(|m| m.get("name")));
    let what = match (kind.is_empty(), name.is_empty()) {
        (true, _) => String::new(),
        (false, true) => kind,
        (false, false) => format!("{kind} {name:?}"),
    };
    match (many, what.is_empty()) {
        (false, _) => what,
        (true, true) => format!("document {}", index + 1),
        (true, false) => format!("document {} ({what})", index + 1),
    }
}

pub(super) type Placed = (Problem, Option<Position>);

fn one(index: usize, tree: &Tree<'_>, text: &str) -> std::result::Result<Document, Placed> {
    let version = field(tree, "apiVersion")?;
    let kind = field(tree, "kind")?;
    let version_at = tree.root.locate("apiVersion");
    let kinds = match VERSIONS.iter().find(|(v, _)| *v == version) {
        Some((_, kinds)) => kinds,
        None if version.is_empty() => VERSIONS[0].1,
        None => return Err((unknown_version(version), Some(version_at))),
    };
    let Some((kind, decoder)) = kinds.iter().find(|(k, _)| *k == kind) else {
        let known: Vec<&str> = kinds.iter().map(|(k, _)| *k).collect();
        let problem = unknown_kind(version, kind, &known);
        return Err((problem, Some(tree.root.locate("kind"))));
    };
    let mut object = decoder(&text[tree.bytes.clone()])
        .map_err(|error| yaml::explain(&error, tree, tree.first_line))?;
    if let Object::Release(release) = &mut object {
        yaml::free(release, tree)?;
    }
    Ok(Document {
        index,
        line: tree.root.at.line,
        kind,
        place: String::new(),
        object,
    })
}

/// Text of a top-level field; empty when absent.
pub(super) fn field<'t>(tree: &'t Tree<'_>, name: &str) -> std::result::Result<&'t str, Placed> {
    let at = Some(tree.root.at);
    if !matches!(tree.root.value, yaml::Value::Map(_)) {
        let message = format!("expected a mapping, found {}", tree.root.found());
        let problem = Problem::new("", "WrongType", message)
            .suggest("a document has the fields apiVersion, kind, metadata and spec");
        return Err((problem, at));
    }
    match tree.root.get(name) {
        None => Ok(""),
        Some(node) if node.is_blank() => Ok(""),
        Some(node) if matches!(node.value, yaml::Value::Scalar(..)) => Ok(node.text()),
        Some(node) => {
            let message = format!("expected text, found {}", node.found());
            Err((Problem::new(name, "WrongType", message), Some(node.at)))
        }
    }
}

/// Whether documents of this `apiVersion` are read.
pub(super) fn is_version(version: &str) -> bool {
    VERSIONS.iter().any(|(v, _)| *v == version)
}

pub(super) fn unknown_version(version: &str) -> Problem {
    let known: Vec<&str> = VERSIONS.iter().map(|(v, _)| *v).collect();
    let message = format!("the version {version:?} is not supported");
    Problem::new("apiVersion", "UnsupportedVersion", message)
        .suggest(format!("supported: {}", known.join(", ")))
}

fn unknown_kind(version: &str, kind: &str, known: &[&str]) -> Problem {
    let list = format!("the kinds are {}", known.join(", "));
    let elsewhere = VERSIONS
        .iter()
        .find(|(v, kinds)| *v != version && kinds.iter().any(|(k, _)| *k == kind));
    if let Some((other, _)) = elsewhere
        && !known.contains(&kind)
    {
        let message = format!("the kind {kind:?} is not of this apiVersion");
        return Problem::new("kind", "UnknownKind", message)
            .suggest(format!("write apiVersion: {other}"));
    }
    match kind {
        "" => Problem::new("kind", "MissingField", "is required").suggest(list),
        "CellProfile" => Problem::new("kind", "UnknownKind", "\"CellProfile\" was retired")
            .suggest("write a CellBlueprint and a CellConfig, or a Cell"),
        "ClientConfiguration" | "ServerConfiguration" => Problem::new(
            "kind",
            "UnknownKind",
            format!("{kind:?} is a configuration file, it cannot be applied"),
        ),
        "List" => Problem::new("kind", "UnknownKind", "\"List\" is not a kind")
            .suggest("write the items as documents of their own, with --- between them"),
        "Pod" => Problem::new("kind", "UnknownKind", "unknown kind \"Pod\"")
            .suggest("did you mean \"Cell\"?"),
        _ if LATER.contains(&kind) => Problem::new(
            "kind",
            "NotSupported",
            format!("the kind {kind:?} is not supported yet"),
        ),
        _ => Problem::new("kind", "UnknownKind", format!("unknown kind {kind:?}")).suggest(
            match closest(kind, known) {
                Some(word) => format!("did you mean {word:?}?"),
                None => list,
            },
        ),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::Code;

    fn refused(text: &str) -> Error {
        let error = decode("f.yaml", text.as_bytes()).unwrap_err();
        assert_eq!(error.code, Code::Invalid);
        error
    }

    const CELL: &str = "kind: Cell\nmetadata: {name: web}\nspec:\n  containers:\n    - id: a\n";

    #[test]
    fn yaml_streams_and_json() {
        let stream = "\u{feff}# hello\nkind: Realm\nmetadata: {name: a}\n---\n---\napiVersion: v1beta1\nkind: Cell\n";
        let documents = decode("-", stream.as_bytes()).unwrap();
        let found: Vec<_> = documents
            .iter()
            .map(|d| (d.index, d.line, d.kind))
            .collect();
        assert_eq!(found, [(0, 2, "Realm"), (1, 6, "Cell")]);
        let json = "{\n\t\"apiVersion\": \"v1beta1\",\n\t\"kind\": \"Stack\",\n\t\"spec\": {\"realmId\": \"r\"}}";
        let documents = decode("-", json.as_bytes()).unwrap();
        let Object::V1beta1(object) = &documents[0].object else {
            panic!("{documents:?}");
        };
        let V1beta1::Stack(stack) = &**object else {
            panic!("{object:?}");
        };
        assert_eq!(stack.spec.as_ref().unwrap().realm_id, "r");
    }

    #[test]
    fn fields_left_empty_are_unset_and_numbers_are_text_where_text_is_wanted() {
        let text = format!(
            "{CELL}      env:\n      command: ~\n      args: [8080, no, 1.50]\n      user: 1000\n"
        );
        let documents = decode("-", text.as_bytes()).unwrap();
        let Object::V1beta1(object) = &documents[0].object else {
            panic!("{documents:?}");
        };
        let V1beta1::Cell(cell) = &**object else {
            panic!("{object:?}");
        };
        let container = &cell.spec.as_ref().unwrap().containers[0];
        assert_eq!(container.args, ["8080", "no", "1.50"]);
        assert_eq!(
            (container.env.len(), &*container.command, &*container.user),
            (0, "", "1000")
        );
    }

    #[test]
    fn an_unknown_field_is_shown_with_its_place_and_what_was_meant() {
        let error = refused(&format!("# x\n{CELL}      imagee: nginx\n"));
        assert_eq!(error.reason, "UnknownField");
        assert_eq!(
            error.message,
            "Cell \"web\" at f.yaml:7:7: unknown field \"imagee\" in spec.containers[0]; did you mean \"image\"?\n    7 |       imagee: nginx\n      |       ^^^^^^"
        );
    }

    #[test]
    fn every_document_is_reported_and_lines_count_from_the_file_start() {
        let error = refused(
            "kind: Realm\nmetadata:\n  nam: a\n---\nkind: Space\n---\nkind: Cell\nmetadata: {name: web}\nspec:\n  id: x\n  id: y\n--- {kind: Sell}\n",
        );
        let lines: Vec<&str> = error
            .message
            .lines()
            .filter(|l| l.contains("f.yaml:"))
            .collect();
        assert_eq!(
            lines,
            [
                "document 1 (Realm) at f.yaml:3:3: unknown field \"nam\" in metadata; did you mean \"name\"?",
                "document 3 (Cell \"web\") at f.yaml:11:3: the key \"id\" in spec is there twice; the first is on line 10",
                "document 4 (Sell) at f.yaml:12:12: kind: unknown kind \"Sell\"; did you mean \"Cell\"?",
            ]
        );
        assert_eq!(error.reason, "UnknownField");
    }

    #[test]
    fn what_is_refused_and_why() {
        let cases = [
            ("kind: CellProfile\n", "UnknownKind", "CellBlueprint"),
            ("kind: CellConfig\n", "NotSupported", "not supported yet"),
            (
                "kind: Recipe\n",
                "UnknownKind",
                "apiVersion: delivery.kokumi.dev/v1alpha1",
            ),
            (
                "apiVersion: delivery.kokumi.dev/v1alpha1\nkind: Recipee\n",
                "UnknownKind",
                "\"Recipe\"",
            ),
            (
                "apiVersion: delivery.kokumi.dev/v1alpha1\nkind: Recipe\nspec: {sorce: {}}\n",
                "UnknownField",
                "\"source\"",
            ),
            ("kind: Pod\n", "UnknownKind", "\"Cell\""),
            (
                "kind: ClientConfiguration\n",
                "UnknownKind",
                "configuration file",
            ),
            (
                "metadata: {name: a}\n",
                "MissingField",
                "Realm, Space, Stack, Cell, Container",
            ),
            (
                "apiVersion: v2\nkind: Cell\n",
                "UnsupportedVersion",
                "supported: v1beta1, delivery.kokumi.dev/v1alpha1",
            ),
            (
                "kind: Cell\nspec: 3\n",
                "WrongType",
                "spec: expected a mapping, found \"3\"",
            ),
            (
                "kind: [Cell]\n",
                "WrongType",
                "kind: expected text, found a list",
            ),
            ("[1, 2]\n", "WrongType", "expected a mapping, found a list"),
            ("kind: Cell\nspec: {x\n", "BadYaml", "f.yaml:"),
            ("kind: Cell\n\tspec: 1\n", "BadYaml", "f.yaml:2:1: "),
            ("kind: Cell\nspec: *no\n", "BadYaml", "anchor"),
            ("kind: Cell\nspec: {id: !evil x}\n", "BadYaml", "tag"),
            ("", "NoDocuments", "no documents"),
            ("# nothing\n---\n---\n", "NoDocuments", "no documents"),
        ];
        for (text, reason, part) in cases {
            let error = refused(text);
            assert_eq!(error.reason, reason, "{text:?}: {error}");
            assert!(error.message.contains(part), "{text:?}: {error}");
        }
    }

    #[test]
    fn fields_of_containers() {
        let cases = [
            ("networks: [x]", "NotSupported", "not supported yet"),
            ("tty: {}", "NotSupported", "not supported yet"),
            ("name: x", "UnknownField", "\"id\""),
            ("restart_policy: never", "UnknownField", "\"restartPolicy\""),
            ("command: [sh, -c]", "WrongType", "arguments below args"),
            ("args: -v", "WrongType", "write [-v]"),
            (
                "root: maybe",
                "WrongType",
                "containers[0].root: expected true or false, found \"maybe\"",
            ),
            (
                "resources: {memoryLimitBytes: 64Mi}",
                "WrongType",
                "67108864",
            ),
            ("volumes: [{mode: 0700}]", "WrongType", "0o700"),
            (
                "args: [null]",
                "WrongType",
                "args[0]: expected text, found nothing",
            ),
            (
                "restartMaxRetries: 99999999999999999999",
                "WrongType",
                "a whole number",
            ),
        ];
        for (field, reason, part) in cases {
            let error = refused(&format!("{CELL}      {field}\n"));
            assert_eq!(error.reason, reason, "{field:?}: {error}");
            assert!(error.message.contains(part), "{field:?}: {error}");
            assert!(error.message.contains("f.yaml:6:"), "{field:?}: {error}");
        }
    }

    #[test]
    fn limits() {
        let error = decode("f", &vec![b'#'; MAX_INPUT + 1]).unwrap_err();
        assert_eq!(error.reason, "DocumentTooLarge");
        let error = decode("f", b"kind: Cell\nmetadata: {name: \xff}\n").unwrap_err();
        assert_eq!(error.reason, "NotUtf8");
        assert!(error.message.contains("f:2:18"), "{error}");
        let error = decode("f", &b"kind: Realm\n---\n".repeat(1100)).unwrap_err();
        assert_eq!(error.reason, "YamlBudget");
    }

    #[test]
    fn field_problems_of_the_translation_get_their_place() {
        let text = format!("{CELL}      image: x\n");
        let error = decode_each::<()>("f.yaml", text.as_bytes(), |_| {
            Err(vec![
                Problem::new("spec.containers[0].image", "BadImage", "is odd"),
                Problem::new("spec.realmId", "MissingField", "is required"),
            ])
        })
        .unwrap_err();
        assert!(
            error
                .message
                .contains("f.yaml:6:14: spec.containers[0].image: is odd"),
            "{error}"
        );
        assert!(
            error
                .message
                .contains("f.yaml:3:1: spec.realmId: is required"),
            "{error}"
        );
    }

    #[test]
    fn passwords_are_not_in_debug_output() {
        let text = b"kind: Realm\nspec: {registryCredentials: [{username: u, password: hush}]}\n";
        let shown = format!("{:?}", decode("f", text).unwrap());
        assert!(
            shown.contains("username") && !shown.contains("hush"),
            "{shown}"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_bytes_give_documents_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode("f", &bytes);
        }

        #[test]
        fn any_yaml_like_text_gives_documents_or_an_error(
            parts in prop::collection::vec(
                prop::sample::select(vec![
                    "kind: Cell\n", "spec:\n", "  containers:\n", "  - id: a\n", "    env:", "[", "]",
                    "{", "}", ": ", "- ", "&a ", "*a", "<<: ", "|\n", ">-\n", "\"", "'", "---\n", "...\n",
                    "%YAML 1.2\n", "!t ", "? ", ",", "\n", "  ", "\t", "é", "\u{feff}", "\u{2028}", "null", "#x",
                ]),
                0..40,
            )
        ) {
            let text = parts.concat();
            if let Err(error) = decode("f", text.as_bytes()) {
                prop_assert_eq!(error.code, Code::Invalid);
            }
        }
    }
}
