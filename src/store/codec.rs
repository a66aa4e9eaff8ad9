//! Documents as they are stored: the external form, passwords included.
//!
//! Whatever version a document was written in is read; the newest is written.

use serde::de::DeserializeOwned;

use crate::api::{Release, v1beta1, yaml};
use crate::model::delivery::{AnyRelease, ReleaseKind};
use crate::model::{Cell, Name, Realm, Secret, Space, Stack, Volume};
use crate::scheme::{self, Secrets};

fn encode(document: &impl serde::Serialize) -> Result<String, String> {
    yaml::to_string(document).map_err(|e| e.to_string())
}

/// The plain parser: an error must not quote a line that may hold a password.
fn parse<D: DeserializeOwned>(text: &str) -> Result<D, String> {
    if text.is_empty() {
        return Err("it is empty".to_owned());
    }
    serde_saphyr::from_str(text).map_err(|e| match e.location() {
        Some(at) => format!(
            "it cannot be read at line {}, column {}",
            at.line(),
            at.column()
        ),
        None => "it cannot be read".to_owned(),
    })
}

fn decode<D: DeserializeOwned, M>(
    text: &str,
    kind: &str,
    envelope: fn(&D) -> (&str, &str),
    to_model: fn(D) -> Result<M, scheme::Error>,
) -> Result<M, String> {
    let document: D = parse(text)?;
    // A file cut short by a power failure may still be well-formed YAML.
    match envelope(&document) {
        (scheme::v1beta1::VERSION, found) if found == kind => {}
        (version, found) => {
            return Err(format!(
                "it is {found:?} of version {version:?}, not {kind:?} of {:?}",
                scheme::v1beta1::VERSION
            ));
        }
    }
    to_model(document).map_err(|e| e.to_string())
}

/// Text of a release object, passwords included.
pub(super) fn encode_release(object: &AnyRelease) -> Result<String, String> {
    match scheme::release_to_external(object, Secrets::Keep) {
        Release::Kitchen(o) => encode(&o),
        Release::Pantry(o) => encode(&o),
        Release::RecipeTemplate(o) => encode(&o),
        Release::Recipe(o) => encode(&o),
        Release::Preparation(o) => encode(&o),
        Release::Serving(o) => encode(&o),
        Release::Menu(o) => encode(&o),
    }
}

/// A release object of a kind, from its text. Its envelope is checked by the scheme.
pub(super) fn decode_release(kind: ReleaseKind, text: &str) -> Result<AnyRelease, String> {
    let document = match kind {
        ReleaseKind::Kitchen => Release::Kitchen(parse(text)?),
        ReleaseKind::Pantry => Release::Pantry(parse(text)?),
        ReleaseKind::RecipeTemplate => Release::RecipeTemplate(parse(text)?),
        ReleaseKind::Recipe => Release::Recipe(parse(text)?),
        ReleaseKind::Preparation => Release::Preparation(parse(text)?),
        ReleaseKind::Serving => Release::Serving(parse(text)?),
        ReleaseKind::Menu => Release::Menu(parse(text)?),
    };
    scheme::release_to_model(document).map_err(|e| e.to_string())
}

macro_rules! codec {
    ($type:ident, $encode:ident, $decode:ident, $to_external:expr, $to_model:path) => {
        pub(super) fn $encode(object: &$type) -> Result<String, String> {
            encode(&$to_external(object))
        }
        pub(super) fn $decode(text: &str) -> Result<$type, String> {
            fn envelope(d: &v1beta1::$type) -> (&str, &str) {
                (&d.api_version, &d.kind)
            }
            decode(text, stringify!($type), envelope, $to_model)
        }
    };
}

codec!(
    Realm,
    encode_realm,
    decode_realm,
    |realm| scheme::realm_to_external(realm, Secrets::Keep),
    scheme::realm_to_model
);
codec!(
    Space,
    encode_space,
    decode_space,
    scheme::space_to_external,
    scheme::space_to_model
);
codec!(
    Stack,
    encode_stack,
    decode_stack,
    scheme::stack_to_external,
    scheme::stack_to_model
);
codec!(
    Cell,
    encode_cell,
    decode_cell,
    scheme::cell_to_external,
    scheme::cell_to_model
);

codec!(
    Volume,
    encode_volume,
    decode_volume,
    |volume: &Volume| scheme::volume_to_external(&Volume {
        // Where the run path is now tells it.
        path: String::new(),
        ..volume.clone()
    }),
    scheme::volume_to_model
);
codec!(
    Secret,
    encode_secret,
    decode_secret,
    |secret| scheme::secret_to_external(secret, Secrets::Keep),
    scheme::secret_to_model
);

/// A Container document for each container of the cell, in its order.
pub(super) fn encode_containers(cell: &Cell) -> Result<Vec<(Name, String)>, String> {
    let documents = cell.spec.containers.iter().filter_map(|container| {
        let document = scheme::container_to_external(cell, &container.id)?;
        Some(encode(&document).map(|text| (container.id.clone(), text)))
    });
    documents.collect()
}
