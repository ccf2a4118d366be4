//! Answers of the CUDA driver as errors of ours.

use cudarc::driver::result::DriverError;

use super::error::GpuError;

/// Whoever frees or destroys can do nothing about an error: it tells of work that failed before, and whoever waits for
/// that work is told.
pub(super) fn ignore<E>(_answer: Result<(), E>) {}

pub(super) fn checked(call: &'static str, result: Result<(), DriverError>) -> Result<(), GpuError> {
    result.map_err(|error| failed(call, error))
}

pub(super) fn failed(call: &'static str, error: DriverError) -> GpuError {
    GpuError::Call { call, message: text(error) }
}

/// Name and meaning of a driver's error.
pub(super) fn text(error: DriverError) -> String {
    let name = error.error_name().map_or_else(|_| format!("{:?}", error.0), |name| name.to_string_lossy().into_owned());
    match error.error_string() {
        Ok(meaning) => format!("{name}: {}", meaning.to_string_lossy()),
        Err(_) => name,
    }
}
