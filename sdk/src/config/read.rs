//! Section `read`: one page of history.

use crate::config::value;
use crate::position::End;
use crate::position::Start;

#[derive(Debug, Clone)]
pub(crate) struct ReadOptions {
    pub(crate) partition: u32,
    pub(crate) from: Start,
    pub(crate) until: End,
    pub(crate) limit: u32,
    pub(crate) cursor: Option<String>,
}

impl Default for ReadOptions {
    fn default() -> Self {
        Self {
            partition: 0,
            from: Start::Earliest,
            until: End::Tail,
            limit: 1000,
            cursor: None,
        }
    }
}

impl ReadOptions {
    pub(super) const KEYS: &[&str] = &["partition", "from", "until", "limit", "cursor"];

    pub(super) fn set(&mut self, key: &str, text: &str) -> Result<bool, String> {
        match key {
            "partition" => self.partition = value::count(text)?,
            "from" => self.from = text.parse()?,
            "until" => self.until = text.parse()?,
            "limit" => self.limit = value::count(text)?,
            "cursor" => self.cursor = Some(text.to_owned()),
            _ => return Ok(false),
        }
        Ok(true)
    }
}
