//! Declares a section of the configuration once: its keys, types, defaults, how it is read and how it is
//! compared. What a key means stands next to its field, and nothing can be read but not compared.

/// A struct whose fields are keys of the file: `name: Type = default`, with `as "key"` where the key is no
/// Rust name and `via function` where it is read in its own way. `[label = field]` names list entries in diffs.
macro_rules! section {
    (
        $(#[$meta:meta])*
        pub struct $name:ident $([label = $label:ident])? {
            $(
                $(#[$field_meta:meta])*
                $field:ident $(as $key:literal)? : $type:ty = $default:expr $(, via $via:path)? ;
            )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $( $(#[$field_meta])* pub $field: $type, )*
        }

        // PERF: derived serde for all sections took most of the crate's build time; going through a
        // JSON value costs microseconds once per snapshot.
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $crate::config::field::Field::to_json(self).serialize(serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let value = serde_json::Value::deserialize(deserializer)?;
                <Self as $crate::config::field::Field>::from_json(&value)
                    .map_err(serde::de::Error::custom)
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $field: $default, )* }
            }
        }

        impl $crate::config::field::Field for $name {
            fn read(
                node: &$crate::config::yaml::Node,
                cx: &mut $crate::config::field::Reader<'_>,
            ) -> Option<Self> {
                let mut section = Self::default();
                let map = cx.map(node)?;
                cx.known(map, &[$( section!(@key $field $($key)?) ),*]);
                $(
                    if let Some(value) = cx.field(map, section!(@key $field $($key)?), section!(@read $type $(, $via)?)) {
                        section.$field = value;
                    }
                )*
                Some(section)
            }

            fn flatten(&self, path: &str, flat: &mut $crate::config::field::Flat) {
                $( self.$field.flatten(
                    &$crate::config::field::below(path, section!(@key $field $($key)?)),
                    flat,
                ); )*
            }

            #[cfg(test)]
            fn keys(path: &str, keys: &mut Vec<String>) {
                $( <$type as $crate::config::field::Field>::keys(
                    &$crate::config::field::below(path, section!(@key $field $($key)?)),
                    keys,
                ); )*
            }

            // PERF: what says nothing left out, a snapshot of 10,000 agents has a third of its bytes.
            fn to_json(&self) -> serde_json::Value {
                let mut map = serde_json::Map::new();
                $(
                    let default: $type = $default;
                    if !(self.$field.is_nothing() && self.$field == default) {
                        let key = section!(@key $field $($key)?);
                        map.insert(key.to_owned(), self.$field.to_json());
                    }
                )*
                serde_json::Value::Object(map)
            }

            fn from_json(value: &serde_json::Value) -> Result<Self, String> {
                let mut section = Self::default();
                let map = value.as_object().ok_or("expected an object")?;
                $(
                    let key = section!(@key $field $($key)?);
                    if let Some(value) = map.get(key) {
                        section.$field = $crate::config::field::from_json(key, value)?;
                    }
                )*
                Ok(section)
            }

            $( fn label(&self) -> Option<&str> { Some(self.$label.as_ref()) } )?

            fn absent() -> Option<Self> {
                Some(Self::default())
            }
        }
    };
    (@key $field:ident) => { stringify!($field) };
    (@key $field:ident $key:literal) => { $key };
    (@read $type:ty) => { <$type as $crate::config::field::Field>::read };
    (@read $type:ty, $via:path) => { $via };
}

/// An enum written as one of a few words.
macro_rules! words {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $( $(#[$variant_meta:meta])* $variant:ident = $word:literal ),+ $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash,
            serde::Serialize, serde::Deserialize,
        )]
        pub enum $name {
            $( $(#[$variant_meta])* #[serde(rename = $word)] $variant, )+
        }

        impl $name {
            /// Every word, in the order of the documentation.
            pub const WORDS: &'static [&'static str] = &[$( $word ),+];

            /// The word of the file.
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $word, )+ }
            }

            /// Reads [`Self::as_str`].
            pub fn parse(word: &str) -> Option<Self> {
                match word { $( $word => Some(Self::$variant), )+ _ => None }
            }
        }

        impl $crate::config::field::Field for $name {
            fn read(
                node: &$crate::config::yaml::Node,
                cx: &mut $crate::config::field::Reader<'_>,
            ) -> Option<Self> {
                cx.word(node, Self::WORDS, Self::parse)
            }

            fn flatten(&self, path: &str, flat: &mut $crate::config::field::Flat) {
                flat.leaf(path, self.as_str());
            }

            fn to_json(&self) -> serde_json::Value {
                self.as_str().into()
            }

            fn from_json(value: &serde_json::Value) -> Result<Self, String> {
                let word = value.as_str().ok_or("expected a word")?;
                Self::parse(word).ok_or_else(|| format!("unknown word {word:?}"))
            }
        }
    };
}

pub(super) use {section, words};
