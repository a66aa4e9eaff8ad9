//! Images as rows, documents and names.

use jiff::Timestamp;
use serde::Serialize;

use super::{Format, Out, table};
use crate::api::v1::Image;
use crate::cli::age;
use crate::cli::failure::Failure;

/// Images of one realm.
#[derive(Serialize)]
struct OfRealm<'a> {
    realm: &'a str,
    namespace: &'a str,
    images: Vec<&'a Image>,
}

/// Prints a list, for programs grouped by realm.
///
/// # Errors
/// See [`Out::line`].
pub fn list(out: &Out, format: Format, images: &[Image], headers: bool) -> Result<(), Failure> {
    match format {
        Format::Json | Format::Yaml => out.structured(format, &by_realm(images)),
        Format::Name => images
            .iter()
            .try_for_each(|image| out.line(format_args!("image/{}", image.name))),
        Format::Table | Format::Wide if images.is_empty() => out.line("No images found."),
        Format::Table | Format::Wide => {
            let wide = format == Format::Wide;
            let now = Timestamp::now();
            let rows: Vec<_> = images.iter().map(|image| row(image, wide, now)).collect();
            let header: &[&str] = if wide {
                &["NAME", "REALM", "SIZE", "AGE", "CREATED", "DIGEST"]
            } else {
                &["NAME", "REALM", "SIZE", "AGE"]
            };
            table::print(out, header, &rows, headers)
        }
    }
}

fn row(image: &Image, wide: bool, now: Timestamp) -> Vec<String> {
    let mut row = vec![
        image.name.clone(),
        image.realm.clone(),
        size(image.size),
        age::since(&image.created_at, now),
    ];
    if wide {
        row.push(image.created_at.clone());
        row.push(image.digest.clone());
    }
    row
}

/// Bytes in binary units with one decimal.
pub fn size(bytes: i64) -> String {
    indicatif::HumanBytes(u64::try_from(bytes).unwrap_or_default()).to_string()
}

/// The list is sorted by realm; so are the groups.
fn by_realm(images: &[Image]) -> Vec<OfRealm<'_>> {
    let mut groups: Vec<OfRealm<'_>> = Vec::new();
    for image in images {
        match groups.last_mut() {
            Some(group) if group.realm == image.realm => group.images.push(image),
            _ => groups.push(OfRealm {
                realm: &image.realm,
                namespace: &image.namespace,
                images: vec![image],
            }),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_grouped_by_realm() {
        let image = |realm: &str, name: &str| Image {
            realm: realm.into(),
            name: name.into(),
            ..Default::default()
        };
        let images = [image("a", "1"), image("a", "2"), image("b", "3")];
        let groups = by_realm(&images);
        let shape: Vec<_> = groups.iter().map(|g| (g.realm, g.images.len())).collect();
        assert_eq!(shape, [("a", 2), ("b", 1)]);
    }
}
