//! Compiles the GPU kernels of `cuda/*.cu`: with nvcc to cubins (feature `cuda`), as C++ for the CPU (feature
//! `emulate`).
//!
//! A kernel is a line that begins with `KERNEL(name)` or `KERNEL_BOUNDS(name, threads)`; its names are unique. Cubins
//! end up in `OUT_DIR/cubins.rs`, which `src/gpu/cubins.rs` includes.
#![cfg_attr(
    any(feature = "cuda", feature = "emulate"),
    expect(clippy::disallowed_methods, reason = "a build script is told by Cargo through the environment")
)]

#[cfg(any(feature = "cuda", feature = "emulate"))]
use std::path::PathBuf;

fn main() {
    for path in ["build.rs", "cuda", "emulate"] {
        println!("cargo::rerun-if-changed={path}");
    }
    #[cfg(feature = "emulate")]
    emulation::build();
    #[cfg(feature = "cuda")]
    if let Err(message) = cubins::build() {
        println!("cargo::error={message}");
    }
}

/// One file of kernels.
#[cfg(any(feature = "cuda", feature = "emulate"))]
struct KernelFile {
    path: PathBuf,
    name: String,
    kernels: Vec<String>,
}

#[cfg(any(feature = "cuda", feature = "emulate"))]
impl KernelFile {
    fn read(path: PathBuf) -> KernelFile {
        let text = std::fs::read_to_string(&path).expect("a file that the folder lists is text");
        let kernels = text.lines().filter_map(kernel_name).map(str::to_owned).collect();
        let name = path.file_stem().and_then(|name| name.to_str()).expect("file names are words").to_owned();
        KernelFile { path, name, kernels }
    }

    /// All files of `cuda/`, by name.
    fn all() -> Vec<KernelFile> {
        let folder = root().join("cuda");
        let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
            .expect("the crate has a folder of kernels")
            .map(|entry| entry.expect("the folder can be listed").path())
            .collect();
        paths.sort();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "cu"));
        paths.into_iter().map(KernelFile::read).collect()
    }
}

#[cfg(any(feature = "cuda", feature = "emulate"))]
fn kernel_name(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("KERNEL(").or_else(|| line.strip_prefix("KERNEL_BOUNDS("))?;
    rest.split([')', ',']).next().map(str::trim)
}

#[cfg(any(feature = "cuda", feature = "emulate"))]
fn root() -> PathBuf {
    // Asked when the script runs: a target folder may be shared by several copies of the project.
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"))
}

#[cfg(any(feature = "cuda", feature = "emulate"))]
fn out_folder() -> PathBuf {
    PathBuf::from(std::env::var_os("OUT_DIR").expect("Cargo names a folder for what is built"))
}

#[cfg(feature = "emulate")]
mod emulation {
    use super::{KernelFile, out_folder, root};
    use std::fmt::Write;

    /// Compiles each kernel file behind the twin of the platform header, with a table of its kernels.
    pub fn build() {
        let tests = KernelFile::read(root().join("emulate/tests.cu"));
        let files = KernelFile::all();
        let mut build = cc::Build::new();
        build.cpp(true).std("c++17").opt_level(2).warnings(true).extra_warnings(true);
        // Kernels ask nvcc to unroll loops, which may be ignored, and read memory as whatever type suits them.
        // Products are rounded before they are added.
        build.flags(["-Wno-unknown-pragmas", "-ffp-contract=off", "-fno-strict-aliasing"]);
        build.include(root().join("emulate")).include(root().join("cuda"));
        build.files(["context.cpp", "emulate.cpp", "machine.cpp"].map(|name| root().join("emulate").join(name)));

        let (mut declarations, mut tables) = (String::new(), String::new());
        for (file, listed) in files.iter().map(|file| (file, true)).chain([(&tests, false)]) {
            let table = format!("kernels_of_{}_{}", if listed { "cuda" } else { "emulate" }, file.name);
            let path = out_folder().join(format!("{table}.cpp"));
            std::fs::write(&path, table_of(file, &table)).expect("the output folder can be written");
            build.file(path);
            writeln!(declarations, "extern const Kernel {table}[];").expect("a String can grow");
            writeln!(tables, "    {{{table}, {listed}}},").expect("a String can grow");
        }
        let registry = out_folder().join("kernel_tables.cpp");
        let text = format!(
            "#include \"emulate.h\"\nnamespace sconce {{\n{declarations}\
             const KernelTable KERNEL_TABLES[] = {{\n{tables}    {{nullptr, false}},\n}};\n}}\n"
        );
        std::fs::write(&registry, text).expect("the output folder can be written");
        build.file(registry).compile("sconce_emulate");
    }

