//! A deserializer between YAML and a derived struct that knows more spellings of a key than serde does: in any
//! letter case (as engines take their API's fields), or under a former name. What it does not know it refuses
//! at the key itself, so that the error points there.

use std::fmt;

use serde::Deserialize;
use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};

/// How keys may be written.
#[derive(Debug)]
pub(crate) struct Spelling {
    /// Any letter case, at every depth. Keys of maps (labels, subsystems) are data and stay as written.
    pub(crate) any_case: bool,
    /// Former names of keys of the outermost struct, and what they are called now.
    pub(crate) renamed: &'static [(&'static str, &'static str)],
    /// Keys of the outermost struct that exist and cannot work here, and what to do instead.
    pub(crate) refused: &'static [(&'static str, &'static str)],
}

impl Spelling {
    /// Any letter case, nothing else.
    pub(crate) const ANY_CASE: Self = Self { any_case: true, renamed: &[], refused: &[] };
    const EXACT: Self = Self { any_case: false, renamed: &[], refused: &[] };

    /// What holds for the values inside of a struct read with this.
    fn inside(&self) -> &'static Self {
        if self.any_case { &Self::ANY_CASE } else { &Self::EXACT }
    }

    fn is_exact(&self) -> bool {
        !self.any_case && self.renamed.is_empty() && self.refused.is_empty()
    }

    fn same(&self, written: &str, name: &str) -> bool {
        if self.any_case { written.eq_ignore_ascii_case(name) } else { written == name }
    }

    /// The field that `written` stands for.
    fn field<E: Error>(&self, written: &str, fields: &'static [&'static str]) -> Result<&'static str, E> {
        if let Some((name, instead)) = self.refused.iter().find(|(name, _)| self.same(written, name)) {
            return Err(E::custom(format_args!("`{name}` cannot be set here: {instead}")));
        }
        let renamed = self.renamed.iter().find(|(former, _)| self.same(written, former));
        let written = renamed.map_or(written, |(_, name)| name);
        let known = fields.iter().find(|name| self.same(written, name));
        known.copied().ok_or_else(|| E::unknown_field(written, fields))
    }
}

/// Reads a `T` whose keys are spelled as `spelling` says. Nothing (`null`) is the default.
pub(crate) fn read<'de, T, D>(deserializer: D, spelling: &'static Spelling) -> Result<T, D::Error>
where
    T: Deserialize<'de> + Default,
    D: Deserializer<'de>,
{
    Ok(Option::<T>::deserialize(Spelled { inner: deserializer, spelling })?.unwrap_or_default())
}

/// The deserializer `inner`, the visitor `inner`, the seed `inner` …, with other spellings.
struct Spelled<T> {
    inner: T,
    spelling: &'static Spelling,
}

/// Hands each call on, with the visitor wrapped.
macro_rules! hand_on {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.inner.$method(Spelled { inner: visitor, spelling: self.spelling })
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Spelled<D> {
    type Error = D::Error;

    hand_on! {
        deserialize_any deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_i128 deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64 deserialize_char deserialize_str deserialize_string deserialize_bytes
        deserialize_byte_buf deserialize_option deserialize_unit deserialize_seq deserialize_map
        deserialize_identifier deserialize_ignored_any
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_unit_struct(name, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_newtype_struct(name, Spelled { inner: visitor, spelling: self.spelling })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_tuple(len, Spelled { inner: visitor, spelling: self.spelling })
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_tuple_struct(name, len, Spelled { inner: visitor, spelling: self.spelling })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        if self.spelling.is_exact() {
            // Further in, a spelling of its own may be at work; it must see the keys as written.
            return self.inner.deserialize_struct(name, fields, visitor);
        }
        self.inner.deserialize_struct(name, fields, Struct { visitor, fields, spelling: self.spelling })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_enum(name, variants, visitor)
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

/// Hands each plain value on.
macro_rules! hand_on_values {
    ($($method:ident: $kind:ty,)*) => {$(
        fn $method<E: Error>(self, value: $kind) -> Result<V::Value, E> {
            self.inner.$method(value)
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Spelled<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    hand_on_values! {
        visit_bool: bool, visit_i8: i8, visit_i16: i16, visit_i32: i32, visit_i64: i64, visit_i128: i128,
        visit_u8: u8, visit_u16: u16, visit_u32: u32, visit_u64: u64, visit_u128: u128,
        visit_f32: f32, visit_f64: f64, visit_char: char,
        visit_str: &str, visit_borrowed_str: &'de str, visit_string: String,
        visit_bytes: &[u8], visit_borrowed_bytes: &'de [u8], visit_byte_buf: Vec<u8>,
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.inner.visit_some(Spelled { inner, spelling: self.spelling })
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.inner.visit_newtype_struct(Spelled { inner, spelling: self.spelling })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        self.inner.visit_seq(Spelled { inner, spelling: self.spelling.inside() })
    }

    fn visit_map<A: MapAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        self.inner.visit_map(Spelled { inner, spelling: self.spelling.inside() })
    }

    fn visit_enum<A: EnumAccess<'de>>(self, inner: A) -> Result<V::Value, A::Error> {
        self.inner.visit_enum(inner)
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Spelled<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<S::Value, D::Error> {
        self.inner.deserialize(Spelled { inner, spelling: self.spelling })
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Spelled<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, inner: S) -> Result<Option<S::Value>, A::Error> {
        self.inner.next_element_seed(Spelled { inner, spelling: self.spelling })
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Spelled<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.inner.next_key_seed(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, inner: S) -> Result<S::Value, A::Error> {
        self.inner.next_value_seed(Spelled { inner, spelling: self.spelling })
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

/// The visitor of a struct with these fields.
struct Struct<V> {
    visitor: V,
    fields: &'static [&'static str],
    spelling: &'static Spelling,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Struct<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<V::Value, A::Error> {
        let Self { visitor, fields, spelling } = self;
        visitor.visit_map(Fields { entries, names: fields, spelling, seen: Vec::new() })
    }
}

/// The entries of a mapping that stands for a struct.
struct Fields<A> {
    entries: A,
    names: &'static [&'static str],
    spelling: &'static Spelling,
    seen: Vec<&'static str>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Fields<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let Self { entries, names, spelling, seen } = self;
        let Some(name) = entries.next_key_seed(Key { fields: names, spelling, seen })? else {
            return Ok(None);
        };
        let name: StrDeserializer<'_, A::Error> = name.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, inner: S) -> Result<S::Value, A::Error> {
        self.entries.next_value_seed(Spelled { inner, spelling: self.spelling.inside() })
    }
}

/// Reads one key. Errors made in here carry the key's own position.
struct Key<'a> {
    fields: &'static [&'static str],
    spelling: &'static Spelling,
    seen: &'a mut Vec<&'static str>,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = &'static str;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<&'static str, D::Error> {
        deserializer.deserialize_identifier(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = &'static str;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, written: &str) -> Result<&'static str, E> {
        let Self { fields, spelling, seen } = self;
        let name = spelling.field(written, fields)?;
        if seen.contains(&name) {
            return Err(E::custom(format_args!("`{written}` repeats `{name}`, which is set above")));
        }
        seen.push(name);
        Ok(name)
    }
}
