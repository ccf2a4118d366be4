//! The GPU path without a GPU: the same runner, decoder and kernels, the kernels compiled as C++ and run on the CPU
//! (`cargo test --features emulate --test gpu`). Built with `cuda` too, the same tests run on the first GPU of a machine
//! that has one.
#![expect(clippy::unwrap_used, reason = "everything here is a test, its small functions included")]

mod bench;
#[path = "../model/check.rs"]
#[expect(dead_code, reason = "the model tests use the rest of it")]
mod check;
mod company;
mod devices;
mod failure;
mod families;
#[path = "../model/golden.rs"]
#[expect(dead_code, reason = "the model tests use the rest of it")]
mod golden;
mod model;
