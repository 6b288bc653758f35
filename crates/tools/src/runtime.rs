//! The runtime as one command uses it: the calling thread drives everything until the command has ended.

use crate::failure::Failure;

/// Runs a command's work to its end.
pub fn run<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    match rt::Runtime::new(rt::Config::default()) {
        Ok(runtime) => Ok(runtime.block_on(work)),
        Err(error) => Err(Failure::new(format_args!(
            "the runtime can't start: {error}; see 'ulimit -n' and 'ulimit -v'"
        ))),
    }
}
