//! Guests of an app.

use std::time::Duration;

use tombolo::Rights;
use tombolo_app::{App, ChannelSpec, CommandExit, GuestSpec, ScopeSpec};
use tombolo_test_util::run::{run_while, succeeds};
use tombolo_test_util::three_guests::program;

use crate::guests;
use crate::scenarios::AwaitsPart;

fn command(name: &str, part: AwaitsPart) -> GuestSpec {
    let mut guest = program(name, guests::AWAITS_COMMAND);
    guest.args = vec![part.to_string()];
    guest
}

fn channel(name: &str, from: &str, to: &str) -> ChannelSpec {
    ChannelSpec {
        name: name.into(),
        from: vec![from.into()],
        to: to.into(),
        capacity: 2,
        message_bytes: 1,
        message_regions: 1,
    }
}

// rule 11
#[test]
fn cancelled_receive_loses_no_message() {
    succeeds(
        App::builder()
            .guest(command("sender", AwaitsPart::Send))
            .guest(command("receiver", AwaitsPart::Receive))
            .channel(channel("numbers", "sender", "receiver")),
    );
}

// rule 11
#[test]
fn name_wakes_a_task_that_waits_for_it() {
    let members = ["publisher", "opener"].map(|name| (name.to_owned(), Rights::ALL));
    succeeds(
        App::builder()
            .guest(command("publisher", AwaitsPart::Publish))
            .guest(command("opener", AwaitsPart::Open))
            .channel(channel("signs", "opener", "publisher"))
            .scope(ScopeSpec {
                name: "s".into(),
                members: members.to_vec(),
            }),
    );
}

// rule 11
#[test]
fn command_that_awaits_the_end_gets_time() {
    let app = App::builder().guest(command("waiter", AwaitsPart::Stop));
    let outcome = run_while(app, async |handle, host| {
        while host.counts().regions_created == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        handle.stop();
    });
    assert_eq!(outcome.failures, [""; 0]);
    assert_eq!(outcome.end, CommandExit::Exit(0));
}
