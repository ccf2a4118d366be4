//! What a device can do, behind one trait, and the handle that everything else holds.

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex};

use super::buffer::{Buffer, DeviceValue, HostBuffer};
use super::error::GpuError;

/// What a device says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    pub name: String,
    /// Compute capability, major and minor: 90 for a Hopper GPU.
    pub capability: u32,
    pub multiprocessors: u32,
    pub memory_bytes: usize,
    /// As the driver writes it: `13.0`.
    pub driver: String,
}

/// Size of a launch: blocks, threads of a block, bytes of shared memory of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Launch {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub shared_bytes: u32,
}

/// One argument of a kernel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Argument {
    Pointer(u64),
    U32(u32),
    F32(f32),
}

/// A product of bf16 matrices for the driver's own library: `out[rows, out_features] = x * weight^T` (+ `out`).
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(any(feature = "cuda", feature = "emulate")), expect(dead_code, reason = "devices read it"))]
pub(super) struct MatrixProduct {
    pub rows: usize,
    pub in_features: usize,
    pub out_features: usize,
    /// Values from one row of the weight to the next.
    pub weight_stride: usize,
    pub weight: u64,
    pub x: u64,
    pub out: u64,
    /// Whether the product is added to what `out` holds.
    pub is_added: bool,
}

/// One device and its one stream. Calls are asynchronous in order unless they say that they wait.
///
/// # Safety
/// Implementors return memory of the size asked for that stays until it is freed.
pub(super) unsafe trait Driver: Send + Sync {
    fn info(&self) -> &DeviceInfo;
    /// Bytes that are free now.
    fn memory_free(&self) -> Result<usize, GpuError>;
    fn allocate(&self, bytes: usize) -> Result<u64, GpuError>;
    /// # Safety
    /// `pointer` came from [`Driver::allocate`] and is not used by work submitted later.
    unsafe fn free(&self, pointer: u64);
    fn allocate_host(&self, bytes: usize) -> Result<NonNull<u8>, GpuError>;
    /// # Safety
    /// `pointer` came from [`Driver::allocate_host`] with as many bytes, and no copy of it is in flight.
    unsafe fn free_host(&self, pointer: NonNull<u8>, bytes: usize);
    /// # Safety
    /// Both ranges are allocated; the host range stays unchanged until the copy is done.
    unsafe fn copy_to_device(&self, to: u64, from: *const u8, bytes: usize) -> Result<(), GpuError>;
    /// # Safety
    /// Both ranges are allocated; nobody touches the host range until the copy is done.
    unsafe fn copy_to_host(&self, to: *mut u8, from: u64, bytes: usize) -> Result<(), GpuError>;
    /// # Safety
    /// Both ranges are allocated and do not overlap.
    unsafe fn copy_on_device(&self, to: u64, from: u64, bytes: usize) -> Result<(), GpuError>;
    /// # Safety
    /// The range is allocated.
    unsafe fn fill(&self, to: u64, byte: u8, bytes: usize) -> Result<(), GpuError>;
    /// # Safety
    /// The arguments are those of the kernel, and what it reads and writes through them is allocated.
    unsafe fn launch(&self, kernel: &'static str, launch: Launch, arguments: &[Argument]) -> Result<(), GpuError>;
    /// Whether [`Driver::multiply`] works.
    fn has_matrix_product(&self) -> bool;
    /// # Safety
    /// The pointers are matrices of the sizes said: bf16 weight and `x`, f32 `out`.
    unsafe fn multiply(&self, product: &MatrixProduct) -> Result<(), GpuError>;
    /// Marks this point of the stream.
    fn record(&self) -> Result<u64, GpuError>;
    /// Waits until the stream has passed an event.
    fn wait(&self, event: u64) -> Result<(), GpuError>;
    /// Milliseconds between two events that have passed; `None` on a device without a clock.
    fn elapsed_ms(&self, start: u64, end: u64) -> Result<Option<f32>, GpuError>;
    fn forget_event(&self, event: u64);
    /// Waits for everything.
    fn synchronise(&self) -> Result<(), GpuError>;
    /// From here on launches and device-side fills are recorded instead of run.
    fn begin_capture(&self) -> Result<(), GpuError>;
    fn end_capture(&self) -> Result<u64, GpuError>;
    /// # Safety
    /// All memory that the recorded launches use is still allocated.
    unsafe fn replay(&self, graph: u64) -> Result<(), GpuError>;
    fn forget_graph(&self, graph: u64);
}

/// A GPU: one device with one stream, shared by everything that lives on it.
#[derive(Clone)]
pub struct Gpu {
    pub(super) driver: Arc<dyn Driver>,
    graphs: Arc<LiveGraphs>,
}

/// Memory that is given back while recorded launches may still use it is freed when the last graph has gone.
#[derive(Default)]
struct LiveGraphs {
    state: Mutex<GraphState>,
}

#[derive(Default)]
struct GraphState {
    live: usize,
    waiting: Vec<u64>,
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Gpu").field(self.driver.info()).finish()
    }
}

