//! Memory, order and graphs, on whatever devices there are: what every operation stands on.

use super::*;
use crate::gpu::silu_mul;
use crate::gpu::testing::{bf16s, each, floats, gpus, kinds};
use half::bf16;

#[test]
fn copies_arrive_and_leave_the_rest_as_it_was() {
    for (gpu, length) in each(&[0, 1, 3, 1000, 1 << 20]) {
        let values: Vec<u32> = (0..length as u32).map(|value| value.wrapping_mul(0x9e37_79b9)).collect();
        let from = gpu.upload(&values).unwrap();
        let mut to = gpu.zeroed(length).unwrap();
        gpu.copy(&from, &mut to).unwrap();
        assert_eq!(gpu.read(&to, 0, length).unwrap(), values);
        let (start, middle) = (length / 3, length / 2 - length / 3);
        gpu.write(&mut to, start, &vec![7; middle]).unwrap();
        let mut want = values.clone();
        want[start..start + middle].fill(7);
        assert_eq!(gpu.read(&to, 0, length).unwrap(), want);
        assert_eq!(gpu.read(&to, start, middle).unwrap(), vec![7; middle]);
        gpu.fill_bytes(&mut to, 0xab).unwrap();
        assert_eq!(gpu.read(&to, 0, length).unwrap(), vec![0xabab_abab; length]);
        assert_eq!(gpu.read(&from, 0, length).unwrap(), values, "what was copied from");
    }
}

/// Page-locked memory is waited for before it is touched, in either direction, and never by the caller.
#[test]
fn host_buffers_wait_for_their_copies() {
    for gpu in gpus() {
        let mut sent = gpu.host_buffer::<u32>(64).unwrap();
        let mut received = gpu.host_buffer::<u32>(64).unwrap();
        let mut on_device = gpu.zeroed::<u32>(64 * 5).unwrap();
        for step in 0..5_u32 {
            sent.values_mut().unwrap().fill(step + 1);
            gpu.send(&mut sent, &mut on_device, 64 * step as usize, 64).unwrap();
        }
        gpu.receive(&on_device, 64, 64, &mut received).unwrap();
        gpu.fill_bytes(&mut on_device, 0).unwrap();
        assert_eq!(received.values().unwrap(), [2; 64], "as it was when the copy was submitted");
        gpu.receive(&on_device, 0, 10, &mut received).unwrap();
        assert_eq!(received.values().unwrap()[..11], [[0; 10].as_slice(), &[2]].concat());
    }
}

#[test]
fn events_pass_in_their_order() {
    for gpu in gpus() {
        let mut buffer = gpu.zeroed::<u8>(1 << 20).unwrap();
        let first = gpu.record().unwrap();
        gpu.fill_bytes(&mut buffer, 1).unwrap();
        let second = gpu.record().unwrap();
        second.wait().unwrap();
        first.wait().unwrap();
        // An emulated device has no clock.
        let elapsed_ms = second.elapsed_ms(&first).unwrap();
        assert!(elapsed_ms.is_none_or(|elapsed_ms| (0.0..1000.0).contains(&elapsed_ms)), "{elapsed_ms:?}");
    }
}

/// What is recorded computes nothing yet, and computes anew at each replay. Memory that it uses stays as long as it does.
#[test]
fn graphs_compute_anew_at_each_replay() {
    for gpu in gpus() {
        let (rows, width) = (3, 40);
        let mut gate_up = gpu.zeroed::<f32>(rows * 2 * width).unwrap();
        let mut gated = gpu.upload(&vec![bf16::ONE; rows * width]).unwrap();
        let mut cleared = gpu.upload(&[5_u32; 9]).unwrap();
        let graph = gpu
            .capture(|| {
                silu_mul(&gpu, rows, width, &gate_up, &mut gated)?;
                gpu.fill_bytes(&mut cleared, 0)
            })
            .unwrap();
        assert_eq!(gpu.read(&gated, 0, 1).unwrap(), [bf16::ONE], "nothing has run");
        for gate in [0.5_f32, -3.0, 20.0] {
            gpu.write(&mut gate_up, 0, &vec![gate; rows * 2 * width]).unwrap();
            gpu.write(&mut cleared, 0, &[5; 9]).unwrap();
            graph.replay().unwrap();
            let want = gate / (1.0 + (-gate).exp()) * gate;
            let got = floats(&gpu.read(&gated, 0, rows * width).unwrap());
            assert!(got.iter().all(|got| (got - want).abs() <= want.abs() / 128.0), "{want} became {:?}", got[0]);
            assert_eq!(gpu.read(&cleared, 0, 9).unwrap(), [0; 9]);
        }
        drop((gate_up, gated, cleared));
        graph.replay().unwrap();
        gpu.synchronise().unwrap();
    }
}

#[test]
fn a_recording_that_fails_leaves_the_device_as_it_was() {
    for gpu in gpus() {
        let mut buffer = gpu.upload(&[1_u32; 4]).unwrap();
        let refused = gpu.capture(|| {
            gpu.fill_bytes(&mut buffer, 0)?;
            Err(GpuError::UnknownKernel { name: "none" })
        });
        assert_eq!(refused.err(), Some(GpuError::UnknownKernel { name: "none" }));
        assert_eq!(gpu.read(&buffer, 0, 4).unwrap(), [1; 4]);
        let graph = gpu.capture(|| gpu.fill_bytes(&mut buffer, 0)).unwrap();
        graph.replay().unwrap();
        assert_eq!(gpu.read(&buffer, 0, 4).unwrap(), [0; 4]);
    }
}

/// Another model may be loaded while one records.
#[test]
fn a_device_is_opened_and_used_while_another_thread_records() {
    for kind in kinds() {
        let gpu = kind.open(1);
        let x = gpu.upload(&vec![1.0_f32; 64]).unwrap();
        let mut gated = gpu.upload(&bf16s(&[9.0; 32])).unwrap();
        let graph = gpu
            .capture(|| {
                let other = std::thread::spawn(move || {
                    let other = kind.open(2);
                    let buffer = other.upload(&[3_u32; 100]).unwrap();
                    other.read(&buffer, 99, 1).unwrap()
                });
                assert_eq!(other.join().unwrap(), [3]);
                silu_mul(&gpu, 1, 32, &x, &mut gated)
            })
            .unwrap();
        graph.replay().unwrap();
        let got = floats(&gpu.read(&gated, 0, 32).unwrap());
        assert!(got.iter().all(|got| (got - 0.731).abs() < 0.01), "{got:?}");
    }
}
