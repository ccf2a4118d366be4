//! A real device: the CUDA driver, opened at run time, and cuBLASLt where it is installed.
//!
//! One context (the device's primary one), one stream of our own, memory by `cuMemAlloc` once at load. cudarc gives the
//! declarations and loads the libraries; nothing of CUDA is linked, so that a program with this in it starts on every
//! machine. Source: the CUDA driver API reference and the cuBLAS documentation.

use std::alloc::{Layout, alloc, dealloc};
use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cudarc::driver::result::{self, DriverError};
use cudarc::driver::sys;

use super::cubins::Cubin;
use super::cuda_blas::Blas;
use super::cuda_device::{cubins_for, describe, dotted, driver_version};
use super::cuda_error::{checked, failed, ignore, text};
use super::driver::{Argument, DeviceInfo, Driver, Gpu, Launch, MatrixProduct};
use super::error::GpuError;

/// How long a step may take before the device counts as hung: nothing can interrupt a call into the driver.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Page-locked memory begins and ends with a page.
const PAGE_BYTES: usize = 4096;

/// A wait looks without pause for so long, then now and then: a step of a small model ends within it.
const SPIN: Duration = Duration::from_micros(200);
const PAUSE: Duration = Duration::from_micros(20);

/// Counts how often a context that had failed was thrown away. The context of a device belongs to the whole process, so
/// what lived in it is gone for all who used it, and their addresses may mean other memory by now.
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// Held while a device is opened: whether its context has to be thrown away is one thread's to decide.
static OPENING: Mutex<()> = Mutex::new(());

/// Numbers of drivers, from 1. Addresses of contexts would not do to tell them apart: a new one may lie where an old one
/// was.
static OPENED: AtomicU64 = AtomicU64::new(0);

/// The CUDA version whose driver the cubins need: 13.0.
const DRIVER_NEEDED: i32 = 13_000;

pub(super) struct CudaDriver {
    info: DeviceInfo,
    device: sys::CUdevice,
    context: sys::CUcontext,
    stream: sys::CUstream,
    modules: Vec<sys::CUmodule>,
    functions: HashMap<&'static str, sys::CUfunction>,
    number: u64,
    generation: u64,
    /// Set by a failure after which the context answers nothing any more.
    is_broken: AtomicBool,
    /// How long a wait may take before the device counts as hung.
    wait_max: Duration,
    /// Events that nobody holds any more.
    events: Mutex<Vec<u64>>,
    blas: Option<Blas>,
}

// SAFETY: handles of the driver may be used from any thread once the context is current there (`bind`); what is ours is
// behind a mutex.
unsafe impl Send for CudaDriver {}
// SAFETY: as above; the driver's calls are thread-safe.
unsafe impl Sync for CudaDriver {}

thread_local! {
    /// The driver whose context this thread made current last.
    static CURRENT: Cell<u64> = const { Cell::new(0) };
}

impl Gpu {
    /// As [`Gpu::cuda`], with a limit of its own to how long a wait may take before the device counts as hung.
    pub fn cuda_waiting(ordinal: usize, wait_max: Duration) -> Result<Self, GpuError> {
        let mut driver = CudaDriver::open(ordinal)?;
        driver.wait_max = wait_max;
        Ok(Self::on(driver))
    }
}