impl Gpu {
    /// The architectures of NVIDIA GPUs that this build has kernels for, as nvcc names them: `sm_80`. Empty for a build
    /// without GPU support.
    #[must_use]
    pub fn built_for() -> &'static [&'static str] {
        #[cfg(feature = "cuda")]
        {
            super::cubins::ARCHITECTURES
        }
        #[cfg(not(feature = "cuda"))]
        {
            &[]
        }
    }

    /// The CUDA device with this number. Opens the driver at run time: nothing of CUDA is needed to start a program that
    /// never calls this.
    ///
    /// Errors say what is missing: the driver, the device, or kernels for its capability.
    pub fn cuda(ordinal: usize) -> Result<Self, GpuError> {
        #[cfg(feature = "cuda")]
        {
            Ok(Self::on(super::cuda::CudaDriver::open(ordinal)?))
        }
        #[cfg(not(feature = "cuda"))]
        {
            let _ = ordinal;
            Err(GpuError::NotBuilt)
        }
    }

    /// A device that runs the kernels on the CPU, for tests. `seed` decides the order of blocks and threads.
    #[cfg(feature = "emulate")]
    #[must_use]
    pub fn emulated(seed: u64) -> Self {
        Self::on(super::emulated::EmulatedDriver::new(seed, None))
    }

    /// An emulated device that breaks: for tests of what stands on it.
    #[cfg(feature = "emulate")]
    #[must_use]
    pub fn emulated_with_fault(seed: u64, fault: super::emulated::Fault) -> Self {
        Self::on(super::emulated::EmulatedDriver::new(seed, Some(fault)))
    }

    #[cfg(any(feature = "cuda", feature = "emulate"))]
    pub(super) fn on(driver: impl Driver + 'static) -> Self {
        Self { driver: Arc::new(driver), graphs: Arc::default() }
    }

    /// Frees memory, at once or when no graph is left that may use it.
    pub(super) fn release(&self, pointer: u64) {
        let mut graphs = self.graphs.state.lock().expect("no thread panics while it holds the graphs");
        if graphs.live > 0 {
            graphs.waiting.push(pointer);
        } else {
            // SAFETY: the pointer is a buffer's whose last handle has gone; work submitted before is waited for.
            unsafe { self.driver.free(pointer) };
        }
    }

    #[must_use]
    pub fn info(&self) -> &DeviceInfo {
        self.driver.info()
    }

    /// Bytes of device memory that are free now.
    pub fn memory_free(&self) -> Result<usize, GpuError> {
        self.driver.memory_free()
    }

    /// Whether large products of matrices are made by a library and not by kernels of our own.
    #[must_use]
    pub fn has_matrix_library(&self) -> bool {
        self.driver.has_matrix_product()
    }

    /// Device memory for `length` values, all bits zero.
    pub fn zeroed<T: DeviceValue>(&self, length: usize) -> Result<Buffer<T>, GpuError> {
        let mut buffer = self.uninitialised(length)?;
        self.fill_bytes(&mut buffer, 0)?;
        Ok(buffer)
    }

    /// Device memory whose values are whatever was there: every value is written before it is read.
    pub fn uninitialised<T: DeviceValue>(&self, length: usize) -> Result<Buffer<T>, GpuError> {
        Buffer::new(self.clone(), length)
    }

    /// Device memory with these values. Waits until they are there.
    pub fn upload<T: DeviceValue>(&self, values: &[T]) -> Result<Buffer<T>, GpuError> {
        let mut buffer = self.uninitialised(values.len())?;
        self.write(&mut buffer, 0, values)?;
        Ok(buffer)
    }

    /// Page-locked host memory for `length` values, zero.
    pub fn host_buffer<T: DeviceValue>(&self, length: usize) -> Result<HostBuffer<T>, GpuError> {
        HostBuffer::new(self.clone(), length)
    }

    /// Copies values to `buffer[start..]` and waits for it: for loading and tests, not for steps.
    pub fn write<T: DeviceValue>(&self, buffer: &mut Buffer<T>, start: usize, values: &[T]) -> Result<(), GpuError> {
        let to = buffer.range(start, values.len());
        // SAFETY: `range` checked that the device range lies in the buffer; the slice outlives the wait below.
        unsafe { self.driver.copy_to_device(to, values.as_ptr().cast(), size_of_val(values))? };
        self.driver.synchronise()
    }

    /// The values of `buffer[start..start + length]`. Waits for everything before: for tests and tools, not for steps.
    pub fn read<T: DeviceValue>(&self, buffer: &Buffer<T>, start: usize, length: usize) -> Result<Vec<T>, GpuError> {
        let from = buffer.range(start, length);
        let mut values = vec![T::default(); length];
        // SAFETY: `range` checked that the device range lies in the buffer; the vector lives until the wait below.
        unsafe { self.driver.copy_to_host(values.as_mut_ptr().cast(), from, size_of_val(values.as_slice()))? };
        self.driver.synchronise()?;
        Ok(values)
    }

    /// Starts copying the first `length` values of a host buffer to `to[start..]`. The host buffer waits for the copy
    /// before it is written again.
    pub fn send<T: DeviceValue>(
        &self,
        from: &mut HostBuffer<T>,
        to: &mut Buffer<T>,
        start: usize,
        length: usize,
    ) -> Result<(), GpuError> {
        let target = to.range(start, length);
        assert!(length <= from.len(), "{length} of {} values", from.len());
        // SAFETY: both ranges were checked; the host buffer is locked by the event until the copy is done.
        unsafe { self.driver.copy_to_device(target, from.start().cast(), length * size_of::<T>())? };
        from.lock(self.record()?);
        Ok(())
    }

    /// Starts copying `from[start..start + length]` into the host buffer, which waits for it before it is read.
    pub fn receive<T: DeviceValue>(
        &self,
        from: &Buffer<T>,
        start: usize,
        length: usize,
        to: &mut HostBuffer<T>,
    ) -> Result<(), GpuError> {
        let source = from.range(start, length);
        assert!(length <= to.len(), "{length} of {} values", to.len());
        // SAFETY: both ranges were checked; the host buffer is locked by the event until the copy is done.
        unsafe { self.driver.copy_to_host(to.start().cast(), source, length * size_of::<T>())? };
        to.lock(self.record()?);
        Ok(())
    }

    /// Copies on the device. Panics if the lengths differ.
    pub fn copy<T: DeviceValue>(&self, from: &Buffer<T>, to: &mut Buffer<T>) -> Result<(), GpuError> {
        assert_eq!(from.len(), to.len(), "a copy of a buffer has its length");
        // SAFETY: both are buffers of that length, and two buffers never overlap.
        unsafe { self.driver.copy_on_device(to.pointer(), from.pointer(), from.bytes()) }
    }

    /// Sets every byte of a buffer.
    pub fn fill_bytes<T: DeviceValue>(&self, buffer: &mut Buffer<T>, byte: u8) -> Result<(), GpuError> {
        // SAFETY: the range is the buffer's own.
        unsafe { self.driver.fill(buffer.pointer(), byte, buffer.bytes()) }
    }

    /// # Safety
    /// The arguments are those of the kernel, and what it reads and writes through them lies inside live buffers.
    pub(super) unsafe fn launch(
        &self,
        kernel: &'static str,
        launch: Launch,
        arguments: &[Argument],
    ) -> Result<(), GpuError> {
        // SAFETY: passed on to our caller.
        unsafe { self.driver.launch(kernel, launch, arguments) }
    }

    /// Marks this point of the stream.
    pub fn record(&self) -> Result<Event, GpuError> {
        Ok(Event { id: self.driver.record()?, gpu: self.clone() })
    }

    /// Waits for everything that was submitted.
    pub fn synchronise(&self) -> Result<(), GpuError> {
        self.driver.synchronise()
    }

    /// Records the launches that `submit` makes instead of running them. Nothing may be allocated, copied from or to the
    /// host, or waited for in it.
    pub fn capture(&self, submit: impl FnOnce() -> Result<(), GpuError>) -> Result<Graph, GpuError> {
        let memory = KeptMemory::new(self);
        self.driver.begin_capture()?;
        let submitted = submit();
        let ended = self.driver.end_capture();
        if let (Err(_), Ok(id)) = (&submitted, &ended) {
            self.driver.forget_graph(*id);
        }
        submitted?;
        Ok(Graph { id: ended?, memory })
    }
}

