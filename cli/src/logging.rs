//! Logs on standard error: the broker's as configured, a client's when asked for.

use std::io;
use std::io::IsTerminal;

use quorate_broker::config::LogFormat;
use quorate_broker::config::LogLevel;
use quorate_broker::config::Logging;
use tracing_subscriber::filter::LevelFilter;

/// Starts the logs of a broker.
pub(crate) fn start_broker(logging: Logging) {
    let level = match logging.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let json = match logging.format {
        LogFormat::Auto => !io::stderr().is_terminal(),
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    start(level, json);
}

/// Starts the logs of a client command that was called with so many `-v`.
pub(crate) fn start_client(verbose: u8) {
    match verbose {
        0 => {}
        1 => start(LevelFilter::INFO, false),
        2 => start(LevelFilter::DEBUG, false),
        _ => start(LevelFilter::TRACE, false),
    }
}

fn start(level: LevelFilter, json: bool) {
    let logs = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr)
        .with_ansi(!json && io::stderr().is_terminal());
    if json {
        logs.json().flatten_event(true).init();
    } else {
        logs.init();
    }
}