impl CudaDriver {
    /// Opens a device and loads every kernel, so that a missing one is an error here and not in a step.
    pub fn open(ordinal: usize) -> Result<Self, GpuError> {
        // SAFETY: opens and closes the library; its initialisers are NVIDIA's.
        if !unsafe { sys::is_culib_present() } {
            return Err(GpuError::NoDriver);
        }
        let _opening = OPENING.lock().expect("no thread panics while it opens a device");
        let version = driver_version()?;
        if version < DRIVER_NEEDED {
            return Err(GpuError::OldDriver { found: dotted(version), needed: dotted(DRIVER_NEEDED) });
        }
        result::init().map_err(|error| match error.0 {
            // What a driver says that sees no device at all.
            sys::CUresult::CUDA_ERROR_NO_DEVICE => GpuError::NoDevice { ordinal, count: 0 },
            _ => failed("cuInit", error),
        })?;
        let count = result::device::get_count().map_err(|error| failed("cuDeviceGetCount", error))?;
        let count = usize::try_from(count).unwrap_or(0);
        if ordinal >= count {
            return Err(GpuError::NoDevice { ordinal, count });
        }
        let device = result::device::get(ordinal as i32).map_err(|error| failed("cuDeviceGet", error))?;
        let info = describe(device, version)?;
        let cubins = cubins_for(&info)?;
        let context = healthy_context(device)?;
        let mut driver = Self {
            info,
            device,
            context,
            stream: std::ptr::null_mut(),
            modules: Vec::new(),
            functions: HashMap::new(),
            number: OPENED.fetch_add(1, Ordering::Relaxed) + 1,
            generation: GENERATION.load(Ordering::Acquire),
            is_broken: AtomicBool::new(false),
            wait_max: WAIT_MAX,
            events: Mutex::new(Vec::new()),
            blas: None,
        };
        driver.bind()?;
        driver.stream = result::stream::create(result::stream::StreamKind::NonBlocking)
            .map_err(|error| failed("cuStreamCreate", error))?;
        for cubin in cubins {
            driver.load(cubin)?;
        }
        driver.blas = Blas::open(&driver)?;
        Ok(driver)
    }

    /// Makes the context current on this thread. Errors once the device has failed.
    fn bind(&self) -> Result<(), GpuError> {
        if self.is_broken.load(Ordering::Acquire) || self.generation != GENERATION.load(Ordering::Acquire) {
            let message = "the device has failed before, and what was on it is lost".to_owned();
            return Err(GpuError::Call { call: "cuCtxSetCurrent", message });
        }
        CURRENT.with(|current| {
            if current.get() != self.number {
                // SAFETY: the context is retained as long as `self` lives.
                unsafe { result::ctx::set_current(self.context) }.map_err(|error| failed("cuCtxSetCurrent", error))?;
                current.set(self.number);
            }
            Ok(())
        })
    }

    /// Notes failures of work on the device: the driver answers every later call with them.
    fn noted(&self, call: &'static str, result: Result<(), DriverError>) -> Result<(), GpuError> {
        result.map_err(|error| {
            self.note(error);
            failed(call, error)
        })
    }

    fn note(&self, error: DriverError) {
        use sys::CUresult as Code;
        // A recording that was spoilt ends with it; the device goes on.
        let of_recording = [Code::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, Code::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED];
        if !of_recording.contains(&error.0) {
            self.is_broken.store(true, Ordering::Release);
        }
    }

    fn load(&mut self, cubin: &'static Cubin) -> Result<(), GpuError> {
        // SAFETY: the image is a cubin that nvcc wrote, in memory that lives as long as the program.
        let module = unsafe { result::module::load_data(cubin.image.as_ptr().cast()) }
            .map_err(|error| failed("cuModuleLoadData", error))?;
        self.modules.push(module);
        for &name in cubin.kernels {
            let symbol = std::ffi::CString::new(name).expect("kernel names have no zero byte");
            // SAFETY: the module was loaded above.
            let function = unsafe { result::module::get_function(module, symbol) }
                .map_err(|error| failed("cuModuleGetFunction", error))?;
            self.allow_shared_memory(function)?;
            self.functions.insert(name, function);
        }
        Ok(())
    }

    /// A block may use all the shared memory the device offers, not only the first 48 KiB.
    fn allow_shared_memory(&self, function: sys::CUfunction) -> Result<(), GpuError> {
        let attribute = sys::CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
        // SAFETY: the device exists.
        let bytes = unsafe { result::device::get_attribute(self.device, attribute) }
            .map_err(|error| failed("cuDeviceGetAttribute", error))?;
        let attribute = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        // SAFETY: the function belongs to a loaded module.
        unsafe { result::function::set_function_attribute(function, attribute, bytes) }
            .map_err(|error| failed("cuFuncSetAttribute", error))
    }
}

// SAFETY: `cuMemAlloc` returns device memory of the size asked for, which stays until `cuMemFree`.
unsafe impl Driver for CudaDriver {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn memory_free(&self) -> Result<usize, GpuError> {
        self.bind()?;
        let (free, _) = result::mem_get_info().map_err(|error| failed("cuMemGetInfo", error))?;
        Ok(free)
    }

