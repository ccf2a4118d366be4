//! A device for tests: its memory is the host's, its kernels are the same files compiled as C++ (`kernels/emulate`).
//!
//! It is late on purpose. Work is kept in a queue and runs only when somebody waits, so that a host that reads or
//! overwrites memory without waiting is found out. Memory has guard zones that are looked at after every kernel and
//! holds NaN patterns until it is written.

use std::alloc::{Layout, alloc, dealloc};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ffi::{CStr, CString, c_char, c_void};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard};

use half::bf16;

use super::driver::{Argument, DeviceInfo, Driver, Gpu, Launch, MatrixProduct};
use super::error::GpuError;

/// Bytes before and behind each allocation that nobody may write.
const GUARD_BYTES: usize = 256;
const GUARD_BYTE: u8 = 0xa5;
const POISON_BYTE: u8 = 0xff;
const ALIGNMENT: usize = 256;

unsafe extern "C" {
    fn sconce_emulate_launch(
        name: *const c_char,
        grid: *const u32,
        block: *const u32,
        shared_bytes: u32,
        arguments: *mut *mut c_void,
        seed: u64,
        message: *mut c_char,
        message_bytes: usize,
    ) -> i32;
    fn sconce_emulate_parameters(name: *const c_char, bytes: *mut u8, capacity: usize) -> usize;
}

/// More than any kernel has.
const PARAMETERS_MAX: usize = 64;

/// When an emulated device breaks, and how much memory it has: what a test of failures needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Launches (or replays of graphs) that still work; the next one fails, and everything after it.
    pub launches_before: Option<u64>,
    /// Memory of the device.
    pub memory_bytes: Option<usize>,
}

impl Gpu {
    /// An emulated device with a library of matrix products (plain loops on the host): for tests of what stands on it.
    #[must_use]
    pub fn emulated_with_products(seed: u64) -> Self {
        let mut driver = EmulatedDriver::new(seed, None);
        driver.has_products = true;
        let mut gpu = Self::emulated(seed);
        gpu.driver = Arc::new(driver);
        gpu
    }
}

pub(super) struct EmulatedDriver {
    info: DeviceInfo,
    seed: u64,
    has_products: bool,
    state: Mutex<State>,
}

struct State {
    fault: Option<Fault>,
    launches: u64,
    /// Set by the first failure: a broken context stays broken, as on a real device.
    broken: Option<GpuError>,
    /// Address of the first byte to use, and how many there are.
    allocations: BTreeMap<u64, usize>,
    allocated_bytes: usize,
    queue: VecDeque<Work>,
    next_id: u64,
    /// Work that has run, for events.
    passed_event: u64,
    capture: Option<Vec<Work>>,
    graphs: HashMap<u64, Vec<Work>>,
}

#[derive(Clone)]
enum Work {
    Launch { kernel: &'static str, launch: Launch, arguments: Vec<Argument> },
    Multiply(MatrixProduct),
    Copy { to: u64, from: u64, bytes: usize },
    Fill { to: u64, byte: u8, bytes: usize },
    Event { id: u64 },
}

// SAFETY: `allocate` returns memory of the global allocator, which stays until `free`.
unsafe impl Driver for EmulatedDriver {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn memory_free(&self) -> Result<usize, GpuError> {
        Ok(self.info.memory_bytes.saturating_sub(self.state().allocated_bytes))
    }

    fn allocate(&self, bytes: usize) -> Result<u64, GpuError> {
        let mut state = self.state();
        state.check()?;
        assert!(state.capture.is_none(), "memory is not allocated while a graph is recorded");
        let free_bytes = self.info.memory_bytes.saturating_sub(state.allocated_bytes);
        if bytes > free_bytes {
            return Err(GpuError::OutOfMemory { bytes, free_bytes, total_bytes: self.info.memory_bytes });
        }
        // SAFETY: the layout has a size above zero.
        let start = unsafe { alloc(guarded(bytes)) };
        assert!(!start.is_null(), "the host has memory for an emulated device");
        // SAFETY: the three ranges lie one after the other in the allocation.
        unsafe {
            start.write_bytes(GUARD_BYTE, GUARD_BYTES);
            start.add(GUARD_BYTES).write_bytes(POISON_BYTE, bytes);
            start.add(GUARD_BYTES + bytes).write_bytes(GUARD_BYTE, GUARD_BYTES);
        }
        let pointer = start as u64 + GUARD_BYTES as u64;
        state.allocations.insert(pointer, bytes);
        state.allocated_bytes += bytes;
        Ok(pointer)
    }

