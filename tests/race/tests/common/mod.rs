//! Runs a test under many schedules.

use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner};

/// Tries schedules: any, and those with few changes of thread at bad moments.
pub fn try_schedules(schedules: usize, act: impl Fn() + Clone + Send + Sync + 'static) {
    try_with(RandomScheduler::new(schedules), act.clone());
    try_with(PctScheduler::new(4, schedules), act);
}

fn try_with(scheduler: impl Scheduler + 'static, act: impl Fn() + Send + Sync + 'static) {
    let mut config = Config::new();
    // Interval maps need more than the default.
    config.stack_size = 1 << 18;
    Runner::new(scheduler, config).run(act);
}