    fn allocate(&self, bytes: usize) -> Result<u64, GpuError> {
        self.bind()?;
        // SAFETY: the memory is uninitialised, which `Buffer` says.
        unsafe { result::malloc_sync(bytes) }.map_err(|error| match error.0 {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => GpuError::OutOfMemory {
                bytes,
                free_bytes: self.memory_free().unwrap_or(0),
                total_bytes: self.info.memory_bytes,
            },
            _ => failed("cuMemAlloc", error),
        })
    }

    unsafe fn free(&self, pointer: u64) {
        // A device that has failed has nothing left to free; its memory goes with the context.
        if self.bind().is_ok() {
            // SAFETY: allocated by us in this context; `cuMemFree` waits for work that uses it.
            ignore(unsafe { result::free_sync(pointer) });
        }
    }

    /// Memory of our own that the driver locks: memory of the driver's would go with a context that is thrown away, under
    /// whoever reads it.
    fn allocate_host(&self, bytes: usize) -> Result<NonNull<u8>, GpuError> {
        self.bind()?;
        let layout = pages(bytes);
        // SAFETY: the layout has a size above zero; the memory is written before it is read (`HostBuffer::new`).
        let start = NonNull::new(unsafe { alloc(layout) }).ok_or(GpuError::OutOfHostMemory { bytes })?;
        // SAFETY: the range was just allocated.
        let locked = unsafe { sys::cuMemHostRegister_v2(start.as_ptr().cast(), layout.size(), 0).result() };
        locked.map(|()| start).map_err(|error| {
            // SAFETY: allocated above with this layout, and nobody's yet.
            unsafe { dealloc(start.as_ptr(), layout) };
            match error.0 {
                sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => GpuError::OutOfHostMemory { bytes },
                _ => failed("cuMemHostRegister", error),
            }
        })
    }

    unsafe fn free_host(&self, pointer: NonNull<u8>, bytes: usize) {
        // SAFETY: locked by us in this context, and no copy is in flight.
        let unlock = || unsafe { sys::cuMemHostUnregister(pointer.as_ptr().cast()).result() };
        let is_unlocked = self.bind().is_ok() && unlock().is_ok();
        // A context that has failed may still hold the memory, which is then left to it; one that was thrown away not.
        if is_unlocked || self.generation != GENERATION.load(Ordering::Acquire) {
            // SAFETY: allocated by us with this layout.
            unsafe { dealloc(pointer.as_ptr(), pages(bytes)) };
        }
    }

    unsafe fn copy_to_device(&self, to: u64, from: *const u8, bytes: usize) -> Result<(), GpuError> {
        self.bind()?;
        // SAFETY: the caller holds both ranges until the copy is done.
        self.noted("cuMemcpyHtoDAsync", unsafe {
            sys::cuMemcpyHtoDAsync_v2(to, from.cast::<c_void>(), bytes, self.stream).result()
        })
    }

    unsafe fn copy_to_host(&self, to: *mut u8, from: u64, bytes: usize) -> Result<(), GpuError> {
        self.bind()?;
        // SAFETY: the caller holds both ranges until the copy is done.
        self.noted("cuMemcpyDtoHAsync", unsafe {
            sys::cuMemcpyDtoHAsync_v2(to.cast::<c_void>(), from, bytes, self.stream).result()
        })
    }

    unsafe fn copy_on_device(&self, to: u64, from: u64, bytes: usize) -> Result<(), GpuError> {
        self.bind()?;
        // SAFETY: the caller says that both ranges are allocated.
        self.noted("cuMemcpyDtoDAsync", unsafe { result::memcpy_dtod_async(to, from, bytes, self.stream) })
    }

    unsafe fn fill(&self, to: u64, byte: u8, bytes: usize) -> Result<(), GpuError> {
        if bytes == 0 {
            return Ok(());
        }
        self.bind()?;
        // SAFETY: the caller says that the range is allocated.
        self.noted("cuMemsetD8Async", unsafe { result::memset_d8_async(to, byte, bytes, self.stream) })
    }