    unsafe fn free(&self, pointer: u64) {
        let mut state = self.state();
        // A failure is kept for the next call that can tell of it.
        drop(state.run_all(self.seed));
        let bytes = state.allocations.remove(&pointer).expect("memory is freed once");
        state.allocated_bytes -= bytes;
        let start = (pointer - GUARD_BYTES as u64) as *mut u8;
        // SAFETY: allocated by us with this layout.
        unsafe { dealloc(start, guarded(bytes)) };
    }

    fn allocate_host(&self, bytes: usize) -> Result<NonNull<u8>, GpuError> {
        // SAFETY: the layout has a size above zero.
        NonNull::new(unsafe { alloc(host(bytes)) }).ok_or(GpuError::OutOfHostMemory { bytes })
    }

    unsafe fn free_host(&self, pointer: NonNull<u8>, bytes: usize) {
        // SAFETY: allocated by us with this layout.
        unsafe { dealloc(pointer.as_ptr(), host(bytes)) };
    }

    unsafe fn copy_to_device(&self, to: u64, from: *const u8, bytes: usize) -> Result<(), GpuError> {
        self.submit(Work::Copy { to, from: from as u64, bytes })
    }

    unsafe fn copy_to_host(&self, to: *mut u8, from: u64, bytes: usize) -> Result<(), GpuError> {
        self.submit(Work::Copy { to: to as u64, from, bytes })
    }

    unsafe fn copy_on_device(&self, to: u64, from: u64, bytes: usize) -> Result<(), GpuError> {
        self.submit(Work::Copy { to, from, bytes })
    }

    unsafe fn fill(&self, to: u64, byte: u8, bytes: usize) -> Result<(), GpuError> {
        self.submit(Work::Fill { to, byte, bytes })
    }

    unsafe fn launch(&self, kernel: &'static str, launch: Launch, arguments: &[Argument]) -> Result<(), GpuError> {
        self.submit(Work::Launch { kernel, launch, arguments: arguments.to_vec() })
    }

    fn has_matrix_product(&self) -> bool {
        self.has_products
    }

    unsafe fn multiply(&self, product: &MatrixProduct) -> Result<(), GpuError> {
        assert!(self.has_products, "this emulated device has no library of products");
        self.submit(Work::Multiply(*product))
    }

    fn record(&self) -> Result<u64, GpuError> {
        let id = self.state().take_id();
        self.submit(Work::Event { id })?;
        Ok(id)
    }

    fn wait(&self, event: u64) -> Result<(), GpuError> {
        self.state().run_until(self.seed, event)
    }

    fn elapsed_ms(&self, _start: u64, _end: u64) -> Result<Option<f32>, GpuError> {
        // An emulated device has no time of its own.
        Ok(None)
    }

    fn forget_event(&self, _event: u64) {}

    fn synchronise(&self) -> Result<(), GpuError> {
        self.state().run_all(self.seed)
    }

    fn begin_capture(&self) -> Result<(), GpuError> {
        let mut state = self.state();
        state.check()?;
        assert!(state.capture.is_none(), "one graph is recorded at a time");
        state.capture = Some(Vec::new());
        Ok(())
    }

    fn end_capture(&self) -> Result<u64, GpuError> {
        let mut state = self.state();
        let recorded = state.capture.take().expect("a recording was begun");
        let id = state.take_id();
        state.graphs.insert(id, recorded);
        Ok(id)
    }

    unsafe fn replay(&self, graph: u64) -> Result<(), GpuError> {
        let mut state = self.state();
        state.check()?;
        assert!(state.capture.is_none(), "a graph is not replayed while another is recorded");
        let recorded = state.graphs[&graph].clone();
        state.queue.extend(recorded);
        Ok(())
    }

