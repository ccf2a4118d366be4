//! Whether tests of this build reach the GPU of this machine: operations are tested on whatever device there is, and a
//! device that cannot be opened would be left out without a word.

use std::path::Path;

use super::{Gpu, GpuError};

/// The driver makes it for every machine and container that is given a GPU.
const CONTROL: &str = "/dev/nvidiactl";

#[test]
fn a_gpu_that_is_there_is_opened() {
    match Gpu::cuda(0) {
        Ok(gpu) => {
            let info = gpu.info();
            let products = if gpu.has_matrix_library() { "cuBLASLt" } else { "our own tiles" };
            println!("{info:?}, large products by {products}");
        }
        Err(error) => {
            assert!(!Path::new(CONTROL).exists(), "{CONTROL} is there, and the GPU cannot be opened: {error}");
            println!("no NVIDIA device");
        }
    }
}

#[test]
fn a_gpu_that_is_not_there_is_told() {
    let error = Gpu::cuda(9999).expect_err("nobody has as many");
    match Path::new(CONTROL).exists() {
        true => assert!(matches!(error, GpuError::NoDevice { ordinal: 9999, .. }), "{error}"),
        false => assert!(matches!(error, GpuError::NoDriver | GpuError::NoDevice { .. }), "{error}"),
    }
}