    unsafe fn launch(&self, kernel: &'static str, launch: Launch, arguments: &[Argument]) -> Result<(), GpuError> {
        self.bind()?;
        let function = *self.functions.get(kernel).ok_or(GpuError::UnknownKernel { name: kernel })?;
        // Kernels have at most this many arguments; no allocation per launch.
        let mut raw = [std::ptr::null_mut::<c_void>(); 32];
        assert!(arguments.len() <= raw.len(), "{} arguments of `{kernel}`", arguments.len());
        for (raw, argument) in raw.iter_mut().zip(arguments) {
            *raw = argument.as_raw();
        }
        let [grid_x, grid_y, grid_z] = launch.grid;
        let [block_x, block_y, block_z] = launch.block;
        // SAFETY: the function is loaded; the caller says that the arguments are its own.
        let launched = unsafe {
            result::launch_kernel(
                function,
                (grid_x, grid_y, grid_z),
                (block_x, block_y, block_z),
                launch.shared_bytes,
                self.stream,
                &mut raw[..arguments.len()],
            )
        };
        launched.map_err(|error| {
            self.note(error);
            GpuError::Kernel { name: kernel, message: text(error) }
        })
    }

    fn has_matrix_product(&self) -> bool {
        self.blas.is_some()
    }

    unsafe fn multiply(&self, product: &MatrixProduct) -> Result<(), GpuError> {
        self.bind()?;
        let blas = self.blas.as_ref().expect("asked for before");
        // SAFETY: the caller says that the matrices have these sizes.
        unsafe { blas.multiply(product, self.stream) }
    }

    fn record(&self) -> Result<u64, GpuError> {
        self.bind()?;
        let spare = self.events.lock().expect("no thread panics while it holds the events").pop();
        let event = match spare {
            Some(event) => event as sys::CUevent,
            None => result::event::create(sys::CUevent_flags::CU_EVENT_DEFAULT)
                .map_err(|error| failed("cuEventCreate", error))?,
        };
        // SAFETY: event and stream are live.
        self.noted("cuEventRecord", unsafe { result::event::record(event, self.stream) })?;
        Ok(event as u64)
    }

    fn wait(&self, event: u64) -> Result<(), GpuError> {
        self.bind()?;
        let started = Instant::now();
        loop {
            // SAFETY: the event is live: `Event` holds it.
            match unsafe { result::event::query(event as sys::CUevent) } {
                Err(error) if error.0 == sys::CUresult::CUDA_ERROR_NOT_READY => {}
                passed => return self.noted("cuEventQuery", passed),
            }
            let waited = started.elapsed();
            if waited > self.wait_max {
                self.is_broken.store(true, Ordering::Release);
                let message = format!("the device has not come to an end within {} s", self.wait_max.as_secs_f64());
                return Err(GpuError::Call { call: "cuEventQuery", message });
            }
            if waited > SPIN {
                std::thread::sleep(PAUSE);
            } else {
                std::hint::spin_loop();
            }
        }
    }

    fn elapsed_ms(&self, start: u64, end: u64) -> Result<Option<f32>, GpuError> {
        self.bind()?;
        // SAFETY: both events are live and have passed.
        unsafe { result::event::elapsed(start as sys::CUevent, end as sys::CUevent) }
            .map(Some)
            .map_err(|error| failed("cuEventElapsedTime", error))
    }

    fn forget_event(&self, event: u64) {
        self.events.lock().expect("no thread panics while it holds the events").push(event);
    }

    fn synchronise(&self) -> Result<(), GpuError> {
        self.bind()?;
        // SAFETY: the stream is live.
        self.noted("cuStreamSynchronize", unsafe { result::stream::synchronize(self.stream) })
    }

    fn begin_capture(&self) -> Result<(), GpuError> {
        self.bind()?;
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is live.
        checked("cuStreamBeginCapture", unsafe { result::stream::begin_capture(self.stream, mode) })
    }

    fn end_capture(&self) -> Result<u64, GpuError> {
        self.bind()?;
        // SAFETY: the stream is live and was capturing.
        let graph =
            unsafe { result::stream::end_capture(self.stream) }.map_err(|error| failed("cuStreamEndCapture", error))?;
        // SAFETY: the graph was just made; what is launched is its instance, so that the graph may go.
        let instance = unsafe {
            let instance = result::graph::instantiate(graph, sys::CUgraphInstantiate_flags_enum(0));
            ignore(result::graph::destroy(graph));
            instance.map_err(|error| failed("cuGraphInstantiate", error))?
        };
        // SAFETY: instance and stream are live.
        checked("cuGraphUpload", unsafe { result::graph::upload(instance, self.stream) })?;
        Ok(instance as u64)
    }

