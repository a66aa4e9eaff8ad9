//! `kuke recipe render`, with the real helm, kustomize and another YAML reader.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::command::{Done, Running, system};
use crate::runner::{Case, Skip, Verdict};
use crate::world::{installed, path, world};

pub const CASES: &[&[Case]] = &[crate::cases![
    render_is_the_same_again,
    render_takes_scalars_as_sources_do,
    render_charts,
    render_charts_that_differ,
    render_charts_that_ask_for_a_known_time,
    render_charts_that_carry_templates_of_others,
    render_for_a_cluster,
    render_kustomize,
    render_reads_the_same_elsewhere,
    render_failures_have_reasons,
    render_needs_helm,
]];

/// Files of a case, below a directory that goes with it.
struct Files(tempfile::TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self(dir)
    }

    /// A Recipe for a cluster, with the rest of its spec.
    fn recipe(&self, source: &str, rest: &str) -> String {
        let text = format!(
            "apiVersion: delivery.kokumi.dev/v1alpha1\nkind: Recipe\nmetadata: {{name: web}}\nspec:\n  source: {{path: {}}}\n  target: {{type: argocd}}\n{rest}",
            self.0.path().join(source).display()
        );
        let path = self.0.path().join("recipe.yaml");
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

fn command(recipe: &str, more: &[&str]) -> Command {
    let mut command = Command::new(&world().kuke);
    command.args(["recipe", "render", "-f", recipe]).args(more);
    command.env("HOME", Path::new(recipe).parent().unwrap());
    command.env("PATH", path());
    command
}

fn render(recipe: &str, more: &[&str]) -> Done {
    let command = command(recipe, more);
    Running::start(command, "kuke recipe render".to_owned(), None).wait(Duration::from_secs(60))
}

const CHART: &str = "apiVersion: v2\nname: demo\nversion: 0.1.0\n";
const INNER: &str = "apiVersion: v2\nname: inner\nversion: 0.1.0\n";
const SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: \"{{ .Release.Name }}\", namespace: \"{{ .Release.Namespace }}\"}
spec: {ports: [{port: {{ .Values.port }}}]}
---
apiVersion: v1
kind: Pod
metadata: {name: t, annotations: {helm.sh/hook: test}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: unused}
data: {x: \"{{ if false }}{{ now }}{{ end }}{{ .Capabilities.KubeVersion.Version }}\"}
";

fn render_is_the_same_again() -> Verdict {
    let manifest = "kind: ConfigMap\napiVersion: v1\nmetadata: {name: a}\ndata: {x: yes, y: '1'}\n";
    let files = Files::new(&[("src/manifest.yaml", manifest)]);
    let patch = "  patches:\n  - {target: {kind: ConfigMap, name: a}, setString: {.data.z: '2'}}\n";
    let recipe = files.recipe("src", patch);
    let first = render(&recipe, &["-o", "json"]).ok().json();
    assert_eq!(
        first["manifest"],
        "---\nkind: ConfigMap\napiVersion: v1\nmetadata:\n  name: a\ndata:\n  x: \"yes\"\n  \"y\": \"1\"\n  z: \"2\"\n"
    );
    assert_eq!(render(&recipe, &["-o", "json"]).ok().json(), first);
    // Elsewhere, under another name, with the same inputs.
    let other = Files::new(&[("elsewhere/manifest.yaml", manifest)]);
    let recipe = other.recipe("elsewhere", patch);
    let text = fs::read_to_string(&recipe)
        .unwrap()
        .replace("name: web", "name: other");
    fs::write(&recipe, text).unwrap();
    let second = render(&recipe, &["-o", "json"]).ok().json();
    assert_eq!(second["digest"], first["digest"]);
    assert_eq!(second["configHash"], first["configHash"]);
    let said = render(&recipe, &["--check"]).ok().out;
    assert!(said.contains(first["digest"].as_str().unwrap()), "{said}");
    Ok(())
}

fn render_takes_scalars_as_sources_do() -> Verdict {
    let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {n: n, yes: yes, one: 1_000}\n";
    let files = Files::new(&[("src/manifest.yaml", manifest)]);
    let patch =
        |what: &str| format!("  patches:\n  - target: {{kind: ConfigMap, name: a}}\n    {what}\n");
    let rendered = |what: &str| {
        let done = render(&files.recipe("src", &patch(what)), &["-o", "json"]).ok();
        done.json()["manifest"].as_str().unwrap().to_owned()
    };
    let source = rendered("set: {.data.n: n, .data.yes: yes, .data.one: 1_000}");
    assert_eq!(
        rendered("merge: {data: {n: n, yes: yes, one: 1_000}}"),
        source
    );
    let whole = "jsonPatch: [{op: replace, path: /data, value: {n: n, yes: yes, one: 1_000}}]";
    assert_eq!(rendered(whole), source);
    let text = "setString: {.data.n: n, .data.yes: yes, .data.one: 1_000}";
    assert_eq!(rendered(text), source);
    let mode = patch("setString: {.data.mode: 0644}");
    let done = render(&files.recipe("src", &mode), &[]).ok();
    assert!(done.out.contains("mode: \"0644\"\n"), "{}", done.out);
    let mode = patch("set: {.data.mode: 0644}");
    render(&files.recipe("src", &mode), &[]).code(2).says(&[
        "recipe.yaml:9:23: 0644 is 420 to some readers",
        "write 0o644",
    ]);
    Ok(())
}

fn render_charts() -> Verdict {
    installed("helm")?;
    let files = Files::new(&[
        ("chart/Chart.yaml", CHART),
        ("chart/values.yaml", "port: 80\n"),
        ("chart/templates/a.yaml", SERVICE),
    ]);
    let rest = "  render: {helm: {values: {port: 8080}}}\n  patches:\n  - {target: {kind: Service, name: web}, set: {'.spec.ports[0].name': http}}\n";
    let done = render(&files.recipe("chart", rest), &[]).ok();
    for part in [
        "port: 8080",
        "name: http",
        "namespace: default",
        "x: v1.31.0",
    ] {
        assert!(done.out.contains(part), "{part}: {}", done.out);
    }
    assert!(!done.out.contains("kind: Pod"), "{}", done.out);
    render(&files.recipe("chart", ""), &[])
        .code(2)
        .says(&["render.helm"]);
    render(&files.recipe("chart", "  render: {helm: {values: {port: 81}}}\n  patches:\n  - {target: {kind: Service, name: none}, set: {a: 1}}\n"), &[])
        .code(2)
        .says(&["patches[0]", "no document matches"]);
    Ok(())
}

fn render_charts_that_differ() -> Verdict {
    installed("helm")?;
    let template = |value: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c}}\ndata: {{x: \"{{{{ {value} }}}}\"}}\n"
        )
    };
    for value in [
        "randAlphaNum 8",
        "now | date \\\"2006\\\"",
        "uuidv4",
        "now.Unix",
        // What is no time is today.
        "htmlDate \\\"x\\\"",
        "date \\\"2006\\\" \\\"x\\\"",
        "dateInZone \\\"2006\\\" .Values.none \\\"UTC\\\"",
        "htmlDateInZone .Values.none \\\"UTC\\\"",
        "toDate \\\"2006-01-02\\\" \\\"2020-01-01\\\" | durationRound",
        // Text that is only put together when it runs.
        "tpl (printf \\\"{{ n%s }}\\\" \\\"ow | htmlDate\\\") .",
        "tpl \\\"{{ now | htmlDate }}\\\" .",
        "tpl .Values.today .",
        "tpl (.Files.Get `files/today.txt`) .",
        "tpl (.Subcharts.inner.Files.Get `today.txt`) .",
        // What only looks like a comment, or like the begin of a text.
        "tpl .Values.hidden .",
        "tpl .Values.rune .",
        "include `inner.today` .",
        // Chance that often gives the same.
        "randInt 0 2",
        "randNumeric 1",
        "shuffle \\\"ab\\\"",
        // So does an order that nobody gave.
        "keys (dict \\\"a\\\" 1 \\\"b\\\" 2) | join \\\"-\\\"",
        "first (values (dict \\\"a\\\" 1 \\\"b\\\" 2))",
        "dict \\\"a\\\" 1 \\\"b\\\" 2 | keys | toString",
    ] {
        let text = template(&value.replace("\\\"", "`"));
        let files = Files::new(&[
            ("chart/Chart.yaml", CHART),
            (
                "chart/values.yaml",
                "\
today: \"{{ date \\\"2006\\\" now }}\"
hidden: '{{ `{{/*` }}{{ now | htmlDate }}{{ `*/}}` }}'
rune: |-
  {{ '\"' }}{{ now | htmlDate }}
",
            ),
            ("chart/files/today.txt", "{{ now | htmlDate }}"),
            ("chart/charts/inner/Chart.yaml", INNER),
            ("chart/charts/inner/today.txt", "{{ now | htmlDate }}"),
            (
                "chart/charts/inner/templates/_a.tpl",
                "{{ define \"inner.today\" }}{{ now | htmlDate }}{{ end }}",
            ),
            ("chart/templates/a.yaml", &text),
        ]);
        let recipe = files.recipe("chart", "  render: {helm: {}}\n");
        let done = render(&recipe, &[]);
        assert!(
            done.code != 0 && done.out.is_empty(),
            "{value}: {}",
            done.show()
        );
        let told = [
            "two runs with the same inputs differ",
            "depends on the time",
        ];
        assert!(
            told.iter().any(|words| done.err.contains(words)),
            "{value}: {}",
            done.show()
        );
    }
    let text = template("now | date `2006-01-02`");
    let files = Files::new(&[
        ("chart/Chart.yaml", CHART),
        ("chart/templates/a.yaml", &text),
    ]);
    render(&files.recipe("chart", "  render: {helm: {}}\n"), &[])
        .code(2)
        .says(&["differ in ConfigMap \"c\".data.x"]);
    Ok(())
}

