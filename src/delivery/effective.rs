//! What a Recipe means: its template merged, its defaults chosen (delivery
//! spec, sections 2 and 15).

use super::Delivery;
use super::fault::{Fault, Result};
use crate::model::delivery::{
    Kitchen, OverridePolicy, Overrides, Patch, Recipe, RecipeTemplate, ReleaseKind, ReleaseRef,
    Render, RenderMethod, Source, Target,
};
use crate::model::{Name, Value};

/// A Recipe with nothing left open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Effective {
    pub source: Source,
    pub render: Render,
    pub patches: Vec<Patch>,
    pub auto_deploy: bool,
    pub target: Target,
}

impl Delivery {
    /// Settings; defaults where there are none.
    pub(super) fn kitchen(&self) -> Result<Option<Kitchen>> {
        let default: Name = Kitchen::NAME.parse().map_err(crate::api::Error::from)?;
        Ok(self.read(&ReleaseRef::new(ReleaseKind::Kitchen, &default, &default))?)
    }

    /// What a Recipe means.
    pub(super) fn effective(&self, recipe: &Recipe) -> Result<Effective> {
        let spec = &recipe.spec;
        let target = match &spec.target {
            Some(target) => target.clone(),
            None => self
                .kitchen()?
                .and_then(|kitchen| kitchen.spec.default_target)
                .unwrap_or_default(),
        };
        let Some(name) = &spec.template else {
            let missing = || Fault::new("ManifestInvalid", "the recipe names no source");
            return Ok(Effective {
                source: spec.source.clone().ok_or_else(missing)?,
                render: spec.render.clone(),
                patches: spec.patches.clone(),
                auto_deploy: spec.auto_deploy_latest.unwrap_or(false),
                target,
            });
        };
        let at = ReleaseRef::new(ReleaseKind::RecipeTemplate, &recipe.meta.namespace, name);
        let template: RecipeTemplate = self.read(&at)?.ok_or_else(|| {
            Fault::new("TemplateNotFound", format!("{at} not found")).hint("apply the template")
        })?;
        let overrides = &template.spec.overrides;
        allowed_patches(overrides, &spec.patches)?;
        // What an editor wrote changes documents as patches do.
        allowed_patches(overrides, &spec.edits)?;
        let mut patches = template.spec.patches.clone();
        // What comes later wins.
        patches.extend(spec.patches.iter().cloned());
        Ok(Effective {
            render: merged(&template.spec.render, &spec.render, overrides)?,
            source: template.spec.source,
            patches,
            auto_deploy: spec
                .auto_deploy_latest
                .or(template.spec.auto_deploy)
                .unwrap_or(false),
            target,
        })
    }
}

fn refused(what: String) -> Fault {
    Fault::new(
        "OverrideRefused",
        format!("the template does not allow {what}"),
    )
}

fn allowed_patches(overrides: &Overrides, patches: &[Patch]) -> Result<()> {
    for patch in patches {
        let target = format!("{}/{}", patch.target.kind, patch.target.name);
        let ok = match &overrides.patches {
            OverridePolicy::All => true,
            OverridePolicy::Restricted(allowed) => allowed.contains(&target),
            OverridePolicy::None => false,
        };
        if !ok {
            return Err(refused(format!("a patch of {target}")));
        }
    }
    Ok(())
}

/// The template's rendering with the consumer's values on top.
fn merged(template: &Render, consumer: &Render, overrides: &Overrides) -> Result<Render> {
    let mut out = template.clone();
    out.kubernetes |= consumer.kubernetes;
    match (&mut out.method, &consumer.method) {
        (_, RenderMethod::Manifest) => {}
        (RenderMethod::Helm(base), RenderMethod::Helm(own)) => {
            allowed_values("", &own.values, overrides)?;
            merge(&mut base.values, &own.values);
            base.release_name = own.release_name.clone().or(base.release_name.take());
            base.namespace = own.namespace.clone().or(base.namespace.take());
            base.include_crds |= own.include_crds;
            base.kube_version = own.kube_version.clone().or(base.kube_version.take());
            if !own.api_versions.is_empty() {
                base.api_versions.clone_from(&own.api_versions);
            }
        }
        _ => return Err(refused("another renderer than its own".to_owned())),
    }
    Ok(out)
}

fn allowed_values(path: &str, values: &Value, overrides: &Overrides) -> Result<()> {
    let allowed = match &overrides.values {
        OverridePolicy::All => return Ok(()),
        OverridePolicy::Restricted(allowed) => allowed.as_slice(),
        OverridePolicy::None => &[],
    };
    let Some(map) = values.as_map() else {
        let ok = values.is_null() || allowed.iter().any(|a| a == path);
        return match ok {
            true => Ok(()),
            false => Err(refused(format!("the value {path}"))),
        };
    };
    for (key, inner) in map {
        let below = match path {
            "" => key.clone(),
            path => format!("{path}.{key}"),
        };
        if !allowed.contains(&below) {
            allowed_values(&below, inner, overrides)?;
        }
    }
    Ok(())
}

/// Deep merge: mappings key by key, everything else replaced.
fn merge(base: &mut Value, over: &Value) {
    match (base, over) {
        (_, Value::Null) => {}
        (Value::Map(base), Value::Map(over)) => {
            for (key, value) in over {
                match base.get_mut(key) {
                    Some(old) => merge(old, value),
                    None => {
                        base.insert(key.clone(), value.clone());
                    }
                }
            }
        }
        (base, over) => *base = over.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::delivery::HelmRender;

    fn helm(values: &str) -> Render {
        Render {
            method: RenderMethod::Helm(HelmRender {
                values: Value::from_json(values).unwrap(),
                ..Default::default()
            }),
            kubernetes: false,
        }
    }

    #[test]
    fn values_are_merged_as_far_as_the_template_allows() {
        let base = helm(r#"{"a":{"x":1,"y":2},"l":[1]}"#);
        let own = helm(r#"{"a":{"y":3},"l":[2]}"#);
        let all = merged(&base, &own, &Overrides::default()).unwrap();
        assert_eq!(all, helm(r#"{"a":{"x":1,"y":3},"l":[2]}"#));
        let only = |allowed: &[&str]| Overrides {
            values: OverridePolicy::Restricted(allowed.iter().map(|a| (*a).to_owned()).collect()),
            ..Default::default()
        };
        assert!(merged(&base, &own, &only(&["a", "l"])).is_ok());
        assert!(merged(&base, &own, &only(&["a.y", "l"])).is_ok());
        let fault = merged(&base, &own, &only(&["a"])).unwrap_err();
        assert!(fault.message.contains("the value l"), "{fault}");
        let none = Overrides {
            values: OverridePolicy::None,
            ..Default::default()
        };
        assert!(merged(&base, &own, &none).is_err());
    }
}