    unsafe fn replay(&self, graph: u64) -> Result<(), GpuError> {
        self.bind()?;
        // SAFETY: the instance is live: `Graph` holds it; the caller holds its memory.
        self.noted("cuGraphLaunch", unsafe { result::graph::launch(graph as sys::CUgraphExec, self.stream) })
    }

    fn forget_graph(&self, graph: u64) {
        if self.bind().is_ok() {
            // SAFETY: the instance is live and forgotten once.
            ignore(unsafe { result::graph::exec_destroy(graph as sys::CUgraphExec) });
        }
    }
}

impl Drop for CudaDriver {
    fn drop(&mut self) {
        let is_bound = self.bind().is_ok();
        let blas = self.blas.take();
        if is_bound {
            if !self.stream.is_null() {
                // SAFETY: the stream is live. What goes below may be in use until it has come to its end.
                ignore(unsafe { result::stream::synchronize(self.stream) });
            }
            drop(blas);
            for event in self.events.get_mut().expect("no thread panics while it holds the events").drain(..) {
                // SAFETY: made by us and destroyed once.
                ignore(unsafe { result::event::destroy(event as sys::CUevent) });
            }
            for module in self.modules.drain(..) {
                // SAFETY: loaded by us and unloaded once.
                ignore(unsafe { result::module::unload(module) });
            }
            if !self.stream.is_null() {
                // SAFETY: made by us and destroyed once.
                ignore(unsafe { result::stream::destroy(self.stream) });
            }
        } else {
            // What they point at is gone with the context.
            std::mem::forget(blas);
        }
        // SAFETY: retained once in `open`. Throwing a context away leaves the device retained as often as before.
        ignore(unsafe { result::primary_ctx::release(self.device) });
    }
}

/// The device's context; one that has failed is thrown away first, whoever used it.
fn healthy_context(device: sys::CUdevice) -> Result<sys::CUcontext, GpuError> {
    let retain = || {
        // SAFETY: the device exists; the context is released in `drop`.
        let context = unsafe { result::primary_ctx::retain(device) }
            .map_err(|error| failed("cuDevicePrimaryCtxRetain", error))?;
        probe(context).map(|()| context).inspect_err(|_| {
            // SAFETY: retained above.
            ignore(unsafe { result::primary_ctx::release(device) });
        })
    };
    retain().or_else(|_| {
        GENERATION.fetch_add(1, Ordering::AcqRel);
        // SAFETY: everything that lived in the context belongs to an older generation and is not used any more.
        checked("cuDevicePrimaryCtxReset", unsafe { sys::cuDevicePrimaryCtxReset_v2(device).result() })?;
        retain()
    })
}

/// Errors if work in the context has failed before. Waits on a stream made for it, not on the context: elsewhere in the
/// process a graph may be in the middle of its recording, which waiting for everything would spoil.
fn probe(context: sys::CUcontext) -> Result<(), GpuError> {
    // No driver has this context yet: whichever comes next binds its own.
    CURRENT.with(|current| current.set(0));
    // SAFETY: the context was just retained.
    unsafe { result::ctx::set_current(context) }.map_err(|error| failed("cuCtxSetCurrent", error))?;
    let stream = result::stream::create(result::stream::StreamKind::NonBlocking)
        .map_err(|error| failed("cuStreamCreate", error))?;
    // SAFETY: the stream was just made, and is destroyed once.
    let works = unsafe { result::stream::synchronize(stream) };
    // SAFETY: as above.
    ignore(unsafe { result::stream::destroy(stream) });
    checked("cuStreamSynchronize", works)
}

/// Whole pages for so many bytes of page-locked memory.
fn pages(bytes: usize) -> Layout {
    let bytes = bytes.max(1).next_multiple_of(PAGE_BYTES);
    Layout::from_size_align(bytes, PAGE_BYTES).expect("a size that fits the address space")
}
