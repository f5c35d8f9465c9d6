//! The executor of commands: one thread.

use tokio::runtime::Builder;

use crate::failure::Exit;
use crate::failure::Failure;

/// Runs a command to its end; what it left behind, such as a read of the terminal, is abandoned.
pub(crate) fn run(command: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::system("cannot start the executor", &error))?;
    let result = runtime.block_on(command);
    runtime.shutdown_background();
    result
}
