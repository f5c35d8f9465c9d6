//! The client's settings for one command: flag over environment over context.

use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use quorate::Client;
use quorate::ErrorCode;

use crate::contexts::Contexts;
use crate::failure::Exit;
use crate::failure::Failure;
use crate::stop::Stop;

/// The sections of settings that belong to clients.
const SECTIONS: [&str; 5] = ["client", "producer", "subscribe", "read", "topic"];
/// Sections of a context that other programs read.
const FOREIGN_SECTIONS: [&str; 1] = ["gateway"];
/// Enough to send a goodbye; its answer is not worth waiting for.
const GOODBYE: Duration = Duration::from_millis(20);
const CONTEXT_VARIABLE: &str = "QUORATE_CONTEXT";

/// Where the brokers are and who we are, as typed on the command line.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Target {
    /// Use this context instead of the current one
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// Brokers to start from, as `host:port`
    #[arg(long, value_name = "A:P,B:P")]
    pub(crate) servers: Option<String>,
    /// The CA certificate that verifies brokers
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// This client's certificate
    #[arg(long, value_name = "FILE")]
    pub(crate) cert: Option<PathBuf>,
}

impl Target {
    /// What is typed here, or else in `outer`.
    pub(crate) fn or(self, outer: &Self) -> Self {
        Self {
            context: self.context.or_else(|| outer.context.clone()),
            servers: self.servers.or_else(|| outer.servers.clone()),
            ca: self.ca.or_else(|| outer.ca.clone()),
            cert: self.cert.or_else(|| outer.cert.clone()),
        }
    }
}

/// The private key's file, which is not a flag where `--key` means the message's key.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct PrivateKey {
    /// This client's private key
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
}

/// Where a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Context(String),
    Variable(String),
    Flag,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Context(name) => write!(f, "from context `{name}`"),
            Self::Variable(name) => write!(f, "from the environment: {name}"),
            Self::Flag => f.write_str("from the command line"),
        }
    }
}

/// Settings by key, each with its source.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    values: BTreeMap<String, (String, Source)>,
    context: Option<String>,
}

impl Settings {
    /// Merges context, environment, `--set` and the flags of `target`, in this order.
    pub(crate) fn resolve(
        target: &Target,
        key: Option<&PathBuf>,
        overrides: &[(String, String)],
    ) -> Result<Self, Failure> {
        let mut settings = Self::default();
        if let Some((name, values)) = chosen_context(target)? {
            settings.add_context(&name, values);
        }
        settings.add_variables(env::vars());
        for (name, value) in overrides {
            settings.flag(name, value.clone());
        }
        if let Some(servers) = &target.servers {
            settings.flag("client.servers", servers.clone());
        }
        let files = [
            ("ca_file", target.ca.as_ref()),
            ("cert_file", target.cert.as_ref()),
        ];
        for (name, path) in files.into_iter().chain([("key_file", key)]) {
            if let Some(path) = path {
                settings.flag(&format!("client.{name}"), path.display().to_string());
            }
        }
        Ok(settings)
    }

    /// Sets a value as if it were typed; the last one counts.
    pub(crate) fn flag(&mut self, key: &str, value: impl Into<String>) {
        self.values
            .insert(key.to_owned(), (value.into(), Source::Flag));
    }

    /// Sets a value unless it is absent.
    pub(crate) fn flag_if(&mut self, key: &str, value: Option<impl Into<String>>) {
        if let Some(value) = value {
            self.flag(key, value);
        }
    }

