//! Sources and how they are rendered.

use std::time::Duration;

use super::super::check::Check;
use super::{pause, relative, relative_text, some_name, some_text, text_of};
use crate::api::delivery::v1alpha1 as external;
use crate::model::delivery::{HelmRender, OciRepository, Render, RenderMethod, Source, SourceFrom};
use crate::model::{Name, Value, duration};

/// Shortest time between two questions to a registry.
const MIN_POLL: Duration = Duration::from_secs(30);
/// Longest release name that Helm takes.
const MAX_RELEASE: usize = 53;
/// Longest reference, in bytes.
const MAX_REFERENCE: usize = 2048;

/// `oci://host[:port]/repository` without tag and digest.
pub(super) fn repository(check: &mut Check, path: &str, text: &str) -> Option<OciRepository> {
    let mut bad = |what: &str| {
        let message = format!("{text:?} is not oci://host[:port]/repository: {what}");
        check.bad(path, "BadReference", message);
    };
    let Some(rest) = text.strip_prefix("oci://") else {
        bad("it must start with oci://");
        return None;
    };
    let Some((host, repository)) = rest.split_once('/') else {
        bad("the repository is missing");
        return None;
    };
    let (name, port) = host.split_once(':').unwrap_or((host, "1"));
    let letters = |c: char| c.is_ascii_alphanumeric() || ".-[]".contains(c);
    let name_ok = !name.is_empty() && name.chars().all(letters);
    if text.len() > MAX_REFERENCE {
        bad("it is too long");
    } else if !name_ok || port.parse::<u16>().is_err() {
        bad("the host is not a host");
    } else if repository.contains('@') {
        bad("it holds a digest; write that as version");
    } else if repository.contains(':') {
        bad("it holds a tag; write that as version");
    } else if !is_repository(repository) {
        bad("the repository has characters that no registry takes");
    } else {
        return Some(OciRepository {
            host: host.to_owned(),
            repository: repository.to_owned(),
        });
    }
    None
}

/// Grammar of the distribution spec: parts of lower-case letters and digits,
/// joined by `.`, `_`, `__` or dashes.
fn is_repository(text: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let part = |part: &str| {
        let bytes = part.as_bytes();
        let ends = |b: Option<&u8>| b.is_some_and(|b| alnum(*b));
        let joins = part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        let mut joins = joins.filter(|j| !j.is_empty());
        ends(bytes.first())
            && ends(bytes.last())
            && joins.all(|j| matches!(j, "." | "_" | "__") || j.bytes().all(|b| b == b'-'))
    };
    !text.is_empty() && text.len() <= 255 && text.split('/').all(part)
}

pub(super) fn is_tag(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut chars = text.chars();
    text.len() <= 128
        && chars.next().is_some_and(word)
        && chars.all(|c| word(c) || c == '.' || c == '-')
}

pub(super) fn source_to_model(
    check: &mut Check,
    path: &str,
    source: external::Source,
) -> Option<Source> {
    let external::Source {
        oci,
        pantry_ref,
        version,
        digest,
        path: place,
        sub_path,
        poll_interval,
    } = source;
    let given = [!oci.is_empty(), pantry_ref.is_some(), !place.is_empty()];
    if given.into_iter().filter(|given| *given).count() != 1 {
        let problem = check.bad(
            path,
            "BadSource",
            "exactly one of oci, pantryRef and path is needed",
        );
        problem.suggestion = "for example oci: oci://local/app with version: v1".to_owned();
    }
    let at = |field: &str| format!("{path}.{field}");
    let from = if !oci.is_empty() {
        repository(check, &at("oci"), &oci).map(SourceFrom::Oci)
    } else if let Some(pantry) = pantry_ref {
        check
            .name(&at("pantryRef.name"), &pantry.name)
            .map(SourceFrom::Pantry)
    } else {
        (given[2] && check.absolute(&at("path"), &place)).then_some(SourceFrom::Path(place))
    };
    let is_path = matches!(from, Some(SourceFrom::Path(_)));
    if is_path && !version.is_empty() {
        check
            .bad(at("version"), "BadValue", "a path has no version")
            .suggestion = "remove it".to_owned();
    }
    if from.is_some() && !is_path && version.is_empty() {
        check
            .bad(
                at("version"),
                "MissingField",
                "is required for a repository",
            )
            .suggestion = "give a tag or a sha256: digest".to_owned();
    }
    if !version.is_empty() && !super::is_digest(&version) && !is_tag(&version) {
        let message = format!("{version:?} is neither a tag nor a sha256: digest");
        check.bad(at("version"), "BadValue", message);
    }
    if !digest.is_empty() {
        super::digest(check, &at("digest"), &digest);
    }
    let poll = pause(check, &at("pollInterval"), &poll_interval, Duration::ZERO);
    if !poll.is_zero() && poll < MIN_POLL {
        let message = format!("{poll_interval:?} is shorter than 30s");
        check
            .bad(at("pollInterval"), "OutOfRange", message)
            .suggestion = "0 never asks by itself".to_owned();
    }
    Some(Source {
        from: from?,
        version: some_text(version),
        digest: some_text(digest),
        sub_path: relative(check, &at("subPath"), &sub_path),
        poll_interval: poll,
    })
}

