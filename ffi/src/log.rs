//! Log lines of the library: to a function of the program, or to stderr, or nowhere.
//!
//! Invariant: silent unless the program or `QUORATE_LOG` asks for lines.

use std::cell::Cell;
use std::ffi::CString;
use std::ffi::c_char;
use std::ffi::c_void;
use std::fmt;
use std::io::Write;
use std::sync::Once;

use parking_lot::RwLock;
use quorate::ErrorCode;
use tracing::Event;
use tracing::Level;
use tracing::Metadata;
use tracing::Subscriber;
use tracing::field::Field;
use tracing::field::Visit;
use tracing::level_filters::LevelFilter;
use tracing::span;

use crate::abi::QUORATE_LOG_DEBUG;
use crate::abi::QUORATE_LOG_ERROR;
use crate::abi::QUORATE_LOG_INFO;
use crate::abi::QUORATE_LOG_TRACE;
use crate::abi::QUORATE_LOG_WARN;
use crate::abi::quorate_status_t;
use crate::border;
use crate::failure::Failure;

/// Asks for lines on stderr: `error`, `warn`, `info`, `debug` or `trace`.
const VARIABLE: &str = "QUORATE_LOG";

type Function =
    unsafe extern "C" fn(level: i32, target: *const c_char, text: *const c_char, ctx: *mut c_void);

/// Where lines go.
enum Sink {
    Nowhere,
    Stderr,
    Function(Function, *mut c_void),
}

// SAFETY: the header demands that the function may be called with its context from any thread; the
// library itself never follows the context.
unsafe impl Send for Sink {}
// SAFETY: as above.
unsafe impl Sync for Sink {}

struct Output {
    sink: Sink,
    level: LevelFilter,
}

static OUTPUT: RwLock<Output> = RwLock::new(Output {
    sink: Sink::Nowhere,
    level: LevelFilter::OFF,
});

thread_local! {
    /// This thread is writing a line.
    static WRITING: Cell<bool> = const { Cell::new(false) };
}

/// Looks at the environment, once, unless the program has set a function already.
pub(crate) fn start() {
    static LOOKED: Once = Once::new();
    LOOKED.call_once(|| {
        let wanted = std::env::var(VARIABLE).ok();
        let level = wanted.and_then(|level| level.parse::<LevelFilter>().ok());
        let Some(level) = level.filter(|level| *level != LevelFilter::OFF) else {
            return;
        };
        let mut output = OUTPUT.write();
        if matches!(output.sink, Sink::Nowhere) {
            *output = Output {
                sink: Sink::Stderr,
                level,
            };
            drop(output);
            listen();
        }
    });
}

/// Makes the library's log lines come here, and look at the level again.
fn listen() {
    static LISTENING: Once = Once::new();
    LISTENING.call_once(|| {
        // Another subscriber can only be there if a Rust program links this library: it has the
        // lines already.
        let _ours = tracing::subscriber::set_global_default(Lines).is_ok();
    });
    tracing::callsite::rebuild_interest_cache();
}

/// Takes every line.
struct Lines;

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= OUTPUT.read_recursive().level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(OUTPUT.read_recursive().level)
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        if WRITING.replace(true) {
            return;
        }
        let mut line = Line::default();
        event.record(&mut line);
        write(event.metadata(), line);
        WRITING.set(false);
    }
}

/// A message and its fields as text.
#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            name => self.fields.push_str(&format!(" {name}={value:?}")),
        }
    }
}

fn write(metadata: &Metadata<'_>, line: Line) {
    let text = line.message + &line.fields;
    let output = OUTPUT.read_recursive();
    match &output.sink {
        Sink::Nowhere => {}
        Sink::Stderr => {
            let (level, target) = (metadata.level(), metadata.target());
            // Nobody is left to tell that stderr is gone.
            let _written = writeln!(std::io::stderr(), "{level} {target}: {text}").is_ok();
        }
        Sink::Function(function, context) => {
            let plain = |text: String| CString::new(text.replace('\0', " ")).unwrap_or_default();
            let (target, text) = (plain(metadata.target().to_owned()), plain(text));
            let level = number(*metadata.level());
            // SAFETY: the header demands a function that may be called so from any thread until it
            // is replaced, which waits for this lock.
            unsafe { function(level, target.as_ptr(), text.as_ptr(), *context) };
        }
    }
}

fn number(level: Level) -> i32 {
    match level {
        Level::ERROR => QUORATE_LOG_ERROR,
        Level::WARN => QUORATE_LOG_WARN,
        Level::INFO => QUORATE_LOG_INFO,
        Level::DEBUG => QUORATE_LOG_DEBUG,
        _ => QUORATE_LOG_TRACE,
    }
}

/// Sends the library's log lines up to `level` (`QUORATE_LOG_...`) to `function`, with `ctx`; NULL
/// makes it silent. Without a call, lines go to stderr if `QUORATE_LOG` names a level, else nowhere.
/// The function is called from any thread, the library's above all: it must be quick, must not call
/// this function, and must not throw or jump out; its texts are UTF-8 and gone when it returns. Waits
/// for a line that is being written, so the function before is not running any more when this
/// returns. For the whole process; may be called from any thread.
///
/// Errors: `QUORATE_E_INVALID_ARGUMENT`: no such level. `QUORATE_E_WOULD_BLOCK`: called inside a log
/// function.
///
/// # Safety
/// `function` may be called with `ctx` from any thread until it is replaced.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quorate_set_log(
    function: Option<
        unsafe extern "C" fn(
            level: i32,
            target: *const c_char,
            text: *const c_char,
            ctx: *mut c_void,
        ),
    >,
    ctx: *mut c_void,
    level: i32,
) -> quorate_status_t {
    border::status(|| {
        if WRITING.get() {
            let text = "a log function must not replace itself";
            return Err(Failure::new(ErrorCode::WOULD_BLOCK, text));
        }
        let wanted = match level {
            QUORATE_LOG_ERROR => LevelFilter::ERROR,
            QUORATE_LOG_WARN => LevelFilter::WARN,
            QUORATE_LOG_INFO => LevelFilter::INFO,
            QUORATE_LOG_DEBUG => LevelFilter::DEBUG,
            QUORATE_LOG_TRACE => LevelFilter::TRACE,
            _ if function.is_none() => LevelFilter::OFF,
            _ => return Err(Failure::invalid(format!("there is no log level {level}"))),
        };
        *OUTPUT.write() = match function {
            Some(function) => Output {
                sink: Sink::Function(function, ctx),
                level: wanted,
            },
            None => Output {
                sink: Sink::Nowhere,
                level: LevelFilter::OFF,
            },
        };
        listen();
        Ok(())
    })
}
