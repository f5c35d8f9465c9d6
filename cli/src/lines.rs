//! Messages from a file or standard input, one a line.

use std::fs::File;
use std::io;
use std::io::BufRead;
use std::path::Path;

use tokio::io::AsyncBufReadExt;

use crate::failure::Failure;

/// Few system calls for many short lines.
const BUFFER_BYTES: usize = 256 * 1024;

/// Reads lines; the newline is not part of them, everything else is.
#[derive(Debug)]
pub(crate) enum Lines {
    /// A file. Reading it blocks, as disks do.
    File(Box<io::BufReader<File>>),
    /// Standard input, which may stay silent for long.
    Stdin(tokio::io::BufReader<tokio::io::Stdin>),
}

impl Lines {
    /// The lines of a file, and its length in bytes.
    pub(crate) fn of_file(path: &Path) -> Result<(Self, u64), Failure> {
        let failed = |error| Failure::file("read", path, &error);
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Err(failed(io::ErrorKind::IsADirectory.into()));
        }
        let length = metadata.len();
        let reader = io::BufReader::with_capacity(BUFFER_BYTES, file);
        Ok((Self::File(Box::new(reader)), length))
    }

    /// The lines of standard input.
    pub(crate) fn of_stdin() -> Self {
        Self::Stdin(tokio::io::BufReader::with_capacity(
            BUFFER_BYTES,
            tokio::io::stdin(),
        ))
    }

    /// The next line; `None` at the end. Dropping it while it waits loses what was read of a line.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        let read = match self {
            Self::File(reader) => reader.read_until(b'\n', &mut line)?,
            Self::Stdin(reader) => reader.read_until(b'\n', &mut line).await?,
        };
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        Ok((read > 0).then_some(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_line_is_one_message_without_its_newline() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        std::fs::write(&path, b"one\n\nthree\r\n\xff").unwrap();
        let (mut lines, length) = Lines::of_file(&path).unwrap();
        assert_eq!(length, 13);
        let mut found = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            found.push(line);
        }
        let expected: [&[u8]; 4] = [b"one", b"", b"three\r", b"\xff"];
        assert_eq!(found, expected);
    }
}
