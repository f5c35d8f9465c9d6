//! One record as `sub` and `read` print it.

use quorate::Headers;
use quorate::Record;
use serde::Serialize;
use serde::Serializer;
use serde::ser::SerializeMap;

use crate::encoding;
use crate::failure::Failure;
use crate::output::Output;

/// A record in the form of `--json`.
#[derive(Debug)]
pub(crate) struct RecordLine<'a>(pub(crate) &'a Record);

impl Serialize for RecordLine<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let record = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("topic", &*record.topic)?;
        map.serialize_entry("partition", &record.partition.get())?;
        map.serialize_entry("offset", &record.offset.get())?;
        map.serialize_entry("timestamp", &encoding::timestamp(record.timestamp))?;
        bytes(&mut map, "key", "key_base64", record.key.as_deref())?;
        map.serialize_entry("headers", &HeaderMap(&record.headers))?;
        map.serialize_entry("id", &record.id.map(|id| id.to_string()))?;
        bytes(&mut map, "value", "value_base64", record.value.as_deref())?;
        map.serialize_entry("broker", &*record.broker)?;
        map.end()
    }
}

/// Text under one name, other bytes under the other, nothing as null.
fn bytes<M: SerializeMap>(
    map: &mut M,
    text_name: &str,
    base64_name: &str,
    bytes: Option<&[u8]>,
) -> Result<(), M::Error> {
    match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => map.serialize_entry(text_name, &()),
        Some((_, Ok(text))) => map.serialize_entry(text_name, text),
        Some((bytes, Err(_))) => map.serialize_entry(base64_name, &encoding::base64(bytes)),
    }
}

struct HeaderMap<'a>(&'a Headers);

impl Serialize for HeaderMap<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let headers: Vec<_> = self.0.iter().collect();
        for (at, (name, value)) in headers.iter().enumerate() {
            let same = || headers.iter().filter(|(other, _)| other == name);
            let first = headers.iter().take(at).all(|(other, _)| other != name);
            match (first, same().count()) {
                (false, _) => {}
                (true, 1) => map.serialize_entry(name, &HeaderValue(value.map(AsRef::as_ref)))?,
                (true, _) => {
                    let values: Vec<_> = same()
                        .map(|(_, value)| HeaderValue(value.map(AsRef::as_ref)))
                        .collect();
                    map.serialize_entry(name, &values)?;
                }
            }
        }
        map.end()
    }
}

struct HeaderValue<'a>(Option<&'a [u8]>);

impl Serialize for HeaderValue<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
            None => serializer.serialize_none(),
            Some((_, Ok(text))) => serializer.serialize_str(text),
            Some((bytes, Err(_))) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("base64", &encoding::base64(bytes))?;
                map.end()
            }
        }
    }
}

/// Prints a record: JSON, or a line for people, or the bare value for pipes.
pub(crate) fn print(output: &Output, record: &Record, show_source: bool) -> Result<(), Failure> {
    if output.is_json() {
        return output.object(&RecordLine(record));
    }
    if show_source {
        output.bytes(format!("[{}] ", record.broker).as_bytes())?;
    }
    let value = record.value.as_deref().unwrap_or_default();
    if !output.is_terminal() {
        output.bytes(value)?;
        return output.bytes(b"\n");
    }
    let key = record
        .key
        .as_deref()
        .map(|key| format!("[{}] ", encoding::visible(key)));
    output.line(format_args!(
        "{} {}/{}@{} {}{}",
        encoding::time_of_day(record.timestamp),
        record.topic,
        record.partition,
        record.offset,
        key.unwrap_or_default(),
        encoding::visible(value),
    ))
}