pub(super) fn source_to_external(source: &Source) -> external::Source {
    let Source {
        from,
        version,
        digest,
        sub_path,
        poll_interval,
    } = source;
    let mut out = external::Source {
        version: text_of(version),
        digest: text_of(digest),
        sub_path: relative_text(sub_path),
        poll_interval: match poll_interval.is_zero() {
            true => String::new(),
            false => duration::show(*poll_interval),
        },
        ..Default::default()
    };
    match from {
        SourceFrom::Oci(repository) => out.oci = repository.to_string(),
        SourceFrom::Pantry(name) => out.pantry_ref = Some(reference(name)),
        SourceFrom::Path(path) => out.path = path.clone(),
    }
    out
}

pub(super) fn reference(name: &Name) -> external::Reference {
    external::Reference {
        name: name.to_string(),
    }
}

pub(super) fn render_to_model(
    check: &mut Check,
    path: &str,
    render: Option<external::Render>,
) -> Render {
    let external::Render {
        manifest,
        helm,
        kustomize,
        kubernetes,
    } = render.unwrap_or_default();
    let at = |field: &str| format!("{path}.{field}");
    let given = [manifest.is_some(), helm.is_some(), kustomize.is_some()];
    if given.into_iter().filter(|given| *given).count() > 1 {
        check.bad(
            path,
            "BadRender",
            "only one of manifest, helm and kustomize is allowed",
        );
    }
    if let Some(manifest) = &manifest
        && !matches!(manifest.layout.as_str(), "" | "Single")
    {
        let message = format!("{:?} is not offered", manifest.layout);
        check
            .bad(at("manifest.layout"), "BadValue", message)
            .suggestion = "write Single: the output is always one file".to_owned();
    }
    let method = match (helm, kustomize) {
        (Some(helm), _) => RenderMethod::Helm(helm_to_model(check, &at("helm"), helm)),
        (None, Some(kustomize)) => {
            RenderMethod::Kustomize(relative(check, &at("kustomize.path"), &kustomize.path))
        }
        (None, None) => RenderMethod::Manifest,
    };
    Render { method, kubernetes }
}

fn helm_to_model(check: &mut Check, path: &str, helm: external::HelmRender) -> HelmRender {
    let external::HelmRender {
        release_name,
        namespace,
        include_crds,
        values,
        kube_version,
        api_versions,
    } = helm;
    let at = |field: &str| format!("{path}.{field}");
    if !release_name.is_empty() && check.name(&at("releaseName"), &release_name).is_some() {
        super::longest(check, &at("releaseName"), &release_name, MAX_RELEASE);
    }
    let values = value(check, &at("values"), values.as_ref());
    if !matches!(values, Value::Null | Value::Map(_)) {
        let message = format!("expected a mapping, found {}", values.what());
        check.bad(at("values"), "WrongType", message);
    }
    HelmRender {
        release_name: some_text(release_name),
        namespace: some_name(check, &at("namespace"), &namespace),
        include_crds,
        values,
        kube_version: some_text(kube_version),
        api_versions,
    }
}

pub(super) fn render_to_external(render: &Render) -> Option<external::Render> {
    let Render { method, kubernetes } = render;
    let mut out = external::Render {
        kubernetes: *kubernetes,
        ..Default::default()
    };
    match method {
        RenderMethod::Manifest => {}
        RenderMethod::Helm(helm) => {
            let HelmRender {
                release_name,
                namespace,
                include_crds,
                values,
                kube_version,
                api_versions,
            } = helm;
            out.helm = Some(external::HelmRender {
                release_name: text_of(release_name),
                namespace: text_of(namespace),
                include_crds: *include_crds,
                values: (!values.is_null()).then(|| external::Json::new(values)),
                kube_version: text_of(kube_version),
                api_versions: api_versions.clone(),
            });
        }
        RenderMethod::Kustomize(path) => {
            out.kustomize = Some(external::KustomizeRender {
                path: relative_text(path),
            });
        }
    }
    (out != external::Render::default()).then_some(out)
}

/// A value of any shape; null when it is not there.
pub(super) fn value(check: &mut Check, path: &str, json: Option<&external::Json>) -> Value {
    json.map_or(Ok(Value::Null), external::Json::value)
        .unwrap_or_else(|what| {
            check.bad(path, "BadValue", what);
            Value::Null
        })
}
