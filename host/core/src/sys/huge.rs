//! Huge pages for windows.
//!
//! The settings `shmem_enabled` and, since Linux 6.11, `hugepages-*kB/shmem_enabled` are read at
//! the first window of the process. A window is advised if it is as large as the smallest huge
//! page allowed, and if its address and its offset in the region are equally far from a multiple
//! of that. Linear memories are aligned for that, and the SDK places windows of 2 MiB and more.
//! Purging part of a huge page splits it. Unpinned parts of a window are masked, so nothing is
//! committed there.
//!
//! With the settings `always` and `within_size` the budget does not see the extra pages: writing
//! 64 KiB into a hole took 2 MiB.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use rustix::mm::{Advice, madvise};

use super::kernel::ask;

/// The directory of the kernel's settings for huge pages.
const SETTINGS: &str = "/sys/kernel/mm/transparent_hugepage";

/// Returns the smallest huge page, in bytes, that the kernel uses for memory files if it is
/// advised to, and only then. The settings are read at the first call.
fn advised() -> Option<usize> {
    static ADVISED: OnceLock<Option<usize>> = OnceLock::new();
    *ADVISED.get_or_init(|| smallest(Path::new(SETTINGS)))
}

fn smallest(settings: &Path) -> Option<usize> {
    // `always within_size advise [never] deny force`
    let chosen = |path: &Path| {
        let text = fs::read_to_string(path.join("shmem_enabled")).ok()?;
        let (_, rest) = text.split_once('[')?;
        Some(rest.split_once(']')?.0.to_owned())
    };
    let all = chosen(settings).unwrap_or_default();
    // Kernels before 6.11 have a setting for all, and one size.
    let whole = fs::read_to_string(settings.join("hpage_pmd_size"));
    let whole = whole.ok().and_then(|size| size.trim().parse().ok());
    let sizes = fs::read_dir(settings).into_iter().flatten().flatten();
    let sizes = sizes.filter_map(|entry| {
        let name = entry.file_name();
        let kib = name
            .to_str()?
            .strip_prefix("hugepages-")?
            .strip_suffix("kB")?;
        let of_size = chosen(&entry.path())?;
        Some((kib.parse::<usize>().ok()?.checked_mul(1024)?, of_size))
    });
    let mut sizes: Vec<(usize, String)> = sizes.collect();
    if let Some(whole) = whole
        && sizes.iter().all(|(size, _)| *size != whole)
    {
        sizes.push((whole, "inherit".into()));
    }
    let advised = sizes.into_iter().filter(|(_, of_size)| match &**of_size {
        "inherit" => all == "advise",
        of_size => of_size == "advise",
    });
    advised.map(|(size, _)| size).min()
}

/// Returns whether advice can bring huge pages to a mapping of so many bytes of a memory file
/// from `offset` on.
pub(super) fn fits(address: usize, length: usize, offset: u64) -> bool {
    advised().is_some_and(|size| fits_one(size, address, length, offset))
}

/// Returns whether there is room for at least one huge page of this size.
fn fits_one(size: usize, address: usize, length: usize, offset: u64) -> bool {
    // Addresses have 64 bits.
    let ahead = (address as u64).wrapping_sub(offset);
    length >= size && ahead.is_multiple_of(size as u64)
}

/// Advises the kernel to use huge pages.
///
/// # Safety
///
/// All of it is one mapping of a memory file.
pub(super) unsafe fn advise(address: *mut std::ffi::c_void, length: usize) {
    let advised = ask(|| {
        // SAFETY: the caller guarantees the mapping. The advice changes how its pages are found,
        // and nothing that is in them.
        unsafe { madvise(address, length, Advice::LinuxHugepage) }
    });
    // A kernel that was built without huge pages refuses. There are others.
    let _ = advised;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(all: &str, sizes: &[(&str, &str)], whole: Option<&str>) -> Option<usize> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("shmem_enabled"), all).unwrap();
        if let Some(whole) = whole {
            fs::write(folder.path().join("hpage_pmd_size"), whole).unwrap();
        }
        for (name, setting) in sizes {
            let folder = folder.path().join(name);
            fs::create_dir(&folder).unwrap();
            fs::write(folder.join("shmem_enabled"), setting).unwrap();
        }
        smallest(folder.path())
    }

    const ADVISE: &str = "always within_size [advise] never deny force\n";
    const NEVER: &str = "always within_size advise [never] deny force\n";

    #[test]
    fn smallest_size_that_takes_advice() {
        let whole = (
            "hugepages-2048kB",
            "always [inherit] within_size advise never\n",
        );
        let small = |chosen| ("hugepages-64kB", chosen);
        let never = small("always inherit within_size advise [never]\n");
        let advise = small("always inherit within_size [advise] never\n");
        assert_eq!(
            settings(ADVISE, &[whole, never], Some("2097152\n")),
            Some(2 << 20)
        );
        assert_eq!(settings(NEVER, &[whole, never], Some("2097152\n")), None);
        assert_eq!(
            settings(NEVER, &[whole, advise], Some("2097152\n")),
            Some(64 << 10)
        );
        assert_eq!(settings(ADVISE, &[], Some("2097152\n")), Some(2 << 20));
        assert_eq!(settings(NEVER, &[], Some("2097152\n")), None);
        // Used without advice.
        let always = "[always] within_size advise never deny force\n";
        assert_eq!(settings(always, &[whole], Some("2097152\n")), None);
    }

    #[test]
    fn huge_page_fits_equally_aligned_addresses() {
        const SIZE: usize = 2 << 20;
        let fits = |address, length, offset| fits_one(SIZE, address, length, offset);
        assert!(fits(4 * SIZE, SIZE, 0));
        assert!(fits(4 * SIZE, SIZE, 6 << 20));
        assert!(fits(4 * SIZE + 0x1_0000, SIZE, 0x1_0000));
        assert!(fits(SIZE, SIZE, 100 << 30), "a region may be larger");
        assert!(!fits(4 * SIZE, SIZE - 1, 0));
        assert!(!fits(4 * SIZE + 0x1_0000, SIZE, 0));
        assert!(!fits(4 * SIZE, SIZE, 0x1_0000));
    }

    #[test]
    fn kernel_without_settings_is_not_advised() {
        assert_eq!(smallest(Path::new("/nonexistent")), None);
    }
}
