//! The CUDA driver as `gpu/cuda.rs` uses it, against a stand-in for its library (`kernels/emulate/driver`): opening,
//! threads, memory, events, graphs, failures, and that everything is given back.
//!
//! Ignored unless asked for, because it needs that library where programs look for the driver's:
//! `LD_LIBRARY_PATH=$(scripts/stand-in-driver.sh)`, and `--test driver -- --ignored`.
#![cfg(feature = "cuda")]
#![expect(clippy::unwrap_used, reason = "everything here is a test, its small functions included")]

use half::bf16;
use sconce_kernels::gpu::{AddRmsNorm, Buffer, Gpu, GpuError, Graph, HostBuffer, add_rms_norm, gather_rows};
use std::ffi::{CString, c_char, c_int, c_void};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

unsafe extern "C" {
    fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

const RTLD_NOW: c_int = 2;

type Set = unsafe extern "C" fn(*const c_char, i64) -> c_int;
type Get = unsafe extern "C" fn(*const c_char) -> i64;

/// The stand-in, which is one for the whole process: held by one test at a time, and as it was built at its start.
struct StandIn {
    set: Set,
    get: Get,
    misuses: i64,
    _alone: MutexGuard<'static, ()>,
}

impl StandIn {
    fn alone() -> Self {
        Self::found().expect("the stand-in for libcuda.so.1 is in LD_LIBRARY_PATH (scripts/stand-in-driver.sh)")
    }

    /// `None` where there is no libcuda.so.1 at all. Panics if it is another than the stand-in.
    fn found() -> Option<Self> {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the names are strings; opening runs the initialisers of the stand-in, which do nothing.
        let library = unsafe { dlopen(c"libcuda.so.1".as_ptr(), RTLD_NOW) };
        if library.is_null() {
            return None;
        }
        // SAFETY: as above.
        let [set, get] =
            [c"sconce_stand_in_set", c"sconce_stand_in_get"].map(|name| unsafe { dlsym(library, name.as_ptr()) });
        assert!(!set.is_null() && !get.is_null(), "libcuda.so.1 is a driver, and these tests need the stand-in for it");
        // SAFETY: these are the types of the two functions, and the library is never closed.
        let (set, get) =
            unsafe { (std::mem::transmute::<*mut c_void, Set>(set), std::mem::transmute::<*mut c_void, Get>(get)) };
        let mut found = Self { set, get, misuses: 0, _alone: alone };
        for (name, value) in [
            ("driver_version", 13_000),
            ("devices", 1),
            ("capability", 90),
            ("memory_bytes", 4 << 30),
            ("launches_before_failure", -1),
            ("polls_before_ready", 3),
            ("is_hung", 0),
            ("reset_heals", 1),
        ] {
            found.set(name, value);
        }
        found.misuses = found.get("misuses");
        Some(found)
    }

    fn set(&self, name: &str, value: i64) {
        let name = CString::new(name).unwrap();
        // SAFETY: the name is a string.
        assert_eq!(unsafe { (self.set)(name.as_ptr(), value) }, 1, "{name:?}");
    }

    fn get(&self, name: &str) -> i64 {
        let name = CString::new(name).unwrap();
        // SAFETY: the name is a string.
        let value = unsafe { (self.get)(name.as_ptr()) };
        assert!(value >= 0 || name.as_c_str() == c"launches_before_failure", "{name:?}");
        value
    }

    /// Everything was given back, and no call was made with what did not exist any more.
    fn assert_clean(&self) {
        for name in [
            "retained",
            "contexts",
            "allocations",
            "host_ranges",
            "streams",
            "events",
            "modules",
            "graphs",
            "graph_instances",
        ] {
            assert_eq!(self.get(name), 0, "{name}");
        }
        self.assert_no_misuse();
    }

    fn assert_no_misuse(&self) {
        assert_eq!(self.get("misuses"), self.misuses, "calls with what did not exist");
    }
}

const ROWS: usize = 5;

/// Memory for one small launch.
struct Job {
    source: Buffer<u32>,
    indices: Buffer<u32>,
    out: Buffer<u32>,
}

impl Job {
    fn new(gpu: &Gpu) -> Result<Self, GpuError> {
        let values: Vec<u32> = (0..2 * ROWS as u32).collect();
        Ok(Self {
            source: gpu.upload(&values)?,
            indices: gpu.upload(&[3_u32, 0, 4, 4, 1])?,
            out: gpu.zeroed(2 * ROWS)?,
        })
    }

    fn launch(&mut self, gpu: &Gpu) -> Result<(), GpuError> {
        gather_rows(gpu, &self.source, &self.indices, [ROWS, 2], &mut self.out)
    }

    fn check(&mut self, gpu: &Gpu) {
        gpu.fill_bytes(&mut self.out, 0).unwrap();
        self.launch(gpu).unwrap();
        assert_eq!(gpu.read(&self.out, 0, 2 * ROWS).unwrap(), [6, 7, 0, 1, 8, 9, 8, 9, 2, 3]);
    }
}

fn check_works(gpu: &Gpu) {
    Job::new(gpu).unwrap().check(gpu);
}

#[test]
#[ignore = "needs the stand-in for the CUDA driver"]
fn without_a_driver_opening_says_so() {
    let Some(_alone) = StandIn::found() else {
        assert_eq!(Gpu::cuda(0).unwrap_err(), GpuError::NoDriver);
        return;
    };
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.env_remove("LD_LIBRARY_PATH").args(["--exact", "without_a_driver_opening_says_so", "--ignored"]);
    let output = again.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "needs the stand-in for the CUDA driver"]
fn a_device_that_cannot_be_used_is_told() {
    let check = |ordinal, settings: &[(&str, i64)], want: &str| {
        let driver = StandIn::alone();
        settings.iter().for_each(|(name, value)| driver.set(name, *value));
        assert_eq!(Gpu::cuda(ordinal).unwrap_err().to_string(), want);
        driver.assert_clean();
    };
    check(0, &[("devices", 0)], "there is no GPU 0: the driver shows 0");
    check(3, &[("devices", 2)], "there is no GPU 3: the driver shows 2");
    let update = "update the NVIDIA driver to 580 or newer";
    for (version, dotted) in [(12_080, "12.8"), (11_040, "11.4")] {
        let want = format!("the driver supports CUDA {dotted}, kernels of this build need 13.0: {update}");
        check(0, &[("driver_version", version)], &want);
        check(0, &[("driver_version", version), ("devices", 0)], &want);
    }
    for (capability, dotted) in [(75, "7.5"), (100, "10.0"), (121, "12.1")] {
        let want = format!(
            "stand-in for a GPU 0 has compute capability {dotted}, kernels of this build are made for 8.0, 8.9, 9.0"
        );
        check(0, &[("capability", capability)], &want);
    }
}

#[test]
#[ignore = "needs the stand-in for the CUDA driver"]
fn a_device_takes_the_kernels_that_run_on_it() {
    // The stand-in refuses images that do not run on its capability: 8.6 and 8.7 take those of 8.0.
    for capability in [80, 86, 87, 89, 90] {
        let driver = StandIn::alone();
        driver.set("capability", capability);
        let gpu = Gpu::cuda(0).unwrap();
        assert_eq!(gpu.info().capability, capability as u32);
        assert_eq!(gpu.info().name, "stand-in for a GPU 0");
        assert_eq!(gpu.info().driver, "13.0");
        check_works(&gpu);
        check_large_shared_memory(&gpu);
        drop(gpu);
        driver.assert_clean();
    }
}

/// A row of so many values takes more shared memory than a launch may have unasked.
fn check_large_shared_memory(gpu: &Gpu) {
    let hidden = 20_000;
    let mut residual = gpu.zeroed(hidden).unwrap();
    let (delta, weight) = (gpu.upload(&vec![2.0_f32; hidden]).unwrap(), gpu.upload(&vec![0.5_f32; hidden]).unwrap());
    let mut normed = gpu.zeroed::<bf16>(hidden).unwrap();
    let (residual, delta, weight, normed_out) = (&mut residual, &delta, &weight, &mut normed);
    add_rms_norm(gpu, AddRmsNorm { rows: 1, residual, delta, weight, eps: 0.0, normed: normed_out }).unwrap();
    assert_eq!(gpu.read(&normed, 0, hidden).unwrap(), vec![bf16::from_f32(0.5); hidden]);
}

#[test]
#[ignore = "needs the stand-in for the CUDA driver"]
fn every_device_of_several_works() {
    let driver = StandIn::alone();
    driver.set("devices", 2);
    let gpus = [0, 1].map(|ordinal| Gpu::cuda(ordinal).unwrap());
    assert_eq!(driver.get("contexts"), 2);
    let mut jobs = gpus.each_ref().map(|gpu| Job::new(gpu).unwrap());
    for _ in 0..2 {
        for (gpu, job) in gpus.iter().zip(&mut jobs) {
            job.check(gpu);
        }
    }
    drop((gpus, jobs));
    driver.assert_clean();
}

#[test]
#[ignore = "needs the stand-in for the CUDA driver"]
fn page_locked_memory_waits_for_its_copies() {
    let driver = StandIn::alone();
    let gpu = Gpu::cuda(0).unwrap();
    let mut sent: HostBuffer<u32> = gpu.host_buffer(4).unwrap();
    let mut received: HostBuffer<u32> = gpu.host_buffer(4).unwrap();
    let mut on_device = gpu.zeroed::<u32>(12).unwrap();
    for turn in 0..3_u32 {
        sent.values_mut().unwrap().copy_from_slice(&[turn; 4]);
        gpu.send(&mut sent, &mut on_device, 4 * turn as usize, 4).unwrap();
    }
    gpu.receive(&on_device, 4, 4, &mut received).unwrap();
    assert_eq!(received.values().unwrap(), [1; 4]);
    assert_eq!(gpu.read(&on_device, 0, 12).unwrap(), [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]);
    // A copy that is in flight when its memory goes.
    gpu.receive(&on_device, 0, 4, &mut received).unwrap();
    drop((sent, received, on_device, gpu));
    driver.assert_clean();
}

#[test]
#[ignore = "needs the stand-in for the CUDA driver"]
fn events_pass_in_order_and_tell_the_time() {
    let driver = StandIn::alone();
    let gpu = Gpu::cuda(0).unwrap();
    let mut job = Job::new(&gpu).unwrap();
    for _ in 0..3 {
        let start = gpu.record().unwrap();
        job.launch(&gpu).unwrap();
        let end = gpu.record().unwrap();
        let elapsed = end.elapsed_ms(&start).unwrap().expect("the driver has a clock");
        assert!(elapsed >= 0.0, "{elapsed} ms");
    }
    assert_eq!(driver.get("events"), 2, "events are used again");
    drop((job, gpu));
    driver.assert_clean();
}

#[test]
#[ignore = "needs the stand-in for the CUDA driver"]
fn out_of_memory_tells_what_there_is() {
    let driver = StandIn::alone();
    driver.set("memory_bytes", 1 << 20);
    let gpu = Gpu::cuda(0).unwrap();
    let free = gpu.memory_free().unwrap();
    let kept = gpu.zeroed::<u8>(1000).unwrap();
    assert_eq!(gpu.memory_free().unwrap(), free - 1000);
    let error = gpu.uninitialised::<u8>(1 << 20).unwrap_err();
    assert_eq!(error, GpuError::OutOfMemory { bytes: 1 << 20, free_bytes: free - 1000, total_bytes: 1 << 20 });
    // It is no failure of the device.
    check_works(&gpu);
    drop((kept, gpu));
    driver.assert_clean();
}

#[test]
#[ignore = "needs the stand-in for the CUDA driver"]
fn handles_on_one_device_end_one_by_one() {
    let driver = StandIn::alone();
    let [first, second] = [0, 0].map(|ordinal| Gpu::cuda(ordinal).unwrap());
    let mut job = Job::new(&second).unwrap();
    check_works(&first);
    job.check(&second);
    assert_eq!((driver.get("contexts"), driver.get("streams"), driver.get("allocations")), (1, 2, 3));
    drop(first);
    assert_eq!((driver.get("contexts"), driver.get("streams"), driver.get("allocations")), (1, 1, 3));
    job.check(&second);
    drop((second, job));
    driver.assert_clean();
}

#[test]
#[ignore = "needs the stand-in for the CUDA driver"]
fn work_that_is_in_flight_when_a_handle_ends_is_no_harm() {
    let driver = StandIn::alone();
    let gpu = Gpu::cuda(0).unwrap();
    let mut job = Job::new(&gpu).unwrap();
    let launched = driver.get("launches");
    job.launch(&gpu).unwrap();
    let event = gpu.record().unwrap();
    drop((job, gpu, event));
    assert_eq!(driver.get("launches"), launched + 1);
    driver.assert_clean();
}

/// A thread remembers whose context it made current; what it remembers must not be taken for the next handle's.
#[test]
#[ignore = "needs the stand-in for the CUDA driver"]
fn threads_work_with_one_handle_after_the_other() {
    let driver = StandIn::alone();
    let (to_thread, gpus) = std::sync::mpsc::sync_channel::<Gpu>(0);
    std::thread::scope(|scope| {
        let worker = scope.spawn(move || gpus.into_iter().for_each(|gpu| check_works(&gpu)));
        for _ in 0..3 {
            let gpu = Gpu::cuda(0).unwrap();
            to_thread.send(gpu.clone()).unwrap();
            check_works(&gpu);
        }
        drop(to_thread);
        worker.join().unwrap();
    });
    driver.assert_clean();
}

#[test]
#[ignore = "needs the stand-in for the CUDA driver"]
fn memory_may_go_on_another_thread() {
    let driver = StandIn::alone();
    let gpu = Gpu::cuda(0).unwrap();
    let mut job = Job::new(&gpu).unwrap();
    let host = gpu.host_buffer::<u8>(100).unwrap();
    let event = gpu.record().unwrap();
    job.launch(&gpu).unwrap();
    std::thread::spawn(move || drop((job, host, event))).join().unwrap();
    assert_eq!((driver.get("allocations"), driver.get("host_ranges")), (0, 0));
    // The last handle, too.
    std::thread::spawn(move || drop(gpu)).join().unwrap();
    driver.assert_clean();
}

fn recorded(gpu: &Gpu, job: &mut Job) -> Graph {
    gpu.capture(|| job.launch(gpu)).unwrap()
}

#[test]
#[ignore = "needs the stand-in for the CUDA driver"]
fn graphs_replay_and_keep_their_memory() {
    let driver = StandIn::alone();
    let gpu = Gpu::cuda(0).unwrap();
    let mut job = Job::new(&gpu).unwrap();
    let launched = driver.get("launches");
    let graphs = [(); 2].map(|()| recorded(&gpu, &mut job));
    assert_eq!(gpu.read(&job.out, 0, 2 * ROWS).unwrap(), [0; 2 * ROWS], "recorded launches have not run");
    graphs[0].replay().unwrap();
    gpu.write(&mut job.indices, 0, &[1, 1, 1, 1, 1]).unwrap();
    graphs[1].replay().unwrap();
    assert_eq!(gpu.read(&job.out, 0, 2 * ROWS).unwrap(), [2, 3, 2, 3, 2, 3, 2, 3, 2, 3]);
    drop(job);
    assert_eq!(driver.get("allocations"), 3, "graphs use them");
    graphs[0].replay().unwrap();
    gpu.synchronise().unwrap();
    assert_eq!(driver.get("launches"), launched + 3);
    let [first, last] = graphs;
    drop(first);
    last.replay().unwrap();
    assert_eq!((driver.get("allocations"), driver.get("graph_instances")), (3, 1));
    drop(last);
    assert_eq!((driver.get("allocations"), driver.get("graphs"), driver.get("graph_instances")), (0, 0, 0));
    assert_eq!(driver.get("launches"), launched + 4, "a replay that was under way came to its end");
    drop(gpu);
    driver.assert_clean();
}

/// What is not allowed while launches are recorded fails, spoils the recording and nothing else.
#[test]
#[ignore = "needs the stand-in for the CUDA driver"]
fn a_spoilt_recording_is_no_failure_of_the_device() {
    let driver = StandIn::alone();
    let check = |spoil: &dyn Fn(&Gpu) -> Result<(), GpuError>| {
        let gpu = Gpu::cuda(0).unwrap();
        let mut job = Job::new(&gpu).unwrap();
        for is_told in [true, false] {
            let captured = gpu.capture(|| {
                job.launch(&gpu)?;
                let spoilt = spoil(&gpu);
                assert!(spoilt.is_err(), "not while launches are recorded");
                if is_told { spoilt } else { Ok(()) }
            });
            let message = captured.unwrap_err().to_string();
            assert!(message.contains("CUDA_ERROR_STREAM_CAPTURE_"), "{message}");
        }
        drop((job, gpu));
        let gpu = Gpu::cuda(0).unwrap();
        let mut job = Job::new(&gpu).unwrap();
        recorded(&gpu, &mut job).replay().unwrap();
        job.check(&gpu);
    };
    check(&|gpu| gpu.uninitialised::<u8>(16).map(drop));
    check(&|gpu| gpu.synchronise());
    driver.assert_clean();
}

/// Others go on while one records.
#[test]
#[ignore = "needs the stand-in for the CUDA driver"]
fn a_recording_is_not_disturbed_by_other_threads() {
    let driver = StandIn::alone();
    let gpu = Gpu::cuda(0).unwrap();
    let mut job = Job::new(&gpu).unwrap();
    let spare = gpu.zeroed::<u8>(100).unwrap();
    let graph = gpu.capture(|| {
        let other = std::thread::spawn(|| {
            let gpu = Gpu::cuda(0).unwrap();
            check_works(&gpu);
            drop(spare);
        });
        other.join().unwrap();
        job.launch(&gpu)
    });
    graph.unwrap().replay().unwrap();
    job.check(&gpu);
    drop((job, gpu));
    driver.assert_clean();
}

/// Memory that goes while launches are recorded may be theirs.
#[test]
#[ignore = "needs the stand-in for the CUDA driver"]
fn memory_that_goes_in_a_recording_stays_for_it() {
    let driver = StandIn::alone();
    let gpu = Gpu::cuda(0).unwrap();
    let mut job = Job::new(&gpu).unwrap();
    let handle = &gpu;
    let captured = gpu.capture(move || {
        job.launch(handle)?;
        drop(job);
        Ok(())
    });
    let graph = captured.unwrap();
    assert_eq!(driver.get("allocations"), 3);
    graph.replay().unwrap();
    drop(graph);
    assert_eq!(driver.get("allocations"), 0);
    drop(gpu);
    driver.assert_clean();
}

/// All that is asked of a device that has failed.
fn assert_fails(gpu: &Gpu, job: &mut Job, host: &mut HostBuffer<u32>) {
    let check = |call: &str, result: Result<(), GpuError>| assert!(result.is_err(), "{call} on a failed device");
    check("memory_free", gpu.memory_free().map(drop));
    check("upload", gpu.upload(&[1_u32]).map(drop));
    check("host_buffer", gpu.host_buffer::<u32>(4).map(drop));
    check("write", gpu.write(&mut job.indices, 0, &[0]));
    check("read", gpu.read(&job.out, 0, 1).map(drop));
    check("send", gpu.send(host, &mut job.indices, 0, 1));
    check("receive", gpu.receive(&job.indices, 0, 1, host));
    check("fill_bytes", gpu.fill_bytes(&mut job.out, 1));
    check("launch", job.launch(gpu));
    check("record", gpu.record().map(drop));
    check("synchronise", gpu.synchronise());
    check("capture", gpu.capture(|| Ok(())).map(drop));
}

#[test]
#[ignore = "needs the stand-in for the CUDA driver"]
fn a_failed_device_is_told_ever_after_and_opened_anew() {
    for launches_before in [0, 2] {
        let driver = StandIn::alone();
        let gpu = Gpu::cuda(0).unwrap();
        let mut job = Job::new(&gpu).unwrap();
        let mut host = gpu.host_buffer::<u32>(4).unwrap();
        let graph = recorded(&gpu, &mut job);
        driver.set("launches_before_failure", launches_before);
        for _ in 0..launches_before {
            graph.replay().unwrap();
        }
        gpu.synchronise().unwrap();
        job.launch(&gpu).unwrap();
        let event = gpu.record().unwrap();
        let message = event.wait().unwrap_err().to_string();
        assert_eq!(message, "cuEventQuery failed: CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access");
        assert_fails(&gpu, &mut job, &mut host);
        assert!(graph.replay().is_err());

        let anew = Gpu::cuda(0).unwrap();
        let mut job_anew = Job::new(&anew).unwrap();
        job_anew.check(&anew);
        let held = (driver.get("allocations"), driver.get("events"), driver.get("modules"), driver.get("streams"));
        assert_fails(&gpu, &mut job, &mut host);
        // Page-locked memory is the host's, and stays what it was.
        host.values_mut().unwrap().fill(7);
        assert_eq!(host.values().unwrap(), [7; 4]);
        drop((event, graph, job, host, gpu));
        let held_now = (driver.get("allocations"), driver.get("events"), driver.get("modules"), driver.get("streams"));
        assert_eq!(held, held_now, "an old handle gives nothing back that is another's");
        job_anew.check(&anew);
        drop((job_anew, anew));
        driver.assert_clean();
    }
}

#[test]
#[ignore = "needs the stand-in for the CUDA driver"]
fn a_failure_ends_all_handles_of_the_device() {
    for learns_at_once in [true, false] {
        let driver = StandIn::alone();
        let [failing, bystander] = [0, 0].map(|ordinal| Gpu::cuda(ordinal).unwrap());
        let mut jobs = [&failing, &bystander].map(|gpu| Job::new(gpu).unwrap());
        driver.set("launches_before_failure", 0);
        jobs[0].launch(&failing).unwrap();
        assert!(failing.synchronise().is_err());
        if learns_at_once {
            assert!(bystander.synchronise().is_err(), "they share a context");
        }
        let anew = Gpu::cuda(0).unwrap();
        let mut host = anew.host_buffer(4).unwrap();
        assert_fails(&bystander, &mut jobs[1], &mut host);
        drop((failing, bystander, jobs));
        check_works(&anew);
        drop((host, anew));
        driver.assert_clean();
    }
}

#[test]
#[ignore = "needs the stand-in for the CUDA driver"]
fn a_failed_device_that_nobody_holds_is_as_new() {
    let driver = StandIn::alone();
    let gpu = Gpu::cuda(0).unwrap();
    let mut job = Job::new(&gpu).unwrap();
    driver.set("launches_before_failure", 0);
    job.launch(&gpu).unwrap();
    assert!(gpu.synchronise().is_err());
    drop((job, gpu));
    driver.assert_clean();
    check_works(&Gpu::cuda(0).unwrap());
    driver.assert_clean();
}

#[test]
#[ignore = "needs the stand-in for the CUDA driver"]
fn a_device_that_stays_failed_is_told_each_time() {
    let driver = StandIn::alone();
    driver.set("reset_heals", 0);
    let gpu = Gpu::cuda(0).unwrap();
    let mut job = Job::new(&gpu).unwrap();
    driver.set("launches_before_failure", 0);
    job.launch(&gpu).unwrap();
    assert!(gpu.synchronise().is_err());
    for _ in 0..3 {
        let message = Gpu::cuda(0).unwrap_err().to_string();
        assert!(message.contains("CUDA_ERROR_ILLEGAL_ADDRESS"), "{message}");
    }
    driver.set("reset_heals", 1);
    check_works(&Gpu::cuda(0).unwrap());
    drop((job, gpu));
    driver.assert_clean();
}

#[test]
#[ignore = "needs the stand-in for the CUDA driver"]
fn a_device_that_hangs_is_given_up() {
    let driver = StandIn::alone();
    let gpu = Gpu::cuda_waiting(0, Duration::from_millis(20)).unwrap();
    let mut job = Job::new(&gpu).unwrap();
    driver.set("is_hung", 1);
    job.launch(&gpu).unwrap();
    let event = gpu.record().unwrap();
    let message = event.wait().unwrap_err().to_string();
    assert_eq!(message, "cuEventQuery failed: the device has not come to an end within 0.02 s");
    // At once, and without a call that would wait for the device.
    assert!(event.wait().is_err() && job.launch(&gpu).is_err() && gpu.synchronise().is_err());
    drop((event, job));
    driver.set("is_hung", 0);
    drop(gpu);
    driver.assert_clean();
}
