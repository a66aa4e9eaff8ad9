//! Compiles the protos with protox (no protoc) and puts serde on the types
//! that people read or write, named as the proto's JSON names say.

use std::error::Error;

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};

/// Messages of the service that `-o json|yaml` prints as they are.
const PRINTED: &[&str] = &[
    "VersionResponse",
    "StatusResponse",
    "Check",
    "Scope",
    "ErrorDetail",
    "ResourceResult",
    "Image",
    "InspectImageResponse",
    "ListTagsResponse",
    "ListRegistryResponse",
    "RegistryRepository",
    "RegistryTag",
    "VerifyRegistryResponse",
    "RegistryProblem",
    "CollectRegistryResponse",
    "RegistryLoginResponse",
    "ImportRepositoryResponse",
    "PruneImagesResponse",
    "DeleteImageResponse",
    "LogChunk",
    "HistoryResponse",
    "DiffResponse",
    "ManifestResponse",
    "VerifyPreparationResponse",
    "SignPreparationResponse",
    "ConnectClusterResponse",
    "ListClustersResponse",
    "ClusterStatus",
    "PreviewResponse",
    "BrowseSourceResponse",
    "SourceFile",
    "WebAccountResponse",
    "WebAccount",
];

/// Packages whose messages people write.
const WRITTEN: &[&str] = &["kukeon.v1beta1", "kukeon.delivery.v1alpha1"];

/// Messages with an outside form of their own; their serde is written by hand.
const BY_HAND: &[&str] = &["Json", "Assignments", "Assignment"];

/// Further names that are read, by message and field.
const ALIASES: &[(&str, &str, &[&str])] = &[
    ("Metadata", "namespace", &["realm"]),
    ("HelmRender", "include_crds", &["includeCrds"]),
    ("PreparationSpec", "recipe_name", &["recipe", "orderName"]),
    ("ServingSpec", "recipe_name", &["recipe"]),
    ("ServingSpec", "preparation_name", &["preparation"]),
    ("PantrySpec", "oci", &["url"]),
    ("TemplateDefaults", "auto_deploy", &["autoDeployLatest"]),
    ("KitchenSpec", "argocd_url", &["argocdUrl"]),
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = [
        "kukeon/v1beta1/types.proto",
        "kukeon/v1beta1/config.proto",
        "kukeon/delivery/v1alpha1/types.proto",
        "kukeon/v1/service.proto",
    ];
    let set: FileDescriptorSet = protox::compile(files, ["proto"])?;
    let mut config = tonic_prost_build::Config::new();
    config.btree_map(["."]);
    // `Debug` of a login is written by hand: it hides the password.
    config.skip_debug([
        ".kukeon.v1beta1.RegistryCredential",
        ".kukeon.v1beta1.SecretSpec",
        ".kukeon.delivery.v1alpha1.PantrySpec",
        ".kukeon.v1.ConnectClusterRequest",
        ".kukeon.v1.RegistryLoginRequest",
        ".kukeon.v1.RegistryLoginResponse",
        ".kukeon.v1.WebAccountRequest",
        ".kukeon.v1.WebAccountResponse",
    ]);
    for file in &set.file {
        for message in &file.message_type {
            let name = format!(".{}.{}", file.package(), message.name());
            match file.package() {
                package if WRITTEN.contains(&package) => {
                    if BY_HAND.contains(&message.name()) {
                        continue;
                    }
                    config.message_attribute(
                        &name,
                        "#[derive(serde::Serialize, serde::Deserialize)]\n#[serde(default, deny_unknown_fields)]",
                    );
                    fields(&mut config, &name, message);
                }
                _ if PRINTED.contains(&message.name()) => {
                    config.message_attribute(&name, "#[derive(serde::Serialize)]");
                    fields(&mut config, &name, message);
                }
                _ => {}
            }
        }
    }
    // An object is printed as the document it is, without a wrapper.
    config.enum_attribute(
        ".kukeon.v1.Object.object",
        "#[derive(serde::Serialize)]\n#[serde(untagged)]",
    );
    config.message_attribute(
        ".kukeon.v1.Object",
        "#[derive(serde::Serialize)]\n#[serde(transparent)]",
    );
    tonic_prost_build::configure().compile_fds_with_config(set, config)?;
    Ok(())
}

fn fields(config: &mut tonic_prost_build::Config, name: &str, message: &DescriptorProto) {
    let package = name.rsplit_once('.').map_or("", |(package, _)| package);
    let written = WRITTEN.contains(&package.trim_start_matches('.'));
    for field in &message.field {
        let skip = skip_if(message, field);
        // `labels:` with nothing below it means no labels.
        let null = match written && !skip.contains("Option::") {
            true => ", deserialize_with = \"crate::api::null_is_default\"",
            false => "",
        };
        config.field_attribute(
            format!("{name}.{}", field.name()),
            format!(
                "#[serde(rename = \"{}\"{skip}{null}{})]",
                field.json_name.as_deref().unwrap_or(field.name()),
                aliases(package, message, field)
            ),
        );
    }
}

/// The further names of a field; only delivery has any.
fn aliases(package: &str, message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let offered = package.starts_with(".kukeon.delivery.");
    ALIASES
        .iter()
        .filter(|(of, name, _)| offered && *of == message.name() && *name == field.name())
        .flat_map(|(_, _, names)| *names)
        .map(|name| format!(", alias = \"{name}\""))
        .collect()
}

/// The `skip_serializing_if` that leaves an unset field out.
fn skip_if(message: &DescriptorProto, field: &FieldDescriptorProto) -> String {
    let is_map = message.nested_type.iter().any(|n| {
        n.options.as_ref().is_some_and(|o| o.map_entry())
            && field.type_name().ends_with(&format!(".{}", n.name()))
    });
    let path = if is_map {
        "std::collections::BTreeMap::is_empty"
    } else if field.label() == Label::Repeated {
        "Vec::is_empty"
    } else if field.r#type() == Type::Message || field.proto3_optional() {
        "Option::is_none"
    } else {
        match field.r#type() {
            Type::String => "String::is_empty",
            Type::Bytes => "Vec::is_empty",
            _ => "crate::api::is_default",
        }
    };
    format!(", skip_serializing_if = \"{path}\"")
}
