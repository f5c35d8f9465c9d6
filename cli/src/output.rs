//! The only place that prints: data on standard output, everything else on standard error.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::io::BufWriter;
use std::io::IsTerminal;
use std::io::StdoutLock;
use std::io::Write;

use comfy_table::Table;
use indicatif::ProgressBar;
use indicatif::ProgressDrawTarget;
use indicatif::ProgressStyle;
use serde::Serialize;

use crate::failure::Failure;

/// Enough to make one system call of many short lines.
const BUFFER_BYTES: usize = 64 * 1024;

/// Where a command's results go and in which form.
pub(crate) struct Output {
    json: bool,
    quiet: bool,
    terminal: bool,
    stdout: RefCell<BufWriter<StdoutLock<'static>>>,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output")
            .field("json", &self.json)
            .field("quiet", &self.quiet)
            .finish()
    }
}

impl Output {
    pub(crate) fn new(json: bool, quiet: bool) -> Self {
        let stdout = io::stdout().lock();
        let terminal = stdout.is_terminal();
        let stdout = RefCell::new(BufWriter::with_capacity(BUFFER_BYTES, stdout));
        Self {
            json,
            quiet,
            terminal,
            stdout,
        }
    }

    /// Whether results are for programs.
    pub(crate) const fn is_json(&self) -> bool {
        self.json
    }

    /// Whether people watch standard output.
    pub(crate) const fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Whether only what cannot be left out is printed.
    pub(crate) const fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Prints one JSON object on its own line.
    pub(crate) fn object(&self, value: &impl Serialize) -> Result<(), Failure> {
        let mut stdout = self.stdout.borrow_mut();
        let failed = |error| Failure::output(&io::Error::from(error));
        serde_json::to_writer(&mut *stdout, value).map_err(failed)?;
        stdout
            .write_all(b"\n")
            .map_err(|error| Failure::output(&error))
    }

    /// Prints one line of text.
    pub(crate) fn line(&self, text: impl fmt::Display) -> Result<(), Failure> {
        let mut stdout = self.stdout.borrow_mut();
        writeln!(stdout, "{text}").map_err(|error| Failure::output(&error))
    }

    /// Prints bytes as they are.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        self.stdout
            .borrow_mut()
            .write_all(bytes)
            .map_err(|error| Failure::output(&error))
    }

    /// Prints a table with a head line.
    pub(crate) fn table(&self, head: &[&str], rows: Vec<Vec<String>>) -> Result<(), Failure> {
        let mut table = Table::new();
        table
            .load_preset(comfy_table::presets::NOTHING)
            .set_header(head)
            .add_rows(rows);
        self.line(table.trim_fmt())
    }

    /// Makes room for what replaces everything on the screen.
    pub(crate) fn clear(&self) -> Result<(), Failure> {
        self.bytes(b"\x1b[H\x1b[2J")
    }

    /// Hands what was printed to the reader.
    pub(crate) fn flush(&self) -> Result<(), Failure> {
        self.stdout
            .borrow_mut()
            .flush()
            .map_err(|error| Failure::output(&error))
    }

    /// Tells people something that is not the result; nobody hears it with `--quiet`.
    pub(crate) fn note(&self, text: impl fmt::Display) {
        if !self.quiet && !self.json {
            self.say(format_args!("{text}"));
        }
    }

    /// Tells about something that went wrong although the command goes on.
    pub(crate) fn warning(&self, failure: &Failure) {
        if self.json {
            self.failure(failure);
        } else {
            let text = failure.to_string();
            self.say(format_args!("{}", text.replacen("error[", "warning[", 1)));
        }
    }

    /// Reports a failure.
    pub(crate) fn failure(&self, failure: &Failure) {
        if failure.is_silent() {
            return;
        }
        match serde_json::to_string(&failure.to_json()) {
            Ok(text) if self.json => self.say(format_args!("{text}")),
            _ => self.say(format_args!("{failure}")),
        }
    }

    /// Shows how a command is used to somebody who named too little of it.
    pub(crate) fn help(&self, text: &str) {
        self.say(format_args!("{text}"));
    }

    /// A progress bar over `total` bytes, if people watch standard error.
    pub(crate) fn progress(&self, total: u64) -> ProgressBar {
        if self.json || self.quiet || !io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        let template = "{bar:40} {percent:>3}% {bytes}/{total_bytes} {eta}";
        match ProgressStyle::with_template(template) {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        }
    }

    /// Asks a person; where nobody can answer the command itself is the answer.
    pub(crate) fn confirm(&self, question: &str) -> Result<bool, Failure> {
        let stdin = io::stdin();
        if !stdin.is_terminal() || !io::stderr().is_terminal() {
            return Ok(true);
        }
        let failed = |error| Failure::system("cannot ask", &error);
        write!(io::stderr().lock(), "{question} [y/N] ").map_err(failed)?;
        let mut answer = String::new();
        stdin.read_line(&mut answer).map_err(failed)?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }

    /// A failure to write to standard error has nowhere to be reported.
    #[expect(clippy::unused_self, reason = "whoever prints has an Output")]
    fn say(&self, text: fmt::Arguments<'_>) {
        drop(writeln!(io::stderr().lock(), "{text}"));
    }
}