fn render_charts_that_ask_for_a_known_time() -> Verdict {
    installed("helm")?;
    let values = "when: \"{{ date \\\"2006\\\" (toDate \\\"2006-01-02\\\" \\\"2021-02-03\\\") }}\"\nname: some\nplain: \"it is {{ .Values.name }}\"\n";
    let template = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: c}
data:
  a: \"{{ tpl .Values.when . }}\"
  b: \"{{ toDate `2006-01-02` `2020-01-01` | htmlDate }}\"
  c: \"{{- 0 | int64 | date `2006` -}}\"
  d: \"{{ dateInZone `15:04` (toDate `2006-01-02` `2020-01-01`) `UTC` | replace `:` `-` }}\"
  e: \"{{ durationRound `26h` }}\"
  f: \"{{ tpl (cat `{{ .Values.name` `}}`) . | upper }}\"
  g: \"{{ default (randAlphaNum 8) .Values.name }}\"
  h: \"{{ include `demo.render` (dict `value` .Values.when `context` $ `scope` .) }}\"
  i: \"{{ tpl (printf `%s%s` `{{/* the date, don't {{ now }} */}}{{- /* tpl\n*/ -}} ` .Values.plain) . }}\"
  j: \"{{ keys (dict `b` 1 `a` 2) | sortAlpha | join `,` }}\"
  k: \"{{ range $v := values (dict `a` 1234567) }}{{ $v }}{{ end }}\"
