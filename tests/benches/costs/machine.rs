//! The machine that the figures come from.

use std::fs;

/// Describes the machine, one property a line.
pub fn describe() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let model = value("/proc/cpuinfo", "model name").unwrap_or_else(unknown);
    let memory = value("/proc/meminfo", "MemTotal").unwrap_or_else(unknown);
    let pages = rustix::param::page_size() / 1024;
    let mut lines = vec![
        format!("processor  {model}, {cores} cores for this process"),
        format!("memory     {memory}, in pages of {pages} kB"),
        format!("kernel     Linux {}", line("/proc/sys/kernel/osrelease")),
        format!("huge pages for memory files: {}", line(HUGE)),
    ];
    if !has_huge_pages() {
        lines.push(format!(
            "  so regions have no pages of 2 MiB; as root, `echo advise > {HUGE}` allows them"
        ));
    }
    lines.join("\n")
}

const HUGE: &str = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";

/// Returns whether regions with large windows can have huge pages of the usual size.
pub fn has_huge_pages() -> bool {
    let setting = line(HUGE);
    ["[advise]", "[within_size]", "[always]", "[force]"]
        .iter()
        .any(|it| setting.contains(it))
}

fn unknown() -> String {
    "unknown".into()
}

fn line(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|_| unknown(), |text| text.trim().to_owned())
}

/// Returns the text after a name and a colon.
fn value(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| {
        let value = line.strip_prefix(name)?.trim_start().strip_prefix(':')?;
        Some(value.trim().to_owned())
    })
}
