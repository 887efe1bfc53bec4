//! parse → run → exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    match netdiag::cli::parse(std::env::args_os()) {
        Ok(config) => netdiag::app::run(config),
        Err(error) => {
            error.report();
            ExitCode::from(error.exit_code())
        }
    }
}
