use proptest::prelude::*;

use super::*;
use crate::model::Number;

fn documents(text: &str) -> Vec<Document> {
    read("f.yaml", text.as_bytes(), Octal::Read).unwrap()
}

fn canonical(text: &str) -> String {
    manifest(&documents(text))
}

fn refused(text: &str) -> String {
    read("f.yaml", text.as_bytes(), Octal::Refuse)
        .unwrap_err()
        .message
}

#[test]
fn one_document_after_another() {
    let text = "\u{feff}# top\r\nkind: A # why\r\nspec: {z: 1, a: [x, {y: [], w: {}}, [1, [2]]], s: ''}\r\n---\n---\n# nothing\n--- {\"kind\":\t\"B\"}\n";
    let wanted = "\
---
kind: A
spec:
  z: 1
  a:
    - x
    - \"y\": []
      w: {}
    - - 1
      - - 2
  s: \"\"
---
kind: B
";
    assert_eq!(canonical(text), wanted);
    let places: Vec<_> = documents(text)
        .into_iter()
        .map(|d| (d.origin.index, d.origin.line))
        .collect();
    assert_eq!(places, [(1, 2), (4, 7)]);
}

#[test]
fn scalars_keep_their_type_for_every_reader() {
    let cases = [
        ("yes", "\"yes\""),
        ("On", "\"On\""),
        ("y", "\"y\""),
        ("TRUE", "true"),
        ("~", "null"),
        ("'null'", "\"null\""),
        ("1.50", "1.50"),
        ("'1.50'", "\"1.50\""),
        ("1e3", "1.0e+3"),
        ("+.5E-2", "0.5e-2"),
        ("5.", "5.0"),
        ("0x1F", "31"),
        ("0o17", "15"),
        ("0644", "420"),
        ("-012", "-10"),
        ("+12", "12"),
        ("1_000", "\"1_000\""),
        ("12:30:45", "\"12:30:45\""),
        ("1:2.5", "\"1:2.5\""),
        ("2001-01-01", "\"2001-01-01\""),
        ("1.2.3", "1.2.3"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("0b11", "\"0b11\""),
        ("-0x1F", "\"-0x1F\""),
        (
            "123456789012345678901234567890",
            "123456789012345678901234567890",
        ),
        ("'='", "\"=\""),
        ("'<<'", "\"<<\""),
        ("!!str 12", "\"12\""),
        ("! 12", "\"12\""),
        ("!!int '12'", "12"),
        ("-v", "-v"),
        ("'-'", "\"-\""),
        ("'- x'", "\"- x\""),
        ("'a: b'", "\"a: b\""),
        ("'a #b'", "\"a #b\""),
        ("a:b#c", "a:b#c"),
        ("'a:'", "\"a:\""),
        ("'@x'", "\"@x\""),
        ("' x'", "\" x\""),
        ("\"\\u00e9\\u0085\\t\\u200b\"", "\"é\\x85\\t\\u200b\""),
        ("$(X)", "$(X)"),
    ];
    for (text, wanted) in cases {
        assert_eq!(
            canonical(&format!("a: {text}\n")),
            format!("---\na: {wanted}\n"),
            "{text}"
        );
    }
}

#[test]
fn blocks() {
    let value = |text: &str| -> String {
        let value: Value = [("a", text)].into_iter().collect();
        let out = to_yaml(&value);
        assert_eq!(documents(&out)[0].value, value, "{out}");
        out
    };
    assert_eq!(value("x\ny\n"), "a: |\n  x\n  y\n");
    assert_eq!(value("x\n\n  y"), "a: |-\n  x\n\n    y\n");
    assert_eq!(value("x\n\n\n"), "a: |+\n  x\n\n\n");
    assert_eq!(value("x\n\ty # z: w\n"), "a: |\n  x\n  \ty # z: w\n");
    assert_eq!(value(" x\ny"), "a: \" x\\ny\"\n");
    assert_eq!(value("x\n \ny"), "a: \"x\\n \\ny\"\n");
    assert_eq!(value("\n"), "a: \"\\n\"\n");
    assert_eq!(value("x\r\ny"), "a: \"x\\r\\ny\"\n");
    let list = canonical("a:\n- |\n  x\n  y\n- b: |+\n    z\n\n  c: 1\n");
    assert_eq!(
        list,
        "---\na:\n  - |\n    x\n    y\n  - b: |+\n      z\n\n    c: 1\n"
    );
}

#[test]
fn keys() {
    let text = "1: a\ntrue: b\n1.50: c\n0x1: d\n'': e\n? long key\n: f\n";
    let wanted = "---\n\"1\": a\n\"true\": b\n\"1.50\": c\n\"0x1\": d\n\"\": e\nlong key: f\n";
    assert_eq!(canonical(text), wanted);
    let long: Value = [("k".repeat(3000), 1)].into_iter().collect();
    let text = to_yaml(&long);
    assert!(text.starts_with("? \"k"), "{text}");
    assert_eq!(documents(&text)[0].value, long);
}

#[test]
fn anchors_and_merge_keys() {
    let text = "
base: &base {a: 1, b: 2}
more: &more {b: 3, c: 4}
x:
  z: 0
  <<: [*base, *more]
  b: 5
  list: &l [*base]
y: {<<: *base, '<<': plain}
l: *l
";
    let wanted = "---
base:
  a: 1
  b: 2
more:
  b: 3
  c: 4
x:
  z: 0
  a: 1
  b: 5
  c: 4
  list:
    - a: 1
      b: 2
\"y\":
  a: 1
  b: 2
  \"<<\": plain
l:
  - a: 1
    b: 2
";
    assert_eq!(canonical(text), wanted);
}

#[test]
fn lists_become_their_items() {
    let text = "apiVersion: v1\nkind: List\nitems:\n- kind: A\n  metadata: {name: a}\n-\n- kind: List\n  items:\n  - kind: B\n---\nkind: List\n---\napiVersion: v1\nkind: ConfigMapList\nitems: [{metadata: {name: c}}]\n---\nkind: AllowList\nmetadata: {name: x}\nitems: [1]\n";
    let found = documents(text);
    let seen: Vec<_> = found
        .iter()
        .map(|d| (d.field("kind"), d.origin.line))
        .collect();
    assert_eq!(
        seen,
        [("A", 4), ("B", 7), ("ConfigMap", 15), ("AllowList", 17)]
    );
    assert_eq!(
        found[2].value.to_json(),
        r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"}}"#
    );
    assert_eq!(found[0].place(), "document 1 (A \"a\") at f.yaml:4");
}

#[test]
fn what_is_refused_and_where() {
    let cases = [
        (
            "a: 1\nb: {x: 1, x: 2}\n",
            "f.yaml:2:11: the key \"x\" is there twice",
        ),
        ("a: 1\n---\nb: [\n", "document 2 at f.yaml:"),
        ("a: *x\n", "f.yaml:1:4"),
        ("a: &x [*x]\n", "contains it"),
        ("[a]: b\n", "f.yaml:1:1: a key must be text"),
        ("~: b\n", "a key must be text"),
        ("a: !evil x\n", "!evil"),
        ("a: !!binary eA==\n", "not supported"),
        ("a: !!map [x]\n", "not supported here"),
        ("a: !!int x\n", "\"x\" is not a number"),
        ("a: .inf\n", ".inf"),
        ("a: -.INF\n", "quote it"),
        ("a: 1e999\n", "out of range"),
        ("a: 0644\n", "0o644"),
        ("a: 08\n", "a number to some"),
        ("{<<: 1}\n", "<< needs a mapping"),
        ("{<<: {a: 1}, <<: {b: 1}}\n", "<< is there twice"),
        ("- a\n", "expected a mapping, found a list"),
        ("kind: List\nitems: 3\n", "items: expected a list"),
        ("kind: List\nitems: [3]\n", "found a number"),
        ("a: 'x\n", "f.yaml:"),
        ("kind: Cell\n\tspec: 1\n", "f.yaml:"),
    ];
    for (text, part) in cases {
        let message = refused(text);
        assert!(message.contains(part), "{text:?}: {message}");
    }
    let message = read("f", b"a: 1\nb: \xff\n", Octal::Read)
        .unwrap_err()
        .message;
    assert_eq!(message, "f:2: not UTF-8 text");
}

#[test]
fn what_would_cost_too_much_is_refused() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for n in 1..10 {
        bomb.push_str(&format!(
            "a{n}: &a{n} [{}]\n",
            vec![format!("*a{}", n - 1); 10].join(", ")
        ));
    }
    assert!(refused(&bomb).contains("aliases expanded"));
    let mut text = format!("a: &a {}\nb: [", "x".repeat(1 << 20));
    text.push_str(&vec!["*a"; 100].join(", "));
    text.push_str("]\n");
    assert!(refused(&text).contains("bytes of text"));
    let mut deep = String::from("a0: &a0 [x]\n");
    for n in 1..100 {
        deep.push_str(&format!("a{n}: &a{n} [*a{}]\n", n - 1));
    }
    assert!(refused(&deep).contains("nested deeper"));
    assert!(refused(&"[".repeat(100_000)).contains("f.yaml:1"));
    assert!(refused(&"- ".repeat(100_000)).contains("f.yaml:1"));
    assert!(refused(&"---\n".repeat(10_002)).contains("documents"));
}

