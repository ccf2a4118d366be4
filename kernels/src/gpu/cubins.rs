//! The machine code of the kernels, embedded when the program is built.

/// One file of kernels, compiled for one compute capability.
pub(super) struct Cubin {
    /// Name of the `.cu` file without its ending.
    pub file: &'static str,
    /// Major and minor: 80, 89, or 90 for code that uses what only Hopper has.
    pub capability: u32,
    /// Names of its kernels.
    pub kernels: &'static [&'static str],
    pub image: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/cubins.rs"));
