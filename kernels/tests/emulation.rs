//! The emulation of a GPU, held to what a GPU does and to the faults it is there to find. Its kernels are
//! `emulate/tests.cu`.
#![cfg(feature = "emulate")]
#![expect(clippy::unwrap_used, reason = "everything here is a test, its small functions included")]

use half::{bf16, f16};
use sconce_kernels as _;
use std::collections::BTreeSet;
use std::ffi::{CStr, CString, c_char, c_void};

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
    fn sconce_emulate_kernels(names: *mut *const c_char, capacity: usize) -> usize;
    fn sconce_emulate_parameters(name: *const c_char, bytes: *mut u8, capacity: usize) -> usize;
}

const UNKNOWN_KERNEL: i32 = 1;
const DIVERGENCE: i32 = 2;
const LAUNCH_LIMITS: i32 = 3;
const MEMORY: i32 = 4;

/// Size and seed of a launch.
#[derive(Clone, Copy)]
struct Launch {
    grid: [u32; 3],
    block: [u32; 3],
    shared_bytes: u32,
    seed: u64,
}

impl Launch {
    fn new(blocks: u32, threads: u32, shared_bytes: u32) -> Launch {
        Launch { grid: [blocks, 1, 1], block: [threads, 1, 1], shared_bytes, seed: 1 }
    }

    fn seeded(self, seed: u64) -> Launch {
        Launch { seed, ..self }
    }

    /// Arguments are pointers or numbers in the low bytes of a word.
    fn run(self, name: &str, arguments: &[u64]) -> Result<(), (i32, String)> {
        let name = CString::new(name).unwrap();
        let mut values = arguments.to_vec();
        let mut pointers: Vec<*mut c_void> = values.iter_mut().map(|value| std::ptr::from_mut(value).cast()).collect();
        let mut message = [0 as c_char; 256];
        // SAFETY: the tests below pass what each kernel declares, and buffers as long as it touches.
        let status = unsafe {
            sconce_emulate_launch(
                name.as_ptr(),
                self.grid.as_ptr(),
                self.block.as_ptr(),
                self.shared_bytes,
                pointers.as_mut_ptr(),
                self.seed,
                message.as_mut_ptr(),
                message.len(),
            )
        };
        if status == 0 {
            return Ok(());
        }
        // SAFETY: a message ends with a zero byte.
        let message = unsafe { CStr::from_ptr(message.as_ptr()) };
        Err((status, message.to_str().unwrap().to_owned()))
    }
}

fn address<T>(values: &mut [T]) -> u64 {
    values.as_mut_ptr() as u64
}

fn rotate(kernel: &str, seed: u64) -> Vec<u32> {
    let (mut input, mut out): (Vec<u32>, _) = ((0..3 * 256).collect(), vec![0; 3 * 256]);
    let launch = Launch::new(3, 256, 1024).seeded(seed);
    launch.run(kernel, &[address(&mut input), address(&mut out)]).unwrap();
    out
}

#[test]
fn a_barrier_makes_every_order_alike() {
    let want: Vec<u32> = (0..3 * 256).map(|i| i / 256 * 256 + (i + 255) % 256).collect();
    for seed in 0..20 {
        assert_eq!(rotate("emulation_rotate", seed), want);
    }
}

#[test]
fn a_missing_barrier_shows_in_some_order() {
    let results: BTreeSet<Vec<u32>> = (0..8).map(|seed| rotate("emulation_rotate_racing", seed)).collect();
    assert!(results.len() > 1);
    assert_eq!(rotate("emulation_rotate_racing", 3), rotate("emulation_rotate_racing", 3), "a seed is an order");
}

#[test]
fn a_missing_barrier_before_a_refill_shows_in_some_order() {
    let is_found = |seed: &u64| {
        let mut wrong = [0_u32; 128];
        let launch = Launch::new(1, 128, 512).seeded(*seed);
        launch.run("emulation_refill_racing", &[address(&mut wrong), 4]).unwrap();
        wrong != [0; 128]
    };
    assert!((0..8).filter(is_found).count() >= 2, "a kernel's test has few seeds");
}

