//! Kinds as they are typed: full, plural and short names.

use std::str::FromStr;

/// Kinds that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A tenant.
    Realm,
    /// A network.
    Space,
    /// A group of cells.
    Stack,
    /// A pod.
    Cell,
    /// A container of a cell.
    Container,
    /// A directory that outlives cells.
    Volume,
    /// A value that only containers see.
    Secret,
    /// An image of a realm.
    Image,
    /// Intent of a release.
    Recipe,
    /// A rendered artifact.
    Preparation,
    /// What is active.
    Serving,
    /// Several Recipes together.
    Menu,
    /// A source registry.
    Pantry,
    /// The common part of Recipes.
    RecipeTemplate,
    /// Settings of releases.
    Kitchen,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 15] = [
        Kind::Realm,
        Kind::Space,
        Kind::Stack,
        Kind::Cell,
        Kind::Container,
        Kind::Volume,
        Kind::Secret,
        Kind::Image,
        Kind::Recipe,
        Kind::Preparation,
        Kind::Serving,
        Kind::Menu,
        Kind::Pantry,
        Kind::RecipeTemplate,
        Kind::Kitchen,
    ];

    /// As manifests and the API write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Realm => "Realm",
            Kind::Space => "Space",
            Kind::Stack => "Stack",
            Kind::Cell => "Cell",
            Kind::Container => "Container",
            Kind::Volume => "Volume",
            Kind::Secret => "Secret",
            Kind::Image => "Image",
            Kind::Recipe => "Recipe",
            Kind::Preparation => "Preparation",
            Kind::Serving => "Serving",
            Kind::Menu => "Menu",
            Kind::Pantry => "Pantry",
            Kind::RecipeTemplate => "RecipeTemplate",
            Kind::Kitchen => "Kitchen",
        }
    }

    /// As people write it: lower case, and the other names it goes by.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Kind::Realm => &["realm", "realms", "r"],
            Kind::Space => &["space", "spaces", "sp"],
            Kind::Stack => &["stack", "stacks", "st"],
            Kind::Cell => &["cell", "cells", "ce"],
            Kind::Container => &["container", "containers", "co"],
            Kind::Volume => &["volume", "volumes", "vol"],
            Kind::Secret => &["secret", "secrets", "sec"],
            Kind::Image => &["image", "images", "img"],
            Kind::Recipe => &["recipe", "recipes", "rc"],
            Kind::Preparation => &["preparation", "preparations", "prep", "preps"],
            Kind::Serving => &["serving", "servings", "sv"],
            Kind::Menu => &["menu", "menus"],
            Kind::Pantry => &["pantry", "pantries"],
            Kind::RecipeTemplate => &["recipetemplate", "recipetemplates", "template", "templates"],
            Kind::Kitchen => &["kitchen", "kitchens"],
        }
    }

    /// Whether it is a kind of releases: its objects live in namespaces.
    pub fn is_release(self) -> bool {
        matches!(
            self,
            Kind::Recipe
                | Kind::Preparation
                | Kind::Serving
                | Kind::Menu
                | Kind::Pantry
                | Kind::RecipeTemplate
                | Kind::Kitchen
        )
    }

    /// Whether it is kept in a scope of any depth: only its realm has a default.
    pub fn is_kept(self) -> bool {
        matches!(self, Kind::Volume | Kind::Secret)
    }

    /// The plural, lower case.
    pub fn plural(self) -> &'static str {
        self.names()[1]
    }

    /// The singular, lower case.
    pub fn singular(self) -> &'static str {
        self.names()[0]
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lower = text.to_ascii_lowercase();
        if let Some(kind) = Kind::ALL
            .into_iter()
            .find(|k| k.names().contains(&lower.as_str()))
        {
            return Ok(kind);
        }
        let near = Kind::ALL
            .into_iter()
            .map(|kind| (strsim::damerau_levenshtein(&lower, kind.singular()), kind))
            .min_by_key(|(distance, _)| *distance)
            .filter(|(distance, _)| *distance <= 3);
        Err(match near {
            Some((_, kind)) => format!("unknown kind; did you mean {:?}?", kind.singular()),
            None => {
                let known: Vec<_> = Kind::ALL.into_iter().map(Kind::singular).collect();
                format!("unknown kind; known are {}", known.join(", "))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_unique_and_read_back() {
        for kind in Kind::ALL {
            for name in kind.names() {
                assert_eq!(name.parse(), Ok(kind), "{name}");
            }
        }
        assert_eq!("Cells".parse(), Ok(Kind::Cell));
    }

    #[test]
    fn a_slip_gets_a_suggestion() {
        let error = "cel".parse::<Kind>().expect_err("slip");
        assert!(error.contains("\"cell\""), "{error}");
        let error = "deployment".parse::<Kind>().expect_err("no kind");
        assert!(error.contains("realm, space"), "{error}");
    }
}
