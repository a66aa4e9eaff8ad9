//! `kuke prep verify` and `kuke prep sign`.

use std::path::{Path, PathBuf};

use clap::Args;

use super::Common;
use crate::api::v1::object;
use crate::api::{Code, Error, v1};
use crate::cli::context::Context;
use crate::cli::failure::{self, Outcome};
use crate::cli::output::Format;
use crate::oci::signature;

/// Which preparation.
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// Preparation
    #[arg(value_name = "PREP")]
    preparation: String,
    /// Public key that must have signed it, as PEM (cosign.pub); several may have
    #[arg(long = "key", value_name = "FILE")]
    keys: Vec<PathBuf>,
    #[command(flatten)]
    common: Common,
}

impl Verify {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        let keys = self.keys.iter().map(|path| read(path));
        let keys = keys.collect::<Result<_, _>>()?;
        let request = v1::VerifyPreparationRequest {
            namespace: self.common.namespace,
            preparation: self.preparation,
            public_keys: keys,
            signature_only: false,
        };
        let answer = context.kukeon().await?.verify_preparation(request).await?;
        let out = &context.out;
        match self.common.output {
            format @ (Format::Json | Format::Yaml) => out.structured(format, &answer)?,
            Format::Name => out.line(format_args!("preparation/{}", answer.preparation))?,
            Format::Table | Format::Wide => {
                for check in &answer.checks {
                    let word = match check.status.as_str() {
                        "OK" => "ok",
                        "FAIL" => "differs",
                        _ => "unknown",
                    };
                    out.line(format_args!("{}: {word}: {}", check.section, check.detail))?;
                    if !check.remediation.is_empty() {
                        out.line(format_args!("  {}", check.remediation))?;
                    }
                }
            }
        }
        Ok(u8::from(!answer.verified))
    }
}

/// What to sign, and how.
#[derive(Debug, Args)]
pub(super) struct Sign {
    /// Preparation
    #[arg(value_name = "PREP")]
    preparation: String,
    /// Private key, as PEM
    #[arg(long, value_name = "FILE", required_unless_present_any = ["signature", "print_payload"])]
    key: Option<PathBuf>,
    /// Signature in Base64 that was made elsewhere over what --print-payload prints
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    signature: Option<PathBuf>,
    /// Print what is to be signed, and change nothing
    #[arg(long, conflicts_with_all = ["key", "signature"])]
    print_payload: bool,
    /// Only check whether the signature would be kept
    #[arg(long, conflicts_with = "print_payload")]
    dry_run: bool,
    #[command(flatten)]
    common: Common,
}

impl Sign {
    pub(super) async fn run(self, context: &Context) -> Outcome {
        let out = &context.out;
        let kukeon = context.kukeon().await?;
        let request = v1::GetRequest {
            kind: "Preparation".to_owned(),
            name: self.preparation.clone(),
            scope: Some(v1::Scope {
                realm: self.common.namespace.clone(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let found = kukeon.get(request).await?.objects.into_iter().next();
        let Some(object::Object::Preparation(found)) = found.and_then(|o| o.object) else {
            let what = format!("preparation {:?} not found", self.preparation);
            return Err(Error::new(Code::NotFound, "PreparationNotFound", what).into());
        };
        let artifact = found
            .spec
            .and_then(|spec| spec.artifact)
            .unwrap_or_default();
        let unsigned = |why: String| Error::failed("Sign", why);
        let digest = artifact.digest.parse();
        let digest = digest.map_err(|e| unsigned(format!("{:?}: {e}", artifact.digest)))?;
        let reference = artifact.oci_ref.trim_start_matches("oci://");
        let reference = reference.split_once('@').map_or(reference, |(at, _)| at);
        let payload = signature::payload(reference, &digest);
        if self.print_payload {
            out.bytes(&payload)?;
            return Ok(0);
        }
        let signature = match (&self.key, &self.signature) {
            (Some(key), _) => signature::sign(read(key)?.as_bytes(), &payload).map_err(|why| {
                unsigned(format!("the key {}: {why}", key.display()))
                    .hint("`openssl pkey -in KEY` takes a passphrase off; `kuke prep sign --help` tells of others")
            })?,
            (None, Some(file)) => read(file)?.trim().to_owned(),
            // The arguments do not let it come here.
            (None, None) => return Err(failure::usage("give --key or --signature").into()),
        };
        let request = v1::SignPreparationRequest {
            namespace: self.common.namespace,
            preparation: self.preparation,
            payload,
            signature,
            dry_run: self.dry_run,
        };
        let answer = kukeon.sign_preparation(request).await?;
        match self.common.output {
            format @ (Format::Json | Format::Yaml) => out.structured(format, &answer)?,
            Format::Name => out.line(format_args!("preparation/{}", answer.preparation))?,
            Format::Table | Format::Wide => {
                let dry = if self.dry_run { " (dry run)" } else { "" };
                let name = &answer.preparation;
                out.line(format_args!("Preparation {name:?}: signed{dry}"))?
            }
        }
        Ok(0)
    }
}

fn read(path: &Path) -> Result<String, Error> {
    let failed = |e| Error::failed("ReadFile", format!("reading {}: {e}", path.display()));
    std::fs::read_to_string(path).map_err(failed)
}
