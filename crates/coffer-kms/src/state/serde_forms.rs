//! How the parts of the state that are shared or secret are written down.

/// A value that is shared.
pub(super) mod arc {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::sync::Arc;

    pub(in crate::state) fn serialize<T: Serialize, S: Serializer>(
        value: &Arc<T>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        (**value).serialize(serializer)
    }

    pub(in crate::state) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<T>, D::Error> {
        T::deserialize(deserializer).map(Arc::new)
    }
}

/// Key material as 64 hex digits, without copies that nobody wipes.
pub(super) mod arc_bytes {
    use coffer_crypto::WrappingKey;
    use serde::{Deserializer, Serializer, de};
    use std::{fmt, sync::Arc};
    use zeroize::Zeroizing;

    pub(in crate::state) fn serialize<S: Serializer>(
        material: &Option<Arc<WrappingKey>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let Some(material) = material else {
            return serializer.serialize_none();
        };
        let mut digits = Zeroizing::new([0; 64]);
        hex::encode_to_slice(material.expose_bytes(), digits.as_mut_slice())
            .map_err(serde::ser::Error::custom)?;
        let digits = std::str::from_utf8(&*digits).map_err(serde::ser::Error::custom)?;
        serializer.serialize_some(digits)
    }

    pub(in crate::state) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Arc<WrappingKey>>, D::Error> {
        deserializer.deserialize_option(Digits)
    }

    struct Digits;

    impl<'de> de::Visitor<'de> for Digits {
        type Value = Option<Arc<WrappingKey>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("64 hex digits")
        }

        fn visit_none<E: de::Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_some<D: Deserializer<'de>>(self, value: D) -> Result<Self::Value, D::Error> {
            value.deserialize_str(self)
        }

        fn visit_str<E: de::Error>(self, digits: &str) -> Result<Self::Value, E> {
            let mut bytes = Zeroizing::new([0; 32]);
            hex::decode_to_slice(digits, bytes.as_mut_slice())
                .map_err(|_| E::custom("not 64 hex digits"))?;
            WrappingKey::from_slice(bytes.as_slice())
                .map(|key| Some(Arc::new(key)))
                .map_err(E::custom)
        }
    }
}