    /// The text of a setting.
    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(|(value, _)| value.as_str())
    }

    /// The context in use.
    pub(crate) fn context(&self) -> Option<&str> {
        self.context.as_deref()
    }

    /// Connects with these settings; resolves once a broker accepted this client.
    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        self.check_target()?;
        let mut builder = Client::builder();
        for (key, (value, _)) in &self.values {
            builder = builder.set(key, value);
        }
        builder.await.map_err(|error| self.with_source(error))
    }

    /// Connects, does `work`, and says goodbye so that no broker waits for this client.
    pub(crate) async fn with_client<T>(
        &self,
        work: impl AsyncFnOnce(&Client) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut stop = Stop::listen()?;
        let interrupted = || Failure::silent(Exit::Interrupted);
        let client = tokio::select! {
            client = self.connect() => client?,
            () = stop.requested() => return Err(interrupted()),
        };
        let result = tokio::select! {
            result = work(&client) => result,
            () = stop.requested() => Err(interrupted()),
        };
        part(&client).await;
        result
    }

    /// Says who set the option an error is about.
    fn with_source(&self, error: quorate::Error) -> Failure {
        let text = error.to_string();
        let named = |key: &str| text.contains(&format!("`{key}`"));
        let source = self
            .values
            .iter()
            .find(|(key, _)| named(key))
            .map(|(_, (_, source))| source);
        match source {
            Some(source) if error.code() == ErrorCode::INVALID_ARGUMENT => {
                Failure::from(error).with_cause(source.to_string())
            }
            _ => Failure::from(error),
        }
    }

    fn check_target(&self) -> Result<(), Failure> {
        if self.get("client.servers").is_some() {
            return Ok(());
        }
        let failure = match &self.context {
            Some(name) => Failure::usage(format!("context `{name}` names no servers")),
            None => Failure::usage("no broker to connect to: no context is selected"),
        };
        Err(failure.with_help("quorate dev, or quorate ctx use NAME, or --servers host:port"))
    }

    fn add_context(&mut self, name: &str, settings: Vec<(String, String)>) {
        self.context = Some(name.to_owned());
        let ours = |key: &str| {
            !FOREIGN_SECTIONS
                .iter()
                .any(|section| in_section(key, section))
        };
        for (key, value) in settings.into_iter().filter(|(key, _)| ours(key)) {
            self.values
                .insert(key, (value, Source::Context(name.to_owned())));
        }
    }

    fn add_variables(&mut self, variables: impl Iterator<Item = (String, String)>) {
        for (variable, value) in variables {
            let Some((section, key)) = variable
                .strip_prefix("QUORATE_")
                .and_then(|name| name.split_once("__"))
            else {
                continue;
            };
            let section = section.to_ascii_lowercase();
            if SECTIONS.contains(&section.as_str()) {
                let key = format!("{section}.{}", key.to_ascii_lowercase());
                self.values.insert(key, (value, Source::Variable(variable)));
            }
        }
    }
}

/// Says goodbye, so that no broker keeps a place for this client.
pub(crate) async fn part(client: &Client) {
    let _answered = tokio::time::timeout(GOODBYE, client.close(GOODBYE)).await;
}

fn in_section(key: &str, section: &str) -> bool {
    key.strip_prefix(section)
        .is_some_and(|rest| rest.starts_with('.'))
}

/// The name of a context and its settings.
type Chosen = (String, Vec<(String, String)>);

/// The context named by flag, environment or file, with its settings.
fn chosen_context(target: &Target) -> Result<Option<Chosen>, Failure> {
    let named = target.context.clone().or_else(context_variable);
    let contexts = match (Contexts::load(), &named, &target.servers) {
        (Ok(contexts), _, _) => contexts,
        (Err(_), None, Some(_)) => return Ok(None),
        (Err(failure), _, _) => return Err(failure),
    };
    let Some(name) = named.or_else(|| contexts.current().map(str::to_owned)) else {
        return Ok(None);
    };
    let settings = contexts.settings(&name)?;
    Ok(Some((name, settings)))
}

/// The context named by the environment.
pub(crate) fn context_variable() -> Option<String> {
    env::var(CONTEXT_VARIABLE)
        .ok()
        .filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_beat_the_environment_which_beats_the_context() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let mut settings = Settings::default();
        let context = ["client.servers", "client.ca_file", "client.client_id"];
        settings.add_context("prod", context.map(|key| pair(key, "context")).to_vec());
        let variables = [
            pair("QUORATE_CLIENT__CA_FILE", "env"),
            pair("QUORATE_CLIENT__CLIENT_ID", "env"),
            pair("QUORATE_NODE__ID", "7"),
            pair("QUORATE_CONTEXT", "x"),
        ];
        settings.add_variables(variables.into_iter());
        settings.flag("client.client_id", "flag");
        let found: Vec<_> = context
            .map(|key| settings.get(key).unwrap().to_owned())
            .into();
        assert_eq!(found, ["context", "env", "flag"]);
        assert_eq!(settings.values.len(), 3);
        assert_eq!(settings.context(), Some("prod"));
    }

    #[test]
    fn sections_of_other_programs_are_left_alone() {
        let mut settings = Settings::default();
        settings.add_context(
            "a",
            vec![("gateway.url".to_owned(), "https://x".to_owned())],
        );
        assert_eq!(settings.get("gateway.url"), None);
    }

    #[test]
    fn what_is_typed_last_counts() {
        let outer = Target {
            servers: Some("a".to_owned()),
            ..Target::default()
        };
        let inner = Target {
            servers: Some("b".to_owned()),
            ..Target::default()
        };
        assert_eq!(inner.or(&outer).servers.as_deref(), Some("b"));
        assert_eq!(Target::default().or(&outer).servers.as_deref(), Some("a"));
    }
}
