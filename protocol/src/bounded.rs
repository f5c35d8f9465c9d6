//! Lists, texts and byte strings with a maximum that is part of their type.
//!
//! Invariant: a length from the wire is compared with the maximum before anything is allocated
//! for it, and a decoded list holds no spare room.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use bytes::Bytes;
use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;
use serde::de::SeqAccess;
use serde::de::Visitor;

/// A value is longer than its type allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{len} {unit} exceed the maximum of {max}")]
pub struct TooLong {
    /// The refused length.
    pub len: usize,
    /// The largest length allowed.
    pub max: usize,
    unit: &'static str,
}

/// A list of at most `N` items.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Bounded<T, const N: usize>(Box<[T]>);

/// UTF-8 text of at most `N` bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Text<const N: usize>(Box<str>);

/// At most `N` bytes, opaque to the message that carries them.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Blob<const N: usize>(Bytes);

impl<T, const N: usize> Bounded<T, N> {
    /// Room taken at once on a claimed length; more is taken as items arrive.
    const FIRST_BYTES: usize = 4096;

    /// Takes over `items`.
    ///
    /// # Errors
    /// There are more than `N`.
    pub fn new(items: Vec<T>) -> Result<Self, TooLong> {
        check(items.len(), N, "items")?;
        Ok(Self(items.into_boxed_slice()))
    }

    /// Keeps the first `N` of `items`.
    pub fn clipped(items: impl IntoIterator<Item = T>) -> Self {
        Self(items.into_iter().take(N).collect())
    }

    /// The empty list.
    pub fn empty() -> Self {
        Self(Box::default())
    }

    /// The items as a vector.
    pub fn into_vec(self) -> Vec<T> {
        self.0.into_vec()
    }
}

impl<T, const N: usize> Default for Bounded<T, N> {
    fn default() -> Self {
        Self::empty()
    }
}

impl<T, const N: usize> Deref for Bounded<T, N> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T, const N: usize> TryFrom<Vec<T>> for Bounded<T, N> {
    type Error = TooLong;

    fn try_from(items: Vec<T>) -> Result<Self, TooLong> {
        Self::new(items)
    }
}

impl<T, const N: usize> IntoIterator for Bounded<T, N> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.into_vec().into_iter()
    }
}

impl<'a, T, const N: usize> IntoIterator for &'a Bounded<T, N> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<T: Serialize, const N: usize> Serialize for Bounded<T, N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for Bounded<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const { assert!(size_of::<T>() > 0, "items without size have no bound") };
        deserializer.deserialize_seq(Items(PhantomData))
    }
}

struct Items<T, const N: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for Items<T, N> {
    type Value = Bounded<T, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {N} items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let claimed = list.size_hint().unwrap_or_default();
        check(claimed, N, "items").map_err(serde::de::Error::custom)?;
        let first = Bounded::<T, N>::FIRST_BYTES / size_of::<T>();
        let mut items = Vec::with_capacity(claimed.min(first));
        while let Some(item) = list.next_element()? {
            check(items.len() + 1, N, "items").map_err(serde::de::Error::custom)?;
            if items.len() == items.capacity() {
                let left = claimed.saturating_sub(items.len()).max(1);
                items.reserve_exact(left.min(first.max(items.len() / 4).max(1)));
            }
            items.push(item);
        }
        Ok(Bounded(items.into_boxed_slice()))
    }
}

impl<const N: usize> Text<N> {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Keeps as many whole characters of `text` as fit.
    pub fn clipped(text: &str) -> Self {
        let mut end = text.len().min(N);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        Self(text.get(..end).unwrap_or_default().into())
    }

    /// Whether there is no character.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text as an owned string.
    pub fn into_string(self) -> String {
        self.0.into_string()
    }
}

impl<const N: usize> TryFrom<&str> for Text<N> {
    type Error = TooLong;

    fn try_from(text: &str) -> Result<Self, TooLong> {
        check(text.len(), N, "bytes of text")?;
        Ok(Self(text.into()))
    }
}