fn any_text() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "yes",
        "no",
        "NULL",
        "~",
        "1",
        "0x1f",
        "1e3",
        "-1",
        "1_0",
        "1:2",
        "<<",
        "=",
        "-",
        "---",
        "...",
        "?",
        ": ",
        " #",
        "#",
        "&a",
        "*a",
        "!t",
        "|",
        ">",
        "'",
        "\"",
        "\\",
        "\n",
        "\n\n",
        " ",
        "  ",
        "\t",
        "\r",
        "é",
        "\u{85}",
        "\u{2028}",
        "\u{feff}",
        "\u{1f600}",
        "\u{0}",
        "\u{7f}",
        "\u{ffff}",
        "a",
        "b:",
        "- a",
        "{",
        "}",
        "[",
        "]",
        ",",
        "%",
        "@",
        "`",
        "2001-01-01",
        ".",
        "\u{a0}",
        "\u{301}",
    ]);
    prop_oneof![
        prop::collection::vec(words, 0..7).prop_map(|parts| parts.concat()),
        ".{0,12}",
        "[ -~\n\t]{0,30}",
    ]
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i128>().prop_map(Value::from),
        any::<f64>()
            .prop_filter("finite", |d| d.is_finite())
            .prop_map(|d| Value::Number(Number::from_f64(d).unwrap())),
        "-?(0|[1-9][0-9]{0,5})(\\.[0-9]{1,4})?([eE][+-]?[0-9]{1,2})?"
            .prop_map(|t| Value::Number(Number::parse(&t).unwrap())),
        any_text().prop_map(Value::from),
        any_text().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::List),
            prop::collection::vec((any_text(), inner), 0..6)
                .prop_map(|entries| entries.into_iter().collect()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn values_survive_and_the_form_is_a_fixed_point(values in prop::collection::vec(any_value(), 1..4)) {
        let documents: Vec<Document> = values
            .into_iter()
            .map(|value| Document { value: [("v", value)].into_iter().collect(), origin: Origin::default() })
            .collect();
        let text = manifest(&documents);
        let back = read("f", text.as_bytes(), Octal::Refuse).unwrap();
        let values = |documents: &[Document]| documents.iter().map(|d| d.value.clone()).collect::<Vec<_>>();
        prop_assert_eq!(values(&back), values(&documents), "{}", text);
        prop_assert_eq!(manifest(&back), text.clone());
        prop_assert!(!text.contains('\r') && text.ends_with('\n'));
        // Another reader of ours, with rules of YAML 1.1 for true and false.
        let typed: Vec<Value> = match serde_saphyr::from_multiple(&text) {
            Ok(typed) => typed,
            // Numbers beyond 64 bits.
            Err(error) => { prop_assert!(error.to_string().contains("out of range"), "{error}"); return Ok(()); }
        };
        prop_assert_eq!(typed, values(&documents), "{}", text);
    }

    #[test]
    fn any_bytes_give_documents_or_a_failure(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = read("f", &bytes, Octal::Read);
    }

    #[test]
    fn any_yaml_like_text_settles_after_one_pass(
        parts in prop::collection::vec(
            prop::sample::select(vec![
                "a:\n", "kind: List\n", "items:\n", "  - id: a\n", "    env:", "[", "]", "{", "}", ": ",
                "- ", "&a ", "*a", "<<: ", "|\n", ">-\n", "\"", "'", "---\n", "...\n", "%YAML 1.2\n",
                "!t ", "!!str ", "? ", ",", "\n", "  ", "\t", "é", "\u{2028}", "null", "#x", "0x1f", "1.50", "0644",
            ]),
            0..40,
        )
    ) {
        if let Ok(documents) = read("f", parts.concat().as_bytes(), Octal::Read) {
            let text = manifest(&documents);
            let again = read("f", text.as_bytes(), Octal::Refuse).unwrap();
            prop_assert_eq!(manifest(&again), text);
        }
    }
}
