//! What a command reports when it does not succeed, and the exit status that goes with it.

use std::fmt;
use std::io;
use std::path::Path;

use quorate::ErrorCode;
use quorate::Outcome;
use serde::Serialize;

/// The exit status of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything was done.
    Done,
    /// It failed.
    Failed,
    /// Wrong arguments or settings.
    Usage,
    /// Some of it was done.
    Partly,
    /// The broker's endpoint died.
    EndpointDied,
    /// The broker's storage failed; nothing more may be promised from it.
    StoragePoisoned,
    /// The time was up.
    TimedOut,
    /// A signal stopped it.
    Interrupted,
    /// The status of the command that was run.
    Other(u8),
}

impl Exit {
    /// The number the shell sees.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Partly => 3,
            Self::EndpointDied => 70,
            Self::StoragePoisoned => 74,
            Self::TimedOut => 124,
            Self::Interrupted => 130,
            Self::Other(code) => code,
        }
    }
}

/// A failure as people and scripts read it.
#[derive(Debug)]
pub(crate) struct Failure {
    code: ErrorCode,
    message: String,
    cause: Option<String>,
    help: Option<String>,
    retryable: bool,
    outcome: Outcome,
    exit: Exit,
    index: Option<u64>,
    silent: bool,
}

impl Failure {
    /// A failure with the texts and the outcome of its code.
    pub(crate) fn new(code: ErrorCode, exit: Exit, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            cause: None,
            help: None,
            retryable: code.is_retryable(),
            outcome: Outcome::NotApplied,
            exit,
            index: None,
            silent: false,
        }
    }

    /// Wrong arguments or settings.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::INVALID_ARGUMENT, Exit::Usage, message)
    }

    /// Certificates or keys that cannot be used.
    pub(crate) fn identity(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::IDENTITY_FILES, Exit::Usage, message)
    }

    /// Something on this machine is not as it must be. The texts of the code speak of faults of
    /// this program, which it is not, and trying again changes nothing.
    pub(crate) fn local(message: impl Into<String>) -> Self {
        let failure = Self::new(ErrorCode::INTERNAL, Exit::Failed, message)
            .with_cause("this machine does not allow it as things are");
        Self {
            retryable: false,
            ..failure
        }
    }

    /// The system refused something.
    pub(crate) fn system(what: impl fmt::Display, error: &io::Error) -> Self {
        Self::local(format!("{what}: {error}"))
            .with_help("repair what the message names, then run the command again")
    }

    /// The system refused to read or write a file; most often the wrong one was named.
    pub(crate) fn file(verb: &str, path: &Path, error: &io::Error) -> Self {
        let what = format!("cannot {verb} {}", path.display());
        match error.kind() {
            io::ErrorKind::NotFound
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::InvalidData
            | io::ErrorKind::ReadOnlyFilesystem => Self::usage(format!("{what}: {error}"))
                .with_help("check the path and its permissions"),
            _ => Self::system(what, error),
        }
    }

    /// The time was up.
    pub(crate) fn timeout(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::WAIT_TIMEOUT, Exit::TimedOut, message)
    }

    /// Standard output cannot be written; a reader that went away (`| head`) is no failure.
    pub(crate) fn output(error: &io::Error) -> Self {
        let gone = error.kind() == io::ErrorKind::BrokenPipe;
        let failure = Self::system("cannot write to standard output", error);
        Self {
            silent: gone,
            exit: if gone { Exit::Done } else { Exit::Failed },
            ..failure
        }
    }

    /// Ends the process with `exit` without a message: everything was said already.
    pub(crate) fn silent(exit: Exit) -> Self {
        Self {
            silent: true,
            ..Self::new(ErrorCode::CANCELLED, exit, "")
        }
    }

    #[must_use]
    pub(crate) fn with_cause(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    #[must_use]
    pub(crate) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Says which message of many failed, counting from 0.
    #[must_use]
    pub(crate) fn with_index(mut self, index: u64) -> Self {
        self.index = Some(index);
        self
    }

    /// The exit status this failure asks for.
    pub(crate) const fn exit(&self) -> Exit {
        self.exit
    }

    /// What went wrong.
    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it.
    pub(crate) fn help(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// Whether there is nothing to print.
    pub(crate) const fn is_silent(&self) -> bool {
        self.silent
    }

    /// The form of `--json`.
    pub(crate) fn to_json(&self) -> impl Serialize {
        let (cause, fix) = general(self.code).unzip();
        let cause = self.cause.clone().or_else(|| cause.map(str::to_owned));
        let help = self.help.clone().or_else(|| fix.map(str::to_owned));
        ErrorLine {
            error: ErrorBody {
                code: self.code.to_string(),
                kind: self.code.name(),
                message: self.message.clone(),
                cause,
                help,
                retryable: self.retryable,
                outcome: outcome_name(self.outcome),
                index: self.index,
            },
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error[{}]: ", self.code)?;
        if let Some(index) = self.index {
            write!(f, "message {index}: ")?;
        }
        f.write_str(&self.message)?;
        match (&self.cause, &self.help) {
            (None, None) => Ok(()),
            (Some(cause), None) => write!(f, "\n  {cause}"),
            (None, Some(help)) => write!(f, "\n  help: {help}"),
            (Some(cause), Some(help)) => write!(f, "\n  {cause}   help: {help}"),
        }
    }
}

impl From<quorate::Error> for Failure {
    fn from(error: quorate::Error) -> Self {
        let code = error.code();
        let exit = match code {
            ErrorCode::INVALID_ARGUMENT | ErrorCode::IDENTITY_FILES => Exit::Usage,
            ErrorCode::TIMEOUT | ErrorCode::WAIT_TIMEOUT => Exit::TimedOut,
            _ => Exit::Failed,
        };
        let mut failure = Self::new(code, exit, error.to_string());
        // The message of a wrong argument says more than the advice for all of them.
        let general = general(code).map(|(_, fix)| fix);
        let advice = error
            .help()
            .filter(|help| exit != Exit::Usage || Some(*help) != general);
        failure.help = advice.map(str::to_owned);
        failure.retryable = error.is_retryable();
        failure.outcome = error.outcome();
        failure
    }
}

/// The cause and the fix that hold for every error of this code.
fn general(code: ErrorCode) -> Option<(&'static str, &'static str)> {
    let info = ErrorCode::ALL.iter().find(|info| info.code == code)?;
    Some((info.cause, info.fix))
}

#[derive(Serialize)]
struct ErrorLine {
    error: ErrorBody,
}

#[derive(Serialize)]
struct ErrorBody {
    code: String,
    kind: &'static str,
    message: String,
    cause: Option<String>,
    help: Option<String>,
    retryable: bool,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
}

/// An outcome as it stands in JSON.
pub(crate) const fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::NotApplied => "not_applied",
        Outcome::Applied => "applied",
        // An outcome this version does not know is unknown indeed.
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_read_what_where_and_what_next() {
        let failure = Failure::identity("the certificate expired")
            .with_cause("client.pem: 2026-11-19")
            .with_help("quorate cert issue client alice --ca DIR");
        assert_eq!(
            failure.to_string(),
            "error[QRT-0803]: the certificate expired\n  client.pem: 2026-11-19   \
             help: quorate cert issue client alice --ca DIR"
        );
    }

    #[test]
    fn scripts_read_every_field() {
        let failure = Failure::usage("no such flag").with_index(3);
        let json = serde_json::to_value(failure.to_json()).unwrap();
        let error = json["error"].as_object().unwrap();
        for key in [
            "code",
            "kind",
            "message",
            "cause",
            "help",
            "retryable",
            "outcome",
            "index",
        ] {
            assert!(error.contains_key(key), "{key}");
        }
        assert_eq!(error["code"], "QRT-0408");
        assert_eq!(error["kind"], "InvalidArgument");
        assert_eq!(error["outcome"], "not_applied");
    }

    #[test]
    fn a_missing_file_is_a_wrong_argument_and_not_a_fault_of_the_program() {
        let path = Path::new("/none");
        let missing = Failure::file("read", path, &io::ErrorKind::NotFound.into());
        assert_eq!(missing.exit(), Exit::Usage);
        let full = Failure::file("write", path, &io::ErrorKind::StorageFull.into());
        assert_eq!(full.exit(), Exit::Failed);
        let json = serde_json::to_value(full.to_json()).unwrap();
        assert_eq!(json["error"]["retryable"], false);
        assert_eq!(
            json["error"]["cause"],
            "this machine does not allow it as things are"
        );
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let failure = Failure::output(&io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(failure.is_silent());
        assert_eq!(failure.exit(), Exit::Done);
    }
}
