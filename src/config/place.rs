//! Where in a file a value is. The text is read again, by a deserializer that follows a path and fails at its end: so
//! anchors, merges and every way to write a key are understood as they were the first time.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Error as YamlError;

use super::SECTIONS;

/// The error `reason` at the value that `path` leads to in `text`, which parsed before.
pub(super) fn find(text: &str, path: &[String], reason: &str) -> YamlError {
    let outcome = serde_saphyr::with_deserializer_from_str(text, |deserializer| {
        Walk { path, reason }.deserialize(deserializer)
    });
    // A value that is not there is a default, and belongs to no line.
    outcome.err().unwrap_or_else(|| YamlError::custom(reason))
}

/// The rest of the way.
#[derive(Clone, Copy)]
struct Walk<'a> {
    path: &'a [String],
    reason: &'a str,
}

impl Walk<'_> {
    fn arrive<E: Error>(self) -> Result<(), E> {
        if self.path.is_empty() { Err(E::custom(self.reason)) } else { Ok(()) }
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// Hands each plain value on.
macro_rules! arrive {
    ($($method:ident: $kind:ty,)*) => {$(
        fn $method<E: Error>(self, _: $kind) -> Result<(), E> {
            self.arrive()
        }
    )*};
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    arrive! {
        visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_i128: i128, visit_u128: u128, visit_f64: f64,
        visit_str: &str, visit_bytes: &[u8],
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        self.arrive()
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.arrive()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<(), D::Error> {
        self.deserialize(inner)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<(), D::Error> {
        self.deserialize(inner)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        self.arrive()?;
        let wanted = self.path.first().and_then(|index| index.parse::<usize>().ok());
        let rest = Self { path: self.path.get(1..).unwrap_or_default(), ..self };
        for index in 0.. {
            let more = if Some(index) == wanted {
                elements.next_element_seed(rest)?.is_some()
            } else {
                elements.next_element::<IgnoredAny>()?.is_some()
            };
            if !more {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        self.arrive()?;
        let rest = Self { path: self.path.get(1..).unwrap_or_default(), ..self };
        while let Some(key) = entries.next_key::<String>()? {
            if self.path.first().is_some_and(|wanted| is_same(&key, wanted)) {
                entries.next_value_seed(rest)?;
            } else {
                entries.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// Whether a key that was written stands for `name`, in any letter case or under its former name.
fn is_same(written: &str, name: &str) -> bool {
    let renamed = SECTIONS.renamed.iter().find(|(former, _)| *former == written);
    renamed.map_or(written, |(_, now)| now).eq_ignore_ascii_case(name)
}
