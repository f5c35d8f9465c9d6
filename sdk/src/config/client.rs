//! Section `client`: where the brokers are, who this client is, how long it waits.

use std::path::PathBuf;
use std::time::Duration;

use crate::config::value;
use crate::config::value::Unit;

/// The port of a server that is written without one.
const PORT_DEFAULT: u16 = 4747;

#[derive(Debug, Clone)]
pub(crate) struct ClientOptions {
    /// `host:port` of each server to start from.
    pub(crate) servers: Vec<String>,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) cert_file: Option<PathBuf>,
    pub(crate) key_file: Option<PathBuf>,
    pub(crate) client_id: String,
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) reconnect_min: Duration,
    pub(crate) reconnect_max: Duration,
    pub(crate) in_flight_bytes_max: usize,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            ca_file: None,
            cert_file: None,
            key_file: None,
            client_id: String::new(),
            connect_timeout: Duration::from_millis(5000),
            request_timeout: Duration::from_millis(5000),
            reconnect_min: Duration::from_millis(200),
            reconnect_max: Duration::from_millis(10_000),
            in_flight_bytes_max: 64 << 20,
        }
    }
}

impl ClientOptions {
    pub(super) const KEYS: &[&str] = &[
        "servers",
        "ca_file",
        "cert_file",
        "key_file",
        "client_id",
        "connect_timeout_ms",
        "request_timeout_ms",
        "reconnect_ms_min",
        "reconnect_ms_max",
        "in_flight_bytes_max",
    ];

    pub(super) fn set(&mut self, key: &str, text: &str) -> Result<bool, String> {
        let wait = |min| value::duration_from(text, Unit::Milliseconds, Duration::from_millis(min));
        match key {
            "servers" => self.servers = servers(text)?,
            "ca_file" => self.ca_file = Some(PathBuf::from(text)),
            "cert_file" => self.cert_file = Some(PathBuf::from(text)),
            "key_file" => self.key_file = Some(PathBuf::from(text)),
            "client_id" => self.client_id = text.to_owned(),
            "connect_timeout_ms" => self.connect_timeout = wait(1)?,
            "request_timeout_ms" => self.request_timeout = wait(1)?,
            "reconnect_ms_min" => self.reconnect_min = wait(1)?,
            "reconnect_ms_max" => self.reconnect_max = wait(1)?,
            "in_flight_bytes_max" => {
                self.in_flight_bytes_max = value::bytes_between(text, 1 << 16, 1 << 40)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// `quorate://a:4747,b:4747`, with or without the scheme and the ports.
fn servers(text: &str) -> Result<Vec<String>, String> {
    let list = text.strip_prefix("quorate://").unwrap_or(text);
    let list = list.trim_end_matches('/');
    let servers: Result<Vec<_>, _> = list
        .split(',')
        .map(str::trim)
        .filter(|server| !server.is_empty())
        .map(server)
        .collect();
    let servers = servers?;
    if servers.is_empty() {
        return Err(format!(
            "`{text}` names no server; write `quorate://host:4747`"
        ));
    }
    Ok(servers)
}

fn server(text: &str) -> Result<String, String> {
    let wrong = || format!("`{text}` is no server; write `host:4747`");
    if text.contains("://") || text.contains(char::is_whitespace) {
        return Err(wrong());
    }
    let bare_v6 = text.matches(':').count() > 1 && !text.starts_with('[');
    let (host, port) = if bare_v6 {
        return Ok(format!("[{text}]:{PORT_DEFAULT}"));
    } else if text.ends_with(']') {
        (text, None)
    } else {
        text.rsplit_once(':')
            .map_or((text, None), |(host, port)| (host, Some(port)))
    };
    let port = match port {
        Some(port) => port.parse().map_err(|_| wrong())?,
        None => PORT_DEFAULT,
    };
    if host.is_empty() || port == 0 {
        return Err(wrong());
    }
    Ok(format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_come_with_or_without_scheme_and_port() {
        assert_eq!(
            servers("quorate://a:1,b"),
            Ok(vec!["a:1".to_owned(), "b:4747".to_owned()])
        );
        assert_eq!(servers("[::1]:9"), Ok(vec!["[::1]:9".to_owned()]));
        assert_eq!(servers("::1"), Ok(vec!["[::1]:4747".to_owned()]));
        assert_eq!(servers("[::1]"), Ok(vec!["[::1]:4747".to_owned()]));
    }

    #[test]
    fn text_that_names_no_server_is_refused() {
        for text in ["", "quorate://", "http://a", "a:b", "a:0", ":1", "a b"] {
            assert!(servers(text).is_err(), "{text}");
        }
    }
}
