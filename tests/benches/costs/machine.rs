//! What the figures come from.

use std::fs;

/// The machine and the build, a line each.
pub fn describe() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let model = value("/proc/cpuinfo", "model name").unwrap_or_else(unknown);
    let memory = value("/proc/meminfo", "MemTotal").unwrap_or_else(unknown);
    [
        format!("processor  {model}, {cores} cores for this process"),
        format!("memory     {memory}"),
        format!("kernel     Linux {}", line("/proc/sys/kernel/osrelease")),
        // With huge pages a purge would have fewer pages to give back.
        format!(
            "huge pages for memory files: {}",
            line("/sys/kernel/mm/transparent_hugepage/shmem_enabled")
        ),
    ]
    .join("\n")
}

fn unknown() -> String {
    "unknown".into()
}

fn line(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|_| unknown(), |text| text.trim().to_owned())
}

/// What stands behind a name and a colon.
fn value(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| {
        let value = line.strip_prefix(name)?.trim_start().strip_prefix(':')?;
        Some(value.trim().to_owned())
    })
}
