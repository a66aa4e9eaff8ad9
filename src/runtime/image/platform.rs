//! Platforms: `os/arch[/variant]` in the words of the OCI image spec.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::runtime::{Error, Result};

/// What an image runs on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Platform {
    /// Operating system, `linux`.
    #[serde(default)]
    pub(crate) os: String,
    /// Processor, in Go's spelling.
    #[serde(default, rename = "architecture")]
    pub(crate) arch: String,
    /// Variant of the processor, `v7`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) variant: String,
}

impl Platform {
    /// The platform of this machine.
    pub(crate) fn host() -> Self {
        Self::new("linux", std::env::consts::ARCH, "")
    }

    fn new(os: &str, arch: &str, variant: &str) -> Self {
        let (arch, implied) = match arch {
            "x86_64" | "x86-64" => ("amd64", ""),
            "x86" | "i386" | "i686" => ("386", ""),
            "aarch64" => ("arm64", ""),
            "armhf" => ("arm", "v7"),
            "armel" => ("arm", "v6"),
            "powerpc64" | "ppc64el" if cfg!(target_endian = "little") => ("ppc64le", ""),
            "loongarch64" => ("loong64", ""),
            other => (other, ""),
        };
        let variant = if variant.is_empty() { implied } else { variant };
        // The defaults may be written or left out: `arm64` is `arm64/v8`,
        // `amd64` is `amd64/v1`, and `arm` alone is `arm/v7`.
        let variant = match (arch, variant) {
            ("arm64", "v8") | ("amd64", "v1") => "",
            ("arm", "") => "v7",
            (_, variant) => variant,
        };
        Self {
            os: os.to_ascii_lowercase(),
            arch: arch.to_owned(),
            variant: variant.to_owned(),
        }
    }

    /// The same with the spellings that mean the same made one.
    pub(crate) fn normalised(&self) -> Self {
        Self::new(&self.os, &self.arch, &self.variant)
    }

    /// Reads `os/arch[/variant]`, or `arch` alone.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let sane = |p: &&str| {
            !p.is_empty()
                && p.bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        };
        if !parts.iter().all(sane) {
            return Err(Self::malformed(text));
        }
        match parts[..] {
            [arch] => Ok(Self::new("linux", arch, "")),
            [os, arch] => Ok(Self::new(os, arch, "")),
            [os, arch, variant] => Ok(Self::new(os, arch, variant)),
            _ => Err(Self::malformed(text)),
        }
    }

    fn malformed(text: &str) -> Error {
        Error::Other {
            what: format!("platform {text:?}"),
            cause: "it must be os/arch or os/arch/variant, for example linux/amd64".into(),
        }
    }

    /// How well an image for `offer` runs here: 0 is exact, more is worse,
    /// `None` is not at all. An older variant runs on a newer processor.
    pub(crate) fn rank(&self, offer: &Self) -> Option<u32> {
        let (want, offer) = (self.normalised(), offer.normalised());
        if want.os != offer.os || want.arch != offer.arch {
            return None;
        }
        if want.variant == offer.variant {
            return Some(0);
        }
        let level = |v: &str| v.strip_prefix('v').and_then(|n| n.parse::<u32>().ok());
        let base = match want.arch.as_str() {
            "arm64" => Some(8),
            "amd64" => Some(1),
            _ => None,
        };
        let have = level(&want.variant).or(base)?;
        let need = level(&offer.variant).or(base)?;
        have.checked_sub(need)
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.arch)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(text: &str) -> Platform {
        Platform::parse(text).unwrap()
    }

    #[test]
    fn spellings_meet() {
        assert_eq!(p("linux/x86_64"), p("linux/amd64"));
        assert_eq!(p("amd64"), p("linux/amd64/v1"));
        assert_eq!(p("linux/aarch64"), p("linux/arm64/v8"));
        assert_eq!(p("linux/arm").to_string(), "linux/arm/v7");
        assert_eq!(Platform::host().os, "linux");
    }

    #[test]
    fn malformed_ones_are_refused() {
        for text in ["", "linux/", "a/b/c/d", "linux/amd 64", "/amd64"] {
            assert!(Platform::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn older_variants_run_on_newer_processors() {
        assert_eq!(p("linux/arm/v7").rank(&p("linux/arm/v7")), Some(0));
        assert_eq!(p("linux/arm/v7").rank(&p("linux/arm/v6")), Some(1));
        assert_eq!(p("linux/arm/v6").rank(&p("linux/arm/v7")), None);
        assert_eq!(p("linux/amd64").rank(&p("linux/amd64/v3")), None);
        assert_eq!(p("linux/amd64/v3").rank(&p("linux/amd64")), Some(2));
        assert_eq!(p("linux/amd64").rank(&p("linux/arm64")), None);
        assert_eq!(p("linux/amd64").rank(&p("windows/amd64")), None);
    }
}