    fn forget_graph(&self, graph: u64) {
        self.state().graphs.remove(&graph);
    }
}

impl EmulatedDriver {
    pub fn new(seed: u64, fault: Option<Fault>) -> Self {
        let memory_bytes = fault.and_then(|fault| fault.memory_bytes).unwrap_or(4 << 30);
        let info = DeviceInfo {
            name: "emulated GPU".to_owned(),
            capability: 90,
            multiprocessors: 4,
            memory_bytes,
            driver: "none".to_owned(),
        };
        let state = State {
            fault,
            launches: 0,
            broken: None,
            allocations: BTreeMap::new(),
            allocated_bytes: 0,
            queue: VecDeque::new(),
            next_id: 1,
            passed_event: 0,
            capture: None,
            graphs: HashMap::new(),
        };
        Self { info, seed, has_products: false, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no thread panics while it holds the device")
    }

    fn submit(&self, work: Work) -> Result<(), GpuError> {
        let mut state = self.state();
        state.check()?;
        match (&mut state.capture, &work) {
            (Some(recorded), Work::Launch { .. } | Work::Multiply(_) | Work::Fill { .. }) => recorded.push(work),
            (Some(_), _) => panic!("only launches and fills are recorded in a graph"),
            (None, _) => state.queue.push_back(work),
        }
        Ok(())
    }
}

impl State {
    fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn check(&self) -> Result<(), GpuError> {
        self.broken.clone().map_or(Ok(()), Err)
    }

    fn run_all(&mut self, seed: u64) -> Result<(), GpuError> {
        while let Some(work) = self.queue.pop_front() {
            self.run(seed, work)?;
        }
        self.check()
    }

    fn run_until(&mut self, seed: u64, event: u64) -> Result<(), GpuError> {
        while self.passed_event < event {
            match self.queue.pop_front() {
                Some(work) => self.run(seed, work)?,
                None => return self.check(),
            }
        }
        Ok(())
    }

    fn run(&mut self, seed: u64, work: Work) -> Result<(), GpuError> {
        self.check()?;
        match work {
            Work::Launch { kernel, launch, arguments } => {
                self.run_kernel(kernel, |launches| launch_now(kernel, &launch, &arguments, seed ^ launches))?;
            }
            Work::Multiply(product) => self.run_kernel("matrix product", |_| {
                // SAFETY: whoever submitted it has checked the matrices, and holds them until it waits.
                unsafe { multiply_now(&product) };
                Ok(())
            })?,
            // SAFETY: whoever submitted it has checked the ranges, and holds them until it waits.
            Work::Copy { to, from, bytes } => unsafe {
                std::ptr::copy_nonoverlapping(from as *const u8, to as *mut u8, bytes);
            },
            // SAFETY: as above.
            Work::Fill { to, byte, bytes } => unsafe { (to as *mut u8).write_bytes(byte, bytes) },
            Work::Event { id } => self.passed_event = id,
        }
        Ok(())
    }

    /// Runs a launch, which is told how many there were, or fails in its place.
    fn run_kernel(
        &mut self,
        kernel: &'static str,
        launch: impl FnOnce(u64) -> Result<(), GpuError>,
    ) -> Result<(), GpuError> {
        self.launches += 1;
        let limit = self.fault.and_then(|fault| fault.launches_before);
        let launched = if limit.is_some_and(|limit| self.launches > limit) {
            let message = "CUDA_ERROR_ILLEGAL_ADDRESS (injected)".to_owned();
            Err(GpuError::Call { call: "cuLaunchKernel", message })
        } else {
            launch(self.launches).and_then(|()| self.check_guards(kernel))
        };
        launched.inspect_err(|error| {
            self.broken = Some(error.clone());
            self.queue.clear();
        })
    }

