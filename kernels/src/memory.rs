//! How much memory this process may still use.

use std::path::Path;

/// Bytes that can be allocated without swapping or being killed: `MemAvailable`, capped by what the control group
/// (v2) of this process and those above it leave. `None` where the system does not say (not Linux).
pub fn available_memory() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let available = mem_available(&read("/proc/meminfo")?)?;
    let group = read("/proc/self/cgroup").and_then(|groups| own_group(&groups)).unwrap_or_default();
    let root = Path::new("/sys/fs/cgroup");
    let own = root.join(group.trim_start_matches('/'));
    let left = own.ancestors().take_while(|folder| folder.starts_with(root)).filter_map(group_leaves);
    Some(left.fold(available, u64::min))
}

/// `MemAvailable:   12345 kB`
fn mem_available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The path of `0::/path`, the line of version 2.
fn own_group(groups: &str) -> Option<String> {
    groups.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

/// The limit of a control group less what it uses, where file pages count as free: they can be dropped.
fn group_leaves(folder: &Path) -> Option<u64> {
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
    let limit: u64 = read("memory.max")?.trim().parse().ok()?;
    let current: u64 = read("memory.current")?.trim().parse().ok()?;
    let files = read("memory.stat").and_then(|stat| inactive_file(&stat)).unwrap_or(0);
    Some(limit.saturating_sub(current.saturating_sub(files)))
}

fn inactive_file(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("inactive_file "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_kernel_are_read() {
        assert_eq!(mem_available("MemTotal: 10 kB\nMemAvailable:   12 kB\n"), Some(12 * 1024));
        assert_eq!(mem_available("MemTotal: 10 kB\n"), None);
        assert_eq!(mem_available("MemAvailable: many kB\n"), None);
        assert_eq!(own_group("1:cpu:/a\n0::/b/c\n").as_deref(), Some("/b/c"));
        assert_eq!(inactive_file("anon 5\ninactive_file 77\n"), Some(77));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_machine_has_some() {
        assert!(available_memory().is_none_or(|bytes| bytes > 0));
    }
}