#[test]
fn blocks_run_once_each_and_in_an_order_of_the_seed() {
    let orders: BTreeSet<Vec<u32>> = (0..4)
        .map(|seed| {
            let (mut order, mut next) = (vec![0_u32; 24], [0_u32]);
            let launch = Launch { grid: [4, 3, 2], block: [33, 1, 1], shared_bytes: 0, seed };
            launch.run("emulation_block_order", &[address(&mut order), address(&mut next)]).unwrap();
            assert_eq!(order.iter().copied().collect::<BTreeSet<_>>(), (0..24).collect());
            order
        })
        .collect();
    assert!(orders.len() > 1);
}

fn check_fault(name: &str, launch: Launch, arguments: &[u64], kind: i32, text: &str) {
    let (status, message) = launch.run(name, arguments).expect_err("the emulation finds the fault");
    assert_eq!(status, kind, "{name}: {message}");
    assert!(message.contains(text), "{name}: {message}");
    // A fault leaves nothing behind for the next launch.
    let (mut input, mut out) = ([7_u32; 64], [0_u32; 64]);
    Launch::new(1, 64, 256).run("emulation_rotate", &[address(&mut input), address(&mut out)]).unwrap();
    assert_eq!(out, input);
}

#[test]
fn faults_are_found() {
    let mut memory = [0_u32; 1024];
    let at = address(&mut memory);
    let of = |threads, shared_bytes| Launch::new(1, threads, shared_bytes);
    let divergence: [(&str, u32, &str); 4] = [
        ("emulation_two_barriers", 64, "different __syncthreads"),
        ("emulation_partial_warp", 64, "32 at a warp operation"),
        ("emulation_half_warp_at_barrier", 64, "48 wait at __syncthreads"),
        ("emulation_narrow_mask", 32, "0000ffff"),
    ];
    for (name, threads, text) in divergence {
        for seed in 0..5 {
            check_fault(name, of(threads, 0).seeded(seed), &[at], DIVERGENCE, text);
        }
    }
    // The last warp is short: it may vote, but has no lanes to shuffle with or to add up.
    check_fault("emulation_warp_operations", of(70, 128), &[at, at], DIVERGENCE, "does not have");
    check_fault("emulation_write_shared", of(1, 16), &[4], MEMORY, "byte 16 of 16");
    check_fault("emulation_write_shared", of(1, 16), &[u64::from(-1_i32 as u32)], MEMORY, "byte -4 before");
    check_fault("emulation_load16", of(1, 0), &[at & !15, at, 4], MEMORY, "16-byte access");
    check_fault("emulation_copy_async_outside", of(1, 16), &[at & !15], MEMORY, "not in the shared memory");
    check_fault("nobody", of(1, 0), &[], UNKNOWN_KERNEL, "nobody");
    for (launch, text) in [
        (of(1025, 0), "1025 x 1 x 1 threads"),
        (of(0, 0), "0 x 1 x 1 threads"),
        (of(1, 227 * 1024 + 1), "232449 bytes"),
        (Launch::new(0, 1, 0), "0 x 1 x 1 blocks"),
        (Launch { grid: [1, 65536, 1], ..of(1, 0) }, "1 x 65536 x 1 blocks"),
    ] {
        check_fault("emulation_nothing", launch, &[at], LAUNCH_LIMITS, text);
    }
    check_fault("emulation_warp_operations", of(160, 128), &[at, at], LAUNCH_LIMITS, "at most 128");
}

#[test]
fn threads_that_returned_are_not_waited_for() {
    let mut out = [0_u32; 64];
    Launch::new(1, 64, 0).run("emulation_early_return", &[address(&mut out)]).unwrap();
    assert_eq!(out.iter().sum::<u32>(), 40);
}

