//! The example `frames` as an app, and a check of what comes out of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use frames::filters;
use frames::images::{self, Image};
use tombolo_app::{
    App, AppBuilder, Backoff, ChannelSpec, CommandExit, Grant, GuestSpec, Outcome, Restart,
};
use tombolo_tests::artifacts;

const WIDTH: u32 = 160;
const HEIGHT: u32 = 120;
const IMAGES: u32 = 5;
/// The number of regions in the pool.
pub(crate) const REGIONS: u64 = 4;
/// The pixels of a frame, in whole granules.
#[allow(dead_code, reason = "not all that use this need it")]
pub(crate) const FRAME: u64 = (4 * WIDTH as u64 * HEIGHT as u64).next_multiple_of(65536);

pub(crate) struct Dirs {
    images: tempfile::TempDir,
    pub(crate) out: tempfile::TempDir,
}

impl Dirs {
    pub(crate) fn new() -> Dirs {
        let dirs = Dirs {
            images: tempfile::tempdir().unwrap(),
            out: tempfile::tempdir().unwrap(),
        };
        images::make(dirs.images.path(), IMAGES, WIDTH, HEIGHT).unwrap();
        dirs
    }

    /// Returns the images as the filters produce them natively.
    fn expected(&self) -> Vec<Vec<u8>> {
        let file = self.out.path().join("expected");
        let all = images::list(self.images.path()).unwrap();
        all.iter()
            .map(|path| {
                let mut pixels = vec![0; 4 * WIDTH as usize * HEIGHT as usize];
                Image::open(path).unwrap().read(&mut pixels).unwrap();
                filters::denoise(&mut pixels, WIDTH as usize, HEIGHT as usize);
                filters::sharpen(&mut pixels, WIDTH as usize, HEIGHT as usize);
                images::write(&file, &pixels, WIDTH, HEIGHT).unwrap();
                fs::read(&file).unwrap()
            })
            .collect()
    }

    /// Compares the written frames with the expected ones. Returns the missing frames, all of
    /// which were reported.
    pub(crate) fn check(&self, count: u32) -> BTreeSet<u32> {
        let expected = self.expected();
        let mut missing = BTreeSet::new();
        for number in 0..count {
            let file = self.out.path().join(format!("{number:06}.png"));
            match fs::read(file) {
                Ok(bytes) => assert!(
                    bytes == expected[(number % IMAGES) as usize],
                    "frame {number} is another one"
                ),
                Err(_) => drop(missing.insert(number)),
            }
        }
        let lost = fs::read_to_string(self.out.path().join("lost")).unwrap();
        let lost: BTreeSet<u32> = lost.lines().map(|line| line.parse().unwrap()).collect();
        assert_eq!(lost, missing);
        missing
    }
}

fn stage(name: &str, path: &str, args: &[&str], dirs: &[(&str, &Path)]) -> GuestSpec {
    let grant = |(guest, path): &(&str, &Path)| Grant {
        dir: Dir::open_ambient_dir(path, ambient_authority()).unwrap(),
        host_path: path.to_path_buf(),
        guest_path: (*guest).into(),
        read_only: false,
    };
    GuestSpec {
        args: args.iter().map(|it| (*it).to_owned()).collect(),
        dirs: dirs.iter().map(grant).collect(),
        restart: Restart::OnFailure(Backoff {
            delay: Duration::from_millis(1),
            max_delay: Duration::from_millis(5),
            max_restarts: u32::MAX,
            healthy_after: Duration::ZERO,
        }),
        ..GuestSpec::new(name, fs::read(path).unwrap())
    }
}

pub(crate) fn pipeline(dirs: &Dirs, count: u32, denoise: &[&str]) -> AppBuilder {
    let (images, out) = (dirs.images.path(), dirs.out.path());
    let (count, regions) = (count.to_string(), REGIONS.to_string());
    let arguments = ["--frames", &count, "--regions", &regions];
    let channel = |name: &str, from: &[&str], to: &str, capacity| ChannelSpec {
        name: name.into(),
        from: from.iter().map(|it| (*it).to_owned()).collect(),
        to: to.into(),
        capacity,
        message_bytes: 64,
        message_regions: 4,
    };
    let both = [("/images", images), ("/out", out)];
    App::builder()
        .guest(stage("decode", artifacts::FRAMES_DECODE, &arguments, &both))
        .guest(stage("denoise", artifacts::FRAMES_DENOISE, denoise, &[]))
        .guest(stage("sharpen", artifacts::FRAMES_SHARPEN, &[], &[]))
        .guest(stage("encode", artifacts::FRAMES_ENCODE, &[], &both[1..]))
        .channel(channel("decoded", &["decode"], "denoise", 4))
        .channel(channel("denoised", &["denoise"], "sharpen", 4))
        .channel(channel("sharpened", &["sharpen"], "encode", 4))
        .channel(channel(
            "done",
            &["denoise", "sharpen", "encode"],
            "decode",
            64,
        ))
}

/// Checks that the app succeeded and that all regions were freed.
pub(crate) fn check(outcome: &Outcome) {
    let report = &outcome.report;
    assert_eq!(outcome.end, CommandExit::Exit(0), "{:?}", outcome.failures);
    assert_eq!(outcome.failures, [""; 0]);
    assert_eq!(report.regions_created, report.regions_freed, "{report:?}");
    assert_eq!(report.budget.committed, 0);
}
