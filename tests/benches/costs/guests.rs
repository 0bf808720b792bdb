//! The app of the guests that measure.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use tombolo::{HostLimits, Limits};
use tombolo_app::{
    App, AppBuilder, ChannelSpec, CommandExit, CommandSpec, Concurrency, Grant, GuestSpec,
};
use tombolo_test_util::run::threads;
use tombolo_tests::{artifacts, server};

use crate::measure::Plan;
use crate::table::Table;

/// The guests' components, read once.
pub struct Guests {
    user: Arc<[u8]>,
    near: Arc<[u8]>,
    far: Arc<[u8]>,
    /// Serves calls that no guest makes.
    idle: Arc<[u8]>,
    /// A directory in memory, for the files that guests share.
    out: tempfile::TempDir,
    concurrency: Concurrency,
}

/// A row that a guest measured: table, name, bytes, nanoseconds.
pub type Line = (String, String, u64, Vec<f64>);

impl Guests {
    pub fn read() -> Guests {
        let read =
            |path: &str| -> Arc<[u8]> { fs::read(path).expect("the build script built it").into() };
        let user = read(artifacts::COSTS_USER);
        Guests {
            idle: server(&user).into(),
            user,
            near: server(&read(artifacts::COSTS_NEAR)).into(),
            far: server(&read(artifacts::COSTS_FAR)).into(),
            out: tempfile::tempdir_in("/dev/shm").expect("it is a tmpfs"),
            concurrency: Concurrency::Auto,
        }
    }

    /// Puts the guests on an engine with concurrency support, which they do not need.
    pub fn concurrent(mut self) -> Guests {
        self.concurrency = Concurrency::On;
        self
    }

    fn guest(&self, name: &str, wasm: &Arc<[u8]>, strand: &str) -> GuestSpec {
        GuestSpec {
            strand: Some(strand.into()),
            dirs: vec![out(self.out.path())],
            inherit_stdio: true,
            ..GuestSpec::new(name, wasm.clone())
        }
    }

    /// Returns an app in which `user` measures a group of rows beside `idle` idle guests. It
    /// shares its strand with `near`, except in the group `across`.
    fn app(&self, plan: &Plan, group: &str, idle: usize) -> AppBuilder {
        let quick = if plan.quick { "quick" } else { "whole" };
        let channel = |name: &str, from: &str, to: &str| ChannelSpec {
            name: name.into(),
            from: vec![from.into()],
            to: to.into(),
            capacity: 4,
            message_bytes: 64,
            message_regions: 1,
        };
        let strand = if group == "across" { "user" } else { "one" };
        let echo = GuestSpec {
            args: vec!["echo".into()],
            ..self.guest("echo", &self.user, "echo")
        };
        let mut limits = Limits::default();
        limits.regions = 100_000;
        limits.handles = 100_000;
        limits.windows = 100_000;
        limits.vmas = 100_000;
        limits.call_time = None;
        let command = CommandSpec {
            args: [group, quick, "rows"].map(str::to_owned).to_vec(),
            ..CommandSpec::default()
        };
        let mut app = App::builder()
            .concurrency(self.concurrency)
            .limits(limits)
            .host_limits(HostLimits::default())
            .command(command)
            .guest(self.guest("user", &self.user, strand))
            .guest(self.guest("near", &self.near, "one"))
            .guest(self.guest("far", &self.far, "far"))
            .guest(echo)
            .channel(channel("there", "user", "echo"))
            .channel(channel("back", "echo", "user"));
        for index in 0..idle {
            let name = format!("idle{index}");
            app = app.guest(self.guest(&name, &self.idle, &name));
        }
        app
    }

    /// Measures a group once, and returns the rows.
    pub fn measure(&self, plan: &Plan, group: &str, idle: usize) -> Vec<Line> {
        let outcome = threads(2).block_on(async {
            let app = self.app(plan, group, idle).start().await;
            app.expect("it starts").run().await
        });
        assert_eq!(outcome.end, CommandExit::Exit(0), "{:?}", outcome.failures);
        let text = fs::read_to_string(self.out.path().join("rows")).expect("it was written");
        text.lines().map(line).collect()
    }

    /// Measures a group once, and adds each row of a table to one column of it.
    pub fn add_to(&self, plan: &Plan, group: &str, name: &str, table: &mut Table, column: usize) {
        for (of, row, _, times) in self.measure(plan, group, 0) {
            if of == name {
                table.cell(&row, column).extend(times);
            }
        }
    }

    /// Measures a group once, and adds each row to the table of its name, in the column of
    /// its size. Rows of other tables are dropped.
    pub fn add(&self, plan: &Plan, group: &str, sizes: &[u64], tables: &mut [(&str, &mut Table)]) {
        for (table, row, bytes, times) in self.measure(plan, group, 0) {
            let Some((_, table)) = tables.iter_mut().find(|(name, _)| *name == table) else {
                continue;
            };
            let column = sizes.iter().position(|size| *size == bytes).unwrap_or(0);
            table.cell(&row, column).extend(times);
        }
    }
}

fn line(line: &str) -> Line {
    let mut parts = line.split('\t');
    let mut next = || parts.next().expect("all parts are there").to_owned();
    let (group, row, bytes) = (next(), next(), next());
    let times = parts.map(|time| time.parse().expect("it is a number"));
    (
        group,
        row,
        bytes.parse().expect("it is a number"),
        times.collect(),
    )
}

fn out(path: &Path) -> Grant {
    Grant {
        dir: Dir::open_ambient_dir(path, ambient_authority()).expect("it is there"),
        host_path: path.to_path_buf(),
        guest_path: "/out".into(),
        read_only: false,
    }
}