#[test]
fn shared_memory_is_poisoned_before_each_block() {
    let mut out = [0_u32; 8];
    for _ in 0..2 {
        Launch::new(2, 8, 32).run("emulation_read_shared", &[address(&mut out)]).unwrap();
        assert_eq!(out, [u32::MAX; 8]);
    }
}

#[test]
fn warp_operations_do_what_a_gpu_does() {
    for (threads, seed) in [(32, 0), (64, 1), (128, 2), (128, 3)] {
        let (mut out, mut sums) = (vec![0_u32; threads * 8], vec![0_f32; threads * 2]);
        let arguments = [address(&mut out), address(&mut sums)];
        Launch::new(1, threads as u32, 128).seeded(seed).run("emulation_warp_operations", &arguments).unwrap();
        for (thread, (row, sums)) in out.chunks(8).zip(sums.chunks(2)).enumerate() {
            let (lane, first) = (thread % 32, thread - thread % 32);
            let down = if lane < 2 { thread + 30 } else { thread };
            let votes = (0..32).filter(|lane| lane % 3 == 0).map(|lane| 1 << lane).sum();
            let any = u32::from(first == 32);
            let all = u32::from(first < 64);
            let largest = (-1.0 - first as f32).to_bits();
            let sum = (first..first + 32).sum::<usize>() as f32;
            let want = [first as u32 + 5, thread as u32 ^ 3, down as u32, votes, any, all, largest, sum.to_bits()];
            assert_eq!(row, want, "thread {thread}");
            assert_eq!(sums, [(threads * (threads - 1) / 2) as f32, (threads - 1) as f32]);
        }
    }
}

#[test]
fn matrix_fragments_are_a_product() {
    let value = |seed: usize, i: usize| ((i * 37 + seed * 11) % 29) as f32 - 14.0;
    let mut a: Vec<bf16> = (0..256).map(|i| bf16::from_f32(value(1, i))).collect();
    let mut b: Vec<bf16> = (0..128).map(|i| bf16::from_f32(value(2, i))).collect();
    let mut out: Vec<f32> = (0..128).map(|i| value(3, i)).collect();
    let want: Vec<f32> = (0..128)
        .map(|i| (0..16).map(|k| value(1, i / 8 * 16 + k) * value(2, i % 8 * 16 + k)).sum::<f32>() + value(3, i))
        .collect();
    Launch::new(1, 32, 0).run("emulation_matrix", &[address(&mut a), address(&mut b), address(&mut out)]).unwrap();
    assert_eq!(out, want);
}

#[test]
fn asynchronous_copies_arrive_at_the_wait() {
    let mut input: Vec<u32> = (0..32 * 8 + 4).collect();
    // A source must be a multiple of 16.
    let skipped = (address(&mut input) % 16 / 4) as usize;
    let skipped = (4 - skipped) % 4;
    let mut out = vec![0_u32; 32 * 8];
    let arguments = [address(&mut input[skipped..]), address(&mut out)];
    Launch::new(1, 32, 1024).run("emulation_copy_async", &arguments).unwrap();
    for (index, &word) in out.iter().enumerate() {
        let want = if index % 8 < 4 { (index + skipped) as u32 } else { u32::MAX };
        assert_eq!(word, want, "word {index}: the first group has arrived, the second has not");
    }
}

/// e4m3 by its definition.
fn fp8_value(bits: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(bits >> 3 & 15), f32::from(bits & 7));
    let magnitude = match (bits & 0x7f, exponent) {
        (0x7f, _) => f32::NAN,
        (_, 0) => mantissa / 8.0 * (2.0_f32).powi(-6),
        _ => (1.0 + mantissa / 8.0) * (2.0_f32).powi(exponent - 7),
    };
    if bits & 0x80 == 0 { magnitude } else { -magnitude }
}

/// The nearest value of e4m3, of two the even one; saturates.
fn nearest_fp8(value: f32) -> f32 {
    // Far above the largest value all are equally far away.
    let magnitude = f64::from(value.abs().min(1000.0));
    let distance = |bits: u8| (f64::from(fp8_value(bits)) - magnitude).abs();
    let nearest = (0..0x7f).min_by(|a, b| distance(*a).total_cmp(&distance(*b)).then((a & 1).cmp(&(b & 1)))).unwrap();
    if value.is_nan() { f32::NAN } else { fp8_value(nearest).copysign(value) }
}

