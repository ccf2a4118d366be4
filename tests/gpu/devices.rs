//! The devices that tests run on: emulated ones, and the first CUDA device where this build and this machine have one.
//! Bits are compared among devices of one kind only.

use std::sync::OnceLock;

use kernels::gpu::Gpu;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Emulated,
    Cuda,
}

pub fn kinds() -> Vec<Kind> {
    let cuda = cuda().as_ref().map(|_| Kind::Cuda);
    [Kind::Emulated].into_iter().chain(cuda).collect()
}

impl Kind {
    /// A stream of its own; on an emulated device `seed` decides the order of blocks and threads.
    pub fn open(self, seed: u64) -> Gpu {
        match self {
            Self::Emulated => Gpu::emulated(seed),
            Self::Cuda => Gpu::cuda(0).unwrap(),
        }
    }
}

/// Held until the process ends, so that the context is made once and not for every test.
fn cuda() -> &'static Option<Gpu> {
    static CUDA: OnceLock<Option<Gpu>> = OnceLock::new();
    CUDA.get_or_init(|| Gpu::cuda(0).ok())
}