    fn table_of(file: &KernelFile, table: &str) -> String {
        let mut rows = String::new();
        for name in &file.kernels {
            writeln!(rows, "    kernel<&::{name}>(\"{name}\", ::{name}_threads_max),").expect("a String can grow");
        }
        format!(
            "#include \"{}\"\nnamespace sconce {{\nextern const Kernel {table}[];\n\
             const Kernel {table}[] = {{\n{rows}    {{nullptr, nullptr, 0, 0, nullptr}},\n}};\n}}\n",
            file.path.display()
        )
    }
}

#[cfg(feature = "cuda")]
mod cubins {
    use super::{KernelFile, out_folder, root};
    use std::fmt::Write;
    use std::path::PathBuf;
    use std::process::Command;
    use std::sync::Mutex;

    /// Compute capability and the architecture that nvcc is asked for: 9.0 with what only Hopper has.
    const CAPABILITIES: [(u32, &str); 3] = [(80, "80"), (89, "89"), (90, "90a")];

    /// One call of nvcc.
    struct Job<'a> {
        file: &'a KernelFile,
        capability: u32,
        architecture: &'a str,
        cubin: PathBuf,
    }

    pub fn build() -> Result<(), String> {
        let nvcc = find_nvcc()?;
        let files = KernelFile::all();
        let jobs: Vec<Job> = files
            .iter()
            .flat_map(|file| {
                CAPABILITIES.map(|(capability, architecture)| {
                    let cubin = out_folder().join(format!("{}.sm_{architecture}.cubin", file.name));
                    Job { file, capability, architecture, cubin }
                })
            })
            .collect();
        run_all(&nvcc, &jobs)?;
        let mut text = String::from("pub(crate) static CUBINS: &[Cubin] = &[\n");
        for Job { file, capability, cubin, .. } in &jobs {
            let kernels = &file.kernels;
            writeln!(
                text,
                "    Cubin {{ capability: {capability}, kernels: &{kernels:?}, image: include_bytes!({cubin:?}) }},"
            )
            .expect("a String can grow");
        }
        let architectures = CAPABILITIES.map(|(_, architecture)| format!("sm_{architecture}"));
        write!(text, "];\n\npub(crate) static ARCHITECTURES: &[&str] = &{architectures:?};\n")
            .expect("a String can grow");
        std::fs::write(out_folder().join("cubins.rs"), text).map_err(|error| error.to_string())
    }

    fn find_nvcc() -> Result<PathBuf, String> {
        for variable in ["CUDA_HOME", "CUDA_PATH", "PATH"] {
            println!("cargo::rerun-if-env-changed={variable}");
        }
        let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(std::env::var_os).map(PathBuf::from);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = homes.map(|home| home.join("bin")).chain(std::env::split_paths(&path));
        folders.map(|folder| folder.join("nvcc")).find(|nvcc| nvcc.is_file()).ok_or_else(|| {
            "the feature `cuda` needs nvcc, which is neither in CUDA_HOME/bin nor in CUDA_PATH/bin nor in PATH: \
             scripts/cuda-toolkit.sh assembles a toolkit from packages and prints the CUDA_HOME to set"
                .to_owned()
        })
    }

    /// As many at once as Cargo allows this script.
    fn run_all(nvcc: &PathBuf, jobs: &[Job]) -> Result<(), String> {
        let at_once = std::env::var("NUM_JOBS").ok().and_then(|text| text.parse().ok()).unwrap_or(1usize);
        let (waiting, failures) = (Mutex::new(jobs.iter()), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..at_once.min(jobs.len()) {
                scope.spawn(|| {
                    loop {
                        let job = waiting.lock().expect("no holder panics").next();
                        let Some(job) = job else { break };
                        if let Err(message) = run(nvcc, job) {
                            failures.lock().expect("no holder panics").push(message);
                        }
                    }
                });
            }
        });
        let failures = failures.into_inner().expect("no holder panicked");
        if failures.is_empty() { Ok(()) } else { Err(failures.join("\n").replace('\n', "\ncargo::error=")) }
    }

    fn run(nvcc: &PathBuf, job: &Job) -> Result<(), String> {
        let Job { file, architecture, cubin, .. } = job;
        let mut command = Command::new(nvcc);
        command.arg("-gencode").arg(format!("arch=compute_{architecture},code=sm_{architecture}"));
        command.args(["-cubin", "-O3", "-std=c++17", "-Wno-deprecated-gpu-targets", "-Werror", "all-warnings"]);
        command.arg("-I").arg(root().join("cuda/device")).arg("-I").arg(root().join("cuda"));
        command.arg("-o").arg(cubin).arg(&file.path);
        let output = command.output().map_err(|error| format!("{} does not start: {error}", nvcc.display()))?;
        if output.status.success() {
            return Ok(());
        }
        let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        Err(format!("{} for sm_{architecture} ({}):\n{out}{errors}", file.path.display(), output.status))
    }
}
