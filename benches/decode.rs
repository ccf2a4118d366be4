//! How fast does a decoder of a real shape compute on this CPU, next to what the machine can do at best?
//!
//! The workload of `sconce bench engine`, which measures any model: random weights in the shape of Qwen2.5-Coder-0.5B,
//! Q8_0 unless told otherwise, seed fixed, its settings by default.
//!
//! `cargo bench --bench decode -- [--shape NAME] [--type q8_0|bf16] [--threads N] [--json]`

use kernels::Pool;
use sconce::bench::{CpuPlatform, Effort, Model, Settings, Shape, Watch, report_json, report_text, run};
use sconce::nn::Quantise;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

fn main() {
    let mut shape = "qwen2.5-coder-0.5b".to_owned();
    let mut quantise = Quantise::Q8_0;
    let mut threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let mut is_json = false;
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        let mut value = || given.next().unwrap_or_else(|| panic!("{name} needs a value"));
        match name.as_str() {
            "--shape" => shape = value(),
            "--type" => quantise = parse_type(&value()),
            "--threads" => threads = value().parse().expect("a number above 0"),
            "--json" => is_json = true,
            // What cargo itself passes.
            "--bench" => {}
            other => panic!("{other} is not known; see the head of benches/decode.rs"),
        }
    }
    let settings = Settings::default();
    let shape = Shape::named(&shape).unwrap_or_else(|| panic!("{shape} is none of the shapes of sconce bench engine"));
    let model = Model::random(shape, settings.seed).expect("shapes are well formed").quantised(quantise);
    let mut platform = CpuPlatform::new(Arc::new(Pool::new(threads)), Effort::default());
    let (stop, mut show) = (AtomicBool::new(false), |_| ());
    let mut watch = Watch { stop: &stop, show: &mut show };
    let report = run(&model, &settings, &mut platform, &mut watch).expect("the model fits this machine");
    if is_json {
        println!("{:#}", report_json(&report));
    } else {
        print!("{}", report_text(&report));
    }
}

fn parse_type(name: &str) -> Quantise {
    match name {
        "q8_0" => Quantise::Q8_0,
        "bf16" => Quantise::None,
        other => panic!("{other:?} is not one of q8_0, bf16"),
    }
}