/// A point of the stream.
#[derive(Debug)]
pub struct Event {
    id: u64,
    gpu: Gpu,
}

impl Event {
    /// Waits until the stream has come past it.
    pub fn wait(&self) -> Result<(), GpuError> {
        self.gpu.driver.wait(self.id)
    }

    /// Milliseconds of the device from `earlier` to this event; waits for both. `None` on a device without a clock: an
    /// emulated one.
    pub fn elapsed_ms(&self, earlier: &Event) -> Result<Option<f32>, GpuError> {
        earlier.wait()?;
        self.wait()?;
        self.gpu.driver.elapsed_ms(earlier.id, self.id)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        self.gpu.driver.forget_event(self.id);
    }
}

/// Recorded launches, replayed as one.
#[derive(Debug)]
pub struct Graph {
    id: u64,
    memory: KeptMemory,
}

impl Graph {
    /// Runs the recorded launches, on the same memory.
    pub fn replay(&self) -> Result<(), GpuError> {
        // SAFETY: while a graph lives, no memory is freed (`Gpu::release`).
        unsafe { self.memory.gpu.driver.replay(self.id) }
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        self.memory.gpu.driver.forget_graph(self.id);
    }
}

/// While this lives, no memory is freed: from before the first launch is recorded until the graph has gone.
#[derive(Debug)]
struct KeptMemory {
    gpu: Gpu,
}

