//! What the tests of operations share: the devices that they run on, and small conversions.

use std::sync::OnceLock;

use half::bf16;

use super::Gpu;

/// What computes. Bits are compared among devices of one kind only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Emulated,
    /// The first GPU, where this build and this machine have one.
    Cuda,
}

/// The kinds that there are here.
pub fn kinds() -> Vec<Kind> {
    let cuda = cuda().as_ref().map(|_| Kind::Cuda);
    [Kind::Emulated].into_iter().chain(cuda).collect()
}

impl Kind {
    /// A device with a stream of its own. `seed` decides the order of blocks and threads where we decide it.
    pub fn open(self, seed: u64) -> Gpu {
        match self {
            Self::Emulated => Gpu::emulated(seed),
            Self::Cuda => Gpu::cuda(0).unwrap(),
        }
    }
}

/// Two devices of each kind, which differ in the order of blocks and threads where we decide it.
pub fn pairs() -> Vec<[Gpu; 2]> {
    kinds().into_iter().map(|kind| [1, 2].map(|seed| kind.open(seed))).collect()
}

/// All of them.
pub fn gpus() -> impl Iterator<Item = Gpu> {
    pairs().into_iter().flatten()
}

/// One of each kind with each of `cases`.
pub fn each<T: Copy>(cases: &[T]) -> impl Iterator<Item = (Gpu, T)> {
    kinds().into_iter().flat_map(|kind| cases.iter().map(move |case| (kind.open(1), *case)))
}

/// Held until the process ends, so that its context is made once and not for every test.
fn cuda() -> &'static Option<Gpu> {
    static CUDA: OnceLock<Option<Gpu>> = OnceLock::new();
    CUDA.get_or_init(|| Gpu::cuda(0).ok())
}

pub fn floats(values: &[bf16]) -> Vec<f32> {
    values.iter().map(|value| value.to_f32()).collect()
}

pub fn bf16s(values: &[f32]) -> Vec<bf16> {
    values.iter().map(|value| bf16::from_f32(*value)).collect()
}

/// How far a bf16 may lie from what it should be, relative: a unit of its last place, for a sum that fell on the other
/// side of a rounding boundary.
pub const BF16_ULP: f32 = 1.0 / 128.0;
