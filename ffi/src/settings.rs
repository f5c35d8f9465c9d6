//! A set of options under construction, as C sees it: `section.key` and text.

use std::ffi::c_char;

use parking_lot::Mutex;
use quorate::ClientBuilder;

use crate::abi::quorate_config_t;
use crate::abi::quorate_status_t;
use crate::border;
use crate::border::cross;
use crate::contexts;
use crate::failure::Failure;
use crate::handle::CONFIGS;

/// Options that were checked one by one.
#[derive(Debug)]
pub(crate) struct Settings {
    builder: ClientBuilder,
    options: Vec<(String, String)>,
}

impl Settings {
    pub(crate) fn new() -> Self {
        Self {
            builder: quorate::Client::builder(),
            options: Vec::new(),
        }
    }

    pub(crate) fn set(&mut self, key: &str, value: &str) -> Result<(), Failure> {
        self.builder.try_set(key, value)?;
        self.options.push((key.to_owned(), value.to_owned()));
        Ok(())
    }

    /// Takes a context, then the environment.
    pub(crate) fn load(&mut self, context: Option<&str>) -> Result<(), Failure> {
        for (key, value) in contexts::options(context)? {
            self.set(&key, &value)?;
        }
        for (variable, value) in std::env::vars_os() {
            let (Some(variable), Some(value)) = (variable.to_str(), value.to_str()) else {
                continue;
            };
            if let Some(key) = quorate::option_of_variable(variable) {
                self.set(&key, value)
                    .map_err(|failure| failure.at(variable))?;
            }
        }
        Ok(())
    }

    /// What connects a client with these options.
    pub(crate) fn connector(&self) -> ClientBuilder {
        self.builder.clone()
    }

    /// The options of one section.
    pub(crate) fn section(&self, section: &str) -> Vec<(String, String)> {
        let options = self.options.iter();
        let of_section = options.filter(|(key, _)| {
            key.split_once('.')
                .is_some_and(|(named, _)| named == section)
        });
        of_section.cloned().collect()
    }
}

/// The options of a section that C gives for one call; NULL gives none.
pub(crate) fn given(
    config: *const quorate_config_t,
    section: &str,
) -> Result<Vec<(String, String)>, Failure> {
    if config.is_null() {
        return Ok(Vec::new());
    }
    Ok(CONFIGS.get(config)?.lock().section(section))
}

/// A new, empty set of options, to be freed with `quorate_config_free`. NULL only if 65,536 of them
/// are in use or in a forked child. Does not block; may be called from any thread.
#[unsafe(no_mangle)]
pub extern "C" fn quorate_config_new() -> *mut quorate_config_t {
    cross(|| CONFIGS.insert(Mutex::new(Settings::new()))).unwrap_or(std::ptr::null_mut())
}

/// Frees a set of options; clients, producers and consumers made with it keep what they took. NULL
/// is fine; a handle that was freed is left alone. Does not block; may be called from any thread.
#[unsafe(no_mangle)]
pub extern "C" fn quorate_config_free(config: *mut quorate_config_t) {
    if !config.is_null() {
        // There is no way to tell, and nothing to do about it.
        let _freed = cross(|| CONFIGS.remove(config)).is_ok();
    }
}

/// Sets an option, such as "client.servers" to "a:4747,b:4747" or "producer.linger_us" to "500";
/// the last value counts. Keys and values are the same as in contexts, in the environment
/// (`QUORATE_CLIENT__SERVERS`) and in the Rust client. Both texts are copied. Does not block; may
/// be called from any thread.
///
/// Errors: `QUORATE_E_INVALID_ARGUMENT` names an unknown key or a bad value, and nothing is set.
///
/// # Safety
/// `key` and `value` are NULL or NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quorate_config_set(
    config: *mut quorate_config_t,
    key: *const c_char,
    value: *const c_char,
) -> quorate_status_t {
    border::status(|| {
        let settings = CONFIGS.get(config)?;
        // SAFETY: as the caller promises.
        let key = unsafe { border::text(key, "key") }?;
        // SAFETY: as the caller promises.
        let value = unsafe { border::text(value, "value") }?;
        settings.lock().set(key, value)
    })
}

/// Takes the options of a context of the `quorate` command, then those of the environment
/// (`QUORATE_SECTION__KEY`). `context` NULL: the one that `QUORATE_CONTEXT` names, or the current
/// one, or none. Reads a file; may be called from any thread.
///
/// Errors: `QUORATE_E_INVALID_ARGUMENT`: no such context, or an option of it or of the environment
/// is wrong; those before it are set.
///
/// # Safety
/// `context` is NULL or NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn quorate_config_load(
    config: *mut quorate_config_t,
    context: *const c_char,
) -> quorate_status_t {
    border::status(|| {
        let settings = CONFIGS.get(config)?;
        let context = match context.is_null() {
            true => None,
            // SAFETY: as the caller promises.
            false => Some(unsafe { border::text(context, "context") }?),
        };
        settings.lock().load(context)
    })
}
