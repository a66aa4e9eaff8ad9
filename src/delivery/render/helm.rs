//! Helm charts, rendered by the installed `helm` on this side of the cluster.

use std::path::Path;

use crate::delivery::canonical::{self, Document, Octal};
use crate::delivery::failure::{Failure, Reason, Result};
use crate::delivery::source::{File, Tree, archive};
use crate::model::delivery::HelmRender;
use crate::model::{Name, Value};

use super::clock;
use super::order::{self, Order};
use super::program::Program;

/// Raised whenever the same chart could give other documents.
pub(super) const CONTRACT: u32 = 1;
/// Kubernetes version that charts see unless the Recipe names one.
pub const KUBE_VERSION: &str = "v1.31.0";
/// Longest release name that helm takes.
const MAX_NAME: usize = 53;

/// The options with every default filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Options {
    release: String,
    namespace: String,
    crds: bool,
    values: Value,
    kube_version: String,
    api_versions: Vec<String>,
}

impl Options {
    pub(super) fn of(render: &HelmRender, recipe: &Name, namespace: &Name) -> Result<Self> {
        let invalid = |message: String| Err(Failure::new(Reason::RenderFailed, message));
        let release = render
            .release_name
            .clone()
            .unwrap_or_else(|| recipe.to_string());
        if release.len() > MAX_NAME {
            return invalid(format!(
                "the release name {release:?} has more than {MAX_NAME} characters"
            ));
        }
        // Neither may be read as a flag.
        if release.is_empty() || release.starts_with('-') {
            return invalid(format!("{release:?} is no release name"));
        }
        if !render.values.is_null() && render.values.as_map().is_none() {
            return invalid(format!(
                "render.helm.values: expected a mapping, found {}",
                render.values.what()
            ));
        }
        let namespace = render.namespace.as_ref().unwrap_or(namespace);
        let version = render.kube_version.as_deref().unwrap_or(KUBE_VERSION);
        Ok(Self {
            release,
            namespace: namespace.to_string(),
            crds: render.include_crds,
            values: render.values.clone(),
            kube_version: version.to_owned(),
            api_versions: render.api_versions.clone(),
        })
    }

    /// For the configuration hash.
    pub(super) fn hashed(&self) -> Value {
        let versions = self.api_versions.iter().map(|v| v.as_str().into());
        [
            ("releaseName", self.release.as_str().into()),
            ("namespace", self.namespace.as_str().into()),
            ("includeCRDs", self.crds.into()),
            ("values", self.values.to_json().into()),
            ("kubeVersion", self.kube_version.as_str().into()),
            ("apiVersions", Value::List(versions.collect())),
        ]
        .into_iter()
        .collect()
    }
}

/// Renders a chart, and again at another time.
pub(super) async fn render(
    chart: &Tree,
    options: &Options,
    program: &Program,
) -> Result<Vec<Document>> {
    if chart.get("Chart.yaml").is_none() {
        let message = "the source is no Helm chart: it has no Chart.yaml";
        return Err(Failure::new(Reason::SourceKindMismatch, message)
            .hint("leave out render.helm, or set source.subPath"));
    }
    let chart = unpacked(chart).await?;
    let values = match &options.values {
        Value::Null => "{}".to_owned(),
        values => values.to_json(),
    };
    let (options, program) = (options.clone(), program.clone());
    let work = move || -> Result<Vec<Document>> {
        let first = run(&chart, &values, &options, &program)?;
        // What another program is given, its own templates for instance, may
        // differ in the second run as well. Only templates count then, and what
        // they give to `tpl`.
        again(&first, &chart, &values, Shift::All, &options, &program).or_else(|_| {
            again(
                &first,
                &chart,
                &values,
                Shift::Templates,
                &options,
                &program,
            )
        })?;
        in_any_order(&chart, &values, &options, &program)?;
        Ok(first)
    };
    super::blocking(work).await
}

/// What is moved to another time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shift {
    /// All files of the chart, and the values.
    All,
    /// What helm runs in any case.
    Templates,
}

/// Renders a chart at another time, and compares.
fn again(
    first: &[Document],
    chart: &Tree,
    values: &str,
    what: Shift,
    options: &Options,
    program: &Program,
) -> Result<()> {
    let helper = (clock::HELPER_FILE, clock::HELPER.to_owned());
    let chart = rewritten(chart, what, clock::shifted, helper)?;
    let other = match what {
        Shift::All => clock::shifted(values),
        Shift::Templates => None,
    };
    // A template that another time breaks asks for the time as well.
    let second = run(&chart, other.as_deref().unwrap_or(values), options, program);
    let second = second.map_err(|failure| {
        Failure::new(
            Reason::NondeterministicRender,
            format!(
                "the chart depends on the time, or on chance: {}",
                failure.message
            ),
        )
    })?;
    super::same(first, &second)
}

