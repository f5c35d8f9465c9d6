//! `quorate pub`: publish one message, a file of them, or a stream.

mod pipeline;
mod source;

use std::path::PathBuf;

use quorate::Message;
use quorate::MessageId;

use crate::commands::publish::pipeline::Outcomes;
use crate::commands::publish::pipeline::Pipeline;
use crate::commands::publish::source::Source;
use crate::failure::Exit;
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::logging;
use crate::runtime;
use crate::settings;
use crate::settings::Settings;
use crate::settings::Target;
use crate::stop::Stop;
use crate::values;
use crate::values::Rate;

/// Arguments of `pub`.
///
/// `--key` is the message's key here; the private key's file comes before the command
/// (`quorate --key FILE pub ..`) or as `--set client.key_file=FILE`.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("input").multiple(false).args(["file", "stdin_lines"])))]
pub(crate) struct Arguments {
    /// The topic
    topic: String,
    /// The message's value
    #[arg(conflicts_with = "input")]
    message: Option<String>,
    #[command(flatten)]
    target: Target,
    /// Publish each line of a file
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Publish each line of standard input
    #[arg(long)]
    stdin_lines: bool,
    /// Publish so many messages; 0 never stops [default: 1, or all lines]
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Publish so many messages a second
    #[arg(long, value_name = "N")]
    rate: Option<Rate>,
    /// Publish 1, 2, 3 and so on, after MESSAGE if there is one
    #[arg(long, conflicts_with = "input")]
    sequence: bool,
    /// The messages' key. The private key's file goes before `pub`: `quorate --key FILE pub ..`
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// A header; may be repeated
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = values::pair)]
    headers: Vec<(String, String)>,
    /// The message's id; of several messages, message i gets the UUIDv5 of this id and i
    #[arg(long, value_name = "UUID")]
    id: Option<MessageId>,
    /// Publish to this partition
    #[arg(long, value_name = "P")]
    partition: Option<u32>,
    /// What to wait for: quorum, leader or none [default: the topic's]
    #[arg(long, value_name = "LEVEL")]
    ack: Option<String>,
}

impl Arguments {
    fn source(&self) -> Result<Source, Failure> {
        let prefix = || self.message.clone();
        let count = self.count.unwrap_or(1);
        match (&self.file, &self.message) {
            (Some(path), _) => Source::file(path, self.count),
            _ if self.stdin_lines => Ok(Source::stdin(self.count)),
            _ if self.sequence => Ok(Source::sequence(prefix(), count)),
            (None, Some(message)) => Ok(Source::repeat(message, count)),
            (None, None) => Err(Failure::usage("there is nothing to publish")
                .with_help("give a MESSAGE, --file FILE, --stdin-lines or --sequence")),
        }
    }

    /// Whether at most one message can come, so that `--id` is its id itself.
    fn is_single(&self) -> bool {
        let lines = self.file.is_some() || self.stdin_lines;
        !lines && self.count.unwrap_or(1) == 1
    }
}

/// What all messages of one command have in common.
#[derive(Debug)]
struct Template {
    key: Option<String>,
    headers: Vec<(String, String)>,
    id: Option<MessageId>,
    single: bool,
    partition: Option<u32>,
}

impl Template {
    fn message(&self, index: u64, value: Vec<u8>) -> Message {
        let mut message = Message::new(value);
        if let Some(key) = &self.key {
            message = message.key(key.clone());
        }
        for (name, value) in &self.headers {
            message = message.header(name.clone(), value.clone());
        }
        if let Some(id) = self.id(index) {
            message = message.id(id);
        }
        match self.partition {
            Some(partition) => message.partition(partition),
            None => message,
        }
    }

    fn id(&self, index: u64) -> Option<MessageId> {
        let id = self.id?;
        if self.single {
            return Some(id);
        }
        Some(MessageId::named(id, index.to_string().as_bytes()))
    }
}

/// Publishes and prints a receipt for each message, in the order of the messages.
pub(crate) fn run(arguments: Arguments, invocation: &Invocation) -> Result<Exit, Failure> {
    logging::start_client(invocation.verbose);
    let source = arguments.source()?;
    let template = Template {
        single: arguments.is_single(),
        key: arguments.key,
        headers: arguments.headers,
        id: arguments.id,
        partition: arguments.partition,
    };
    let mut settings = invocation.settings(arguments.target, None)?;
    settings.flag_if("producer.ack", arguments.ack);
    let pipeline = Pipeline {
        source,
        template,
        rate: arguments.rate,
    };
    runtime::run(publish(arguments.topic, pipeline, settings, invocation))
}

async fn publish(
    topic: String,
    pipeline: Pipeline,
    settings: Settings,
    invocation: &Invocation,
) -> Result<Exit, Failure> {
    let mut stop = Stop::listen()?;
    let client = tokio::select! {
        client = settings.connect() => client?,
        () = stop.requested() => return Ok(Exit::Interrupted),
    };
    let producer = tokio::select! {
        producer = client.producer(&topic) => producer?,
        () = stop.requested() => return Ok(Exit::Interrupted),
    };
    let outcomes = pipeline.run(&producer, &invocation.output, &mut stop).await;
    settings::part(&client).await;
    let outcomes = outcomes?;
    Ok(report(&outcomes, invocation))
}

fn report(outcomes: &Outcomes, invocation: &Invocation) -> Exit {
    if outcomes.acked + outcomes.failed > 1 {
        let failed = match outcomes.failed {
            0 => String::new(),
            failed => format!(", {failed} failed"),
        };
        invocation
            .output
            .note(format_args!("{} published{failed}", outcomes.acked));
    }
    match (outcomes.interrupted, outcomes.failed, outcomes.acked) {
        (true, _, _) => Exit::Interrupted,
        (false, 0, _) => Exit::Done,
        (false, _, 0) => outcomes.last_exit,
        (false, _, _) => Exit::Partly,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(single: bool) -> Template {
        let id = Some(MessageId::new(7));
        Template {
            key: None,
            headers: Vec::new(),
            id,
            single,
            partition: None,
        }
    }

    #[test]
    fn a_single_message_has_the_id_itself() {
        assert_eq!(template(true).id(0), Some(MessageId::new(7)));
    }

    #[test]
    fn several_messages_have_ids_that_repeat_with_the_command() {
        let (first, second) = (template(false).id(0), template(false).id(1));
        assert_ne!(first, second);
        assert_eq!(first, template(false).id(0));
        assert_eq!(first.unwrap().to_string().chars().nth(14), Some('5'));
    }
}