fn assert_same(got: f32, want: f32, what: &str) {
    assert!(got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan()), "{what}: got {got:e}, want {want:e}");
}

#[test]
fn formats_round_to_nearest_even() {
    let mut input = vec![
        0.0,
        -0.0,
        1.0,
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::MAX,
        f32::MIN_POSITIVE,
        65504.0,
        65519.9,
        65520.0,
        448.0,
        463.9,
        464.0,
        480.0,
        -1e6,
        1e-45,
        3.0f32.powi(-20),
        5.9604645e-8,
        2.9802322e-8,
        2.98e-8,
    ];
    // Everything that lies on, between and just beside neighbours of each format.
    for bits in (0..0x7f80_0000_u32).step_by(0x0fff9) {
        input.extend([f32::from_bits(bits), -f32::from_bits(bits | 0x8000), f32::from_bits(bits & !0xfffff | 0x80000)]);
    }
    input.resize(input.len().next_multiple_of(256), 0.5);
    let mut outputs = [(); 3].map(|()| vec![0_f32; input.len()]);
    let mut arguments = vec![address(&mut input)];
    arguments.extend(outputs.iter_mut().map(|out| address(out)));
    Launch::new(input.len() as u32 / 256, 256, 0).run("emulation_formats", &arguments).unwrap();
    for (index, &value) in input.iter().enumerate() {
        assert_same(outputs[0][index], bf16::from_f32(value).to_f32(), &format!("bf16 of {value:e}"));
        assert_same(outputs[1][index], f16::from_f32(value).to_f32(), &format!("f16 of {value:e}"));
        assert_same(outputs[2][index], nearest_fp8(value), &format!("fp8 of {value:e}"));
    }
}

#[test]
fn every_pattern_has_its_value() {
    let (mut f16s, mut fp8s) = (vec![0_f32; 65536], vec![0_f32; 65536]);
    let arguments = [address(&mut f16s), address(&mut fp8s)];
    Launch::new(256, 256, 0).run("emulation_patterns", &arguments).unwrap();
    for bits in 0..=u16::MAX {
        assert_same(f16s[usize::from(bits)], f16::from_bits(bits).to_f32(), &format!("f16 {bits:04x}"));
        assert_same(fp8s[usize::from(bits)], fp8_value(bits as u8), &format!("fp8 {:02x}", bits as u8));
    }
}

#[test]
fn launches_on_several_threads_do_not_meet() {
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                for seed in 0..20 {
                    rotate("emulation_rotate", seed * 4 + thread);
                }
            });
        }
    });
}

#[test]
fn kernels_are_listed_with_their_parameters() {
    // SAFETY: nothing is written for a capacity of zero.
    let length = unsafe { sconce_emulate_kernels(std::ptr::null_mut(), 0) };
    let mut names = vec![std::ptr::null(); length];
    // SAFETY: there is room for as many names as there are.
    assert_eq!(unsafe { sconce_emulate_kernels(names.as_mut_ptr(), length) }, length);
    // SAFETY: each name is a string that lives as long as the program.
    let names: Vec<&str> = names.iter().map(|name| unsafe { CStr::from_ptr(*name) }.to_str().unwrap()).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), length, "names are unique: {names:?}");
    assert!(!names.iter().any(|name| name.starts_with("emulation_")), "kernels of tests are not listed");
    for (name, want) in [(c"emulation_load16", Some(&[8, 8, 4][..])), (c"nobody", None)] {
        let mut bytes = [0; 8];
        // SAFETY: at most eight bytes are written.
        let length = unsafe { sconce_emulate_parameters(name.as_ptr(), bytes.as_mut_ptr(), bytes.len()) };
        assert_eq!(bytes.get(..length), want);
    }
}
