//! `delivery.kokumi.dev`: the generated types, and the outside form of those
//! messages that carry values of any shape.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Error as _, Serialize, SerializeMap, Serializer};

use crate::model::Value;

/// Release kinds (`apiVersion: delivery.kokumi.dev/v1alpha1`).
#[allow(missing_docs, clippy::all)]
pub mod v1alpha1 {
    tonic::include_proto!("kukeon.delivery.v1alpha1");
}

use v1alpha1::{Assignment, Assignments, Json, PantrySpec};

/// Hides the password.
impl fmt::Debug for PantrySpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PantrySpec")
            .field("oci", &self.oci)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

impl Json {
    /// Wraps a value.
    pub fn new(value: &Value) -> Self {
        Self {
            text: value.to_json(),
        }
    }

    /// The value; an error when the text, which may come over the wire, is no JSON.
    pub fn value(&self) -> Result<Value, String> {
        match self.text.as_str() {
            "" => Ok(Value::Null),
            text => Value::from_json(text).map_err(|error| error.to_string()),
        }
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value()
            .map_err(S::Error::custom)?
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::deserialize(deserializer).map(|value| Self::new(&value))
    }
}

impl Serialize for Assignments {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.items.len()))?;
        for Assignment { path, value } in &self.items {
            map.serialize_entry(path, &value.clone().unwrap_or_default())?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Assignments {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(InOrder)
    }
}

struct InOrder;

impl<'de> Visitor<'de> for InOrder {
    type Value = Assignments;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a mapping")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Assignments, A::Error> {
        let mut items: Vec<Assignment> = Vec::new();
        while let Some((path, value)) = entries.next_entry::<String, Json>()? {
            if items.iter().any(|item| item.path == path) {
                return Err(de::Error::custom(format!(
                    "the key {path:?} is there twice"
                )));
            }
            let value = Some(value);
            items.push(Assignment { path, value });
        }
        Ok(Assignments { items })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_and_their_order_survive() {
        let text = "z: 1\na:\n  y: [true, null]\n  b: \"1.10\"\n\".spec.x[0]\": text\n";
        let read: Assignments = serde_saphyr::from_str(text).unwrap();
        let shown: Vec<_> = read
            .items
            .iter()
            .map(|i| (i.path.as_str(), i.value.as_ref().unwrap().text.as_str()))
            .collect();
        assert_eq!(
            shown,
            [
                ("z", "1"),
                ("a", r#"{"y":[true,null],"b":"1.10"}"#),
                (".spec.x[0]", "\"text\"")
            ]
        );
        let written = serde_saphyr::to_string(&read).unwrap();
        assert_eq!(
            serde_saphyr::from_str::<Assignments>(&written).unwrap(),
            read
        );
        assert!(serde_saphyr::from_str::<Assignments>("[a]").is_err());
    }

    #[test]
    fn a_password_is_not_in_debug_output() {
        let spec = PantrySpec {
            password: "hush".into(),
            ..Default::default()
        };
        assert!(!format!("{spec:?}").contains("hush"));
    }
}