";
    // As libraries of charts do it.
    let helpers = "\
{{/* Don't render the date (tpl) now */}}
{{- define \"demo.render\" -}}
{{- $value := typeIs \"string\" .value | ternary .value (.value | toYaml) }}
{{- if contains \"{{\" (toJson .value) }}
{{- tpl (cat \"{{- with $.RelativeScope -}}\" $value \"{{- end }}\") (merge (dict \"RelativeScope\" .scope) .context) }}
{{- end }}
{{- end -}}
";
    let files = Files::new(&[
        ("chart/Chart.yaml", CHART),
        ("chart/values.yaml", values),
        ("chart/templates/_helpers.tpl", helpers),
        ("chart/templates/a.yaml", template),
    ]);
    let done = render(&files.recipe("chart", "  render: {helm: {}}\n"), &[]).ok();
    for part in [
        "a: \"2021\"",
        "b: \"2020-01-01\"",
        "c: \"1970\"",
        "d: 00-00",
        "e: 1d",
        "f: SOME",
        "g: some",
        "h: \"2021",
        "i: it is some",
        "j: a,b",
        "k: \"1234567\"",
    ] {
        assert!(done.out.contains(part), "{part}: {}", done.out);
    }
    Ok(())
}

/// What a chart hands on as it is was written for another program.
fn render_charts_that_carry_templates_of_others() -> Verdict {
    installed("helm")?;
    let template = "\
apiVersion: v1
kind: ConfigMap
metadata:
  name: c
  annotations: {sum: {{ .Values.files | toJson | sha256sum }}}
data:
  alert: {{ index .Values.files `a.tmpl` | b64enc }}
  secret: {{ toJson .Values.secret }}
  recipe: {{ toJson .Values.recipe }}
  file: {{ .Files.Get `files/templates/a.tmpl` | toJson }}
  name: {{ tpl .Values.name . }}
";
    let inner = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: inner}
data:
  file: {{ .Files.Get `b.tmpl` | toJson }}
";
    let crd = "\
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: as.example.com}
spec: {description: 'a template such as {{ now }}'}
";
    let values = "\
files: {a.tmpl: '{{ .StartsAt | date \"15:04\" }}'}
secret: {password: '{{ randAlphaNum 8 }}', at: '{{ now }}'}
name: '{{ .Release.Name }}'
";
    let files = Files::new(&[
        ("chart/Chart.yaml", CHART),
        ("chart/values.yaml", values),
        (
            "chart/files/templates/a.tmpl",
            "{{ tpl .x }} {{ date .StartsAt }}",
        ),
        ("chart/crds/a.yaml", crd),
        ("chart/templates/a.yaml", template),
        ("chart/charts/inner/Chart.yaml", INNER),
        ("chart/charts/inner/b.tmpl", "{{ shuffle now }}"),
        ("chart/charts/inner/templates/a.yaml", inner),
    ]);
    let rest =
        "  render: {helm: {includeCRDs: true, values: {recipe: '{{ now | date \"2006\" }}'}}}\n";
    let done = render(&files.recipe("chart", rest), &[]).ok();
    for part in [
        "alert: e3sgLlN0YXJ0c0F0IHwgZGF0ZSAiMTU6MDQiIH19",
        "password: \"{{ randAlphaNum 8 }}\"",
        "recipe: \"{{ now | date \\\"2006\\\" }}\"",
        "file: \"{{ tpl .x }} {{ date .StartsAt }}\"",
        "file: \"{{ shuffle now }}\"",
        "a template such as {{ now }}",
        "name: web",
    ] {
        assert!(done.out.contains(part), "{part}: {}", done.out);
    }
    // Beside them, templates of the chart and of those inside count as ever.
    let ours = template.replace("tpl .Values.name .", "now | htmlDate");
    let theirs = inner.replace(".Files.Get `b.tmpl`", "now | htmlDate");
    for (path, text, told) in [
        ("chart/charts/inner/templates/a.yaml", &theirs, "inner"),
        ("chart/templates/a.yaml", &ours, "c"),
    ] {
        fs::write(files.0.path().join(path), text).unwrap();
        render(&files.recipe("chart", rest), &[])
            .code(2)
            .says(&[&format!("ConfigMap \"{told}\".data")]);
    }
    Ok(())
}

/// The same Recipe is for this machine or a cluster, as its target says.
fn render_for_a_cluster() -> Verdict {
    let cell = "\
apiVersion: v1beta1
kind: Space
metadata: {name: default}
---
apiVersion: v1beta1
kind: Cell
metadata: {name: web}
spec:
  containers:
    - {id: a, image: nginx, restartPolicy: always, ports: ['80']}
";
    let files = Files::new(&[("src/manifest.yaml", cell)]);
    let rest = "  render: {kubernetes: true}\n  patches:\n  - {target: {kind: Cell, name: web}, set: {'.spec.containers[id=a].image': caddy}}\n";
    let recipe = files.recipe("src", rest);
    let done = render(&recipe, &[]).ok();
    for part in [
        "kind: NetworkPolicy",
        "kind: Service",
        "kind: Deployment",
        "image: caddy",
    ] {
        assert!(done.out.contains(part), "{part}: {}", done.out);
    }
    assert!(!done.out.contains("kind: Cell"), "{}", done.out);
    let text = fs::read_to_string(&recipe).unwrap();
    fs::write(&recipe, text.replace("type: argocd", "type: kuke")).unwrap();
    let done = render(&recipe, &[]).ok();
    assert!(
        done.out.contains("kind: Cell") && done.out.contains("image: caddy"),
        "{}",
        done.out
    );
    assert!(!done.out.contains("Deployment"), "{}", done.out);
    // What a cluster has not is told, with what to do.
    let cell = cell.replace("image: nginx", "image: nginx, hostCgroup: true");
    let files = Files::new(&[("src/manifest.yaml", &cell)]);
    render(&files.recipe("src", rest), &[])
        .code(2)
        .says(&["hostCgroup"]);
    Ok(())
}

fn render_kustomize() -> Verdict {
    if installed("kustomize").is_err() {
        installed("kubectl")?;
    }
    let files = Files::new(&[
        ("k/base/kustomization.yaml", "resources: [cm.yaml]\n"),
        (
            "k/base/cm.yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {x: \"yes\"}\n",
        ),
        (
            "k/over/kustomization.yaml",
            "resources: [../base]\nnamePrefix: p-\n",
        ),
        (
            "k/far/kustomization.yaml",
            "resources: ['https://example.com/x']\n",
        ),
    ]);
    // Built before it is patched: the patch sees the prefixed name.
    let rest = "  render: {kustomize: {path: over}}\n  patches:\n  - {target: {kind: ConfigMap, name: p-a}, setString: {.data.y: '1'}}\n";
    let done = render(&files.recipe("k", rest), &[]).ok();
    assert!(
        done.out.contains("name: p-a") && done.out.contains("\"y\": \"1\""),
        "{}",
        done.out
    );
    render(
        &files.recipe("k", "  render: {kustomize: {path: far}}\n"),
        &[],
    )
    .code(1)
    .says(&["https://example.com/x", "not fetched"]);
    render(&files.recipe("k", "  render: {kustomize: {}}\n"), &[])
        .code(2)
        .says(&["kustomization.yaml"]);
    Ok(())
}

/// A reader of YAML 1.1 finds the values that were written.
fn render_reads_the_same_elsewhere() -> Verdict {
    let reader = "import sys, json, yaml; print(json.dumps([d['data'] for d in yaml.safe_load_all(sys.stdin)]))";
    if system("python3", &["-c", "import yaml"]).code != 0 {
        return Err(Skip("python3 with yaml is not installed".to_owned()));
    }
    let texts = [
        "yes",
        "NO",
        "on",
        "~",
        "null",
        "1",
        "0x1f",
        "0o17",
        "1e3",
        "1_000",
        "12:30:45",
        "1.5",
        ".5",
        "2001-01-01",
        "=",
        "<<",
        "-",
        "- a",
        "a: b",
        "a #b",
        "#",
        "",
        " a",
        "a ",
        "a\nb",
        "a\n\nb\n\n",
        "\ta",
        "a\tb",
        "\n",
        "é",
        "\u{85}",
        "\u{2028}",
        "\u{feff}",
        "\u{1f600}",
        "\u{7}",
        "'",
        "\"",
        "\\",
        "{a}",
        "[a]",
        "*a",
        "&a",
        "!a",
        "%a",
        "@a",
        "`a",
        "|",
        ">",
        "?",
        "---",
        "...",
        "x\n---\ny\n",
        "y",
        "n",
    ];
    let data: serde_json::Map<String, serde_json::Value> = texts
        .iter()
        .map(|t| ((*t).to_owned(), (*t).into()))
        .collect();
    let document = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data});
    let files = Files::new(&[("src/manifest.yaml", &document.to_string())]);
    let done = render(&files.recipe("src", ""), &[]).ok();
    let mut python = Command::new("python3");
    python.args(["-c", reader]);
    let read = Running::start(python, "python3".to_owned(), Some(done.out.clone().into()));
    let read = read.wait(Duration::from_secs(60)).ok();
    assert_eq!(read.json(), serde_json::json!([data]), "{}", done.out);
    Ok(())
}

fn render_failures_have_reasons() -> Verdict {
    let good = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
    let cases: [(&str, &str, &str); 6] = [
        (
            "apiVersion: v1\nkind: [\n",
            "",
            "document 1 at manifest.yaml:",
        ),
        (
            good,
            "  patches: [{target: {kind: ConfigMap, name: b}, set: {a: 1}}]\n",
            "no document matches",
        ),
        (
            good,
            "  patches: [{target: {kind: ConfigMap, name: a}, set: {kind.x: 1}}]\n",
            "kind.x",
        ),
        ("# nothing\n", "", "no documents"),
        (
            good,
            "  edits: [{target: {kind: ConfigMap, name: a}, unset: [data.x]}]\n",
            "edits[0]",
        ),
        (
            "apiVersion: v1\nkind: Job\nmetadata: {generateName: a}\n",
            "",
            "generateName",
        ),
    ];
    for (manifest, rest, part) in cases {
        let files = Files::new(&[("src/manifest.yaml", manifest)]);
        let done = render(&files.recipe("src", rest), &[])
            .code(2)
            .says(&[part]);
        assert_eq!(done.out, "", "{}", done.show());
    }
    let files = Files::new(&[]);
    render(&files.recipe("none", ""), &[])
        .code(3)
        .says(&["none"]);
    Ok(())
}

/// Where the usual directories have no helm, and nothing else is looked at.
fn render_needs_helm() -> Verdict {
    for dir in ["/usr/local/bin", "/usr/bin", "/bin"] {
        if Path::new(dir).join("helm").exists() {
            return Err(Skip(format!("there is a helm in {dir}")));
        }
    }
    let files = Files::new(&[("chart/Chart.yaml", CHART)]);
    let recipe = files.recipe("chart", "  render: {helm: {}}\n");
    let mut command = command(&recipe, &[]);
    command.env("PATH", files.0.path());
    let done = Running::start(command, "kuke recipe render".to_owned(), None);
    let done = done.wait(Duration::from_secs(60)).code(4);
    done.says(&["helm, which is not installed", "install helm"]);
    Ok(())
}
