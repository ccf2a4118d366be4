//! Memory on the device, and page-locked memory on the host.

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;

use half::{bf16, f16};

use super::driver::{Argument, Event, Gpu};
use super::error::GpuError;

/// Values that mean the same on host and device and may have any bits.
///
/// # Safety
/// Implementors are plain numbers or `repr(C)` structs of them without padding.
pub unsafe trait DeviceValue: Copy + Default + Send + Sync + 'static {}

macro_rules! device_values {
    ($($number:ty),*) => {
        // SAFETY: plain numbers.
        $(unsafe impl DeviceValue for $number {})*
    };
}
device_values!(u8, u16, u32, u64, i32, f32, f16, bf16);

/// Device memory for values of one type, freed with its last handle.
#[derive(Debug)]
pub struct Buffer<T> {
    allocation: Arc<Allocation>,
    pointer: u64,
    length: usize,
    values: PhantomData<T>,
}

#[derive(Debug)]
struct Allocation {
    gpu: Gpu,
    pointer: u64,
}

impl<T: DeviceValue> Buffer<T> {
    pub(super) fn new(gpu: Gpu, length: usize) -> Result<Self, GpuError> {
        let bytes = length.checked_mul(size_of::<T>()).and_then(|bytes| isize::try_from(bytes).ok());
        let bytes = bytes.ok_or(GpuError::OutOfMemory {
            bytes: usize::MAX,
            free_bytes: gpu.memory_free()?,
            total_bytes: gpu.info().memory_bytes,
        })?;
        // A buffer of nothing still has an address of its own.
        let pointer = gpu.driver.allocate((bytes as usize).max(16))?;
        Ok(Self { allocation: Arc::new(Allocation { gpu, pointer }), pointer, length, values: PhantomData })
    }

    /// A second handle on `self[start..start + length]`, so that several small inputs travel in one copy. Panics if that
    /// is not inside, or does not start at a multiple of 16 bytes.
    #[must_use]
    pub fn part(&self, start: usize, length: usize) -> Self {
        let pointer = self.range(start, length);
        assert!(pointer.is_multiple_of(16), "a part starts at a multiple of 16 bytes, not at value {start}");
        Self { allocation: Arc::clone(&self.allocation), pointer, length, values: PhantomData }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    #[must_use]
    pub fn bytes(&self) -> usize {
        self.length * size_of::<T>()
    }

    #[must_use]
    pub fn gpu(&self) -> &Gpu {
        &self.allocation.gpu
    }

    pub(super) fn pointer(&self) -> u64 {
        self.pointer
    }

    /// As an argument of a kernel.
    pub(super) fn argument(&self) -> Argument {
        Argument::Pointer(self.pointer)
    }

    /// Address of `self[start..start + length]`; panics if that is not inside.
    pub(super) fn range(&self, start: usize, length: usize) -> u64 {
        let end = start.checked_add(length).expect("a range inside memory");
        assert!(end <= self.length, "values {start}..{end} of a buffer of {}", self.length);
        self.pointer + (start * size_of::<T>()) as u64
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        self.gpu.release(self.pointer);
    }
}

/// Page-locked host memory that the device copies from and to. It waits for a copy in flight before it is touched.
#[derive(Debug)]
pub struct HostBuffer<T> {
    gpu: Gpu,
    start: NonNull<u8>,
    length: usize,
    /// The last copy from or to it.
    in_flight: Option<Event>,
    values: PhantomData<T>,
}

// SAFETY: the memory is owned by the buffer alone, like a `Vec`'s.
unsafe impl<T: DeviceValue> Send for HostBuffer<T> {}

impl<T: DeviceValue> HostBuffer<T> {
    pub(super) fn new(gpu: Gpu, length: usize) -> Result<Self, GpuError> {
        let bytes = length.checked_mul(size_of::<T>()).filter(|bytes| isize::try_from(*bytes).is_ok());
        let bytes = bytes.ok_or(GpuError::OutOfHostMemory { bytes: usize::MAX })?.max(16);
        let start = gpu.driver.allocate_host(bytes)?;
        // SAFETY: the memory has that many bytes and belongs to us.
        unsafe { start.as_ptr().write_bytes(0, bytes) };
        Ok(Self { gpu, start, length, in_flight: None, values: PhantomData })
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The values, once no copy is in flight.
    pub fn values(&mut self) -> Result<&[T], GpuError> {
        self.unlock()?;
        // SAFETY: initialised memory of that many values, aligned by the allocator, and no copy writes to it.
        Ok(unsafe { std::slice::from_raw_parts(self.start.as_ptr().cast(), self.length) })
    }

    /// The values for writing, once no copy is in flight.
    pub fn values_mut(&mut self) -> Result<&mut [T], GpuError> {
        self.unlock()?;
        // SAFETY: as above, and `&mut self` is the only way to it.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr().cast(), self.length) })
    }

    pub(super) fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    pub(super) fn lock(&mut self, copied: Event) {
        self.in_flight = Some(copied);
    }

    fn unlock(&mut self) -> Result<(), GpuError> {
        match self.in_flight.take() {
            Some(copied) => copied.wait(),
            None => Ok(()),
        }
    }
}

impl<T> Drop for HostBuffer<T> {
    fn drop(&mut self) {
        if let Some(copied) = self.in_flight.take() {
            // A device that has failed copies nothing any more.
            drop(copied.wait());
        }
        let bytes = (self.length * size_of::<T>()).max(16);
        // SAFETY: allocated with as many bytes, and no copy is in flight.
        unsafe { self.gpu.driver.free_host(self.start, bytes) };
    }
}