impl KeptMemory {
    fn new(gpu: &Gpu) -> Self {
        gpu.graphs.state.lock().expect("no thread panics while it holds the graphs").live += 1;
        Self { gpu: gpu.clone() }
    }
}

impl Drop for KeptMemory {
    fn drop(&mut self) {
        let mut graphs = self.gpu.graphs.state.lock().expect("no thread panics while it holds the graphs");
        graphs.live -= 1;
        if graphs.live == 0 {
            for pointer in graphs.waiting.drain(..) {
                // SAFETY: as in `Gpu::release`.
                unsafe { self.gpu.driver.free(pointer) };
            }
        }
    }
}

impl Argument {
    /// Bytes that a kernel declares for it.
    #[cfg(feature = "emulate")]
    pub(super) fn bytes(&self) -> u8 {
        match self {
            Self::Pointer(_) => 8,
            Self::U32(_) | Self::F32(_) => 4,
        }
    }

    /// Where a kernel finds the value.
    #[cfg_attr(not(any(feature = "cuda", feature = "emulate")), expect(dead_code, reason = "devices read it"))]
    pub(super) fn as_raw(&self) -> *mut c_void {
        match self {
            Self::Pointer(value) => std::ptr::from_ref(value).cast_mut().cast(),
            Self::U32(value) => std::ptr::from_ref(value).cast_mut().cast(),
            Self::F32(value) => std::ptr::from_ref(value).cast_mut().cast(),
        }
    }
}

#[cfg(test)]
#[cfg(feature = "emulate")]
mod tests;