    fn check_guards(&self, kernel: &'static str) -> Result<(), GpuError> {
        for (&pointer, &bytes) in &self.allocations {
            for (start, side) in [(pointer - GUARD_BYTES as u64, "before"), (pointer + bytes as u64, "behind")] {
                // SAFETY: guard zones are part of the allocation and initialised.
                let guard = unsafe { std::slice::from_raw_parts(start as *const u8, GUARD_BYTES) };
                if guard.iter().any(|byte| *byte != GUARD_BYTE) {
                    let message = format!("wrote {side} a buffer of {bytes} bytes");
                    return Err(GpuError::Kernel { name: kernel, message });
                }
            }
        }
        Ok(())
    }
}

impl Drop for EmulatedDriver {
    fn drop(&mut self) {
        for (pointer, bytes) in std::mem::take(&mut self.state().allocations) {
            // SAFETY: allocated by us with this layout; nothing can use the device any more.
            unsafe { dealloc((pointer - GUARD_BYTES as u64) as *mut u8, guarded(bytes)) };
        }
    }
}

fn launch_now(kernel: &'static str, launch: &Launch, arguments: &[Argument], seed: u64) -> Result<(), GpuError> {
    let name = CString::new(kernel).expect("kernel names have no zero byte");
    check_arguments(kernel, &name, arguments)?;
    let mut raw: Vec<*mut c_void> = arguments.iter().map(Argument::as_raw).collect();
    let mut message = [0_u8; 512];
    // SAFETY: the names and sizes match the C declaration; the launcher has checked what the kernel touches.
    let status = unsafe {
        sconce_emulate_launch(
            name.as_ptr(),
            launch.grid.as_ptr(),
            launch.block.as_ptr(),
            launch.shared_bytes,
            raw.as_mut_ptr(),
            seed,
            message.as_mut_ptr().cast(),
            message.len(),
        )
    };
    let text = String::from_utf8_lossy(message.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned();
    match status {
        0 => Ok(()),
        1 => Err(GpuError::UnknownKernel { name: kernel }),
        _ => Err(GpuError::Kernel { name: kernel, message: text }),
    }
}

/// Compares what is passed with what the kernel declares. A real driver takes whatever lies behind the pointers.
fn check_arguments(kernel: &'static str, name: &CStr, arguments: &[Argument]) -> Result<(), GpuError> {
    let mut declared = [0_u8; PARAMETERS_MAX];
    // SAFETY: the name and the sizes match the C declaration.
    let count = unsafe { sconce_emulate_parameters(name.as_ptr(), declared.as_mut_ptr(), declared.len()) };
    let declared = declared.get(..count).ok_or(GpuError::UnknownKernel { name: kernel })?;
    let passed: Vec<u8> = arguments.iter().map(|argument| argument.bytes()).collect();
    if passed != declared {
        let message = format!("arguments of {passed:?} bytes were passed, {declared:?} are declared");
        return Err(GpuError::Kernel { name: kernel, message });
    }
    Ok(())
}

/// # Safety
/// The pointers are matrices of the sizes said.
unsafe fn multiply_now(product: &MatrixProduct) {
    let MatrixProduct { rows, in_features, out_features, weight_stride, weight, x, out, is_added } = *product;
    let values = |start: u64, index: usize| {
        // SAFETY: inside the matrix, as the caller says.
        unsafe { std::slice::from_raw_parts((start as *const bf16).add(index), in_features) }
    };
    for row in 0..rows {
        for output in 0..out_features {
            let terms = values(x, row * in_features).iter().zip(values(weight, output * weight_stride));
            let sum: f64 = terms.map(|(x, weight)| x.to_f64() * weight.to_f64()).sum();
            // SAFETY: inside the matrix, as the caller says, which nobody else touches.
            let value = unsafe { &mut *(out as *mut f32).add(row * out_features + output) };
            *value = (sum + if is_added { f64::from(*value) } else { 0.0 }) as f32;
        }
    }
}

/// An allocation with its guard zones.
fn guarded(bytes: usize) -> Layout {
    Layout::from_size_align(bytes + 2 * GUARD_BYTES, ALIGNMENT).expect("a size that fits the address space")
}

fn host(bytes: usize) -> Layout {
    Layout::from_size_align(bytes.max(1), ALIGNMENT).expect("a size that fits the address space")
}

#[cfg(test)]
mod tests {
    use super::*;
    use Argument::{F32, Pointer, U32};

    /// What a launch of `silu_mul(const float*, bf16*, uint32_t)` with these arguments says.
    fn check(kernel: &'static str, arguments: &[Argument]) -> String {
        let gpu = Gpu::emulated(1);
        let launch = Launch { grid: [1, 1, 1], block: [256, 1, 1], shared_bytes: 0 };
        // SAFETY: refused before anything runs.
        unsafe { gpu.launch(kernel, launch, arguments) }.unwrap();
        gpu.synchronise().unwrap_err().to_string()
    }

    #[test]
    fn arguments_that_are_not_those_of_the_kernel_are_refused() {
        for (arguments, text) in [
            (vec![Pointer(0), Pointer(0)], "[8, 8] bytes were passed, [8, 8, 4] are"),
            (vec![Pointer(0), Pointer(0), U32(1), F32(1.0)], "[8, 8, 4, 4] bytes"),
            (vec![Pointer(0), U32(1), Pointer(0)], "[8, 4, 8] bytes"),
        ] {
            let message = check("silu_mul", &arguments);
            assert!(message.contains(text), "{message}");
        }
        assert!(check("nobody", &[]).contains("no kernel `nobody`"));
    }
}