/// Renders a chart that asks for lists which come in any order, with those sorted
/// one way and the other, and compares.
fn in_any_order(chart: &Tree, values: &str, options: &Options, program: &Program) -> Result<()> {
    let asks = |file: &File| {
        let text = std::str::from_utf8(&file.bytes);
        text.is_ok_and(|text| order::ordered(text).is_some())
    };
    let other = order::ordered(values);
    if other.is_none() && !chart.files().any(|(_, file)| asks(file)) {
        return Ok(());
    }
    let values = other.as_deref().unwrap_or(values);
    let sorted = |way: Order| {
        let helper = (order::HELPER_FILE, order::helper(way));
        let chart = rewritten(chart, Shift::All, order::ordered, helper)?;
        run(&chart, values, options, program)
    };
    match (sorted(Order::Up), sorted(Order::Down)) {
        (Ok(up), Ok(down)) => super::same(&up, &down),
        // The lists have been through JSON, which a template may not take: no verdict.
        (Err(_), Err(_)) => Ok(()),
        (Err(failure), Ok(_)) | (Ok(_), Err(failure)) => Err(Failure::new(
            Reason::NondeterministicRender,
            format!(
                "the chart depends on the order of keys or values: {}",
                failure.message
            ),
        )),
    }
}

fn run(chart: &Tree, values: &str, options: &Options, program: &Program) -> Result<Vec<Document>> {
    let dir = super::scratch()?;
    let io = |e: std::io::Error| {
        Failure::new(Reason::RenderFailed, format!("a temporary directory: {e}"))
    };
    let home = dir.path().join("chart");
    chart.write_to(&home).map_err(io)?;
    std::fs::write(dir.path().join("values.json"), values).map_err(io)?;
    let printed = program.run(&arguments(options), dir.path())?;
    // As helm's own client reads it.
    canonical::read("chart", &printed, Octal::Read)
}

fn arguments(options: &Options) -> Vec<String> {
    let mut args: Vec<String> = ["template", &options.release, "chart", "--skip-tests"]
        .map(str::to_owned)
        .into();
    args.push(format!("--namespace={}", options.namespace));
    args.push("--values=values.json".to_owned());
    args.push(format!("--kube-version={}", options.kube_version));
    if options.crds {
        args.push("--include-crds".to_owned());
    }
    args.extend(
        options
            .api_versions
            .iter()
            .map(|v| format!("--api-versions={v}")),
    );
    args
}

/// The chart with packed subcharts unpacked: their templates ask for the time
/// as well.
async fn unpacked(chart: &Tree) -> Result<Tree> {
    let mut tree = chart.clone();
    // Charts in charts in charts; helm sets no limit, sizes are limited anyway.
    for _ in 0..8 {
        let packed = |path: &str| {
            let parent = Path::new(path).parent().and_then(Path::file_name);
            parent.is_some_and(|dir| dir == "charts") && path.ends_with(".tgz")
        };
        let found: Vec<String> = tree
            .files()
            .map(|(p, _)| p)
            .filter(|p| packed(p))
            .map(str::to_owned)
            .collect();
        if found.is_empty() {
            break;
        }
        let mut next = Tree::default();
        for (path, file) in tree.into_files() {
            if !found.contains(&path) {
                next.insert(&path, file)?;
                continue;
            }
            let mut inner = Tree::default();
            let about = |failure: Failure| failure.about(&path);
            archive::extract(&file.bytes, "*", &mut inner)
                .await
                .map_err(about)?;
            let dir = path.trim_end_matches(".tgz");
            for (name, file) in inner.into_files() {
                next.insert(&format!("{dir}/{name}"), file)?;
            }
        }
        tree = next;
    }
    Ok(tree)
}

/// Whether helm runs a file: what stands in `templates/` of the chart, or of a
/// chart inside.
fn is_template(mut path: &str) -> bool {
    while let Some((_, inner)) = path
        .strip_prefix("charts/")
        .and_then(|rest| rest.split_once('/'))
    {
        path = inner;
    }
    path.starts_with("templates/")
}

/// The chart with its text rewritten, and a helper that is called then.
fn rewritten(
    chart: &Tree,
    what: Shift,
    rewrite: impl Fn(&str) -> Option<String>,
    helper: (&str, String),
) -> Result<Tree> {
    let mut out = Tree::default();
    for (path, file) in chart.files() {
        let text = match what == Shift::All || is_template(path) {
            true => std::str::from_utf8(&file.bytes).ok(),
            false => None,
        };
        let bytes = match text.and_then(&rewrite) {
            Some(text) => text.into_bytes(),
            None => file.bytes.clone(),
        };
        out.insert(path, File { bytes, ..*file })?;
    }
    let (path, text) = helper;
    let helper = File {
        bytes: text.into_bytes(),
        executable: false,
    };
    out.insert(path, helper)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::is_template;

    #[test]
    fn templates_are_those_of_all_charts() {
        for path in [
            "templates/a.yaml",
            "templates/sub/NOTES.txt",
            "charts/a/templates/_b.tpl",
            "charts/a/charts/templates/templates/c.yaml",
        ] {
            assert!(is_template(path), "{path}");
        }
        for path in [
            "values.yaml",
            "templates",
            "crds/a.yaml",
            "files/templates/a.tmpl",
            "charts/templates/a.yaml",
            "charts/a/files/templates/a.tmpl",
            "charts/a/crds/a.yaml",
        ] {
            assert!(!is_template(path), "{path}");
        }
    }
}