impl<const N: usize> TryFrom<String> for Text<N> {
    type Error = TooLong;

    fn try_from(text: String) -> Result<Self, TooLong> {
        check(text.len(), N, "bytes of text")?;
        Ok(Self(text.into_boxed_str()))
    }
}

impl<const N: usize> AsRef<str> for Text<N> {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<const N: usize> Serialize for Text<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de, const N: usize> Deserialize<'de> for Text<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Characters<const N: usize>;

        impl<const N: usize> Visitor<'_> for Characters<N> {
            type Value = Text<N>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "text of at most {N} bytes")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Text<N>, E> {
                Text::try_from(text).map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Characters)
    }
}

impl<const N: usize> Blob<N> {
    /// Takes over `bytes`.
    ///
    /// # Errors
    /// There are more than `N`.
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self, TooLong> {
        let bytes = bytes.into();
        check(bytes.len(), N, "bytes")?;
        Ok(Self(bytes))
    }

    /// No bytes.
    pub const fn empty() -> Self {
        Self(Bytes::new())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, owned.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl<const N: usize> fmt::Debug for Blob<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl<const N: usize> Serialize for Blob<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de, const N: usize> Deserialize<'de> for Blob<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Octets<const N: usize>;

        impl<const N: usize> Visitor<'_> for Octets<N> {
            type Value = Blob<N>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {N} bytes")
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Blob<N>, E> {
                check(bytes.len(), N, "bytes").map_err(E::custom)?;
                Ok(Blob(Bytes::copy_from_slice(bytes)))
            }
        }

        deserializer.deserialize_bytes(Octets)
    }
}

fn check(len: usize, max: usize, unit: &'static str) -> Result<(), TooLong> {
    if len > max {
        return Err(TooLong { len, max, unit });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_longer_than_its_bound_is_refused_on_both_sides() {
        assert!(Bounded::<u8, 3>::new(vec![1, 2, 3]).is_ok());
        let refused = Bounded::<u8, 3>::new(vec![1, 2, 3, 4]).unwrap_err();
        assert_eq!(refused.to_string(), "4 items exceed the maximum of 3");
        let bytes = postcard::to_stdvec(&vec![1u8, 2, 3, 4]).unwrap();
        assert!(postcard::from_bytes::<Bounded<u8, 3>>(&bytes).is_err());
        assert_eq!(
            &*postcard::from_bytes::<Bounded<u8, 4>>(&bytes).unwrap(),
            [1, 2, 3, 4]
        );
    }

    #[test]
    fn a_claimed_billion_is_refused_from_five_bytes() {
        let bomb = postcard::to_stdvec(&1_000_000_000u32).unwrap();
        assert_eq!(bomb.len(), 5);
        assert!(postcard::from_bytes::<Bounded<u64, 1024>>(&bomb).is_err());
        assert!(postcard::from_bytes::<Text<1024>>(&bomb).is_err());
        assert!(postcard::from_bytes::<Blob<1024>>(&bomb).is_err());
    }

    #[test]
    fn long_lists_grow_and_end_without_spare_room() {
        let items: Vec<u64> = (0..10_000).collect();
        let bytes = postcard::to_stdvec(&items).unwrap();
        let list: Bounded<u64, 10_000> = postcard::from_bytes(&bytes).unwrap();
        assert_eq!(&*list, items);
        assert_eq!(list.into_vec().capacity(), 10_000);
    }

    #[test]
    fn text_is_clipped_between_characters() {
        assert_eq!(Text::<5>::clipped("héllo").as_str(), "héll");
        assert_eq!(Text::<2>::clipped("héllo").as_str(), "h");
        assert_eq!(Text::<0>::clipped("é").as_str(), "");
        assert!(Text::<5>::try_from("héllo").is_err());
    }

    #[test]
    fn text_that_is_not_utf8_is_refused() {
        assert!(postcard::from_bytes::<Text<8>>(&[2, 0xff, 0xfe]).is_err());
    }
}
