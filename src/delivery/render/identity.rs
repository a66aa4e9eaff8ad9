//! What a document is: its kind, name and the scope it belongs to.

use crate::delivery::canonical::Document;
use crate::model::Value;
use crate::model::delivery::Resource;

/// `apiVersion` of the kinds of the runtime.
pub const RUNTIME: &str = "v1beta1";

/// Whether a document is of the runtime's version.
pub fn is_runtime(document: &Document) -> bool {
    document.field("apiVersion") == RUNTIME
}

/// Identity of a document, as far as it tells; the hash stays empty. Scopes are
/// those above runtime kinds, the namespace is that of all others.
pub fn of(document: &Document) -> Resource {
    let text = |name: &str| document.field(name).to_owned();
    let name = document.metadata("name").to_owned();
    let mut found = Resource {
        api_version: text("apiVersion"),
        kind: text("kind"),
        name,
        ..Resource::default()
    };
    if !is_runtime(document) {
        found.namespace = document.metadata("namespace").to_owned();
        return found;
    }
    let spec = |name: &str| {
        let value = document.value.at(&["spec", name]);
        value.and_then(Value::as_str).unwrap_or("").to_owned()
    };
    found.realm = spec("realmId");
    found.space = spec("spaceId");
    found.stack = spec("stackId");
    found.cell = spec("cellId");
    found
}
