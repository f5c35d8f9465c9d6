//! What every command gets besides its own arguments.

use crate::failure::Failure;
use crate::output::Output;
use crate::settings::PrivateKey;
use crate::settings::Settings;
use crate::settings::Target;

/// The global part of a command line.
#[derive(Debug)]
pub(crate) struct Invocation {
    pub(crate) output: Output,
    pub(crate) verbose: u8,
    pub(crate) overrides: Vec<(String, String)>,
    pub(crate) target: Target,
    pub(crate) private_key: PrivateKey,
}

impl Invocation {
    /// The client's settings for a command that has target flags of its own.
    pub(crate) fn settings(
        &self,
        target: Target,
        private_key: Option<PrivateKey>,
    ) -> Result<Settings, Failure> {
        let target = target.or(&self.target);
        let key = private_key
            .and_then(|inner| inner.key)
            .or_else(|| self.private_key.key.clone());
        Settings::resolve(&target, key.as_ref(), &self.overrides)
    }
}
