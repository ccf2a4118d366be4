//! The machine a figure was measured on.

use std::thread::available_parallelism;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// As the processor names itself; `None` where the system does not say.
    pub cpu: Option<String>,
    /// Hardware threads this process may use.
    pub cores: usize,
    pub memory_bytes: Option<u64>,
    /// Of this program.
    pub version: &'static str,
}

impl Machine {
    pub fn this() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).ok();
        Self {
            cpu: read("/proc/cpuinfo").and_then(|cpuinfo| cpu_model(&cpuinfo)),
            cores: available_parallelism().map_or(1, usize::from),
            memory_bytes: read("/proc/meminfo").and_then(|meminfo| memory_total(&meminfo)),
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

/// `model name      : Intel(R) Xeon(R)`, the first of them, without its runs of spaces.
fn cpu_model(cpuinfo: &str) -> Option<String> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    let (_, model) = line.split_once(':')?;
    let model = model.split_whitespace().collect::<Vec<_>>().join(" ");
    (!model.is_empty()).then_some(model)
}

/// `MemTotal:       24576000 kB`
fn memory_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_kernel_are_read() {
        let cpuinfo = "processor\t: 0\nmodel name\t: AMD  EPYC 9B14\nprocessor\t: 1\nmodel name\t: other\n";
        assert_eq!(cpu_model(cpuinfo).as_deref(), Some("AMD EPYC 9B14"));
        assert_eq!(cpu_model("processor: 0\nmodel name\t: \n"), None);
        assert_eq!(memory_total("MemFree: 3 kB\nMemTotal:   12 kB\n"), Some(12 * 1024));
        assert_eq!(memory_total("MemTotal: plenty\n"), None);
    }
}
