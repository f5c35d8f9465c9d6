//! Where the values of published messages come from.

use std::path::Path;

use crate::failure::Failure;
use crate::lines::Lines;

/// Values, one after the other, at most `left` more.
#[derive(Debug)]
pub(super) struct Source {
    kind: Kind,
    /// `None`: no end of its own.
    left: Option<u64>,
    length: u64,
    done: u64,
}

#[derive(Debug)]
enum Kind {
    Repeat(Vec<u8>),
    Sequence { prefix: String, next: u64 },
    Lines(Lines),
}

impl Source {
    /// The same value `count` times; 0 without end.
    pub(super) fn repeat(value: &str, count: u64) -> Self {
        Self::new(Kind::Repeat(value.as_bytes().to_vec()), Some(count))
    }

    /// `1`, `2`.. or `PREFIX 1`, `PREFIX 2`.. up to `count`; 0 without end.
    pub(super) fn sequence(prefix: Option<String>, count: u64) -> Self {
        let prefix = prefix.map(|prefix| prefix + " ").unwrap_or_default();
        Self::new(Kind::Sequence { prefix, next: 1 }, Some(count))
    }

    /// The lines of a file, at most `count`.
    pub(super) fn file(path: &Path, count: Option<u64>) -> Result<Self, Failure> {
        let (lines, length) = Lines::of_file(path)?;
        Ok(Self {
            length,
            ..Self::new(Kind::Lines(lines), count)
        })
    }

    /// The lines of standard input, at most `count`.
    pub(super) fn stdin(count: Option<u64>) -> Self {
        Self::new(Kind::Lines(Lines::of_stdin()), count)
    }

    fn new(kind: Kind, count: Option<u64>) -> Self {
        Self {
            kind,
            left: count.filter(|count| *count > 0),
            length: 0,
            done: 0,
        }
    }

    /// The bytes of the file behind it; 0 if there is none.
    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    /// The bytes of the file that were taken.
    pub(super) const fn done(&self) -> u64 {
        self.done
    }

    /// The next value; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        if self.left == Some(0) {
            return Ok(None);
        }
        self.left = self.left.map(|left| left - 1);
        let value = match &mut self.kind {
            Kind::Repeat(value) => Some(value.clone()),
            Kind::Sequence { prefix, next } => {
                let value = format!("{prefix}{next}");
                *next += 1;
                Some(value.into_bytes())
            }
            Kind::Lines(lines) => {
                let failed = |error| Failure::system("cannot read the messages", &error);
                lines.next().await.map_err(failed)?
            }
        };
        self.done += value
            .as_ref()
            .map_or(0, |value| u64::try_from(value.len() + 1).unwrap_or(0));
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(mut source: Source) -> Vec<String> {
        let mut values = Vec::new();
        while let Some(value) = source.next().await.unwrap() {
            values.push(String::from_utf8(value).unwrap());
        }
        values
    }

    #[tokio::test]
    async fn sequences_count_from_one_with_or_without_a_text() {
        assert_eq!(all(Source::sequence(None, 3)).await, ["1", "2", "3"]);
        let prefixed = Source::sequence(Some("order".to_owned()), 2);
        assert_eq!(all(prefixed).await, ["order 1", "order 2"]);
    }

    #[tokio::test]
    async fn a_repeated_value_without_count_has_no_end() {
        assert_eq!(all(Source::repeat("x", 2)).await, ["x", "x"]);
        let mut endless = Source::repeat("x", 0);
        for _ in 0..1000 {
            assert!(endless.next().await.unwrap().is_some());
        }
    }

    #[tokio::test]
    async fn a_file_ends_with_its_lines_or_the_count() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        std::fs::write(&path, "a\nb\nc\n").unwrap();
        assert_eq!(
            all(Source::file(&path, None).unwrap()).await,
            ["a", "b", "c"]
        );
        assert_eq!(all(Source::file(&path, Some(2)).unwrap()).await, ["a", "b"]);
        assert_eq!(
            all(Source::file(&path, Some(0)).unwrap()).await,
            ["a", "b", "c"]
        );
    }
}
